"""What is printed where."""

import json

import pytest

from lamina.cli.output import Output, table_lines, width


def test_json_is_one_strict_document_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(json_wanted=True)
    output.text("for people")
    output.table([[1]], header=["n"])
    output.note("progress")
    output.warn("look out")
    output.document({"a": float("nan"), "b": [float("inf"), 1.5], "c": {"d": ("é", None)}})
    told = capsys.readouterr()
    assert json.loads(told.out, parse_constant=lambda _: pytest.fail("not strict")) == {
        "schema": 1,
        "a": None,
        "b": [None, 1.5],
        "c": {"d": ["é", None]},
    }
    assert told.err == "progress\nwarning: look out\n"


def test_text_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(quiet=True)
    output.document({"a": 1})
    output.note("progress")
    output.warn("look out")
    output.text("result")
    assert capsys.readouterr() == ("result\n", "warning: look out\n")


def test_tables_line_up_with_wide_letters_and_numbers() -> None:
    lines = list(table_lines([["数据", 1, 0.5], ["ab", 1234, None]], header=["name", "rows", "share"]))
    assert lines == ["name  rows   share", "数据     1  0.5000", "ab    1234       -"]
    assert width("数据") == 4
    assert list(table_lines([], header=["a", "b"])) == ["a  b"]
