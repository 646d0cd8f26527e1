"""Bad time series."""

from __future__ import annotations

from typing import Final

from e2e.bad_input_case import Cases, Ground

_MEND: Final = "correct the file, or leave such rows out"


def _hours(**changes: str | None) -> str:
    """40 hourly rows of one series; r5="…" replaces line 5, the header being line 1, None leaves it out."""
    lines = ["date,load", *(f"2020-01-{1 + hour // 24:02d} {hour % 24:02d}:00:00,{hour}.5" for hour in range(40))]
    for key, line in changes.items():
        lines[int(key[1:]) - 1] = line or ""
    return "\n".join(line for line in lines if line) + "\n"


def _data(ground: Ground, text: str, *words: str) -> list[str]:
    return ground.data("s.csv", text, "data.reader=series", *words)


def _train(ground: Ground, *words: str) -> list[str]:
    return ["train", "series-dlinear", "--data", ground.write("s.csv", _hours()), *words]


CASES: Final[Cases] = {
    "series": {
        "time goes backwards": (
            lambda g: _data(g, _hours(r9="2020-01-01 03:30:00,1")),
            f"time goes backwards: the row before is of 2020-01-01 06:00:00 | s.csv, row 9, column 'date' | {_MEND}",
        ),
        "a stamp given twice": (
            lambda g: _data(g, _hours(r9="2020-01-01 06:00:00,1")),
            f"the time stamp is given twice: row 8 | s.csv, row 9, column 'date' | {_MEND}",
        ),
        "a row is missing": (
            lambda g: _data(g, _hours(r9=None)),
            f"1 row is missing before it: the series is hourly | s.csv, row 9, column 'date' | {_MEND}",
        ),
        "a stamp between two steps": (
            lambda g: _data(g, _hours(r9="2020-01-01 07:20:00,1")),
            f"between two steps: the series is hourly | s.csv, row 9, column 'date' | {_MEND}",
        ),
        "a word for a date": (
            lambda g: _data(g, _hours(r9="noon,1")),
            f"no date or time that is understood | s.csv, row 9, column 'date', value 'noon' | {_MEND}",
        ),
        "a day that does not exist": (
            lambda g: _data(g, _hours(r9="2020-01-32 07:00:00,1")),
            f"no date or time that is understood | s.csv, row 9, column 'date', value '2020-01-32 07:00:00' | {_MEND}",
        ),
        "no date": (
            lambda g: _data(g, _hours(r9=",1")),
            f"the time stamp is missing | s.csv, row 9, column 'date' | {_MEND}",
        ),
        "an empty cell": (
            lambda g: _data(g, _hours(r9="2020-01-01 07:00:00,")),
            f"the cell is empty | s.csv, row 9, column 'load' | {_MEND}",
        ),
        "a word for a number": (
            lambda g: _data(g, _hours(r9="2020-01-01 07:00:00,high")),
            f"the value is not a number | s.csv, row 9, column 'load', value 'high' | {_MEND}",
        ),
        "an infinite number": (
            lambda g: _data(g, _hours(r9="2020-01-01 07:00:00,inf")),
            f"infinite or too large | s.csv, row 9, column 'load', value 'inf' | {_MEND}",
        ),
        "a row of three cells": (
            lambda g: _data(g, _hours(r9="2020-01-01 07:00:00,1,2")),
            f"the row has 3 cells, the table 2 columns | s.csv, row 9 | {_MEND}",
        ),
        "no column of dates": (
            lambda g: _data(g, "a,b\n" + "1,2\n" * 9),
            "No column holds time stamps | s.csv | data.time=",
        ),
        "a shuffled split": (
            lambda g: _train(g, "data.split=random"),
            "would shuffle the rows of a time series | data.split | data.boundaries",
        ),
        "folds": (
            lambda g: _train(g, "data.split=kfold"),
            "would shuffle the rows of a time series | data.split | data.boundaries",
        ),
        "boundaries that fall": (
            lambda g: _train(g, "data.boundaries=[30, 20]"),
            "The boundary 20 stands at row 20 | data.boundaries, number 1 | in this order",
        ),
        "too long a past": (
            lambda g: _train(g, "data.past_length=100", "data.horizon=2"),
            "a window needs 100 of the past | split train | a smaller data.past_length",
        ),
        "a series that is not there": (
            lambda g: _train(g, "task.targets=[lod]", "data.past_length=6", "data.horizon=2"),
            "lod | task.targets | did you mean 'load'?",
        ),
    },
}
