"""Plain values come out of our reader as they come out of Python's."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lamina.core.errors import DataError
from lamina.data.readers.plain_pickle import read_plain_pickle

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary(max_size=300)
)
KEYS = st.one_of(st.text(), st.binary(), st.integers())
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(KEYS, inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
    ),
    max_leaves=12,
)


def depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return 1 + max(map(depth, inner), default=-1)


@settings(max_examples=200, deadline=None)
@given(value=VALUES.filter(lambda v: depth(v) <= 5), protocol=st.integers(0, 5))
@example(value=b"", protocol=2)
@example(value=(), protocol=0)
def test_plain_values(value: Any, protocol: int) -> None:
    written = pickle.dumps(value, protocol=protocol)
    try:
        found = read_plain_pickle(written, where="x")
    except DataError:
        # Empty bytes are a call of `bytes` below protocol 3; no published batch holds any.
        assert protocol < 3
        assert b"bytes" in written
        return
    assert found == value
    assert type(found) is type(value)


@settings(max_examples=50, deadline=None)
@given(
    shape=st.lists(st.integers(0, 5), min_size=1, max_size=3),
    dtype=st.sampled_from(["u1", "i1", "i4", "i8", "f4", "f8"]),
    protocol=st.integers(0, 4),
    fortran=st.booleans(),
)
def test_arrays(shape: list[int], dtype: str, protocol: int, fortran: bool) -> None:
    array = np.arange(int(np.prod(shape))).reshape(shape, order="F" if fortran else "C").astype(dtype)
    written = pickle.dumps({"a": array}, protocol=protocol)
    try:
        found = read_plain_pickle(written, where="x")["a"]
    except DataError:
        assert array.size == 0
        assert protocol < 3
        return
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    assert (found == array).all()


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=200))
def test_noise_never_does_anything_but_be_refused(data: bytes) -> None:
    try:
        value = read_plain_pickle(b"\x80\x02" + data, where="x")
    except DataError:
        return
    assert isinstance(value, str | bytes | int | float | list | tuple | dict | type(None) | np.ndarray)
