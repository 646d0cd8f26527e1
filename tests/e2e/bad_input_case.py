"""What the tables of bad inputs are made of: a case, and the ground on which its files are made."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from lamina.core.strict_json import canonical_sha256

# Kind -> what is wrong -> (the command, "what | where | mend").
Cases = dict[str, dict[str, tuple[Callable[["Ground"], list[str]], str]]]
FLOWERS = ("sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)")


@dataclass(frozen=True)
class Ground:
    """Where a case takes place.

    Attributes:
        folder: An empty folder, the working folder of the command.
        images: A finished run of an MLP on the embedded digits.
        table: A finished run of an MLP on the embedded irises.
    """

    folder: Path
    images: Path
    table: Path

    def write(self, name: str, content: str | bytes) -> str:
        """A file; returns its name."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return name

    def data(self, name: str, content: str | bytes, *words: str) -> list[str]:
        """`lamina data` of a file."""
        return ["data", self.write(name, content), *words]

    def recipe(self, text: str) -> list[str]:
        """`lamina train` of a recipe file."""
        return ["train", self.write("my.yaml", text)]

    def run(self, kind: str) -> Path:
        """A copy, called `r`, of the run `images` or `table`."""
        return Path(shutil.copytree(getattr(self, kind), self.folder / "r"))

    def bundle(self, change: Callable[[Path], object]) -> list[str]:
        """`lamina predict` with a copy of a bundle that has been tampered with."""
        folder = Path(shutil.copytree(self.images / "bundle", self.folder / "b"))
        change(folder)
        return ["predict", "b", self.write("p.png", png())]


@dataclass(frozen=True)
class Case:
    """A command that must be refused.

    Attributes:
        name: What is wrong; the test's id.
        kind: What is at fault, such as `pixel CSV`.
        words: Makes the files and returns the command line.
        what: What the first sentence must hold: the value or the fact.
        where: What the place must hold: file, row, column, key or argument.
        mend: What the mend must hold.
    """

    name: str
    kind: str
    words: Callable[[Ground], list[str]]
    what: str
    where: str
    mend: str

    @classmethod
    def table(cls, *tables: Cases) -> list[Case]:
        """The rows of tables of kind -> name -> (words, "what | where | mend")."""
        return [
            cls(name, kind, words, *says.split(" | "))
            for table in tables
            for kind, rows in table.items()
            for name, (words, says) in rows.items()
        ]


def png(side: int = 8, value: int = 7) -> bytes:
    """A grey picture."""
    stream = io.BytesIO()
    Image.fromarray(np.full((side, side), value, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def pixel_csv(rows: int = 8, *, pixels: int = 16, **changes: str) -> str:
    """Rows of `label,pixel0,…`; `r3c2="x"` puts x into row 3 (the header is row 1), column 2 (the label is 0)."""
    table = [["label", *(f"pixel{i}" for i in range(pixels))]]
    table += [[str(row % 2), *(str((row * 7 + i) % 256) for i in range(pixels))] for row in range(rows)]
    for place, text in changes.items():
        row, column = place.removeprefix("r").split("c")
        table[int(row) - 1][int(column)] = text
    return "\n".join(",".join(row) for row in table) + "\n"


def flowers(rows: int = 12, **changes: str) -> str:
    """A table as the irises; `changes` as in `pixel_csv`, the species is column 4."""
    kinds = ("setosa", "versicolor", "virginica")
    table = [[*FLOWERS, "species"]]
    table += [[*(f"{1 + (row * 3 + i) % 7}.{i}" for i in range(4)), kinds[row % 3]] for row in range(rows)]
    for place, text in changes.items():
        row, column = place.removeprefix("r").split("c")
        table[int(row) - 1][int(column)] = text
    return "\n".join(",".join(row) for row in table) + "\n"


def idx(array: np.ndarray) -> bytes:
    """The bytes of an IDX file."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def npz(**arrays: np.ndarray) -> bytes:
    """The bytes of an NPZ file."""
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def zipped(members: Mapping[str, bytes]) -> bytes:
    """The bytes of a zip archive."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return stream.getvalue()


def tarred(members: Mapping[str, bytes]) -> bytes:
    """The bytes of a tar.gz archive."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return gzip.compress(stream.getvalue(), mtime=0)


def photos(*names: str) -> dict[str, bytes]:
    """Two classes of four pictures, and more files of these names that are no pictures."""
    good = {f"{kind}/{n}.png": png(value=40 * n + len(kind)) for kind in ("cat", "horse") for n in range(4)}
    return {**good, **dict.fromkeys(names, b"this is no picture")}


def unpack(folder: Path, members: Mapping[str, bytes]) -> None:
    """The members as files."""
    for name, content in members.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def reseal(folder: Path, **changes: object) -> None:
    """Make a bundle's config.json agree with its files again, as a forger would; `changes` go into it."""
    values = json.loads((folder / "config.json").read_text())
    values.pop("checksum")
    values["files"] = {
        path.name: {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in sorted(folder.iterdir())
        if path.name != "config.json" and path.is_file()
    }
    values.update(changes)
    (folder / "config.json").write_text(json.dumps({**values, "checksum": canonical_sha256(values)}))


def edit(path: Path, old: str, new: str) -> None:
    """Replace text in a file that holds it."""
    text = path.read_text()
    assert old in text, (old, path)
    path.write_text(text.replace(old, new, 1))
