"""The bundle's file format: what is written is read back; whatever else lies there is refused in four parts."""

import contextlib
import hashlib
import io
import json
import os
import shutil
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lamina.core.bundle import (
    BundleConfig,
    BundleParts,
    Labels,
    MetricsFile,
    Part,
    read_bundle,
    write_bundle,
)
from lamina.core.errors import BundleError, StorageError
from lamina.core.strict_json import canonical_sha256, parse_json
from lamina.core.strict_zip import pack_zip
from lamina.core.tensorfile import DTYPES, pack_tensors


def parts() -> BundleParts:
    weights = {
        f"w.{name}": torch.arange(6).reshape(2, 3).to(dtype) for name, dtype in DTYPES.items() if dtype != torch.bool
    }
    shared = torch.linspace(0, 1, 8)
    return BundleParts(
        config=BundleConfig(
            lamina="0.1.0",
            task=Part(name="image-classification"),
            model=Part(name="mlp", config={"hidden": [16, 16]}),
            spec={"columns": {}},
            thresholds={"reject": 0.25},
            precision={"training": "fp32"},
        ),
        tensors={
            **weights,
            "flag": torch.tensor([True, False]),
            "scalar": torch.tensor(3.5),
            "empty": torch.zeros(0, 4),
            "tied.a": shared,
            "tied.b": shared,
            "view": shared[2:4],
            "strided": torch.arange(6.0).reshape(2, 3).t(),
            "preprocessing.0.mean": torch.tensor([0.5]),
        },
        preprocessing={"steps": [{"name": "scale"}]},
        labels=Labels(classes=("cat", "Hündin")),
        metrics=MetricsFile(metrics={"valid/accuracy": 0.5}),
        golden={"input.image": torch.zeros(1, 1, 2, 2, dtype=torch.uint8), "output.logits": torch.zeros(1, 2)},
        readme="# A bundle\n",
    )


@pytest.fixture(scope="session")
def original(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "b.bundle"
    write_bundle(path, parts())
    return path


@pytest.fixture
def folder(original, tmp_path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "b.bundle"))


def reseal(folder: Path, **changes) -> None:
    """Make config.json agree with the files again, as a forger would."""
    values = json.loads((folder / "config.json").read_text())
    values.pop("checksum")
    values["files"] = {
        p.name: {"bytes": p.stat().st_size, "sha256": hashlib.sha256(p.read_bytes()).hexdigest()}
        for p in sorted(folder.iterdir())
        if p.name != "config.json" and p.is_file()
    }
    values.update(changes)
    (folder / "config.json").write_text(json.dumps({**values, "checksum": canonical_sha256(values)}))


@pytest.mark.parametrize("name", ["x.bundle", "x.zip", "x.ZIP"])
def test_round_trip(tmp_path, name):
    path = tmp_path / name
    wanted = parts()
    written = write_bundle(path, wanted)
    got = read_bundle(path)
    assert path.is_file() == name.lower().endswith(".zip")
    assert got.config == written
    assert set(got.config.files) == {
        "model.safetensors",
        "preprocessing.json",
        "labels.json",
        "metrics.json",
        "golden.safetensors",
        "README.md",
    }
    assert got.config.model.config == {"hidden": [16, 16]}
    assert (got.preprocessing, got.labels, got.metrics) == (wanted.preprocessing, wanted.labels, wanted.metrics)
    assert (got.readme, got.tokenizer) == (wanted.readme, None)
    for there, here in ((got.tensors, wanted.tensors), (got.golden, wanted.golden)):
        assert set(there) == set(here)
        for key in here:
            assert there[key].dtype == here[key].dtype
            assert torch.equal(there[key], here[key])


def test_a_tokenizer_travels(tmp_path):
    with_tokenizer = parts()
    with_tokenizer.tokenizer = {"vocab": {"a": 0}}
    write_bundle(tmp_path / "b", with_tokenizer)
    assert read_bundle(tmp_path / "b").tokenizer == {"vocab": {"a": 0}}


def test_a_zip_does_not_depend_on_the_clock(tmp_path):
    write_bundle(tmp_path / "a.zip", parts())
    os.utime(tmp_path / "a.zip", (0, 0))
    write_bundle(tmp_path / "b.zip", parts())
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_a_zip_made_by_other_programs_is_read(original, tmp_path):
    path = tmp_path / "other.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in original.iterdir():
            archive.write(file, file.name)
    assert torch.equal(read_bundle(path).tensors["w.F32"], parts().tensors["w.F32"])


