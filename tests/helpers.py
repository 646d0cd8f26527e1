"""What several test files share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def shared_data(name: str) -> Path:
    """A folder or file of the real datasets, or the test is skipped.

    They lie where LAMINA_DATA says, by default in `shared/data` beside the repository.
    """
    path = Path(os.environ.get("LAMINA_DATA", ROOT.parent / "shared" / "data")) / name
    if not path.exists():
        pytest.skip(f"needs the real data in {path}")
    return path
