"""torch's two file formats: what torch writes comes out as it went in; what lies is refused, and nothing is run."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lamina.core.errors import WeightsError
from lamina.core.torchfile import is_torch_zip, read_torch_file
from torch_files import Storage, View, crafted_legacy, crafted_zip, floats, members, put, saved, zipped

BOTH = pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
ONE = Storage("0", 4)
GOOD = View(ONE, 0, (2, 2), (2, 1))
FOUR = floats(1, 2, 3, 4)


def same(a: Any, b: Any) -> None:
    if isinstance(b, Tensor):
        assert isinstance(a, Tensor)
        assert a.dtype == b.dtype
        assert torch.equal(a, b.detach())
    elif isinstance(b, dict):
        assert list(a) == list(b)
        for key in b:
            same(a[key], b[key])
    elif isinstance(b, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    else:
        assert a == b
        assert type(a) is type(b)


@BOTH
def test_what_torch_writes_comes_out_again(legacy: bool, tmp_path: Path) -> None:
    base = torch.arange(24.0)
    image = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    value = {
        "state_dict": OrderedDict(
            [
                ("weight", nn.Parameter(torch.randn(3, 4))),
                ("transposed", torch.randn(3, 4).T),
                ("last", image),
                ("first half", base[:12]),
                ("second half", base[12:].view(3, 4)),
                ("empty", torch.empty(0, 3)),
                ("scalar", torch.tensor(3.5)),
            ]
        ),
        "kinds": [
            torch.tensor([1, 2], dtype=dtype)
            for dtype in (
                torch.float64,
                torch.float16,
                torch.bfloat16,
                torch.int64,
                torch.int32,
                torch.int16,
                torch.int8,
                torch.uint8,
                torch.bool,
            )
        ],
        "epoch": 90,
        "best": 76.5,
        "arch": "resnet",
        "none": None,
        "flags": (True, False),
        "size": torch.Size([3, 4]),
    }
    found = read_torch_file(put(tmp_path, saved(value, legacy=legacy)))
    same({**found, "size": 0}, {**value, "size": 0})
    assert found["size"] == (3, 4)


@BOTH
def test_a_modules_state_dict(legacy: bool, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    found = read_torch_file(put(tmp_path, saved(model.state_dict(), legacy=legacy)))
    same(found, dict(model.state_dict()))


@BOTH
def test_tied_weights_are_one_tensor(legacy: bool, tmp_path: Path) -> None:
    weight = torch.randn(4, 2)
    found = read_torch_file(put(tmp_path, saved({"in": weight, "out": weight}, legacy=legacy)))
    assert found["in"] is found["out"]


def test_tensors_and_parts_of_storages_by_hand(tmp_path: Path) -> None:
    for data in (crafted_zip({"w": GOOD}, {"0": FOUR}), crafted_legacy({"w": GOOD}, {"0": FOUR})):
        assert read_torch_file(put(tmp_path, data))["w"].tolist() == [[1, 2], [3, 4]]
    part = View(Storage("0", 4, ("1", 2, 2)), 1, (1,), (1,))
    assert read_torch_file(put(tmp_path, crafted_legacy({"w": part}, {"0": FOUR})))["w"].tolist() == [4]


class Evil:
    """Makes a folder when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@BOTH
def test_code_is_refused_and_not_run(legacy: bool, tmp_path: Path) -> None:
    data = saved({"w": torch.zeros(1), "x": Evil(tmp_path / "made")}, legacy=legacy)
    with pytest.raises(WeightsError, match=r"looks up posix\.mkdir at byte \d+; that is no plain data"):
        read_torch_file(put(tmp_path, data))
    assert not (tmp_path / "made").exists()


@BOTH
def test_a_whole_module_is_refused(legacy: bool, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"looks up torch\.nn\.modules\.linear\.Linear") as caught:
        read_torch_file(put(tmp_path, saved(nn.Linear(1, 1), legacy=legacy)))
    assert "safetensors" in caught.value.mend


VIEWS = {
    "beyond the storage": (View(ONE, 1, (2, 2), (2, 1)), "reaches beyond its storage of 4 elements"),
    "a stride far beyond": (View(ONE, 0, (2,), (1 << 40,)), "reaches beyond its storage"),
    "expanded": (View(ONE, 0, (1 << 30, 1), (0, 1)), "overlaps itself"),
    "unfolded": (View(ONE, 0, (2, 2), (1, 1)), "overlaps itself"),
    "negative stride": (View(ONE, 0, (2,), (-1,)), "has the shape"),
    "negative size": (View(ONE, 0, (-2,), (1,)), "has the shape"),
    "no number": (View(ONE, "0", (2,), (1,)), "has the shape"),
    "stride of other length": (View(ONE, 0, (2, 2), (1,)), "has the shape"),
    "too many axes": (View(ONE, 0, (1,) * 40, (1,) * 40), "has the shape"),
    "empty but huge": (View(ONE, 0, (0, 1 << 47, 1 << 47), (1, 1, 1)), "has the shape"),
    "a storage of negative length": (View(Storage("0", -1), 0, (1,), (1,)), "names the storage"),
    "a storage of no length": (View(Storage("0", "4"), 0, (1,), (1,)), "names the storage"),
    "a storage far too long": (View(Storage("0", 1 << 47), 0, (1,), (1,)), "should have"),
    "a storage that is not there": (View(Storage("7", 4), 0, (1,), (1,)), "7"),
}