def test_other_tools_read_our_zip_and_tensors(original, tmp_path):
    from safetensors.torch import load_file

    write_bundle(tmp_path / "b.zip", parts())
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        assert archive.testzip() is None
        assert json.loads(archive.read("labels.json"))["classes"] == ["cat", "Hündin"]
    assert torch.equal(load_file(original / "model.safetensors")["view"], parts().tensors["view"])


def test_nothing_is_overwritten_unasked(tmp_path):
    for name in ("b", "b.zip"):
        write_bundle(tmp_path / name, parts())
        with pytest.raises(StorageError, match="already"):
            write_bundle(tmp_path / name, parts())
        changed = parts()
        changed.readme = "second"
        write_bundle(tmp_path / name, changed, overwrite=True)
        assert read_bundle(tmp_path / name).readme == "second"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b", "b.zip"]


def test_only_a_bundle_is_overwritten(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.jpg").write_bytes(b"x")
    with pytest.raises(BundleError, match="not a bundle"):
        write_bundle(tmp_path / "photos", parts(), overwrite=True)
    assert (tmp_path / "photos" / "1.jpg").read_bytes() == b"x"


def test_nan_is_not_written(tmp_path):
    broken = parts()
    broken.preprocessing = {"mean": float("nan")}
    with pytest.raises(ValueError, match="JSON"):
        write_bundle(tmp_path / "b", broken)
    assert list(tmp_path.iterdir()) == []


# --- tampering: folders --------------------------------------------------------------------------------------------


def _write(name, data):
    def tamper(folder):
        (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())

    return tamper


def _resealed(name, data):
    def tamper(folder):
        _write(name, data)(folder)
        reseal(folder)

    return tamper


def _config(**changes):
    return lambda folder: reseal(folder, **changes)


def _config_text(old, new):
    def tamper(folder):
        text = (folder / "config.json").read_text()
        assert old in text
        (folder / "config.json").write_text(text.replace(old, new, 1))

    return tamper


def _remove(name):
    return lambda folder: (folder / name).unlink()


def _link(name, target):
    def tamper(folder):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return tamper


def _pipe(folder):
    (folder / "README.md").unlink()
    os.mkfifo(folder / "README.md")


def _folder_for_file(folder):
    (folder / "README.md").unlink()
    (folder / "README.md").mkdir()


def _append(name):
    def tamper(folder):
        with (folder / name).open("ab") as file:
            file.write(b"\0")

    return tamper


def _truncate(name):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-1])


def _flip(name):
    def tamper(folder):
        data = bytearray((folder / name).read_bytes())
        data[-1] ^= 1
        (folder / name).write_bytes(data)

    return tamper


def _huge(folder):
    with (folder / "labels.json").open("r+b") as file:
        file.truncate(17 * 2**20)  # sparse: takes no disk


def tensor_file(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def _model(header, data=b"", length=None):
    return _resealed("model.safetensors", tensor_file(header, data, length))


F32 = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}

