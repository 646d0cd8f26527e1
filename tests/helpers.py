"""What several tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def shared_data(name: str) -> Path:
    """A folder or file of the real datasets; skips the test where it is missing.

    They are looked for in the folder named by the environment variable LAMINA_DATA, else in `../shared/data` beside
    the repository. They are never part of the repository.
    """
    root = Path(os.environ.get("LAMINA_DATA", ROOT.parent / "shared" / "data"))
    path = root / name
    if not path.exists():
        pytest.skip(f"{name} is not in {root} (LAMINA_DATA names another folder)")
    return path
