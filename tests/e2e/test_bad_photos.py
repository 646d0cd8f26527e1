"""Folders of photographs as they are found: each odd file is read and said, or named as a fault with its reason.

The table makes every file with Pillow. `reads` says what `lamina data` notes about a file that is read; `fault` the reason
for which one is not, in `lamina data` and when training.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lamina.cli.main import main

SIDE = 12


def pixels(seed: int, channels: int = 3) -> np.ndarray:
    found = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, channels), dtype=np.uint8)
    return found[..., 0] if channels == 1 else found


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def photo(seed: int, kind: str = "PNG", **options: Any) -> bytes:
    return encoded(Image.fromarray(pixels(seed)), kind, **options)


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return photo(1, "JPEG", exif=exif)


def damaged_exif() -> bytes:
    return photo(1, "JPEG", exif=b"Exif\0\0" + bytes(range(64)))


def animated(kind: str) -> bytes:
    frames = [Image.fromarray(pixels(seed)) for seed in (1, 2, 3)]
    options = {"lossless": True} if kind == "WEBP" else {}
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=50, **options)


def two_pictures() -> bytes:
    return encoded(Image.fromarray(pixels(1)), "MPO", save_all=True, append_images=[Image.fromarray(pixels(2))])


def deep_grey() -> bytes:
    return encoded(Image.fromarray(pixels(1, 1).astype(np.uint16) * 257))


def png_of(width: int, height: int, *, depth: int = 8, kind: int = 2, rows: bytes = b"") -> bytes:
    """A PNG with any header, its pixels as given."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def deep_colour() -> bytes:
    row = b"\0" + bytes(range(6 * SIDE))
    return png_of(SIDE, SIDE, depth=16, rows=row * SIDE)


def transparent(mode: str) -> bytes:
    if mode == "P":
        image = Image.fromarray(pixels(1)).quantize(16)
        return encoded(image, transparency=0)
    return encoded(Image.fromarray(pixels(1)).convert("LA" if mode == "LA" else "RGBA"))


@dataclass(frozen=True)
class Case:
    content: Callable[[], bytes]
    name: str = "odd.png"
    reads: str = ""
    fault: str = ""


READ = {
    "a PNG called .jpg": Case(lambda: photo(1), "odd.jpg", reads="1 image is of another format than the name says"),
    "no ending": Case(lambda: photo(1), "odd"),
    "a JPEG called .txt": Case(lambda: photo(1, "JPEG"), "odd.txt"),
    "ending in capitals": Case(lambda: photo(1, "JPEG"), "ODD.JPEG"),
    "CMYK": Case(lambda: encoded(Image.fromarray(pixels(1)).convert("CMYK"), "JPEG"), "odd.jpg", reads="1 image is CMYK"),
    "16 bits, grey": Case(deep_grey, reads="1 image is of 16 bits per channel"),
    "16 bits, colour": Case(deep_colour, reads="1 image is of 16 bits per channel"),
    "palette": Case(lambda: encoded(Image.fromarray(pixels(1)).quantize(16))),
    "palette with a transparent colour": Case(lambda: transparent("P"), reads="laid on white"),
    "grey among colour": Case(lambda: encoded(Image.fromarray(pixels(1, 1))), reads="three equal channels"),
    "one bit": Case(lambda: encoded(Image.fromarray(pixels(1, 1)).convert("1")), reads="three equal channels"),
    "transparency": Case(lambda: transparent("RGBA"), reads="laid on white"),
    "grey with transparency": Case(lambda: transparent("LA"), reads="laid on white"),
    "turned by the camera": Case(turned, "odd.jpg", reads="1 image is turned upright"),
    "a damaged note of the camera": Case(damaged_exif, "odd.jpg"),
    "a telephone's two pictures in one": Case(two_pictures, "odd.jpg"),
    "animated GIF": Case(lambda: animated("GIF"), "odd.gif", reads="1 image is animated, of which the first picture counts"),
    "animated WebP": Case(lambda: animated("WEBP"), "odd.webp", reads="1 image is animated"),
    "animated PNG": Case(lambda: animated("PNG"), reads="1 image is animated"),
    "another size": Case(lambda: encoded(Image.new("RGB", (40, 20))), reads="the middle cut out"),
    "one pixel": Case(lambda: encoded(Image.new("RGB", (1, 1))), reads="the middle cut out"),
    "a long strip": Case(lambda: encoded(Image.new("RGB", (5000, 1))), reads="the middle cut out"),
    "spaces, quotes and a snowman": Case(lambda: photo(1), "it's \"odd\" \N{SNOWMAN} 你好.png"),
    "a line break in the name": Case(lambda: photo(1), "odd\n\x1b[31m.png"),
    "below its class": Case(lambda: photo(1), "a/b/c/odd.png", reads="parts of the class"),
}  # fmt: skip
FAULTS = {
    "cut off JPEG": Case(lambda: photo(1, "JPEG", quality=95)[:400], "odd.jpg", fault="damaged"),
    "cut off PNG": Case(lambda: photo(1)[:200], fault="damaged"),
    "cut off GIF": Case(lambda: photo(1, "GIF")[:200], "odd.gif", fault="damaged"),
    "cut off WebP": Case(lambda: photo(1, "WEBP")[:100], "odd.webp", fault="damaged"),
    "cut off BMP": Case(lambda: photo(1, "BMP")[:200], "odd.bmp", fault="damaged"),
    "zero bytes": Case(lambda: b"", fault="empty"),
    "text called .png": Case(lambda: b"see attachment", fault="no image; it begins with 73 65 65 20"),
    "a web page called .jpg": Case(lambda: b"<!DOCTYPE html><html>404", "odd.jpg", fault="no image"),
    "a TIFF": Case(lambda: encoded(Image.fromarray(pixels(1)), "TIFF"), "odd.tif", fault="TIFF images are not read"),
    "a TIFF called .png": Case(lambda: encoded(Image.fromarray(pixels(1)), "TIFF"), fault="no image"),
    "a telephone's HEIC": Case(lambda: b"\0\0\0\x18ftypheic", "odd.HEIC", fault="HEIC images are not read"),
    "a bomb by its header": Case(lambda: png_of(60_000, 60_000), fault="decompression bombs"),
    "a bomb a little over the limit": Case(lambda: png_of(10_000, 9_000), fault="more than 89478485 pixels"),
    "a GIF of gigantic size": Case(lambda: b"GIF89a" + struct.pack("<HH", 65535, 65535) + bytes(40), "odd.gif", fault="damaged|bombs"),
    "no pixels": Case(lambda: png_of(0, 0), fault="damaged"),
    "a header without pixels": Case(lambda: png_of(SIDE, SIDE), fault="damaged"),
}  # fmt: skip


