"""Documents in files and lines, running text, words in columns, parallel text, questions: what the readers make of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from lamina.core.errors import DataError
from lamina.data.columns import Data
from lamina.data.config import DataConfig
from lamina.data.loading import load_data
from lamina.data.ragged import RaggedColumns
from lamina.data.readers.tag_schemes import misplaced, see_scheme
from lamina.data.readers.text_source import TextBuilder
from lamina.data.splits import split_data


def ragged(data: Data, split: str = "all") -> RaggedColumns:
    columns = data.splits[split]
    assert isinstance(columns, RaggedColumns)
    return columns


def texts(data: Data, split: str = "all", column: str = "text") -> list[str]:
    return ragged(data, split).ragged[column].texts()


def tags(data: Data, split: str = "all") -> list[list[str]]:
    names = data.spec.columns["tags"].classes or ()
    rows = ragged(data, split).ragged["tags"]
    return [[names[code] for code in rows.row(row).tolist()] for row in range(len(rows))]


def fill(folder: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


# --- folders of files --------------------------------------------------------------------------------------------------


def test_a_folder_per_class(tmp_path: Path) -> None:
    files = {f"aclImdb/{split}/{kind}/{n}.txt": f"{kind} {split} {n}\n" for split in ("train", "test") for kind in ("pos", "neg") for n in range(3)}  # fmt: skip
    fill(tmp_path, {**files, "aclImdb/train/unsup/1.txt": "?", "aclImdb/train/urls.txt": "?", "aclImdb/README": "?"})
    data = load_data(tmp_path)
    assert (data.reader, data.spec.classes, data.spec.num_rows) == (
        "text-files",
        ("neg", "pos"),
        {"train": 6, "test": 6},
    )
    assert texts(data, "train")[:2] == ["neg train 0", "neg train 1"]
    assert data.splits["train"]["label"].tolist() == [0, 0, 0, 1, 1, 1]
    assert [(fault.file.rpartition("/")[2], fault.stops) for fault in data.faults] == [("urls.txt", False)]
    assert any("'unsup' have no class" in note for note in data.notes)


def test_files_without_ending_and_with_line_ends(tmp_path: Path) -> None:
    fill(tmp_path, {"sci.space/60000": "up\r\n\r\nthere\n", "alt.atheism/49960": "no"})
    data = load_data(tmp_path)
    assert (data.spec.classes, texts(data)) == (("alt.atheism", "sci.space"), ["no", "up\n\nthere"])


def test_an_empty_document_is_a_fault(tmp_path: Path) -> None:
    fill(tmp_path, {"a/1.txt": "one", "b/2.txt": " \n", "b/3.txt": "", "a/4.txt": "four"})
    data = load_data(tmp_path, on_fault="skip")
    assert [fault.message for fault in data.faults] == ["the text is empty", "the file is empty"]
    assert list(ragged(data).origin or ()) == [f"{tmp_path}/a/1.txt", f"{tmp_path}/a/4.txt"]


# --- lines -------------------------------------------------------------------------------------------------------------


def test_files_called_after_classes(tmp_path: Path) -> None:
    fill(tmp_path, {"rt-polarity.pos": "good\nfine\n", "rt-polarity.neg": "bad\n"})
    data = load_data(tmp_path)
    assert (data.reader, data.spec.classes, texts(data)) == ("text-lines", ("neg", "pos"), ["bad", "good", "fine"])


def test_lines_of_running_text_keep_everything_but_their_ends(tmp_path: Path) -> None:
    content = " a b \n\nc\u2028d\x0ce\r\n\tlast"
    (tmp_path / "a.txt").write_bytes(content.encode())
    data = load_data(tmp_path / "a.txt")
    assert (texts(data), data.spec.ordered) == ([" a b ", "", "c\u2028d\x0ce", "\tlast"], True)
    assert any("data.reader=text-lines" in note for note in data.notes)


def test_a_long_text_moves_to_a_file() -> None:
    short, long = TextBuilder(), TextBuilder(max_bytes=64)
    for number in range(50):
        for builder in (short, long):
            builder.add(f"Zeile № {number}")
    first, second = short.ragged(), long.ragged()
    assert first.texts() == second.texts()
    assert torch.equal(first.offsets, second.offsets)


# --- words -------------------------------------------------------------------------------------------------------------


def test_words_in_columns(tmp_path: Path) -> None:
    content = (
        "-DOCSTART- -X- O O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\n\nPeter NNP B-NP B-PER\n\t\nBonn NNP I-NP I-LOC"
    )
    (tmp_path / "train.txt").write_text(content)
    data = load_data(tmp_path / "train.txt")
    assert (texts(data, "train"), tags(data, "train")) == (
        ["EU\nrejects", "Peter", "Bonn"],
        [["B-ORG", "O"], ["B-PER"], ["I-LOC"]],
    )
    assert list(ragged(data, "train").origin or ()) == [f"{tmp_path}/train.txt:{line}" for line in (3, 7, 9)]
    assert any("1 tags cannot stand where they do by BIO" in note for note in data.notes)
    assert any("1 lines -DOCSTART-" in note for note in data.notes)
    for label in ("pos", "1", "-3"):
        assert tags(load_data(tmp_path / "train.txt", label=label), "train")[0] == ["NNP", "VBZ"]
    with pytest.raises(DataError, match="both the words and the tags"):
        load_data(tmp_path / "train.txt", label="word")


def test_comments_and_numbered_words(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text("# id 7\n1\tRome\tB-LOC\n2\t#\tO\n\n# id 8\n1\told\tO\n")
    data = load_data(tmp_path / "a.conll")
    assert texts(data) == ["Rome\n#", "old"]


def test_files_of_different_columns(tmp_path: Path) -> None:
    fill(tmp_path, {"train.txt": "Rome NNP B-LOC\nis VB O\n\n", "test.txt": "Rome B-LOC\nis O\n\n"})
    with pytest.raises(DataError, match=r"has 2 columns, .* has 3"):
        load_data(tmp_path)


def test_tags_and_splits(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Rome B-LOC\nis O\n\nold O\n\n" * 10)
    split = split_data(load_data(tmp_path / "a.txt"), DataConfig(), seed=0)
    assert split.spec.num_rows == {"train": 16, "valid": 4}
    for name in ("train", "valid"):
        words = [len(text.split("\n")) for text in texts(split, name)]
        assert words == ragged(split, name).ragged["tags"].lengths.tolist()


@pytest.mark.parametrize(
    ("sentences", "scheme"),
    [
        (["B-A I-A O", "O B-B"], "bio"),
        (["I-A I-A O", "O I-B", "I-A B-A"], "iob1"),
        (["B-A E-A O", "S-B O"], "bioes"),
        (["B-A L-A O", "U-B O"], "bilou"),
        (["I-A I-A O", "I-B O"], "io"),
        (["DET NOUN", "VERB"], "none"),
        (["O O"], "none"),
    ],
)
def test_schemes_are_seen(sentences: list[str], scheme: str) -> None:
    assert see_scheme([sentence.split() for sentence in sentences]) == scheme


def test_places_in_bioes() -> None:
    assert misplaced(["B-A", "I-A", "E-A", "S-A", "O", "B-B", "E-B"], "bioes") == []
    assert misplaced(["B-A", "I-A", "O", "E-A", "I-A"], "bioes") == [1, 3, 4]
    assert misplaced(["B-A", "E-B"], "bioes") == [0, 1]


def test_words_of_universal_dependencies(tmp_path: Path) -> None:
    rows = ["# text = don't go", "1-2\tdon't\t_\t_\t_\t_\t_\t_\t_\t_", "1\tdo\tdo\tAUX\tVBP\t_\t3\taux\t_\t_", "2\tn't\tnot\tPART\tRB\t_\t3\tadvmod\t_\t_",
            "3\tgo\tgo\tVERB\tVB\t_\t0\troot\t_\t_", "3.1\tnow\tnow\tADV\tRB\t_\t_\t_\t_\t_", "", "1\t#\t#\tSYM\tNN\t_\t0\troot\t_\t_"]  # fmt: skip
    (tmp_path / "a.conllu").write_text("\n".join(rows))
    data = load_data(tmp_path / "a.conllu")
    assert (texts(data), tags(data)) == (["do\nn't\ngo", "#"], [["AUX", "PART", "VERB"], ["SYM"]])
    assert any("1 multiword tokens and 1 empty nodes are skipped" in note for note in data.notes)
    assert tags(load_data(tmp_path / "a.conllu", label="xpos"))[0] == ["VBP", "RB", "VB"]
    assert texts(load_data(tmp_path / "a.conllu", text="lemma"))[0] == "do\nnot\ngo"


# --- translations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("train.de", "train.en"), ("train-de.txt", "train-en.txt"), ("train.de.txt", "train.en.txt"), ("de/train.txt", "en/train.txt")])  # fmt: skip
def test_pairs_of_files(tmp_path: Path, names: tuple[str, str]) -> None:
    fill(tmp_path, dict(zip(names, ("eins\nzwei\n", "one\ntwo\n"), strict=True)))
    data = load_data(tmp_path)
    assert (data.reader, texts(data, "train"), texts(data, "train", "target_text")) == (
        "parallel",
        ["eins", "zwei"],
        ["one", "two"],
    )
    back = load_data(tmp_path, languages=("en", "de"))
    assert texts(back, "train") == ["one", "two"]


def test_source_and_target(tmp_path: Path) -> None:
    fill(tmp_path, {"train.tgt": "one\n", "train.src": "eins\n"})
    assert texts(load_data(tmp_path), "train") == ["eins"]
    with pytest.raises(DataError, match="Both languages are 'src'"):
        load_data(tmp_path, languages=("src", "src"))


def test_a_column_per_language(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("de\ten\tfr\neins\tone\tun\nzwei\ttwo\tdeux\n")
    assert texts(load_data(tmp_path / "a.tsv"), column="target_text") == ["one", "two"]
    assert texts(load_data(tmp_path / "a.tsv", languages=("fr", "en"))) == ["un", "deux"]


# --- questions ---------------------------------------------------------------------------------------------------------


def test_questions(tmp_path: Path) -> None:
    context = "Rom ist eine 😀 Stadt. Rom ist alt."
    asked = [
        {"question": "Was ist alt?", "id": "a", "answers": [{"text": "Rom", "answer_start": 22}, {"text": "Rom", "answer_start": 0}]},
        {"question": "Wo?", "id": "b", "answers": [], "is_impossible": True},
    ]  # fmt: skip
    document = {"data": [{"title": "Rom", "paragraphs": [{"context": context, "qas": asked}]}]}
    (tmp_path / "dev.json").write_text(json.dumps(document, ensure_ascii=False))
    data = load_data(tmp_path / "dev.json")
    assert texts(data, "valid", "context") == [context, context]
    answers = [json.loads(text) for text in texts(data, "valid", "answers")]
    assert answers == [[{"text": "Rom", "start": 22}, {"text": "Rom", "start": 0}], []]
    assert texts(data, "valid", "id") == ["a", "b"]
    assert any("1 of them without an answer" in note for note in data.notes)
