"""Texts that all contenders train on: a TSV file of labels and texts, plain or gzipped. The standard library alone."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any


def read_texts(work: dict[str, Any]) -> tuple[list[str], list[int]]:
    """The first `rows` texts of the last column of `work["path"]`, and the labels of its first."""
    path = Path(work["path"])
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        next(lines)
        fields = [line.rstrip("\n").split("\t") for _, line in zip(range(work["rows"]), lines, strict=False)]
    return [field[-1] for field in fields], [int(field[0]) for field in fields]