def folder_with(tmp_path: Path, case: Case) -> tuple[Path, Path]:
    """Twelve good photographs in two classes and the odd one among the cats; the folder and the odd file."""
    folder = tmp_path / "photos"
    for number in range(12):
        path = folder / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo(100 + number))
    odd = folder / "cat" / case.name
    odd.parent.mkdir(parents=True, exist_ok=True)
    odd.write_bytes(case.content())
    return folder, odd


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    status = main([*words, "--json"])
    return status, json.loads(capsys.readouterr().out or "{}")


@pytest.mark.parametrize("name", READ)
def test_odd_photographs_are_read_and_said(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = READ[name]
    folder, _ = folder_with(tmp_path, case)
    status, document = run(capsys, "data", str(folder))
    assert status == 0
    assert document["splits"]["all"] == {"rows": 13, "classes": {"cat": 7, "dog": 6}}
    assert document["faults"] == []
    assert case.reads in " ".join(document["notes"])


@pytest.mark.parametrize("name", FAULTS)
def test_bad_photographs_are_named_with_their_reason(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = FAULTS[name]
    folder, odd = folder_with(tmp_path, case)
    status, document = run(capsys, "data", str(folder))
    assert status == 2
    assert [fault["file"] for fault in document["faults"]] == [str(odd)]
    assert re.search(case.fault, document["faults"][0]["message"])
    assert document["splits"]["all"]["rows"] == 12
    assert "Files with faults: 1" in " ".join(document["notes"])


TINY = ("image-cnn", "training.epochs=1", "training.batch_size=8", "model.blocks=[{channels: 4}]", "model.dense=[]", "data.valid_fraction=0.4")  # fmt: skip


def test_faults_stop_training_and_the_mend_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, odd = folder_with(tmp_path, FAULTS["cut off JPEG"])
    words = ("train", *TINY, "--data", str(folder), "--quiet")
    assert main([*words, "--run", str(tmp_path / "one")]) == 2
    told = capsys.readouterr().err
    assert "The image is damaged" in told
    assert str(odd) in told
    assert "data.on_fault=skip" in told
    assert main([*words, "--run", str(tmp_path / "two"), "data.on_fault=skip"]) == 0
    assert f"warning: {odd}: The image is damaged" in capsys.readouterr().err
    document = json.loads((tmp_path / "two" / "data.json").read_text())
    assert [fault["file"] for fault in document["faults"]] == [str(odd)]
    assert any("Files with faults: 1" in note for note in document["notes"])


@pytest.mark.parametrize("skip", [False, True])
def test_damage_is_not_lost_in_folders_larger_than_memory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], skip: bool
) -> None:
    """Such images are decoded while training: with skip, damage has to be found before."""
    folder, odd = folder_with(tmp_path, FAULTS["cut off PNG"])
    words = ["train", *TINY, "--data", str(folder), "--quiet", "--run", str(tmp_path / "run"), "data.shape=[180,180]"]
    words += ["data.max_memory_mb=1", *(["data.on_fault=skip"] if skip else [])]
    assert main(words) == (0 if skip else 2)
    if not skip:
        assert str(odd) in capsys.readouterr().err
    status, document = run(capsys, "data", str(folder), "data.shape=[180,180]", "data.max_memory_mb=1")
    assert status == 2
    assert [fault["file"] for fault in document["faults"]] == [str(odd)]


