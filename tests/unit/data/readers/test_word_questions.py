"""Pairs of words with a score, and analogies by section."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers import shared_data
from lamina.core.errors import DataError
from lamina.data.columns import Data
from lamina.data.loading import load_data
from lamina.data.ragged import RaggedColumns

ANALOGIES = ": capitals\nAthens Greece Oslo Norway\nOslo Norway Rome Italy\n\n: gram1-adjective\namazing amazingly calm calmly\n"
PAIRS = "tiger\tcat\t7.35\r\nold\tnew\t1.58\r\nbook\tpaper\t7.46\r\n"


def texts(data: Data) -> list[str]:
    columns = data.splits["all"]
    assert isinstance(columns, RaggedColumns)
    return columns.ragged["text"].texts()


def write(tmp_path: Path, text: str, name: str = "words.txt") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode())
    return path


def test_analogies_by_section(tmp_path: Path) -> None:
    data = load_data(write(tmp_path, ANALOGIES))
    assert data.reader == "word-analogies"
    assert texts(data) == [
        "Athens Greece Oslo Norway",
        "Oslo Norway Rome Italy",
        "amazing amazingly calm calmly",
    ]
    columns = data.splits["all"]
    assert columns["section"].tolist() == [0, 0, 1]
    assert data.spec.columns["section"].classes == ("capitals", "gram1-adjective")
    assert columns.origin is not None
    assert columns.origin[2].endswith("words.txt:6")


@pytest.mark.parametrize(
    "text",
    [PAIRS, PAIRS.replace("\t", ","), PAIRS.replace("\t", "  "), "word1\tword2\tscore\r\n" + PAIRS, PAIRS + "\n\n"],
)
def test_pairs_however_they_are_divided(text: str, tmp_path: Path) -> None:
    data = load_data(write(tmp_path, text))
    assert data.reader == "word-similarity"
    assert texts(data) == ["tiger cat", "old new", "book paper"]
    assert data.splits["all"]["target"][:, 0].tolist() == pytest.approx([7.35, 1.58, 7.46])


@pytest.mark.parametrize(
    ("text", "reader", "match"),
    [
        (": a\nAthens Greece Oslo\nx y z w\n", "word-analogies", "3 words, not four"),
        (PAIRS + "cat\tdog\tmany\n", "word-similarity", "[Nn]ot two words and a finite number"),
        (PAIRS + "cat\tdog\tnan\n", "word-similarity", "[Nn]ot two words and a finite number"),
        ("one line of text\n", "word-similarity", "no row that can be used"),
        (": a section\n", "word-analogies", "no row that can be used"),
    ],
)
def test_faults_name_line_and_value(text: str, reader: str, match: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=match) as caught:
        load_data(write(tmp_path, text), reader=reader)
    assert "words.txt" in caught.value.where
    skipped = load_data(write(tmp_path, text), reader=reader, on_fault="skip") if text.count("\n") > 1 else None
    if skipped is not None:
        assert skipped.faults


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("The cat sat on the mat.\nIt was black.\n", "words.txt"),
        ("red\tsmall\t1.0\nblue\tsmall\t2.0\n" * 20, "words.txt"),  # categories, not pairs
        ("1\t2\t3\n4\t5\t6\n", "words.txt"),
        ("label,text,score\n", "words.csv"),
    ],
)
def test_other_files_are_left_to_others(text: str, name: str, tmp_path: Path) -> None:
    try:
        reader = load_data(write(tmp_path, text, name)).reader
    except DataError:
        return
    assert not reader.startswith("word-")


def test_the_lists_that_people_use() -> None:
    pairs = load_data(shared_data("word_similarity") / "EN-WS-353-ALL.txt")
    assert pairs.reader == "word-similarity"
    assert pairs.splits["all"].num_rows == 353
    for name, rows in (("EN-MTurk-771.txt", 771), ("EN-VERB-143.txt", 144), ("EN-YP-130.txt", 130)):
        data = load_data(shared_data("word_similarity") / name)
        assert (data.reader, data.splits["all"].num_rows) == ("word-similarity", rows), name
    questions = load_data(shared_data("word_analogies") / "questions-words.txt")
    assert questions.reader == "word-analogies"
    assert questions.splits["all"].num_rows == 19_544
    assert len(questions.spec.columns["section"].classes or ()) == 14
