"""Tables of texts as people have them: which column is what, which reader takes a file, what is said about it."""

from __future__ import annotations

import csv as csv_module
import gzip
import io
import json
import lzma
import zipfile
from pathlib import Path
from typing import Any

import pytest
import zstandard

from lamina.core.errors import DataError, UnknownNameError
from lamina.data.columns import Data
from lamina.data.config import DataConfig
from lamina.data.loading import load_data
from lamina.data.ragged import RaggedColumns
from lamina.data.splits import split_data

FILMS = [("pos", "a good film, really"), ("neg", "a bad film"), ("pos", 'she said "fine"'), ("neg", "not for me , no")]


def texts(data: Data, split: str = "all", column: str = "text") -> list[str]:
    columns = data.splits[split]
    assert isinstance(columns, RaggedColumns)
    return columns.ragged[column].texts()


def labels(data: Data, split: str = "all") -> list[str]:
    return [data.spec.classes[code] for code in data.splits[split]["label"].tolist()]


def tsv(*header: str) -> str:
    return "".join("\t".join(row) + "\n" for row in [*([header] if header else []), *FILMS])


def csv(delimiter: str = ",") -> str:
    rows = [("label", "text"), *((label, '"' + text.replace('"', '""') + '"') for label, text in FILMS)]
    return "".join(delimiter.join(row) + "\n" for row in rows)


def jsonl() -> str:
    return "".join(json.dumps({"label": label, "text": text}) + "\n" for label, text in FILMS)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tsv", tsv("label", "text")),
        ("a.txt", tsv("class", "review")),
        ("a.tsv", tsv()),
        ("a.csv", csv()),
        ("a.csv", csv(";")),
        ("a.csv", csv("|")),
        ("a.jsonl", jsonl()),
        ("a.json", json.dumps([{"label": label, "text": text} for label, text in FILMS])),
        ("a.tsv", "\ufeff" + tsv("label", "text")),
        ("a.tsv", tsv("label", "text").replace("\n", "\r\n")),
        ("a.tsv", tsv("label", "text").replace("\n", "\r")),
        ("a.tsv", tsv("label", "text")[:-1]),
        ("a.csv", csv().replace("\n", "\n\n")),
        ("a.txt", "".join(f"__label__{label} {text}\n" for label, text in FILMS)),
    ],
)
def test_forms_of_one_table(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_bytes(content.encode())
    data = load_data(tmp_path / name)
    assert (data.reader, texts(data), labels(data)) == (
        "text-lines" if content.startswith("__") else "text-table",
        [text for _, text in FILMS],
        [label for label, _ in FILMS],
    )


def zipped(content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.tsv", content)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("a.tsv.gz", gzip.compress),
        ("a.tsv.xz", lzma.compress),
        ("a.tsv.zst", lambda content: zstandard.ZstdCompressor().compress(content)),
        ("a.tsv.zip", zipped),
        ("a.tsv", lambda content: content.decode().encode("utf-16")),
    ],
)
def test_packed_and_encoded(tmp_path: Path, name: str, pack: Any) -> None:
    (tmp_path / name).write_bytes(pack(tsv("label", "text").encode()))
    assert texts(load_data(tmp_path / name)) == [text for _, text in FILMS]