def test_files_of_the_system_are_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, _ = folder_with(tmp_path, Case(lambda: b"\0\0\0\1Bud1", ".DS_Store"))
    (folder / "dog" / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (folder / "cat" / "._1.png").write_bytes(b"\0\5\x16\7")
    (folder / ".trash").mkdir()
    (folder / ".trash" / "9.png").write_bytes(photo(9))
    (folder / "notes.txt").write_text("holiday")
    status, document = run(capsys, "data", str(folder))
    assert status == 0
    assert document["splits"]["all"]["rows"] == 12
    notes = " ".join(document["notes"])
    for name in (".DS_Store", "Thumbs.db", "._1.png", ".trash/9.png"):
        assert name in notes
    assert [(Path(f["file"]).name, f["message"]) for f in document["faults"]] == [
        ("notes.txt", "it is no image and is not read")
    ]


def test_links_are_followed_and_said_and_broken_ones_are_faults(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, odd = folder_with(tmp_path, Case(lambda: photo(1)))
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    (outside / "x.png").write_bytes(photo(50))
    (folder / "cat" / "link.png").symlink_to(outside / "x.png")
    (folder / "fox").symlink_to(outside)
    (folder / "cat" / "round").symlink_to(folder)
    status, document = run(capsys, "data", str(folder))
    assert status == 0
    assert document["splits"]["all"]["classes"] == {"cat": 8, "dog": 6, "fox": 1}
    notes = " ".join(document["notes"])
    assert "Links that lead out of the folder are followed: " in notes
    assert "cat/link.png" in notes
    assert "fox" in notes
    assert "links to one that was read already are left out: cat/round" in notes
    odd.unlink()
    odd.symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(folder / "cat" / "pipe.png")
    status, document = run(capsys, "data", str(folder))
    assert status == 2
    assert {(Path(f["file"]).name, f["message"]) for f in document["faults"]} == {
        ("odd.png", "It is a link that leads nowhere."),
        ("pipe.png", "It is no file but a pipe, socket or device."),
    }


def test_names_that_are_no_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, _ = folder_with(tmp_path, Case(lambda: photo(1)))
    strange = folder / "fox\udcff"  # how Python keeps the byte 0xff of a name that is no UTF-8
    strange.mkdir()
    for number in range(4):
        (strange / f"\udcfe{number}.png").write_bytes(photo(60 + number))
    (strange / "\udcfebad.png").write_bytes(b"no image")
    status, document = run(capsys, "data", str(folder))
    assert status == 2
    assert document["classes"] == ["cat", "dog", "fox\\xff"]
    assert document["faults"][0]["file"].endswith("fox\\xff/\\xfebad.png")
    (strange / "\udcfebad.png").unlink()
    target = tmp_path / "run"
    assert main(["train", *TINY, "--data", str(folder), "--quiet", "--run", str(target)]) == 0
    assert main(["predict", str(target), str(folder), "--output", str(tmp_path / "out.csv")]) == 0
    assert "fox\\xff/\\xfe0.png" in (tmp_path / "out.csv").read_text(encoding="utf-8")


def test_a_class_without_usable_images_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, _ = folder_with(tmp_path, Case(lambda: photo(1)))
    (folder / "fox").mkdir()
    (folder / "fox" / "1.png").write_bytes(b"")
    status, document = run(capsys, "data", str(folder), "data.on_fault=skip")
    assert status == 0
    assert document["classes"] == ["cat", "dog"]
    assert "No image of fox can be used; there is no such class." in document["notes"]


def test_photographs_of_any_size_are_judged_as_the_model_reads_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = folder_with(tmp_path, READ["another size"])
    other = tmp_path / "other"
    for number in range(4):
        path = other / ("dog", "cat")[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(pixels(100 + number)).resize((50, 40))
        picture.save(path)
    target = tmp_path / "run"
    words = ["data.shape=[10,14]", "data.resize=letterbox", "data.fill=[9]"]
    assert main(["train", *TINY, "--data", str(folder), "--quiet", "--run", str(target), *words]) == 0
    moved = tmp_path / "moved.bundle"  # without the run beside it, only the bundle says how photographs are fitted
    shutil.copytree(target / "bundle", moved)
    for bundle in (target, moved):
        status, document = run(capsys, "evaluate", str(bundle), "--data", str(other))
        assert status == 0
        assert document["num_samples"] == 4
        correct = document["metrics"]["accuracy"] * 4
        _, predicted = run(capsys, "predict", str(bundle), str(other))
        hits = [one["label"] in one["input"].split("/") for one in predicted["predictions"]]
        assert sum(hits) == pytest.approx(correct)
    spec = json.loads((target / "bundle" / "config.json").read_text())["spec"]["columns"]["image"]
    assert (spec["shape"], spec["resize"], spec["fill"]) == ([3, 10, 14], "letterbox", [9])


@pytest.mark.parametrize("name", ["cut off JPEG", "a telephone's HEIC", "text called .png"])
def test_prediction_names_what_it_cannot_read(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, odd = folder_with(tmp_path, FAULTS[name])
    target = tmp_path / "run"
    assert main(["train", *TINY, "--data", str(folder), "--quiet", "--run", str(target), "data.on_fault=skip"]) == 0
    assert main(["predict", str(target), str(folder)]) == 2
    told = capsys.readouterr().err
    assert str(odd) in told
    assert re.search(FAULTS[name].fault, told)


@pytest.mark.parametrize(("width", "height"), [(60_000, 60_000), (10_000, 9_500)])
def test_a_bomb_is_said_with_its_size_and_one_limit(
    width: int, height: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, odd = folder_with(tmp_path, Case(lambda: png_of(width, height)))
    status, document = run(capsys, "data", str(folder))
    assert status == 2
    [fault] = document["faults"]
    assert fault["file"] == str(odd)
    limits = r"The image has more than 89478485 pixels \((\d+|\d+x\d+) by its header\), as decompression bombs do\."
    assert re.fullmatch(limits, fault["message"])


def test_a_class_folder_without_files_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, _ = folder_with(tmp_path, Case(lambda: photo(1)))
    (folder / "horse" / "young").mkdir(parents=True)
    (folder / ".cache").mkdir()
    status, document = run(capsys, "data", str(folder))
    assert status == 0
    assert "Empty folders are no classes: photos/horse." in document["notes"]


def in_splits(tmp_path: Path, **classes: tuple[str, ...]) -> Path:
    folder = tmp_path / "split"
    for number, (split, names) in enumerate(classes.items()):
        for place, name in enumerate(names):
            (folder / split / name).mkdir(parents=True)
            for picture in range(6):
                (folder / split / name / f"{picture}.png").write_bytes(photo(100 * number + 10 * place + picture))
    return folder


def test_classes_that_the_splits_do_not_share_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = in_splits(tmp_path, train=("cat", "dog"), val=("cat", "horse"))
    warnings = [
        "Classes of valid without a row in train cannot be learned: horse.",
        "Classes of train without a row in valid are not judged there: dog.",
    ]
    _, document = run(capsys, "data", str(folder))
    assert [text for text in document["warnings"] if "without a row" in text] == warnings
    words = ["train", "image-cnn", "--data", str(folder), "--run", str(tmp_path / "run"), "training.epochs=1"]
    assert main(words) == 0
    told = " ".join(capsys.readouterr().err.split())
    assert all(f"warning: {text}" in told for text in warnings)


def test_one_class_of_photographs_is_refused_in_terms_of_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = in_splits(tmp_path, train=("cat",))
    status, document = run(capsys, "train", "image-cnn", "--data", str(folder), "--run", str(tmp_path / "run"))
    assert status == 2
    assert document["error"]["what"] == "The data has only the class 'cat'."
    assert "folder of its own" in document["error"]["mend"]
