"""Sources: folders, archives and compressed files, hostile ones among them."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import tarfile
import zipfile
from pathlib import Path

import pytest
import zstandard

from lamina.core.errors import DataError
from lamina.data.readers import decompression
from lamina.data.readers.decompression import read_elements
from lamina.data.readers.sources import Source, SourceFile, natural_key

PACKERS = {
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
    ".zst": lambda data: zstandard.ZstdCompressor().compress(data),
}
TEXT = b"label,pixel1\n1,2\n" * 500


def make_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def make_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def names(source: Source) -> list[str]:
    return [file.name for file in source.files]


@pytest.mark.parametrize("ending", PACKERS)
def test_compressed_files_are_opened_by_content(tmp_path: Path, ending: str) -> None:
    for name in (f"a.csv{ending}", "without_ending"):
        path = tmp_path / name
        path.write_bytes(PACKERS[ending](TEXT))
        file = Source(path).files[0]
        assert file.read() == TEXT
        assert file.head(5) == b"label"
    assert Source(tmp_path / f"a.csv{ending}").files[0].ending == ".csv"


@pytest.mark.parametrize("ending", PACKERS)
def test_damaged_streams_name_the_file(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.csv{ending}"
    path.write_bytes(PACKERS[ending](bytes(range(256)) * 4000)[:-20])
    with pytest.raises(DataError) as caught:
        Source(path).files[0].read()
    assert caught.value.where == str(path)
    assert "damaged" in caught.value.what or "complete" in caught.value.accepts


@pytest.mark.parametrize("ending", [".gz", ".xz", ".bz2", ".zst"])
def test_bombs_stop_at_the_ratio(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decompression, "FREE_BYTES", 1 << 20)
    path = tmp_path / f"a{ending}"
    path.write_bytes(PACKERS[ending](bytes(8 << 20)))
    with pytest.raises(DataError, match="decompression bomb"):
        Source(path).files[0].read()


def test_memory_bound_stops_before_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(bytes(range(256)) * 8192))
    with pytest.raises(DataError) as caught:
        Source(path, max_bytes=1 << 20).files[0].read()
    assert "data.max_memory_mb" in caught.value.mend


def test_promises_beyond_the_file_are_refused_before_memory_is_taken() -> None:
    file = SourceFile(name="a", where="a", size=100, max_bytes=1 << 40)
    with pytest.raises(DataError, match="promises"):
        read_elements(io.BufferedReader(io.BytesIO(b"")), 1 << 39, file=file)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_tars_are_read_without_unpacking(tmp_path: Path, mode: str) -> None:
    members = {
        "set/10.txt": b"ten",
        "set/9.txt": b"nine",
        "set/.hidden": b"",
        "__MACOSX/x": b"",
        "./set/sub/a": b"a" * 9000,
    }
    path = make_tar(tmp_path / "a.tar.any", members, mode)
    source = Source(path)
    assert names(source) == ["set/9.txt", "set/10.txt", "set/sub/a"]
    assert [file.read() for file in source.files] == [b"nine", b"ten", b"a" * 9000]
    assert source.files[0].where == f"{path}:set/9.txt"
    assert list(tmp_path.iterdir()) == [path]


def test_zips_are_read_without_unpacking(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"b/2.txt": b"two", "b/1.txt": TEXT, ".DS_Store": b""})
    source = Source(path)
    assert names(source) == ["b/1.txt", "b/2.txt"]
    assert source.files[0].read() == TEXT
    assert source.files[1].head(2) == b"tw"


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "C:\\evil"])
@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_members_that_lead_out_are_refused(tmp_path: Path, name: str, make: object) -> None:
    path = make(tmp_path / "a.any", {name: b"x"})  # type: ignore[operator]
    with pytest.raises(DataError, match="member") as caught:
        _ = Source(path).files
    assert str(path) in caught.value.where


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_tars_are_refused(tmp_path: Path, kind: bytes) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("innocent")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(DataError, match="link or a device"):
        _ = Source(path).files


def test_links_in_zips_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("innocent")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(DataError, match="link"):
        _ = Source(path).files


def test_zip_bombs_and_encryption_are_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"zeros": bytes(80 << 20)})
    with pytest.raises(DataError, match="decompression bomb"):
        _ = Source(path).files
    path = make_zip(tmp_path / "b.zip", {"secret": b"x"})
    raw = bytearray(path.read_bytes())
    raw[6] |= 1
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(raw)
    with pytest.raises(DataError, match="encrypted"):
        _ = Source(path).files


def test_a_wrong_checksum_in_a_zip_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a.txt", TEXT)
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"pixel1")] ^= 1
    path.write_bytes(raw)
    with pytest.raises(DataError, match="damaged") as caught:
        Source(path).files[0].read()
    assert caught.value.where == f"{path}:a.txt"


@pytest.mark.parametrize("cut", [700, 5000])
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_truncated_tars_are_refused(tmp_path: Path, mode: str, cut: int) -> None:
    content = random.Random(0).randbytes(20_000)
    path = make_tar(tmp_path / "a.tar", {"a": content, "b": content}, mode)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match="damaged"):
        _ = Source(path).files


def test_a_member_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for content in (b"1", b"2"):
            info = tarfile.TarInfo("same")
            info.size = 1
            archive.addfile(info, io.BytesIO(content))
    with pytest.raises(DataError, match="twice"):
        _ = Source(path).files


def test_folders_list_in_natural_order_without_hidden_files(tmp_path: Path) -> None:
    for name in ("b/10.png", "b/9.png", "a.csv", ".git/config", "Thumbs.db", "__MACOSX/a.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert names(Source(tmp_path)) == ["a.csv", "b/9.png", "b/10.png"]


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    (tmp_path / "data" / "a").mkdir(parents=True)
    (tmp_path / "data" / "a" / "x.txt").write_text("x")
    (tmp_path / "data" / "loop").symlink_to(tmp_path / "data", target_is_directory=True)
    assert names(Source(tmp_path / "data")) == ["a/x.txt"]


def test_a_folder_of_archives_is_looked_into(tmp_path: Path) -> None:
    make_tar(tmp_path / "train_20k.tar.gz", {"set/train/cat/1.jpg": b"1"}, "w:gz")
    make_zip(tmp_path / "val.zip", {"set/val/cat/2.jpg": b"2"})
    (tmp_path / "README.md").write_text("hello")
    assert names(Source(tmp_path)) == ["train_20k/set/train/cat/1.jpg", "val/set/val/cat/2.jpg"]


def test_archives_beside_unpacked_files_are_passed_over_and_said(tmp_path: Path) -> None:
    make_tar(tmp_path / "set.tar.gz", {"cat/1.jpg": b"1"}, "w:gz")
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.jpg").write_bytes(b"1")
    source = Source(tmp_path)
    assert names(source) == ["cat/1.jpg"]
    assert "set.tar.gz" in source.notes[0]


def test_csv_zip_counts_as_a_compressed_file(tmp_path: Path) -> None:
    make_zip(tmp_path / "train.csv.zip", {"train.csv": TEXT})
    (tmp_path / "test.csv").write_bytes(TEXT)
    assert names(Source(tmp_path)) == ["test.csv", "train.csv"]


def test_missing_paths_name_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "sign_digits.csv").write_text("x")
    with pytest.raises(DataError) as caught:
        Source(tmp_path / "sign_digit.csv")
    assert "sign_digits.csv" in caught.value.mend
    with pytest.raises(DataError) as caught:
        Source(tmp_path / "nowhere" / "deep" / "x.csv")
    assert str(tmp_path) in caught.value.accepts


def test_natural_key_orders_numbers_by_value() -> None:
    assert sorted(["img12.png", "img9.png", "img1.png", "10", "9", "a"], key=natural_key) == [
        "9",
        "10",
        "a",
        "img1.png",
        "img9.png",
        "img12.png",
    ]
