"""Atomic writes, storage errors, checksums and archive names."""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamina.core import files
from lamina.core.errors import BundleError, DataError, StorageError
from lamina.core.files import (
    atomic_folder,
    remove_leftovers,
    require_free_space,
    safe_member_name,
    sha256_file,
    write_atomic,
    write_folder_atomic,
)


@contextlib.contextmanager
def small_disk(max_bytes: int) -> Iterator[None]:
    """No file may grow beyond `max_bytes`: a real refusal by the system in the middle of a write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_write_atomic_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_atomic(path, b"one")
    write_atomic(str(path), b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_write_atomic_obeys_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_atomic(tmp_path / "a", b"")
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_write_atomic_on_a_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_atomic(path, b"old")
    with small_disk(1000), pytest.raises(StorageError) as caught:
        write_atomic(path, bytes(5000))
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]
    assert caught.value.where == str(path)
    assert caught.value.exit_status == 1
    assert "File too large" in str(caught.value)


def test_write_atomic_when_the_rename_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.bin"
    write_atomic(path, b"old")

    def interrupted(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda p: p / "missing" / "a", "create the folder"),
        (lambda p: p / "file" / "a", "a part of it is a file"),
        (lambda p: p / "folder", "name of a file"),
        (lambda p: p / ("x" * 300), "shorter name"),
    ],
)
def test_write_atomic_names_path_and_mend(tmp_path: Path, make: object, says: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    path = make(tmp_path)  # type: ignore[operator]
    with pytest.raises(StorageError) as caught:
        write_atomic(path, b"x")
    assert caught.value.where == str(path)
    assert says in caught.value.mend
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


def test_write_atomic_writes_devices_directly() -> None:
    write_atomic("/dev/null", b"x")
    assert not Path("/dev/null").is_file()


def test_folder_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "run"
    with atomic_folder(path) as folder:
        assert folder.name.startswith(".tmp-")
        (folder / "sub").mkdir()
        (folder / "sub" / "a").write_bytes(b"1")
        assert not path.exists()
    assert (path / "sub" / "a").read_bytes() == b"1"
    assert [p.name for p in path.parent.iterdir()] == ["run"]


def test_folder_vanishes_on_failure(tmp_path: Path) -> None:
    def writer(folder: Path) -> None:
        (folder / "a").write_bytes(b"1")
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        write_folder_atomic(tmp_path / "run", writer)
    assert list(tmp_path.iterdir()) == []


def test_folder_is_exchanged_only_on_request(tmp_path: Path) -> None:
    path = tmp_path / "best"
    write_folder_atomic(path, lambda folder: (folder / "a").write_bytes(b"1"))
    with pytest.raises(StorageError, match="already"):
        write_folder_atomic(path, lambda folder: (folder / "b").write_bytes(b"2"))
    write_folder_atomic(path, lambda folder: (folder / "b").write_bytes(b"2"), replace=True)
    assert [p.name for p in path.iterdir()] == ["b"]
    assert [p.name for p in tmp_path.iterdir()] == ["best"]


def test_folder_is_exchanged_without_renameat2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.ctypes, "CDLL", lambda *_, **__: object())
    path = tmp_path / "best"
    for name in ("a", "b"):
        write_folder_atomic(path, lambda folder, name=name: (folder / name).write_bytes(b"1"), replace=True)  # type: ignore[misc]
    assert [p.name for p in path.iterdir()] == ["b"]
    assert [p.name for p in tmp_path.iterdir()] == ["best"]


def test_folder_on_a_full_disk_keeps_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "best"
    write_folder_atomic(path, lambda folder: (folder / "a").write_bytes(b"1"))
    with small_disk(1000), pytest.raises(StorageError):
        write_folder_atomic(path, lambda folder: (folder / "a").write_bytes(bytes(5000)), replace=True)
    assert (path / "a").read_bytes() == b"1"
    assert [p.name for p in tmp_path.iterdir()] == ["best"]


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".tmp-a-1-ff").mkdir()
    (tmp_path / ".tmp-a-1-ff" / "x").write_bytes(b"1")
    (tmp_path / ".tmp-b-1-ff").write_bytes(b"1")
    (tmp_path / "kept").write_bytes(b"1")
    assert remove_leftovers(tmp_path) == [".tmp-a-1-ff", ".tmp-b-1-ff"]
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]


def test_sha256_file(tmp_path: Path) -> None:
    data = os.urandom(300_000)
    (tmp_path / "a").write_bytes(data)
    assert sha256_file(tmp_path / "a") == hashlib.sha256(data).hexdigest()


def test_require_free_space(tmp_path: Path) -> None:
    require_free_space(tmp_path / "not" / "yet", 1)
    with pytest.raises(StorageError, match="MiB are needed"):
        require_free_space(tmp_path / "not" / "yet", 1 << 60)


@pytest.mark.parametrize(
    ("name", "plain"), [("a/b.png", "a/b.png"), ("./a//b", "a/b"), ("a\\b", "a/b"), ("a..b", "a..b"), ("é/ü", "é/ü")]
)
def test_safe_member_names(name: str, plain: str) -> None:
    assert safe_member_name(name) == plain


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("/etc/passwd", "absolute"),
        ("\\\\host\\x", "absolute"),
        ("C:\\x", "absolute"),
        ("c:x", "absolute"),
        ("../x", "leads out"),
        ("a/../../x", "leads out"),
        ("a\\..\\x", "leads out"),
        ("a\0b", "control"),
        ("a\nb", "control"),
        ("", "empty"),
        (".", "empty"),
    ],
)
def test_unsafe_member_names(name: str, says: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        safe_member_name(name, where="x.tar")
    assert caught.value.where == "x.tar"
    assert repr(name) in str(caught.value)


def test_links_are_refused_with_the_callers_error() -> None:
    with pytest.raises(BundleError, match="link"):
        safe_member_name("a", is_link=True, where="x.zip", error=BundleError)
