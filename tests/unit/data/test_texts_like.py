"""Files that a model of texts judges or answers are read as its own data were, whatever little they show of their form."""

from __future__ import annotations

from pathlib import Path

import pytest

from lamina.core.errors import DataError
from lamina.data.columns import Data
from lamina.data.config import DataConfig
from lamina.data.loading import load_data, load_like
from lamina.data.ragged import RaggedColumns

FILMS = "label\ttext\n" + "".join(f"{n % 2}\tfilm number {n}\n" for n in range(8))
PAIRS = "sentence_A\tsentence_B\trelatedness_score\tentailment_judgment\n" + "".join(
    f"one text {n}\tanother {n}\t{n / 7:.1f}\t{('NO', 'YES')[n % 2]}\n" for n in range(20)
)
WORDS = "Rome NNP B-NP\nis VBZ B-VP\n\nold JJ B-NP\ncity NN I-NP\n\n" * 5


def texts(data: Data) -> list[str]:
    columns = next(iter(data.splits.values()))
    assert isinstance(columns, RaggedColumns)
    return columns.ragged["text"].texts()


def model_of(tmp_path: Path, name: str, content: str, **fields: object) -> Data:
    (tmp_path / name).write_text(content)
    return load_data(tmp_path / name, **fields)


def test_lines_of_texts(tmp_path: Path) -> None:
    spec = model_of(tmp_path, "films.tsv", FILMS).spec
    (tmp_path / "new.txt").write_text("a good film\nno film\n")
    # Prediction names the reader of the model's own data.
    for config in (DataConfig(), DataConfig(reader="text-table")):
        data = load_like(tmp_path / "new.txt", spec=spec, config=config)
        assert (data.reader, texts(data)) == ("text-lines", ["a good film", "no film"])


def test_another_form_of_table(tmp_path: Path) -> None:
    spec = model_of(tmp_path, "films.txt", "".join(f"__label__{n % 2} film {n}\n" for n in range(8))).spec
    assert spec.reader == "text-lines"
    (tmp_path / "new.tsv").write_text("label\ttext\n1\ta good film\n")
    data = load_like(tmp_path / "new.tsv", spec=spec)
    assert (data.reader, texts(data), data.spec.classes) == ("text-table", ["a good film"], ("1",))


def test_a_model_of_scores_is_judged_by_scores(tmp_path: Path) -> None:
    spec = model_of(tmp_path, "sick.txt", PAIRS, target="number").spec
    assert load_like(tmp_path / "sick.txt", spec=spec).splits["all"]["target"].shape == (20, 1)
    classes = model_of(tmp_path, "sick.txt", PAIRS).spec
    assert "label" in load_like(tmp_path / "sick.txt", spec=classes).splits["all"]


def test_tags_of_another_column(tmp_path: Path) -> None:
    spec = model_of(tmp_path, "words.txt", WORDS, label="pos").spec
    assert spec.columns["tags"].fields[0].name == "pos"
    assert load_like(tmp_path / "words.txt", spec=spec).spec.columns["tags"].classes == ("JJ", "NN", "NNP", "VBZ")
    # Two columns have no pos: the last holds the tags. Two words are few, but the tags are known.
    (tmp_path / "few.txt").write_text("Rome NNP\nis VBZ\n")
    data = load_like(tmp_path / "few.txt", spec=spec)
    assert (data.reader, data.spec.columns["tags"].classes) == ("conll", ("NNP", "VBZ"))


def test_sentences_for_a_model_of_words(tmp_path: Path) -> None:
    spec = model_of(tmp_path, "words.txt", WORDS).spec
    (tmp_path / "new.txt").write_text("Rome is  old\nit is so\n")
    data = load_like(tmp_path / "new.txt", spec=spec)
    assert texts(data) == ["Rome\nis\nold", "it\nis\nso"]
    assert data.spec.columns["text"].words


def test_running_text_for_a_model_of_it(tmp_path: Path) -> None:
    spec = model_of(tmp_path, "poem.txt", "first line\n\nsecond line\n").spec
    (tmp_path / "other.txt").write_text("third\n\n")
    data = load_like(tmp_path / "other.txt", spec=spec)
    assert (data.reader, texts(data)) == ("corpus", ["third", ""])


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    spec = model_of(tmp_path, "films.tsv", FILMS).spec
    with pytest.raises(DataError, match="no file or folder"):
        load_like(tmp_path / "film.tsv", spec=spec)