TAMPERED = {
    "an extra file": (_write("evil.pkl", b"x"), "evil.pkl"),
    "a hidden file": (_write(".bashrc", b"x"), ".bashrc"),
    "a lost file": (_remove("labels.json"), "There is no labels.json"),
    "no config": (_remove("config.json"), "There is no config.json"),
    "a link": (_link("README.md", "/etc/hostname"), "not a plain file"),
    "a dangling link": (_link("README.md", "nowhere"), "not a plain file"),
    "a pipe": (_pipe, "not a plain file"),
    "a folder for a file": (_folder_for_file, "not a plain file"),
    "a byte more": (_append("model.safetensors"), "bytes that config.json lists"),
    "a byte less": (_truncate("golden.safetensors"), "bytes that config.json lists"),
    "a weight's bit": (_flip("model.safetensors"), "sha256"),
    "a metric's digit": (_write("metrics.json", '{\n "metrics": {\n  "valid/accuracy": 0.9\n }\n}\n'), "sha256"),
    "too big for its kind": (_huge, "at most 16777216"),
    "config changed": (_config_text("0.25", "0.75"), "checksum"),
    "checksum removed": (_config_text('"checksum"', '"sum"'), "checksum"),
    "a newer format": (_config(format=2), "install a newer version"),
    "format true": (_config(format=True), "format True"),
    "format missing": (_config(format=None), "format None"),
    "an unknown key in config": (_config(run_this="rm"), "run_this"),
    "config of a wrong type": (_config(task="image-classification"), "task"),
    "files that are not there": (_config(files={}), "lists nothing"),
    "an escape in the list": (_config(files={"../x": {"bytes": 1, "sha256": "0" * 64}}), "lists ../x"),
    "thresholds as text": (_config(thresholds={"reject": "much"}), "thresholds"),
    "config not JSON": (_write("config.json", "{"), "not JSON"),
    "config not UTF-8": (_write("config.json", b'{"a": "\xff"}'), "not UTF-8"),
    "config a list": (_write("config.json", "[]"), "list where an object"),
    "config deep": (_write("config.json", '{"a":' + "[" * 5000 + "]" * 5000 + "}"), "5001 levels"),
    "config with NaN": (_write("config.json", '{"a": NaN}'), "NaN"),
    "config with overflow": (_write("config.json", '{"a": 1e999}'), "1e999"),
    "config with a huge number": (_write("config.json", '{"a": ' + "9" * 5000 + "}"), "5000 digits"),
    "config with a key twice": (_write("config.json", '{"a": 1, "a": 2}'), "stands twice"),
    "labels unknown key": (_resealed("labels.json", '{"names": []}'), "names"),
    "labels numbers": (_resealed("labels.json", '{"classes": [[1]]}'), "classes"),
    "metrics infinite": (_resealed("metrics.json", '{"metrics": {"a": Infinity}}'), "Infinity"),
    "readme not UTF-8": (_resealed("README.md", b"\xff\xfe"), "not UTF-8"),
    "header bomb": (_model({}, length=2**62), "announces a header"),
    "header too long": (_model({}, length=3), "announces a header"),
    "file too short": (_resealed("model.safetensors", b"\x01\x00"), "announces a header"),
    "header not JSON": (_model(b"{]"), "not JSON"),
    "header duplicate": (_model(b'{"a": {}, "a": {}}'), "stands twice"),
    "header metadata": (_model({"__metadata__": {"x": "y"}}), "__metadata__"),
    "tensor entry extra": (_model({"a": {**F32, "code": 1}}, b"\0" * 4), "code"),
    "tensor dtype": (_model({"a": {**F32, "dtype": "OBJ"}}, b"\0" * 4), "OBJ"),
    "tensor dtype a list": (_model({"a": {**F32, "dtype": ["F32"]}}, b"\0" * 4), "dtype"),
    "tensor shape": (_model({"a": {**F32, "shape": [2]}}, b"\0" * 4), "needs 8 bytes"),
    "tensor negative": (_model({"a": {**F32, "shape": [-1]}}, b"\0" * 4), "shape is"),
    "tensor shape true": (_model({"a": {**F32, "shape": [True]}}, b"\0" * 4), "shape is"),
    "tensor dims": (_model({"a": {**F32, "shape": [1] * 9}}, b"\0" * 4), "shape is"),
    "tensor empty but vast": (_model({"a": {"dtype": "F32", "shape": [0, 2**60], "data_offsets": [0, 0]}}), "shape is"),
    "tensor outside": (_model({"a": {**F32, "data_offsets": [4, 8]}}, b"\0" * 4), "data_offsets"),
    "tensor backwards": (_model({"a": {**F32, "data_offsets": [4, 0]}}, b"\0" * 4), "data_offsets"),
    "tensors overlap": (_model({"a": F32, "b": F32}, b"\0" * 4), "begin at"),
    "tensors with a gap": (_model({"a": {**F32, "data_offsets": [4, 8]}}, b"\0" * 8), "begin at"),
    "tensor bytes left over": (_model({"a": F32}, b"\0" * 8), "end at byte"),
    "tensor name": (_model({"a\n": F32}, b"\0" * 4), "printable"),
    "boolean of 2": (_model({"a": {"dtype": "BOOL", "shape": [1], "data_offsets": [0, 1]}}, b"\2"), "byte 2"),
}


def assert_refused(path: Path, expected: str) -> None:
    with pytest.raises(BundleError) as caught:
        read_bundle(path)
    text = caught.value.render()
    assert expected in text
    assert all(part in text for part in ("where", "accepts", "mend")), text
    assert path.name in caught.value.where
    assert caught.value.mend


@pytest.mark.parametrize("name", TAMPERED)
def test_tampered_folders_are_refused(folder, name):
    tamper, expected = TAMPERED[name]
    tamper(folder)
    assert_refused(folder, expected)


