"""Charts are valid, self-contained SVG; they show what is not finite and escape what they are given."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.explain.charts import Series, bar_chart, format_number, line_chart, nice_ticks


def draw(*series: Series) -> str:
    return line_chart(series, title="Loss", x_label="step", y_label="loss")


def elements(svg: str) -> ET.Element:
    return ET.fromstring(f"<div>{svg}</div>")


def test_a_chart_is_well_formed_and_says_what_it_shows() -> None:
    root = elements(draw(Series("train", [1, 2, 3], [3.0, 2.0, 1.0])))
    svg = root.findall("svg")[-1]
    assert svg.get("role") == "img"
    assert svg.get("aria-label") == "Loss. train: from 3 to 1, lowest 1, highest 3."
    assert len(svg.findall("circle")) == 3


def test_markup_in_names_stays_text() -> None:
    svg = draw(Series("<script>alert(1)</script>", [1, 2], [1.0, math.nan]))
    assert "<script" not in svg
    elements(svg)
    bars = bar_chart([('"><img src=x>', 3.0)], title="<b>")
    assert "<img" not in bars
    elements(bars)


def test_values_that_are_not_finite_leave_a_gap_and_a_mark() -> None:
    svg = draw(Series("valid", [1, 2, 3, 4, 5], [1.0, 2.0, math.nan, 4.0, math.inf]))
    path = re.search(r'<path class="line series-0" fill="none" d="([^"]+)"', svg)
    assert path is not None
    assert path[1].count("M") == 2
    assert svg.count("✕") == 2
    assert "NaN at 3" in svg
    assert "∞ at 5" in svg


def test_nothing_finite_gives_no_chart() -> None:
    assert draw(Series("x", [1, 2], [math.nan, math.inf])) == ""
    assert draw(Series("x", [], [])) == ""
    assert bar_chart([], title="x") == ""


def test_wide_ranges_get_a_logarithmic_axis() -> None:
    assert "log scale" in draw(Series("x", [1, 2], [1e-4, 10.0]))
    assert "log scale" not in draw(Series("x", [1, 2], [0.5, 10.0]))
    assert "log scale" not in draw(Series("x", [1, 2], [-1.0, 1000.0]))
    kept = line_chart([Series("x", [1, 2], [1e-4, 10.0])], title="x", x_label="x", y_label="y", may_log=False)
    assert "log scale" not in kept


def test_long_series_are_thinned_but_keep_their_extremes() -> None:
    values = [1.0] * 20_000
    values[12_345] = 9.0
    values[17_000] = math.nan
    svg = draw(Series("x", list(range(20_000)), values))
    assert len(svg) < 30_000
    path = re.search(r'd="(M[^"]*L[^"]*)"', svg)
    assert path is not None
    heights = {float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", path[1])}
    assert len(heights) == 2, "the single high value must survive"
    assert "✕" in svg


def test_series_are_told_apart_without_colour() -> None:
    svg = draw(Series("a", [1, 2], [1.0, 2.0], style=0), Series("b", [1, 2], [2.0, 1.0], style=1))
    dashes = set(re.findall(r'class="line series-(\d)"[^>]*?(?: stroke-dasharray="([^"]*)")?(?: d=|/>)', svg))
    assert len({dash for _, dash in dashes}) == 2


def test_x_and_y_must_have_the_same_length() -> None:
    with pytest.raises(ValueError, match="shorter"):
        draw(Series("x", [1, 2, 3], [1.0]))


@given(
    low=st.floats(-1e9, 1e9, allow_nan=False),
    width=st.floats(1e-6, 1e9, allow_nan=False),
)
def test_ticks_lie_inside_and_are_few(low: float, width: float) -> None:
    ticks = nice_ticks(low, low + width)
    slack = 1e-9 * max(abs(low), width, 1.0)
    assert 1 <= len(ticks) <= 8 or width < 1e-12 * abs(low) + 1e-5
    assert all(low - slack <= tick <= low + width + slack for tick in ticks)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=1, max_size=40))
def test_any_numbers_give_well_formed_markup(values: list[float]) -> None:
    svg = draw(Series("x", list(range(len(values))), values))
    root = elements(svg)
    coordinates = [c for e in root.iter() for c in (e.get("x"), e.get("y"), e.get("cx"), e.get("cy")) if c is not None]
    assert all(math.isfinite(float(c)) for c in coordinates)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1.0, "1"),
        (0.97234, "0.9723"),
        (-2.5, "−2.5"),
        (1e12, "1e12"),
        (12345.6, "12,346"),
        (-math.inf, "−∞"),
    ],
)
def test_numbers_for_people(value: float, text: str) -> None:
    assert format_number(value) == text
