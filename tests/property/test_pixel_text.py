"""Whatever way numbers are written, the bulk parser reads what Python reads."""

from __future__ import annotations

import io

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lamina.data.readers.base import FaultList
from lamina.data.readers.pixel_text import Layout, parse_pixels

WIDTH = 4
LAYOUT = Layout("x.csv", b",", ("label", "a", "b", "c", "d"), np.arange(1, 5), (0,), 2)
NUMBERS = st.one_of(
    st.integers(0, 255).map(str),
    st.integers(0, 99).map(lambda v: f"{v:03d}"),
    st.integers(0, 255).map(lambda v: f"{v}.0"),
    st.integers(0, 255).map(lambda v: f" {v}"),
    st.integers(0, 255).map(lambda v: f'"{v}"'),
    st.sampled_from(["", "-1", "256", "nan", "x", "1e1", "1e9", "7.5", "+3"]),
)
LABELS = st.sampled_from(["0", "17", "cat", "", "ä", "3.0"])


def expected(text: str) -> float | None:
    try:
        value = float(text.strip().strip('"'))
    except ValueError:
        return None
    return value if 0 <= value <= 255 and value.is_integer() else None


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(st.tuples(LABELS, st.lists(NUMBERS, min_size=WIDTH, max_size=WIDTH)), max_size=12),
    end=st.sampled_from(["\n", "\r\n"]),
    closed=st.booleans(),
)
def test_every_spelling(rows: list[tuple[str, list[str]]], end: str, closed: bool) -> None:
    text = end.join([",".join([label, *values]) for label, values in rows]) + (end if closed else "")
    faults = FaultList()
    found = parse_pixels(io.BytesIO(text.encode()), LAYOUT, faults=faults, max_bytes=1 << 20)
    wanted = [
        (label, [expected(v) for v in values], line)
        for line, (label, values) in enumerate(rows, start=2)
        if label and None not in map(expected, values)
    ]
    assert found.values.tolist() == [values for _, values, _ in wanted]
    assert found.texts == [[label for label, _, _ in wanted]]
    assert found.lines.tolist() == [line for _, _, line in wanted]
    assert faults.num_all == len(rows) - len(wanted)
    assert found.values.dtype == np.uint8
