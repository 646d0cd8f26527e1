"""Small made-up series that several tests share."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from pathlib import Path


def write_hours(
    folder: Path, *, rows: int, width: int = 1, name: str = "hours.csv", hours: int = 1, noise: float = 0.1
) -> Path:
    """Rows from the first of January 2020 on: daily waves of `width` series with some noise that is always the same."""
    path = folder / name
    lines = [",".join(["date", *"abcdefgh"[:width]])]
    state = 12345
    for row in range(rows):
        stamp = datetime(2020, 1, 1) + timedelta(hours=hours * row)
        values = []
        for column in range(width):
            state = (1103515245 * state + 12345) % 2**31
            level = (column + 1) * (10 + 3 * math.sin(2 * math.pi * (row * hours + 5 * column) / 24))
            values.append(f"{level + noise * (state / 2**30 - 1):.4f}")
        lines.append(",".join([stamp.isoformat(sep=" "), *values]))
    path.write_text("\n".join(lines) + "\n")
    return path
