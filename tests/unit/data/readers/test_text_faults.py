"""Malformed files of texts: every fault names file, row, column and value; the other rows are read."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from lamina.core.errors import DataError, LaminaError
from lamina.data.loading import load_data

BIO = "Rome\tB-LOC\nis\tO\n\nold\tO\ncity\tO\n\n"
GOOD = "label\ttext\n1\ta good film\n0\ta bad film\n"


def conllu(*ids: str, tag: str = "NOUN") -> str:
    rows = "".join(f"{number}\tw{number}\tl\t{tag}\tNN\t_\t0\troot\t_\t_\n" for number in ids)
    return f"1\tfine\tl\tADJ\tJJ\t_\t0\troot\t_\t_\n\n{rows}\n"


def squad(context: Any = "Rome is old.", start: Any = 0, text: Any = "Rome", **question: Any) -> str:
    answer = {"text": text, "answer_start": start}
    good = {"question": "Which city?", "id": "a", "answers": [{"text": "Rome", "answer_start": 0}]}
    asked = {"question": "What is old?", "id": "b", "answers": [answer], **question}
    paragraphs = [{"context": "Rome is old.", "qas": [good]}, {"context": context, "qas": [asked]}]
    return json.dumps({"version": "1.1", "data": [{"title": "t", "paragraphs": paragraphs}]})


# name -> (file, content, config, row, column, value (its beginning), part of the message)
FAULTS: dict[str, tuple[str, str | bytes, dict[str, Any], int | None, str | None, str | None, str]] = {
    "no UTF-8": ("a.tsv", GOOD.encode() + b"1\tcaf\xe9 noir\n", {}, 4, None, "1\tcaf\\xe9 noir", "byte 43 of the file is no UTF-8"),
    "no UTF-8 in a corpus": ("a.txt", b"one line\nanother \xff line\nthird\n", {}, 2, None, "another \\xff line", "byte 17 of the file"),
    "a zero byte": ("a.tsv", GOOD + "1\ta\0b c\n", {}, 4, None, "1\ta\\x00b c", "zero byte, at byte 41"),
    "a ragged row": ("a.tsv", GOOD + "1\tgood\tfilm\n", {}, 4, None, "1\tgood\tfilm", "3 cells, the table 2"),
    "a row without label": ("a.tsv", GOOD + "\tno label here\n", {}, 4, "label", "", "the label is missing"),
    "a label that is a mark for none": ("a.tsv", GOOD + "-\tno label here\n", {}, 4, "label", "-", "the label is missing"),
    "an empty text": ("a.tsv", GOOD + "1\t  \n", {}, 4, "text", "", "the text is empty"),
    "a score that is none": (
        "a.tsv", "score\ttext\n1.5\ta good film\n2.5\ta bad film\nhigh\tno film\n", {"target": "number"}, 4, "score", "high", "no",
    ),
    "a quote that is not closed": (
        "a.csv", 'label,text\n1,"good, really"\n0,"bad, really\n1,"fine, really"\n', {}, 3, None, '0,"bad, really', "quote",
    ),
    "a quote open to the end": (
        "a.csv", 'label,text\n1,"good, really"\n1,"fine, really"\n0,"bad, really\n', {}, 4, None, '0,"bad, really', "never closed",
    ),
    "a line that is no JSON": (
        "a.jsonl", '{"label": 1, "text": "a good film"}\n{"label": 0, "text"\n', {}, 2, None, '{"label": 0, "text"', "no JSON: Expecting",
    ),
    "a line that is no object": ("a.jsonl", '{"label": 1, "text": "a good film"}\n[1, 2]\n', {}, 2, None, "[1, 2]", "no object but list"),
    "a key that is missing": (
        "a.jsonl", '{"label": 1, "text": "a good film"}\n{"label": 0, "txt": "bad"}\n', {}, 2, "text", None, "there is label, txt",
    ),
    "a text that is a number": (
        "a.jsonl", '{"label": 1, "text": "a good film"}\n{"label": 0, "text": 3}\n', {}, 2, "text", "3", "no text",
    ),
    "half a character": (
        "a.jsonl", '{"label": 1, "text": "a good film"}\n{"label": 0, "text": "bad \\ud83d"}\n', {}, 2, "text", "bad ", "surrogate",
    ),
    "a mark without class": (
        "a.txt", "__label__1 good film\n" * 12 + "bad film\n", {}, 13, None, "bad film", "the label is missing",
    ),
    "two marks": ("a.txt", "__label__1 good film\n" * 3 + "__label__0 __label__1 bad\n", {}, 4, None, "__label__0", "several labels"),
    "a ragged row of words": ("a.txt", BIO + "New\nYork\tB-LOC\n", {"reader": "conll"}, 7, None, "New", "1 column, the others 2"),
    "a word without tag": ("a.txt", BIO + "New\t\nYork\tB-LOC\n", {"reader": "conll"}, 7, "tag", "", "the tag is missing"),
    "a tag without word": ("a.txt", BIO + "\tO\nYork\tB-LOC\n", {"reader": "conll"}, 7, "word", "", "the word is missing"),
    "a tag out of the scheme": ("a.txt", BIO * 20 + "York\tLOC\n", {}, 121, "tag", "LOC", "none of BIO"),
    "a letter out of the scheme": ("a.txt", BIO * 101 + "York\tE-LOC\n", {"scheme": "bio"}, 607, "tag", "E-LOC", "none of BIO"),
    "a tag that cannot stand there": (
        "a.txt", BIO + "York\tO\nCity\tI-LOC\n", {"scheme": "bio"}, 8, "tag", "I-LOC", "cannot stand here by BIO: O stands before it",
    ),
    "a span that does not end": (
        "a.txt", "Rome\tS-LOC\nis\tO\n\nYork\tB-LOC\nis\tO\n", {"scheme": "bioes"}, 4, "tag", "B-LOC", "the beginning stands before it, O",
    ),
    "an id out of sequence": ("a.conllu", conllu("1", "3"), {}, 4, "id", "3", "out of sequence; 2 is expected"),
    "an id that is none": ("a.conllu", conllu("1", "x"), {"reader": "conllu"}, 4, "id", "x", "the id is none"),
    "a range that does not fit": ("a.conllu", conllu("1", "1-2", "2"), {}, 4, "id", "1-2", "the range does not begin with 2"),
    "a range beyond the sentence": ("a.conllu", conllu("1-3", "1", "2"), {}, 3, "id", "3", "a range ends with 3, the sentence with 2"),
    "an empty node out of sequence": ("a.conllu", conllu("1", "1.2"), {}, 4, "id", "1.2", "1.1 is expected"),
    "too few columns": ("a.conllu", conllu("1") + "2\ttwo\n", {"reader": "conllu"}, 5, None, "2\ttwo", "2 columns, not 10"),
    "a missing part of speech": ("a.conllu", conllu("1", tag="_"), {}, 3, "upos", "_", "the tag is missing"),
    "an answer that is elsewhere": (
        "a.json", squad(start=3), {}, 2, "data[0].paragraphs[1].qas[0].answers[0].answer_start", "3", "where 'e is' stands; it stands at 0",
    ),
    "an answer that is nowhere": ("a.json", squad(text="Paris"), {}, 2, "data[0].paragraphs[1].qas[0].answers[0].answer_start", "0", "nowhere"),
    "an offset before the text": ("a.json", squad(start=-4), {}, 2, "data[0].paragraphs[1].qas[0].answers[0].answer_start", "-4", "not at this"),
    "an offset that is no number": (
        "a.json", squad(start="0"), {}, 2, "data[0].paragraphs[1].qas[0].answers[0].answer_start", "0", "no whole number",
    ),
    "a question without id": ("a.json", squad(id=None), {}, 2, "data[0].paragraphs[1].qas[0].id", None, "no id"),
    "an id twice": ("a.json", squad(id="a"), {}, 2, "data[0].paragraphs[1].qas[0].id", "a", "first at question 1"),
    "an empty question": ("a.json", squad(question=" "), {}, 2, "data[0].paragraphs[1].qas[0].question", " ", "missing or empty"),
    "a context that is none": ("a.json", squad(context=7), {}, 1, "data[0].paragraphs[1].context", "7", "missing or empty"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_fault(tmp_path: Path, name: str) -> None:
    file, content, config, row, column, value, message = FAULTS[name]
    path = tmp_path / file
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    data = load_data(path, on_fault="skip", **config)
    assert len(data.faults) == 1, data.faults
    fault = data.faults[0]
    assert (fault.file, fault.row, fault.column) == (str(path), row, column)
    assert (fault.value is None) == (value is None)
    assert (fault.value or "").startswith(value or "")
    assert message in fault.message
    assert data.splits["all"].num_rows > 0
    # Without skipping, the fault stops the reading and is told in four parts.
    with pytest.raises(DataError) as caught:
        load_data(path, **config)
    assert str(path) in caught.value.where
    assert row is None or f"row {row}" in caught.value.where
    assert message[1:] in str(caught.value)


def test_the_rows_around_a_fault_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('label,text\n1,"good, really"\n0,"bad, really\n1,"fine, really"\n0,"a ""b"", c"\n')
    data = load_data(tmp_path / "a.csv", on_fault="skip")
    assert data.splits["all"].ragged["text"].texts() == ["good, really", "fine, really", 'a "b", c']  # type: ignore[attr-defined]


def test_a_lone_quote_in_tabs_is_a_character(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('label\ttext\n1\t"Good he said\n0\tbad\n1\t5\' 11" tall\n0\tso "so" good\n')
    data = load_data(tmp_path / "a.tsv")
    assert data.splits["all"].ragged["text"].texts() == ['"Good he said', "bad", "5' 11\" tall", 'so "so" good']  # type: ignore[attr-defined]
    assert any("Quotes are part of the text" in note for note in data.notes)


def test_one_lone_quote_among_many_rows(tmp_path: Path) -> None:
    rows = "".join(f"{n % 2}\tfilm number {n}\n" for n in range(100))
    (tmp_path / "a.tsv").write_text("label\ttext\n" + rows + '1\t"Good", he said\n0\t"Bad" she said\n')
    data = load_data(tmp_path / "a.tsv")
    assert data.splits["all"].ragged["text"].texts([100, 101]) == ['"Good", he said', '"Bad" she said']  # type: ignore[attr-defined]


@pytest.mark.parametrize("line", [b"Caf\xe9\tO", b"Cafe\0\tO", b"Cafe", b"Cafe\tLOC"])
def test_a_bad_word_costs_its_whole_sentence(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(BIO.encode() * 8 + b"the\tO\n" + line + b"\nis\tO\n\nso\tO\n")
    data = load_data(tmp_path / "a.txt", on_fault="skip")
    assert [fault.row for fault in data.faults] == [50]
    assert data.splits["all"].ragged["text"].texts()[-2:] == ["old\ncity", "so"]  # type: ignore[attr-defined]


def test_parallel_files_of_different_length(tmp_path: Path) -> None:
    (tmp_path / "train.de").write_text("eins\nzwei\ndrei\n")
    (tmp_path / "train.en").write_text("one\ntwo\n")
    data = load_data(tmp_path, on_fault="skip")
    assert [(fault.file, fault.row) for fault in data.faults] == [(str(tmp_path / "train.en"), 2)]
    assert "there are 2 lines, but 3 in" in data.faults[0].message
    assert data.splits["train"].num_rows == 2


def test_parallel_with_an_empty_side_and_a_bad_line(tmp_path: Path) -> None:
    (tmp_path / "train.de").write_bytes(b"eins\n\ndr\xffei\nvier\n")
    (tmp_path / "train.en").write_text("one\ntwo\nthree\nfour\n")
    data = load_data(tmp_path, on_fault="skip")
    assert sorted((fault.row, fault.message[:12]) for fault in data.faults) == [
        (2, "the sentence"),
        (3, "byte 8 of th"),
    ]
    assert data.splits["train"].ragged["target_text"].texts() == ["one", "four"]  # type: ignore[attr-defined]
    assert list(data.splits["train"].origin or ()) == [f"{tmp_path}/train.de:1", f"{tmp_path}/train.de:4"]


def test_a_missing_language(tmp_path: Path) -> None:
    for name in ("train.de", "train.en", "val.de", "val.fr"):
        (tmp_path / name).write_text("ein Satz\n")
    data = load_data(tmp_path, on_fault="skip", languages=("de", "en"))
    assert [fault.message for fault in data.faults] == ["the file of the language 'en' that belongs to val is missing"]
    with pytest.raises(LaminaError, match="no language called 'it'"):
        load_data(tmp_path, languages=("de", "it"))


def test_an_empty_file_beside_others(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("one line\n")
    (tmp_path / "valid.txt").write_text("")
    data = load_data(tmp_path, on_fault="skip")
    assert [(fault.file, fault.message) for fault in data.faults] == [
        (str(tmp_path / "valid.txt"), "the file is empty")
    ]


def test_a_packed_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b""))
    with pytest.raises(DataError):
        load_data(tmp_path / "a.txt.gz")
    with pytest.raises(DataError, match="the file is empty"):
        load_data(tmp_path / "a.txt.gz", reader="corpus")


@pytest.mark.parametrize(("name", "line"), [("a.tsv.gz", "1\ta good film\n"), ("a.txt.gz", "a line of text\n")])
def test_a_file_cut_short(tmp_path: Path, name: str, line: str) -> None:
    content = "label\ttext\n" * name.startswith("a.tsv") + "".join(
        f"{line[:-1]} {n * 7919 % 10007}\n" for n in range(90_000)
    )
    packed = gzip.compress(content.encode())
    (tmp_path / name).write_bytes(packed[: len(packed) // 2])
    with pytest.raises(DataError, match=r"damaged after .* unpacked bytes") as caught:
        load_data(tmp_path / name)
    assert name in caught.value.where


def test_json_that_is_cut_short(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(squad()[:-20])
    with pytest.raises(DataError, match=r"no JSON: .* line 1 column"):
        load_data(tmp_path / "a.json")


def test_json_of_another_form(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"paragraphs": [{"context": "a"}]}')
    with pytest.raises(DataError, match="no list called 'data'"):
        load_data(tmp_path / "a.json")


def test_deep_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"label": 1, "text": "a good film"}\n' + "[" * 100_000 + "\n")
    assert "nested too deeply" in load_data(tmp_path / "a.jsonl", on_fault="skip").faults[0].message


def test_utf16_that_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("zwei\nZeilen\n".encode("utf-16") + b"\x00\xd8")
    with pytest.raises(DataError, match="not UTF-16 from about byte"):
        load_data(tmp_path / "a.txt", reader="corpus")
