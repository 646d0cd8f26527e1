"""Line and bar charts as inline SVG: no scripts, no fonts or files from elsewhere, colours from the page's own styles.

Colours come from the classes `series-0` … `series-5`, so that a page can have a light, a dark and a printed look; series
differ by dash pattern as well, for readers who do not see the colours. Values that are not finite leave a gap and a
mark, because a curve that is drawn over a NaN hides the step that matters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

__all__ = ["Series", "bar_chart", "format_number", "line_chart", "nice_ticks"]

WIDTH: Final = 640
HEIGHT: Final = 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 92, 16, 14, 52
_DASHES: Final = ("", "7 3", "2 3", "9 3 2 3", "5 5", "1 4")
_NUM_STYLES: Final = len(_DASHES)
# Past this many points a series is thinned to the extremes of its stretches; more cannot be told apart on the page.
_MAX_POINTS: Final = 600
_MAX_MARKERS: Final = 60


@dataclass(frozen=True)
class Series:
    """One named line: x and y of equal length; y may hold NaN and infinities; `style` 0 to 5 says which look it has."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    style: int = 0


def format_number(value: float) -> str:
    """A number for people: four significant digits, no exponent for common sizes.

    >>> [format_number(v) for v in (0.00012346, 0.5, 1234.5678, 12345678, float("nan"))]
    ['0.0001235', '0.5', '1235', '12,345,678', 'NaN']
    """
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    magnitude = abs(value)
    if magnitude >= 1e9 or magnitude < 1e-4:
        mantissa, _, power = f"{value:.3e}".partition("e")
        mantissa = mantissa.rstrip("0").rstrip(".")
        return f"{mantissa}e{int(power)}".replace("-", "−")
    digits = max(0, 3 - math.floor(math.log10(magnitude)))
    text = f"{value:,.{digits}f}" if magnitude >= 10_000 else f"{value:.{digits}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", "−")


