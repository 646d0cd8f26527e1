"""What `lamina data` says of texts: lengths, vocabulary, tags, duplicates without regard to case and space, leaks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from lamina.cli.main import main
from lamina.data.inspection import find_leaks, inspect_data
from lamina.data.loading import load_data
from lamina.data.text_inspection import length_facts


def test_lengths_are_those_of_the_definition() -> None:
    lengths = torch.tensor([5, 1, 3, 2, 4] * 20)
    assert length_facts(lengths) == {"total": 300, "mean": 3.0, "p50": 3, "p95": 5, "p100": 5}
    assert length_facts(torch.tensor([7])) == {"total": 7, "mean": 7.0, "p50": 7, "p95": 7, "p100": 7}
    assert length_facts(torch.arange(1, 101))["p95"] == 95
    assert length_facts(torch.zeros(0, dtype=torch.int64))["mean"] is None


@pytest.fixture
def films(tmp_path: Path) -> Path:
    (tmp_path / "train.tsv").write_text(
        "label\ttext\n1\tA  good film\n0\ta bad film\n1\ta good film \n0\tA GOOD film\n1\tπ ist schön\n"
    )
    (tmp_path / "dev.tsv").write_text("label\ttext\n1\ta good film\n0\tsomething else\n")
    return tmp_path


def test_document_of_texts(films: Path) -> None:
    document = inspect_data(load_data(films))
    json.dumps(document)
    text = document["statistics"]["text"]
    assert text["rows"] == 7
    assert text["words"] == {"total": 20, "mean": pytest.approx(20 / 7), "p50": 3, "p95": 3, "p100": 3}
    assert text["characters"]["p100"] == 14
    assert text["vocabulary"]["commonest"]["film"] == 5
    assert (text["vocabulary"]["size"], text["vocabulary"]["once"]) == (11, 7)
    assert document["splits"]["train"]["classes"] == {"0": 2, "1": 3}
    assert document["duplicates"]["exact"]["rows"] == 2
    assert document["duplicates"]["exact"]["examples"][0]["rows"] == [0, 2, 3, 0]
    # The same text is called good and bad.
    assert document["duplicates"]["conflicts"]["rows"] == 4
    assert [(leak["splits"], leak["rows"]) for leak in document["leaks"]] == [(["train", "valid"], [0, 0])]
    assert document["leaks"][0]["origins"][1].endswith("dev.tsv:2")
    assert len(find_leaks(load_data(films))) == 1


def test_pairs_must_agree_in_both(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("sentence1\tsentence2\tlabel\na b\tc d\t0\na b\tc e\t1\nA b\tc  d\t1\nab\tc d\t0\n")
    assert inspect_data(load_data(tmp_path / "a.tsv"))["duplicates"]["exact"]["examples"][0]["rows"] == [0, 2]


def test_tags_are_counted(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("Rome B-LOC\nis O\n\nold O\n\nold O\n\n")
    document = inspect_data(load_data(tmp_path / "train.txt"))
    assert document["classes"] == ["B-LOC", "O"]
    assert document["splits"]["train"]["classes"] == {"B-LOC": 1, "O": 3}
    assert document["statistics"]["tags"]["length"] == {
        "total": 4,
        "mean": pytest.approx(4 / 3),
        "p50": 1,
        "p95": 2,
        "p100": 2,
    }
    assert document["statistics"]["text"]["words"]["total"] == 4
    assert document["duplicates"]["exact"]["rows"] == 1


def test_of_running_text_only_long_lines_in_two_splits_count(tmp_path: Path) -> None:
    long = "one two three four five six seven\n"
    (tmp_path / "train.txt").write_text("All:\n" + long + long + "All:\nthis line of six words repeats\n" * 2)
    (tmp_path / "valid.txt").write_text("All:\nsomething\n" + long + long)
    document = inspect_data(load_data(tmp_path))
    assert [(leak["splits"], leak["rows"]) for leak in document["leaks"]] == [(["train", "valid"], [1, 2])]
    assert document["duplicates"]["exact"]["rows"] == 0


def test_translations_are_compared_by_their_source(tmp_path: Path) -> None:
    (tmp_path / "train.de").write_text("eins\nzwei\n")
    (tmp_path / "train.en").write_text("one\ntwo\n")
    (tmp_path / "val.de").write_text("zwei\n")
    (tmp_path / "val.en").write_text("number two\n")
    assert len(find_leaks(load_data(tmp_path))) == 1


def test_command(films: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", str(films)]) == 0
    shown = capsys.readouterr().out
    assert "characters per row: mean" in shown
    assert "11 different words, 7 of them once" in shown
    assert "row 0 of valid" in shown
    (films / "dev.tsv").write_text("label\ttext\n1\t\n")
    assert main(["data", str(films), "--json"]) == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out)["faults"][0]["message"] == "the text is empty"
    assert "DataError" in captured.err
