"""Weight files with bytes changed, cut out or put in: an error in four parts, or tensors; nothing else ever happens."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lamina.core.errors import WeightsError
from lamina.core.weightfile import read_weight_file
from torch_files import saved


def files() -> dict[str, bytes]:
    tensors = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.tensor([1, 2]), "c": torch.ones(3, dtype=torch.bool)}
    flat = {name: tensor.contiguous() for name, tensor in tensors.items()}
    arrays = io.BytesIO()
    np.savez_compressed(arrays, **{name: tensor.numpy() for name, tensor in flat.items()})  # type: ignore[arg-type]
    return {
        "zip": saved({"state_dict": tensors, "epoch": 3}),
        "legacy": saved({"state_dict": tensors, "epoch": 3}, legacy=True),
        "safetensors": safetensors.torch.save(flat, metadata={"format": "pt"}),
        "npz": arrays.getvalue(),
    }


FILES = files()
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["set", "cut", "put"]), st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=9)
    ),
    min_size=1,
    max_size=4,
)


def spoil(data: bytes, changes: list[tuple[str, float, bytes]]) -> bytes:
    for kind, share, piece in changes:
        place = int(share * len(data))
        end = place + (len(piece) if kind != "put" else 0)
        data = data[:place] + (piece if kind != "cut" else b"") + data[end:]
    return data


@pytest.mark.parametrize("kind", FILES)
@settings(max_examples=250)
@given(changes=CHANGES)
def test_spoilt_files(kind: str, changes: list[tuple[str, float, bytes]]) -> None:
    data = spoil(FILES[kind], changes)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "w"
        path.write_bytes(data)
        try:
            file = read_weight_file(path)
        except WeightsError as error:
            told = error
            file = None
        if file is None:
            assert all((told.what, told.where, told.accepts, told.mend))
            return
        # Whatever was read came from the file: nothing grew.
        assert sum(tensor.numel() for tensor in file.tensors.values()) <= len(FILES[kind]) + 64
        assert all(isinstance(tensor.sum().item(), int | float) for tensor in file.tensors.values())


# Where the description of the tensors stands, a change is most likely to mean something.
@settings(max_examples=400)
@given(place=st.integers(15, 900), value=st.integers(0, 255))
def test_a_changed_byte_in_the_description(place: int, value: int) -> None:
    data = bytearray(FILES["legacy"])
    place = min(place, len(data) - 1)
    data[place] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "w"
        path.write_bytes(bytes(data))
        try:
            file = read_weight_file(path)
        except WeightsError:
            return
        assert sum(tensor.numel() for tensor in file.tensors.values()) <= len(data)