def test_resealing_alone_is_not_what_is_refused(folder):
    reseal(folder)
    assert read_bundle(folder).labels.classes == ("cat", "Hündin")


def test_what_is_no_bundle(tmp_path):
    assert_refused(tmp_path / "nothing", "nothing at this path")
    (tmp_path / "empty").mkdir()
    assert_refused(tmp_path / "empty", "There is no config.json")
    (tmp_path / "text.zip").write_text("hello, this is no zip file at all")
    assert_refused(tmp_path / "text.zip", "end record")
    (tmp_path / "short.zip").write_text("PK")
    assert_refused(tmp_path / "short.zip", "2 bytes")
    os.mkfifo(tmp_path / "pipe.zip")
    assert_refused(tmp_path / "pipe.zip", "not a plain file")


# --- tampering: zips -----------------------------------------------------------------------------------------------


def _files(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def _python_zip(files, *, method=zipfile.ZIP_STORED, change=None, **options):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            if change:
                change(info)
            archive.writestr(info, data)
    return stream.getvalue()


def _patched(data, marker, offset, value):
    """Overwrite bytes at `offset` behind the first `marker`."""
    at = data.index(marker) + offset
    return data[:at] + value + data[at + len(value) :]


def _symlink(info):
    if info.filename == "README.md":
        info.create_system, info.external_attr = 3, 0o120777 << 16


ZIPS = {
    "escape": (lambda f: _python_zip({**f, "../evil": b"x"}), "../evil"),
    "absolute": (lambda f: _python_zip({**f, "/etc/x": b"x"}), "/etc/x"),
    "backslash": (lambda f: pack_zip({**f, "..\\evil": b"x"}), "evil"),
    "drive": (lambda f: pack_zip({**f, "C:evil": b"x"}), "C:evil"),
    "wrapped in a folder": (
        lambda f: _python_zip({f"b/{k}": v for k, v in f.items()}),
        "zip the files, not their folder",
    ),
    "stranger": (lambda f: _python_zip({**{k: v for k, v in f.items() if k != "README.md"}, "a.py": b"x"}), "a.py"),
    "not ASCII": (
        lambda f: _python_zip({**{k: v for k, v in f.items() if k != "README.md"}, "é": b"x"}),
        "plain names",
    ),
    "too many": (lambda f: _python_zip({**f, "a": b"", "b": b""}), "9 members"),
    "missing": (lambda f: _python_zip({k: v for k, v in f.items() if k != "labels.json"}), "no labels.json"),
    "duplicate": (
        lambda f: pack_zip({**f, "labels.jsox": b"{}"}).replace(b"labels.jsox", b"labels.json"),
        "is there twice",
    ),
    "link": (lambda f: _python_zip(f, change=_symlink), "symbolic link"),
    "encrypted": (lambda f: _patched(pack_zip(f), b"PK\x01\x02", 8, b"\x01\x00"), "encrypted"),
    "descriptor": (lambda f: _patched(pack_zip(f), b"PK\x01\x02", 8, b"\x08\x00"), "flags 0x8"),
    "bzip2": (lambda f: _python_zip(f, method=zipfile.ZIP_BZIP2), "method 12"),
    "bomb": (lambda f: _python_zip({**f, "README.md": b"\0" * 2**23}, method=zipfile.ZIP_DEFLATED), "grows from"),
    "size lie": (lambda f: _patched(pack_zip(f), b"PK\x01\x02", 24, b"\x01\x00\x00\x00"), "1 unpacked"),
    "name lie": (lambda f: pack_zip(f).replace(b"README.md", b"readme.md", 1), "something else"),
    "crc lie": (lambda f: _patched(pack_zip(f), b"PK\x03\x04", 14, b"\x01\x02\x03\x04"), "something else"),
    "prefix": (lambda f: b"#!/bin/sh\n" + pack_zip(f), "right before the end"),
    "suffix": (lambda f: pack_zip(f) + b"\0", "end record"),
    "cut": (lambda f: pack_zip(f)[:-30], "end record"),
    "offset lie": (lambda f: _patched(pack_zip(f), b"PK\x01\x02", 42, b"\x07\x00\x00\x00"), "begins at byte"),
    "directory garbage": (lambda f: _patched(pack_zip(f), b"PK\x01\x02", 0, b"PK\x01\x03"), "not a member"),
    "directory name length": (lambda f: _patched(pack_zip(f), b"PK\x01\x02", 28, b"\xff\xff"), "not a member"),
    "member count": (lambda f: _patched(pack_zip(f), b"PK\x05\x06", 8, b"\x01\x00\x01\x00"), "too many"),
    "no members": (lambda f: _patched(pack_zip(f), b"PK\x05\x06", 8, b"\x00\x00\x00\x00"), "lists 0 members"),
    "zip64": (lambda f: _patched(pack_zip(f), b"PK\x05\x06", 12, b"\xff\xff\xff\xff"), "ZIP64"),
    "deflate damaged": (
        lambda f: _patched(_python_zip(f, method=zipfile.ZIP_DEFLATED), b"PK\x03\x04", 30 + 9 + 4, b"\xff" * 8),
        "b.zip",
    ),
}


@pytest.mark.parametrize("name", ZIPS)
def test_tampered_zips_are_refused(original, tmp_path, name):
    build, expected = ZIPS[name]
    path = tmp_path / "b.zip"
    path.write_bytes(build(_files(original)))
    assert_refused(path, expected)


def test_a_deflated_member_may_not_unpack_to_more_than_it_says(original, tmp_path):
    files = _files(original)
    data = _python_zip(files, method=zipfile.ZIP_DEFLATED)
    # Both headers of README.md claim fewer bytes than come out.
    for marker, offset, name_at in ((b"PK\x03\x04", 22, 30), (b"PK\x01\x02", 24, 46)):
        at = data.index(b"README.md", data.index(marker)) - name_at
        data = data[: at + offset] + struct.pack("<L", 2) + data[at + offset + 4 :]
    (tmp_path / "b.zip").write_bytes(data)
    assert_refused(tmp_path / "b.zip", "README.md")


# --- random damage -------------------------------------------------------------------------------------------------


def assert_harmless(path: Path) -> None:
    """Whatever was damaged, either it is refused or everything that counts is as it was written."""
    wanted = parts()
    try:
        got = read_bundle(path)
    except BundleError:
        return
    assert got.config.values() == {**wanted.config.values(), "files": got.config.values()["files"]}
    assert (got.preprocessing, got.labels, got.metrics) == (wanted.preprocessing, wanted.labels, wanted.metrics)
    assert all(torch.equal(got.tensors[key], wanted.tensors[key]) for key in wanted.tensors)
    assert all(torch.equal(got.golden[key], wanted.golden[key]) for key in wanted.golden)


RANDOM = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@RANDOM
@given(data=st.data())
def test_random_byte_changes_never_load_other_weights(original, tmp_path, data):
    name = data.draw(st.sampled_from(sorted(_files(original))))
    damaged = tmp_path / "damaged"
    shutil.rmtree(damaged, ignore_errors=True)
    shutil.copytree(original, damaged)
    content = bytearray((damaged / name).read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    (damaged / name).write_bytes(content)
    assert_harmless(damaged)


@RANDOM
@given(data=st.data())
def test_random_byte_changes_in_a_zip_never_load_other_weights(original, tmp_path, data):
    method = data.draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
    content = bytearray(_python_zip(_files(original), method=method))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    (tmp_path / "damaged.zip").write_bytes(content)
    assert_harmless(tmp_path / "damaged.zip")


@RANDOM
@given(content=st.binary(max_size=200) | st.text(alphabet='{}[]",:0123456789eENaInf \\ntrulfs', max_size=60))
def test_strict_json_raises_only_its_own_error(content):
    data = content if isinstance(content, bytes) else content.encode()
    with contextlib.suppress(BundleError):
        assert isinstance(parse_json(data, where="x", mend="y", max_bytes=100), dict)


@RANDOM
@given(st.binary(max_size=120))
def test_any_bytes_as_a_tensor_file_raise_only_bundle_errors(original, tmp_path, content):
    damaged = tmp_path / "damaged"
    shutil.rmtree(damaged, ignore_errors=True)
    shutil.copytree(original, damaged)
    (damaged / "model.safetensors").write_bytes(content)
    reseal(damaged)
    with pytest.raises(BundleError):
        read_bundle(damaged)


def test_unaligned_tensors_of_foreign_writers_are_read(folder):
    header = (
        b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}}'
    )
    _model(header, b"\x07" + struct.pack("<f", 1.5))(folder)
    assert read_bundle(folder).tensors["b"].tolist() == [1.5]


def test_dtypes_that_are_not_read_back_are_not_written():
    with pytest.raises(TypeError, match="complex"):
        pack_tensors({"a": torch.zeros(1, dtype=torch.complex64)})
