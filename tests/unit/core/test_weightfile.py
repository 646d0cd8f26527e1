"""Weight files of every format: what is found inside, what the name promises, and what is no weights at all."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from lamina.core.errors import WeightsError
from lamina.core.weightfile import read_weight_file
from torch_files import put, saved, zipped

WEIGHT = torch.arange(6.0).reshape(2, 3)


def npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("w.safetensors", safetensors.torch.save({"w": WEIGHT}, metadata={"format": "pt"}), "safetensors"),
        ("w.pth", saved({"w": WEIGHT}), "torch"),
        ("w.th", saved({"w": WEIGHT}, legacy=True), "torch"),
        ("w.bin", saved({"state_dict": {"w": WEIGHT}, "epoch": 3}), "torch"),
        ("w.npz", npz(w=WEIGHT.numpy()), "npz"),
        ("no-ending", saved({"w": WEIGHT}), "torch"),
    ],
)
def test_every_format(name: str, data: bytes, kind: str, tmp_path: Path) -> None:
    file = read_weight_file(put(tmp_path, data, name))
    assert file.format == kind
    assert list(file.tensors) == ["w"]
    assert torch.equal(file.tensors["w"], WEIGHT)
    if kind == "torch" and name == "w.bin":
        assert file.notes == (
            "The weights are those under 'state_dict'.",
            "Also in the file, and not used: epoch = 3.",
        )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened(dtype: torch.dtype, tmp_path: Path) -> None:
    tensors = {"a": WEIGHT.to(dtype), "b": torch.tensor([3])}
    for name, data in (("w.safetensors", safetensors.torch.save(tensors)), ("w.pth", saved(tensors))):
        file = read_weight_file(put(tmp_path, data, name))
        assert file.tensors["a"].dtype == torch.float32
        assert torch.equal(file.tensors["a"], WEIGHT)
        assert file.tensors["b"].dtype == torch.int64
        assert "1 of 2 tensors are widened from half precision." in file.notes


def test_wrappers_prefixes_are_taken_off(tmp_path: Path) -> None:
    file = read_weight_file(put(tmp_path, saved({"module._orig_mod.w": WEIGHT, "module._orig_mod.b": WEIGHT})))
    assert list(file.tensors) == ["w", "b"]
    file = read_weight_file(put(tmp_path, saved({"module.w": WEIGHT, "b": WEIGHT})))
    assert list(file.tensors) == ["module.w", "b"]


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "net", "params"])
def test_a_checkpoints_state_dict_is_found(key: str, tmp_path: Path) -> None:
    file = read_weight_file(put(tmp_path, saved({"optimizer": {"state": {}}, key: {"w": WEIGHT}})))
    assert list(file.tensors) == ["w"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"epoch": 3}, "it holds the keys 'epoch'"),
        ([1, 2], "it holds a list"),
        ({}, "it holds a dict"),
        ({"state_dict": {"w": 3}}, "it holds the keys 'state_dict'"),
    ],
)
def test_no_state_dict(value: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="holds no state dict") as caught:
        read_weight_file(put(tmp_path, saved(value)))
    assert message in caught.value.what


def test_the_name_promises_a_hash(tmp_path: Path) -> None:
    data = saved({"w": WEIGHT})
    digest = hashlib.sha256(data).hexdigest()
    for name in (f"net-{digest[:8]}.pth", f"net-{digest}.th", f"net-{digest[:12]}.pth.tar"):
        assert "sha256 begins with" in read_weight_file(put(tmp_path, data, name)).notes[0]
    with pytest.raises(WeightsError, match=f"begins with {digest[:8]}; its name promises 0badcafe") as caught:
        read_weight_file(put(tmp_path, data, "net-0badcafe.pth"))
    assert "download it again" in caught.value.mend
    for name in ("net-20210831.pth", "net-abc.pth", "resnet18-d.pth", "model-0badcafe-last.pth"):
        assert read_weight_file(put(tmp_path, data, name)).notes == ()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "The file is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
        (b"\x89HDF\r\n\x1a\n" + bytes(64), "HDF5"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"\x1f\x8b\x08" + bytes(20), "gzip"),
        (b"\x93NUMPY\x01\x00" + bytes(20), "one NPY array"),
        (b"\x80\x04\x95" + bytes(20), "a pickle that torch did not write"),
        (b"x" * 257 + b"ustar" + bytes(250), "a tar archive of torch 0.1"),
        (b"hello world, hello", "no format of weights: it begins with b'hello wo'"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{", "no format of weights"),
        (zipped({"config.json": b"{}"}), "The zip archive holds 'config.json'"),
        (zipped({}), "no format of weights"),
    ],
)
def test_what_is_no_weights(data: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        read_weight_file(put(tmp_path, data))
    assert message in caught.value.what
    assert caught.value.mend
    assert caught.value.accepts


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.pth", tmp_path):
        with pytest.raises(WeightsError, match="There is no file"):
            read_weight_file(path)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("fortran", [False, True])
def test_arrays_of_either_order(order: str, fortran: bool, tmp_path: Path) -> None:
    array = np.arange(24.0).reshape(2, 3, 4).astype(f"{order}f4", order="F" if fortran else "C")
    file = read_weight_file(put(tmp_path, npz(w=array, b=np.array(True), n=np.array(3)), "w.npz"))
    assert torch.equal(file.tensors["w"], torch.arange(24.0).reshape(2, 3, 4))
    assert file.tensors["n"].tolist() == 3
    assert file.tensors["b"].dtype == torch.bool


def test_arrays_that_lie(tmp_path: Path) -> None:
    def fault(data: bytes) -> str:
        with pytest.raises(WeightsError) as caught:
            read_weight_file(put(tmp_path, data, "w.npz"))
        return caught.value.what

    good = npz(w=np.zeros(4, np.float32))
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        array = archive.read("w.npy")
    assert "there are 12" in fault(zipped({"w.npy": array[:-4]}))
    assert "there are 20" in fault(zipped({"w.npy": array + bytes(4)}))
    assert "magic number" in fault(zipped({"w.npy": b"no"}))
    assert "holds '|O'" in fault(npz(w=np.array([None])))
    assert "holds <U1" in fault(npz(w=np.array(["a"])))
    assert "decompression bomb" in fault(zipped({"w.npy": array + bytes(8 << 20)}, compression=zipfile.ZIP_DEFLATED))
    assert "damaged" in fault(good[:-30])
    place = good.index(b"float") if b"float" in good else good.index(bytes(16))
    assert "damaged" in fault(good[: place + 3] + b"\xff" + good[place + 4 :])
    assert "'x.txt'" in fault(zipped({"w.npy": array, "x.txt": b""}))