@pytest.mark.parametrize("craft", [crafted_zip, crafted_legacy], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", VIEWS)
def test_tensors_that_lie(name: str, craft: Any, tmp_path: Path) -> None:
    view, message = VIEWS[name]
    path = put(tmp_path, craft({"w": view}, {"0": FOUR}))
    with pytest.raises(WeightsError) as caught:
        read_torch_file(path)
    assert message in caught.value.what
    assert str(path) in caught.value.where
    assert caught.value.mend


@pytest.mark.parametrize("craft", [crafted_zip, crafted_legacy], ids=["zip", "legacy"])
def test_tensors_that_share_elements(craft: Any, tmp_path: Path) -> None:
    apart = {"even": View(ONE, 0, (2,), (2,)), "odd": View(ONE, 1, (2,), (2,)), "none": View(ONE, 0, (0,), (1,))}
    found = read_torch_file(put(tmp_path, craft(apart, {"0": FOUR})))
    assert (found["even"].tolist(), found["odd"].tolist()) == ([1, 3], [2, 4])
    for other in (View(ONE, 1, (2,), (1,)), View(ONE, 0, (4,), (1,))):
        with pytest.raises(WeightsError, match="overlaps another"):
            read_torch_file(put(tmp_path, craft({"a": GOOD, "b": other}, {"0": FOUR})))
    wrong = View(Storage("0", 3), 0, (1,), (1,))
    with pytest.raises(WeightsError, match="described in two ways"):
        read_torch_file(put(tmp_path, craft({"a": GOOD, "b": wrong}, {"0": FOUR})))


ZIPS: dict[str, tuple[bytes, str]] = {
    "no pickle": (zipped({"a/data/0": FOUR}), "0 members called data.pkl"),
    "two pickles": (zipped({"a/data.pkl": b"", "b/data.pkl": b""}), "2 members called data.pkl"),
    "a program": (zipped({"a/data.pkl": b"", "a/constants.pkl": b"", "a/code/x.py": b""}), "TorchScript program"),
    "big-endian": (crafted_zip({"w": GOOD}, {"0": FOUR}).replace(b"little", b"bigger"), "big-endian|damaged"),
    "short storage": (crafted_zip({"w": GOOD}, {"0": FOUR[:-1]}), "should have 16 bytes; it has 15"),
    "no storage": (crafted_zip({"w": GOOD}, {}), "should have 16 bytes; it is not there"),
    "long storage": (crafted_zip({"w": GOOD}, {"0": FOUR * 2}), "should have 16 bytes; it has 32"),
}


@pytest.mark.parametrize("name", ZIPS)
def test_zips_that_lie(name: str, tmp_path: Path) -> None:
    data, message = ZIPS[name]
    with pytest.raises(WeightsError, match=message):
        read_torch_file(put(tmp_path, data))


def test_big_endian_files_are_refused(tmp_path: Path) -> None:
    files = members(crafted_zip({"w": GOOD}, {"0": FOUR}))
    with pytest.raises(WeightsError, match="big-endian"):
        read_torch_file(put(tmp_path, zipped({**files, "a/byteorder": b"big"})))
    for flag in (False, None, "yes"):
        with pytest.raises(WeightsError, match="big-endian"):
            read_torch_file(put(tmp_path, crafted_legacy({"w": GOOD}, {"0": FOUR}, little_endian=flag)))


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    big = Storage("0", 1 << 20)
    value = {"w": View(big, 0, (1 << 20,), (1,))}
    files = members(crafted_zip(value, {"0": bytes(4 << 20)}))
    bomb = zipped(files, compression=zipfile.ZIP_DEFLATED)
    assert len(bomb) < 20_000
    with pytest.raises(WeightsError, match="is compressed"):
        read_torch_file(put(tmp_path, bomb))


def test_members_that_overlap_or_stand_twice(tmp_path: Path) -> None:
    data = crafted_zip({"w": GOOD}, {"0": FOUR, "1": FOUR})
    # The directory's entry of the last storage is made to point at the first's bytes.
    first, second = data.index(b"PK\x03\x04", data.index(b"a/data/0") - 40), data.index(b"a/data/1") - 30
    place = data.rindex(b"a/data/1") - 4
    moved = data[:place] + first.to_bytes(4, "little") + data[place + 4 :]
    assert int.from_bytes(data[place : place + 4], "little") == second
    with pytest.raises(WeightsError, match=r"overlaps|damaged"):
        read_torch_file(put(tmp_path, moved))
    twice = zipped({"a/data.pkl": b"", "b/data.pkl": b""}).replace(b"b/data.pkl", b"a/data.pkl")
    with pytest.raises(WeightsError, match="lists 2 members under 1 names"):
        read_torch_file(put(tmp_path, twice))


LEGACY: dict[str, tuple[bytes, str]] = {
    "other version": (crafted_legacy({}, {}, version=7), "has the version 7"),
    "keys that are no names": (crafted_legacy({"w": GOOD}, {"0": FOUR}, keys=[0]), "no list of names"),
    "other keys": (crafted_legacy({"w": GOOD}, {"0": FOUR}, keys=["1"]), "differ: '0', '1'"),
    "a count that lies": (crafted_legacy({"w": GOOD}, {"0": FOUR}, counts={"0": 3}), "the file says 3"),
    "a huge count": (
        crafted_legacy({"w": View(Storage("0", 1 << 40), 0, (1,), (1,))}, {"0": FOUR}, counts={"0": 1 << 40}),
        "has 16 bytes left",
    ),
    "bytes after the end": (crafted_legacy({"w": GOOD}, {"0": FOUR}) + b"x", "1 bytes after the last storage"),
    "a part outside": (
        crafted_legacy({"w": View(Storage("0", 4, ("1", 3, 2)), 0, (1,), (1,))}, {"0": FOUR}),
        "lies outside it",
    ),
    "a protocol-0 line without end": (crafted_legacy({}, {})[:15] + b"I" + b"1" * 100, "damaged"),
    "a text longer than the file": (crafted_legacy({}, {})[:15] + b"\x80\x02X\xff\xff\xff\x7f", "damaged"),
}


@pytest.mark.parametrize("name", LEGACY)
def test_legacy_files_that_lie(name: str, tmp_path: Path) -> None:
    data, message = LEGACY[name]
    with pytest.raises(WeightsError, match=message):
        read_torch_file(put(tmp_path, data))


@BOTH
def test_cut_anywhere_it_is_refused(legacy: bool, tmp_path: Path) -> None:
    data = saved({"w": torch.randn(3, 4), "b": torch.randn(4)}, legacy=legacy)
    for length in range(0, len(data), 7):
        with pytest.raises(WeightsError) as caught:
            read_torch_file(put(tmp_path, data[:length]))
        assert caught.value.accepts


@BOTH
def test_booleans_are_0_or_1(legacy: bool, tmp_path: Path) -> None:
    data = saved({"w": torch.tensor([True, True, False, True, True, False, True])}, legacy=legacy)
    wrong = data.replace(b"\x01\x01\x00\x01\x01\x00\x01", b"\x01\x01\x00\x07\x01\x00\x01")
    with pytest.raises(WeightsError, match=r"holds the byte 7|damaged"):
        read_torch_file(put(tmp_path, wrong))


def test_a_flipped_bit_in_a_storage_is_found(tmp_path: Path) -> None:
    data = bytearray(crafted_zip({"w": GOOD}, {"0": FOUR}))
    data[data.index(FOUR) + 5] ^= 1
    with pytest.raises(WeightsError, match="damaged: Bad CRC-32"):
        read_torch_file(put(tmp_path, bytes(data)))


def test_other_files_are_named(tmp_path: Path) -> None:
    for data in (b"", b"hello", pickle.dumps({}), b"\x89HDF\r\n\x1a\n"):
        with pytest.raises(WeightsError, match="as no file of torch does"):
            read_torch_file(put(tmp_path, data))
    with pytest.raises(WeightsError, match="cannot be read"):
        read_torch_file(tmp_path / "none.pth")
    assert is_torch_zip(put(tmp_path, saved({})))
    assert not is_torch_zip(put(tmp_path, b"PK\x03\x04 nothing"))
    assert not is_torch_zip(put(tmp_path, zipped({"x.npy": b""})))


def test_nesting_and_repetition_are_bounded(tmp_path: Path) -> None:
    deep: list[Any] = []
    for _ in range(60):
        deep = [deep]
    with pytest.raises(WeightsError, match="nested too deeply"):
        read_torch_file(put(tmp_path, crafted_zip(deep, {})))
    laugh: list[Any] = [0]
    for _ in range(12):
        laugh = [laugh] * 40
    with pytest.raises(WeightsError, match="nested too deeply"):
        read_torch_file(put(tmp_path, crafted_zip(laugh, {})))
