"""What several tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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


@contextmanager
def keras_in_float64() -> Iterator[Any]:
    """Keras on torch, computing in float64 as far down as its sums; skips the test where it is missing.

    Told to use float64 it still adds up averages, norms and dense layers in float32, as JAX does unless told otherwise; the table
    that says so is changed for the time being.
    """
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras: Any = pytest.importorskip("keras")
    if keras.backend.backend() != "torch":
        pytest.skip("Keras runs on another backend than torch")
    from keras.src.backend.common import dtypes

    policy, floatx = keras.config.dtype_policy().name, keras.config.floatx()
    narrowed = dtypes.BIT64_TO_BIT32_DTYPE
    before = dict(narrowed)
    try:
        narrowed["float64"] = "float64"
        keras.config.set_floatx("float64")
        keras.config.set_dtype_policy("float64")
        yield keras
    finally:
        narrowed.update(before)
        keras.config.set_dtype_policy(policy)
        keras.config.set_floatx(floatx)
        keras.backend.clear_session()