def test_a_stated_encoding(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes("label\ttext\n1\tcafé noir, très bon\n0\tmauvais café\n".encode("latin-1"))
    assert texts(load_data(tmp_path / "a.tsv", encoding="latin-1"))[0] == "café noir, très bon"


def test_quoted_cells_over_several_lines(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('label,text\n1,"one\ntwo ""2""\n\nthree"\n0,plain\n1,"a, b"\n')
    data = load_data(tmp_path / "a.csv")
    assert texts(data) == ['one\ntwo "2"\n\nthree', "plain", "a, b"]
    assert list(data.splits["all"].origin or ()) == [f"{tmp_path}/a.csv:{line}" for line in (2, 6, 7)]
    assert any("Quotes go around cells" in note for note in data.notes)


def test_every_file_has_its_own_names(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("label\tsentence\n1\ta good film\n0\ta bad film\n")
    (tmp_path / "dev.tsv").write_text("content\tid\tlabel\nno film\t7\t0\n")
    (tmp_path / "test.tsv").write_text("id\tsentence\n7\twhich film\n")
    data = load_data(tmp_path)
    assert [texts(data, split) for split in ("train", "valid", "test")] == [
        ["a good film", "a bad film"],
        ["no film"],
        ["which film"],
    ]
    assert labels(data, "valid") == ["0"]
    assert "label" not in data.splits["test"]
    assert "The test split has no labels." in data.notes


SICK = "pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment\n" + "".join(
    f"{n}\tone text {n}\tanother text {n}\t{n / 7 + 1:.1f}\t{('NEUTRAL', 'ENTAILMENT')[n % 2]}\n" for n in range(30)
)


@pytest.mark.parametrize(
    ("config", "column", "names"),
    [
        ({}, "label", ("ENTAILMENT", "NEUTRAL")),
        ({"target": "class"}, "label", ("ENTAILMENT", "NEUTRAL")),
        ({"target": "number"}, "target", "relatedness_score"),
        ({"label": "relatedness_score"}, "target", "relatedness_score"),
        ({"label": "3"}, "target", "relatedness_score"),
        ({"label": "Entailment_Judgment"}, "label", ("ENTAILMENT", "NEUTRAL")),
    ],
)
def test_two_answers_to_choose_from(tmp_path: Path, config: dict[str, Any], column: str, names: Any) -> None:
    (tmp_path / "a.txt").write_text(SICK)
    data = load_data(tmp_path / "a.txt", **config)
    spec = data.spec.columns[column]
    assert (spec.classes or spec.fields[0].name) == names
    assert texts(data, column="text_pair")[0] == "another text 0"
    assert {"label", "target"} - {column} - set(data.spec.columns)


def test_headers_of_pairs(tmp_path: Path) -> None:
    headers = {
        ("premise", "hypothesis"): "gold_label",
        ("sentence1", "sentence2"): "label",
        ("#1 String", "#2 String"): "Quality",
        ("question1", "question2"): "is_duplicate",
        ("question", "sentence"): "label",
        ("text_a", "text_b"): "label",
    }
    for number, ((first, second), answer) in enumerate(headers.items()):
        path = tmp_path / f"{number}.tsv"
        path.write_text(
            f"idx\t{first}\t{second}\t{answer}\n0\tone man eats\tnobody eats\tno\n1\tit rains\tit is wet\tyes\n"
        )
        data = load_data(path)
        assert (texts(data), texts(data, column="text_pair"), labels(data)) == (
            ["one man eats", "it rains"],
            ["nobody eats", "it is wet"],
            ["no", "yes"],
        )


def test_columns_by_name_and_number(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text(
        "subject\tbody\tteam\ta good match today\twe won again\tred\n" * 0
        + "subject\tbody\tteam\nwe won again\tgood match today\tred\nwe lost\tbad match today\tblue\n"
    )
    assert texts(load_data(tmp_path / "a.tsv", text="subject", label="team")) == ["we won again", "we lost"]
    pair = load_data(tmp_path / "a.tsv", text="0", text_pair="body", label="-1")
    assert (texts(pair, column="text_pair"), labels(pair)) == (["good match today", "bad match today"], ["red", "blue"])
    with pytest.raises(UnknownNameError, match="no column called 'subjct'") as caught:
        load_data(tmp_path / "a.tsv", text="subjct", reader="text-table")
    assert "did you mean 'subject'" in caught.value.mend
    with pytest.raises(DataError, match=r"named by data.text and by data.label"):
        load_data(tmp_path / "a.tsv", text="body", label="body", reader="text-table")


def test_groups(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text(
        "author\tlabel\ttext\n" + "".join(f"a{n % 4}\t{n % 2}\ttext number {n}\n" for n in range(20))
    )
    data = load_data(tmp_path / "a.tsv", group="author")
    assert data.spec.columns["author"].classes == ("a0", "a1", "a2", "a3")
    split = split_data(data, DataConfig(group="author"), seed=1)
    authors = [set(split.splits[name]["author"].tolist()) for name in ("train", "valid")]
    assert not authors[0] & authors[1]


def test_a_table_without_header_like_cola(tmp_path: Path) -> None:
    rows = [("gj04", "1", "", "Our friends won't buy this analysis."), ("gj04", "0", "*", "They drank the pub."), ("bc01", "1", "", "The pond froze.")]  # fmt: skip
    (tmp_path / "a.tsv").write_text("".join("\t".join(row) + f" {n}\n" for n, row in enumerate(rows * 4)))
    data = load_data(tmp_path / "a.tsv")
    assert (texts(data)[1], labels(data)[:3]) == ("They drank the pub. 1", ["1", "0", "1"])


@pytest.mark.parametrize(
    ("name", "content", "reader"),
    [
        # A table with a name in words is a table.
        (
            "people.csv",
            "Survived,Name,Age,Fare,Rooms,Parents\n" + "".join(f'{n % 2},"Smith, Mr. John {n}",{n + 20},{n}.5,{n % 3},{n % 4}\n' for n in range(40)),
            "table",
        ),
        ("numbers.csv", "a,b,label\n" + "".join(f"{n},{n * 2},{n % 2}\n" for n in range(30)), "table"),
        ("flowers.csv", "width,kind\n" + "".join(f"{n}.5,{('rose', 'lily')[n % 2]}\n" for n in range(30)), "table"),
        ("poem.txt", "The day is done, and the darkness\nFalls from the wings of Night,\nAs a feather\n\nIs wafted\n", "corpus"),
        ("log.txt", "one, two\nthree, four, five\nsix\n", "corpus"),
        ("a.txt", "Rome B-LOC\nis O\n\nold O\n", "conll"),
        ("a.txt", "Rome\tPROPN\nis\tVERB\nold\tADJ\n\nIt\tPRON\nis\tVERB\nold\tADJ\n\n" * 3, "conll"),
        ("a.txt", "# text = it is\n1\tit\tit\tPRON\tPRP\t_\t2\tnsubj\t_\t_\n2\tis\tbe\tVERB\tVBZ\t_\t0\troot\t_\t_\n", "conllu"),
        ("a.txt", "eins und zwei\tone and two\ndrei\tthree\nvier Männer\tfour men\n", "parallel"),
        ("a.tsv", "de\ten\neins\tone\nzwei\ttwo\n", "parallel"),
    ],
)  # fmt: skip
def test_which_reader(tmp_path: Path, name: str, content: str, reader: str) -> None:
    (tmp_path / name).write_text(content)
    assert load_data(tmp_path / name).reader == reader


def test_documents_do_not_disturb(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Films\n")
    (tmp_path / "train.tsv").write_text(tsv("label", "text"))
    assert load_data(tmp_path).spec.num_rows == {"train": 4}


def test_a_score_with_whole_numbers_may_be_either(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("stars\treview\n" + "".join(f"{n % 5 + 1}\treview number {n}\n" for n in range(40)))
    assert load_data(tmp_path / "a.tsv").spec.classes == ("1", "2", "3", "4", "5")
    data = load_data(tmp_path / "a.tsv", target="number")
    assert data.splits["all"]["target"][:3].tolist() == [[1.0], [2.0], [3.0]]


def test_names_with_something_behind_them(tmp_path: Path) -> None:
    """As in SNLI: beside each sentence its parse, several judgements, and one that counts."""
    rows = [
        {
            "annotator_labels": ["yes", "no"],
            "gold_label": label,
            "sentence1": f"one man eats {n}",
            "sentence1_parse": f"(S one (NP man) eats {n})",
            "sentence2": f"he sleeps {n}",
            "sentence2_parse": f"(S he (VP sleeps) {n})",
        }
        for n, label in enumerate(["yes", "no", "yes", "-"])
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = load_data(tmp_path / "a.jsonl", on_fault="skip")
    assert (texts(data)[0], texts(data, column="text_pair")[0], labels(data)) == (
        "one man eats 0",
        "he sleeps 0",
        ["yes", "no", "yes"],
    )
    assert [(fault.row, fault.value) for fault in data.faults] == [(4, "-")]


def test_columns_without_a_name(tmp_path: Path) -> None:
    """As in a collection of short messages that went through a spreadsheet."""
    rows = "".join(f'{("ham", "spam")[n % 2]},"call me, number {n}",,,\n' for n in range(6))
    (tmp_path / "a.csv").write_text("v1,v2,,,\n" + rows)
    data = load_data(tmp_path / "a.csv")
    assert (data.spec.classes, texts(data)[0]) == (("ham", "spam"), "call me, number 0")


def test_a_cell_longer_than_the_library_allows(tmp_path: Path) -> None:
    long = 'so "long", ' * 20_000
    quoted = long.replace('"', '""')
    (tmp_path / "a.csv").write_text(f'label,text\n1,"{quoted}"\n0,"a, b"\n')
    limit = csv_module.field_size_limit()
    assert texts(load_data(tmp_path / "a.csv", reader="text-table")) == [long, "a, b"]
    assert csv_module.field_size_limit() == limit