def nice_ticks(low: float, high: float, *, most: int = 6) -> list[float]:
    """Round numbers that lie in [low, high], at most `most + 1` of them, evenly spaced by 1, 2 or 5 times a power of ten.

    >>> nice_ticks(0.0, 1.0)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if not high > low:
        return [low]
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    digits = max(0, -math.floor(math.log10(step)) + 1)
    return [round(number * step, digits) for number in range(first, last + 1)]


@dataclass(frozen=True)
class _Scale:
    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = (
            (math.log10(v) for v in (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        )
        share = (at - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        if not self.log:
            return nice_ticks(self.low, self.high)
        first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
        stride = max(1, (last - first) // 6)
        return [10.0**power for power in range(first, last + 1, stride)]


def line_chart(series: Sequence[Series], *, title: str, x_label: str, y_label: str, may_log: bool = True) -> str:
    """Several lines over a common x axis.

    The y axis is logarithmic where all values are positive and span more than two powers of ten, if it may be.

    Args:
        series: At most six are told apart; each needs x and y of the same length.
        title: Read by screen readers, and the tooltip of the picture.

    Returns:
        An `<svg>` element with a legend in an HTML list before it; empty text when there is no finite value.
    """
    finite = [(x, y) for line in series for x, y in zip(line.x, line.y, strict=True) if math.isfinite(y)]
    if not finite:
        return ""
    x_low, x_high = min(x for x, _ in finite), max(x for line in series for x in line.x)
    x_low = 0.0 if 0 <= x_low < 0.2 * x_high else x_low
    y_low, y_high = min(y for _, y in finite), max(y for _, y in finite)
    log = may_log and y_low > 0 and y_high / y_low > 100
    if not log:
        room = (y_high - y_low) * 0.05 or abs(y_high) * 0.1 or 1.0
        # Losses and errors are read against zero, accuracies against one: go that far when it is near anyway.
        y_low = 0.0 if 0 <= y_low < 0.35 * y_high else y_low - room
        y_high = 1.0 if 0.93 < y_high <= 1.0 else y_high + room
    else:
        # Whole powers of ten at both ends give a tick at each.
        y_low, y_high = 10.0 ** math.floor(math.log10(y_low)), 10.0 ** math.ceil(math.log10(y_high))
    horizontal = _Scale(x_low, x_high, _LEFT, WIDTH - _RIGHT)
    vertical = _Scale(y_low, y_high, HEIGHT - _BOTTOM, _TOP, log=log)
    lines = [_line(line, horizontal, vertical) for line in series]
    body = [*_axes(horizontal, vertical, x_label=x_label, y_label=y_label + (" (log scale)" if log else "")), *lines]
    return _legend(series) + _svg(body, title=title, description=_describe(series))


def _axes(horizontal: _Scale, vertical: _Scale, *, x_label: str, y_label: str) -> list[str]:
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    parts = []
    for value in vertical.ticks():
        y = vertical(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>')
        parts.append(_text(format_number(value), _LEFT - 8, y + 5, anchor="end"))
    for value in horizontal.ticks():
        x = horizontal(value)
        parts.append(f'<line class="axis" x1="{x:.1f}" y1="{bottom}" x2="{x:.1f}" y2="{bottom + 4}"/>')
        parts.append(_text(format_number(value), x, bottom + 21, anchor="middle"))
    parts.append(f'<path class="axis" fill="none" d="M{_LEFT} {_TOP}V{bottom}H{right}"/>')
    parts.append(_text(x_label, (_LEFT + right) / 2, HEIGHT - 8, anchor="middle", css="label"))
    middle = (_TOP + bottom) / 2
    parts.append(_text(y_label, 16, middle, anchor="middle", css="label", rotate=-90))
    return parts


def _line(line: Series, horizontal: _Scale, vertical: _Scale) -> str:
    style = line.style % _NUM_STYLES
    prefix = f"{line.name}: " if line.name else ""
    parts: list[str] = []
    path: list[str] = []
    drawing = False
    for x, y in _thinned(line):
        if math.isfinite(y):
            path.append(f"{'L' if drawing else 'M'}{horizontal(x):.1f} {vertical(y):.1f}")
            drawing = True
            continue
        drawing = False
        tip = escape(f"{prefix}{format_number(y)} at {format_number(x)}")
        parts.append(f'<text class="fault" x="{horizontal(x):.1f}" y="{_TOP + 10}"><title>{tip}</title>✕</text>')
    dash = f' stroke-dasharray="{_DASHES[style]}"' if _DASHES[style] else ""
    parts.insert(0, f'<path class="line series-{style}" fill="none"{dash} d="{"".join(path)}"/>')
    if len(line.x) <= _MAX_MARKERS:
        for x, y in zip(line.x, line.y, strict=True):
            if math.isfinite(y):
                tip = escape(f"{prefix}{format_number(y)} at {format_number(x)}")
                parts.append(
                    f'<circle class="dot series-{style}" cx="{horizontal(x):.1f}" cy="{vertical(y):.1f}" r="3">'
                    f"<title>{tip}</title></circle>"
                )
    return "".join(parts)


def _thinned(line: Series) -> list[tuple[float, float]]:
    """At most `_MAX_POINTS` points: of each stretch the lowest and highest, and everything that is not finite."""
    points = list(zip(line.x, line.y, strict=True))
    if len(points) <= _MAX_POINTS:
        return points
    size = math.ceil(len(points) / (_MAX_POINTS // 2))
    kept: list[tuple[float, float]] = []
    for start in range(0, len(points), size):
        stretch = points[start : start + size]
        finite = [point for point in stretch if math.isfinite(point[1])]
        chosen = {min(finite, key=lambda p: p[1]), max(finite, key=lambda p: p[1])} if finite else set()
        faults = [point for point in stretch if not math.isfinite(point[1])][:1]
        kept += sorted([*chosen, *faults], key=lambda p: p[0])
    return kept


def bar_chart(rows: Sequence[tuple[str, float]], *, title: str, unit: str = "") -> str:
    """Horizontal bars, one per (name, value >= 0), with the value behind each."""
    if not rows:
        return ""
    name_width = min(240, 12 + max(len(name) for name, _ in rows) * 7)
    height = 22 * len(rows) + 6
    longest = max(value for _, value in rows) or 1.0
    parts = []
    for number, (name, value) in enumerate(rows):
        y = 4 + 22 * number
        length = (WIDTH - name_width - 90) * value / longest
        parts.append(_text(_cut(name, 32), name_width - 8, y + 13, anchor="end"))
        parts.append(f'<rect class="bar" x="{name_width}" y="{y}" width="{max(length, 0.5):.1f}" height="17"/>')
        parts.append(_text(f"{format_number(value)}{unit}", name_width + length + 6, y + 13))
    description = ", ".join(f"{name} {format_number(value)}{unit}" for name, value in rows)
    return _svg(parts, title=title, description=description, height=height)


def _legend(series: Sequence[Series]) -> str:
    items = []
    for line in series:
        if not line.name:
            continue
        style = line.style % _NUM_STYLES
        dash = f' stroke-dasharray="{_DASHES[style]}"' if _DASHES[style] else ""
        swatch = (
            f'<svg class="swatch" viewBox="0 0 30 8" width="30" height="8" aria-hidden="true">'
            f'<path class="line series-{style}" d="M0 4H30"{dash}/></svg>'
        )
        items.append(f"<li>{swatch} {escape(line.name)}</li>")
    return f'<ul class="legend">{"".join(items)}</ul>' if items else ""


def _describe(series: Sequence[Series]) -> str:
    sentences = []
    for line in series:
        finite = [y for y in line.y if math.isfinite(y)]
        faults = len(line.y) - len(finite)
        if finite:
            sentences.append(
                (f"{line.name}: " if line.name else "")
                + f"from {format_number(finite[0])} to {format_number(finite[-1])}, "
                f"lowest {format_number(min(finite))}, highest {format_number(max(finite))}"
                + (f", {faults} values not finite" if faults else "")
            )
    return ". ".join(sentences) + "."


def _svg(body: Sequence[str], *, title: str, description: str, height: int = HEIGHT) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(f"{title}. {description}")}">'
        f"<title>{escape(title)}</title>{''.join(body)}</svg>"
    )


def _text(
    content: str, x: float, y: float, *, anchor: str = "start", css: str = "tick", rotate: int | None = None
) -> str:
    turn = f' transform="rotate({rotate} {x:.1f} {y:.1f})"' if rotate is not None else ""
    return f'<text class="{css}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{turn}>{escape(content)}</text>'


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
