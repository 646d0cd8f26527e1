"""The file format of a bundle: a folder, or the same files in one zip.

    BUNDLE/ model.safetensors  config.json  preprocessing.json  [tokenizer.json]  labels.json  metrics.json
            golden.safetensors  README.md

`config.json` says what the bundle is and lists every other file with its size and sha256, and carries a checksum of
itself. Reading trusts nothing: names, kinds and sizes of all files are checked before one is opened, checksums and
tensor headers before a tensor is made, JSON is bounded and strict, unknown keys are refused. Nothing in a bundle is
code, and no value in it is ever evaluated. What the values mean is checked by `lamina.tasks.bundle`.

Tensors of the preprocessing lie in model.safetensors under the prefix `preprocessing.`; weights keep the names of the
model's state dict. A checksum is no signature: it finds damage, not somebody who repacks a bundle on purpose. Such
a bundle can hold other weights, but cannot run code or reach outside its folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, NoReturn, Protocol, TypeVar

from torch import Tensor

from lamina.core.config import Config, Field
from lamina.core.errors import BundleError, ConfigError, StorageError
from lamina.core.files import atomic_folder, require_free_space, write_atomic
from lamina.core.strict_json import canonical_sha256, dump_json, parse_json
from lamina.core.strict_zip import Member, pack_zip, read_directory, read_member
from lamina.core.tensorfile import check_header, header_length, pack_tensors, unpack_tensors

FORMAT: Final = 1
PREPROCESSING_PREFIX: Final = "preprocessing."
CONFIG: Final = "config.json"
MODEL: Final = "model.safetensors"
GOLDEN: Final = "golden.safetensors"
# Name -> most bytes. A file's true size is checked against this before it is opened.
LIMITS: Final[dict[str, int]] = {
    CONFIG: 4 * 2**20,
    MODEL: 64 * 2**30,
    "preprocessing.json": 4 * 2**20,
    "tokenizer.json": 64 * 2**20,
    "labels.json": 16 * 2**20,
    "metrics.json": 4 * 2**20,
    GOLDEN: 256 * 2**20,
    "README.md": 2**20,
}
OPTIONAL: Final = frozenset({"tokenizer.json"})
MEND: Final = "copy or save the bundle again; if it came from elsewhere, do not use it"
_CHUNK: Final = 1 << 20


class Part(Config):
    """A registered thing and its Config's values."""

    name: str = Field(description="Name under which it is registered.", min_length=1, max_length=200)
    config: dict[str, Any] = Field(default_factory=dict, description="Values of its Config.")


class FileFacts(Config):
    """Size and checksum of one file."""

    bytes: int = Field(description="Size in bytes.", ge=0)
    sha256: str = Field(description="sha256 of the bytes, hexadecimal.", pattern=r"^[0-9a-f]{64}$")


class BundleConfig(Config):
    """What config.json holds."""

    format: Literal[1] = Field(1, description="Version of the bundle format.")
    lamina: str = Field(description="Version of Lamina that wrote it.", max_length=100)
    task: Part = Field(description="The task.")
    model: Part = Field(description="The model.")
    spec: dict[str, Any] = Field(description="The DataSpec: columns with roles, shapes, classes.")
    thresholds: dict[str, float] = Field(default_factory=dict, description="Decision thresholds, see tasks.thresholds.")
    precision: dict[str, str] = Field(default_factory=dict, description="Arithmetic used for training and judging.")
    files: dict[str, FileFacts] = Field(default_factory=dict, description="Every other file of the bundle.")


class Labels(Config):
    """What labels.json holds: names, in the order of the outputs."""

    classes: tuple[str, ...] = Field((), description="Class names in index order; empty for regression.")
    targets: tuple[str, ...] = Field(
        (), description="Names of the regression targets in order; empty for classification."
    )


class MetricsFile(Config):
    """What metrics.json holds."""

    metrics: dict[str, float] = Field(default_factory=dict, description="`split/name` -> value at the best checkpoint.")


@dataclass
class BundleParts:
    """The content of a bundle in memory.

    Attributes:
        config: config.json; `files` is filled by `write_bundle`.
        tensors: model.safetensors: weights, and the preprocessing's tensors under `preprocessing.`.
        preprocessing: preprocessing.json as the Preprocessing describes itself.
        golden: golden.safetensors: `input.*` raw rows and `output.*` what they gave.
        readme: README.md, UTF-8.
        tokenizer: tokenizer.json, where the data is text.
    """

    config: BundleConfig
    tensors: Mapping[str, Tensor]
    preprocessing: Mapping[str, Any]
    labels: Labels
    metrics: MetricsFile
    golden: Mapping[str, Tensor] = field(default_factory=dict)
    readme: str = ""
    tokenizer: Mapping[str, Any] | None = None


# --- writing -----------------------------------------------------------------------------------------------------


def write_bundle(path: str | Path, parts: BundleParts, *, overwrite: bool = False) -> BundleConfig:
    """Write a bundle so that it is whole or not there: a folder, or one file where the name ends in `.zip`.

    Returns:
        The config as written, with sizes and checksums of the other files.

    Raises:
        StorageError: Something is at `path` and `overwrite` is false, or the disk is full or read-only.
        BundleError: `overwrite` is true and what is there is not a bundle.
    """
    path = Path(path)
    if os.path.lexists(path):
        if not overwrite:
            raise StorageError(
                "There is something at this path already.",
                where=str(path),
                accepts="a path that does not exist yet",
                mend="choose another name, or save with overwrite=True",
            )
        _require_replaceable(path)
    files = _pack(parts)
    config = parts.config.model_copy(
        update={
            "files": {
                name: FileFacts(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
                for name, data in files.items()
            }
        }
    )
    values = config.values()
    files = {CONFIG: dump_json({**values, "checksum": canonical_sha256(values)}), **files}
    for name, data in files.items():
        assert len(data) <= LIMITS[name], f"{name} has {len(data)} bytes, more than a bundle's reader accepts"
    require_free_space(path, sum(map(len, files.values())))
    if _is_zip(path):
        write_atomic(path, pack_zip(files))
    else:
        with atomic_folder(path, replace=overwrite) as folder:
            for name, data in files.items():
                (folder / name).write_bytes(data)
    return config


def _pack(parts: BundleParts) -> dict[str, bytes]:
    files = {
        MODEL: pack_tensors(parts.tensors),
        "preprocessing.json": dump_json(parts.preprocessing),
        "labels.json": dump_json(parts.labels.values()),
        "metrics.json": dump_json(parts.metrics.values()),
        GOLDEN: pack_tensors(parts.golden),
        "README.md": parts.readme.encode("utf-8"),
    }
    if parts.tokenizer is not None:
        files["tokenizer.json"] = dump_json(parts.tokenizer)
    return files


def _require_replaceable(path: Path) -> None:
    """Only a bundle may be overwritten by a bundle: a typing mistake must not cost somebody a folder of photographs."""
    if path.is_dir() and not path.is_symlink():
        strangers = sorted({entry.name for entry in path.iterdir()} - set(LIMITS))
        fits = not strangers and (path / CONFIG).is_file()
    else:
        fits = path.is_file() and not path.is_symlink() and _is_zip(path)
    if not fits:
        raise BundleError(
            "What is at this path is not a bundle, so it is not overwritten.",
            where=str(path),
            accepts="a new path, or a bundle that may be replaced",
            mend="choose another name",
        )


def _is_zip(path: Path) -> bool:
    return path.suffix.lower() == ".zip"


# --- reading -----------------------------------------------------------------------------------------------------


class _Source(Protocol):
    """Where a bundle's files come from: sizes first, bytes in pieces when asked."""

    sizes: dict[str, int]

    def pieces(self, name: str) -> Iterator[bytes]: ...


def read_bundle(path: str | Path) -> BundleParts:
    """Read a bundle, folder or zip, verifying everything before it is used.

    Raises:
        BundleError: Missing, damaged, tampered with, or not a bundle; names the file at fault.
    """
    path = Path(path)
    with _opened(path) as source:
        config = _read_config(source, path)
        _check_manifest(source, config, path)
        documents = {
            name: parse_json(_read(source, name), where=str(path / name), mend=MEND, max_bytes=LIMITS[name])
            for name in config.files
            if name.endswith(".json")
        }
        labels = _validated(Labels, documents["labels.json"], path / "labels.json")
        metrics = _validated(MetricsFile, documents["metrics.json"], path / "metrics.json")
        readme = _text(_read(source, "README.md"), path / "README.md")
        golden = _read_tensors(source, GOLDEN, path)
        tensors = _read_tensors(source, MODEL, path)
    return BundleParts(
        config=config,
        tensors=tensors,
        preprocessing=documents["preprocessing.json"],
        labels=labels,
        metrics=metrics,
        golden=golden,
        readme=readme,
        tokenizer=documents.get("tokenizer.json"),
    )


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[_Source]:
    if path.is_dir():
        yield _Folder(path)
        return
    with _open_regular(path, follow=True) as file:
        yield _Zip(path, file)


class _Folder:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.sizes: dict[str, int] = {}
        try:
            entries = sorted(os.scandir(path), key=lambda entry: entry.name)
        except OSError as error:
            _refuse(f"The folder cannot be read: {error.strerror}.", path, "a readable folder")
        for entry in entries:
            if entry.name not in LIMITS:
                _refuse(f"There is a {entry.name!r} in it.", path, f"only {', '.join(LIMITS)}")
            facts = entry.stat(follow_symlinks=False)
            if not stat.S_ISREG(facts.st_mode):
                _refuse("It is not a plain file but a link, folder or device.", path / entry.name, "a plain file")
            self.sizes[entry.name] = facts.st_size

    def pieces(self, name: str) -> Iterator[bytes]:
        with _open_regular(self.path / name, follow=False) as file:
            # Never more than the size that was checked, whoever appends meanwhile.
            remaining = self.sizes[name]
            while remaining and (piece := file.read(min(_CHUNK, remaining))):
                remaining -= len(piece)
                yield piece


class _Zip:
    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self.file = path, file
        self.members: dict[str, Member] = read_directory(file, fault=self._fault, max_members=len(LIMITS))
        for name in self.members:
            if name not in LIMITS:
                _refuse(f"There is a {name!r} in it.", path, f"only {', '.join(LIMITS)}")
        self.sizes = {name: member.size for name, member in self.members.items()}

    def pieces(self, name: str) -> Iterator[bytes]:
        return read_member(self.file, self.members[name], fault=self._fault)

    def _fault(self, what: str, accepts: str) -> BundleError:
        return BundleError(what, where=str(self.path), accepts=accepts, mend=MEND)


def _open_regular(path: Path, *, follow: bool) -> BinaryIO:
    """Open a plain file; a link (unless `follow`), pipe or device is refused without waiting for it."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    if not follow:
        flags |= getattr(os, "O_NOFOLLOW", 0)
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        raise BundleError(
            "There is nothing at this path.",
            where=str(path),
            accepts="a bundle (folder or .zip) or a run folder",
            mend="check the path; `lamina train` writes a bundle into its run folder",
        ) from None
    except OSError as error:
        _refuse(f"It cannot be opened: {error.strerror}.", path, "a readable plain file")
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        _refuse("It is not a plain file.", path, "a bundle: a folder or a .zip")
    return os.fdopen(descriptor, "rb")


def _read_config(source: _Source, path: Path) -> BundleConfig:
    _check_names(source.sizes, path)
    document = parse_json(_read(source, CONFIG), where=str(path / CONFIG), mend=MEND, max_bytes=LIMITS[CONFIG])
    version = document.get("format")
    if version != FORMAT or isinstance(version, bool):
        newer = isinstance(version, int) and version > FORMAT
        raise BundleError(
            f"The bundle has the format {version!r}.",
            where=str(path / CONFIG),
            accepts=f"format {FORMAT}",
            mend="install a newer version of Lamina" if newer else MEND,
        )
    checksum = document.pop("checksum", None)
    if checksum != canonical_sha256(document):
        _refuse("Its checksum does not match its content.", path / CONFIG, "the values as they were written")
    return _validated(BundleConfig, document, path / CONFIG)


def _check_names(sizes: Mapping[str, int], path: Path) -> None:
    missing = [name for name in LIMITS if name not in sizes and name not in OPTIONAL]
    if missing:
        raise BundleError(
            f"There is no {', '.join(missing)}.",
            where=str(path),
            accepts=f"a bundle with {', '.join(name for name in LIMITS if name not in OPTIONAL)}",
            mend="give a bundle (folder or .zip) or a run folder; a bundle that lost files must be copied or saved again",
        )
    for name, size in sizes.items():
        if size > LIMITS[name]:
            _refuse(f"It has {size} bytes.", path / name, f"at most {LIMITS[name]} bytes")


def _check_manifest(source: _Source, config: BundleConfig, path: Path) -> None:
    """Names, sizes and checksums of all files, streamed: nothing is kept in memory yet."""
    present = set(source.sizes) - {CONFIG}
    if set(config.files) != present:
        _refuse(
            f"It lists {_names(config.files)}; the bundle holds {_names(present)}.",
            path / CONFIG,
            "a list of its files",
        )
    for name, facts in config.files.items():
        if source.sizes[name] != facts.bytes:
            _refuse(
                f"It has {source.sizes[name]} bytes.", path / name, f"the {facts.bytes} bytes that config.json lists"
            )
    for name, facts in config.files.items():
        digest, size = hashlib.sha256(), 0
        for piece in source.pieces(name):
            digest.update(piece)
            size += len(piece)
        if size != facts.bytes or digest.hexdigest() != facts.sha256:
            _refuse(
                f"Its sha256 is {digest.hexdigest()[:12]}….", path / name, f"{facts.sha256[:12]}…, as config.json lists"
            )


def _read(source: _Source, name: str) -> bytes:
    return b"".join(source.pieces(name))


def _read_tensors(source: _Source, name: str, path: Path) -> dict[str, Tensor]:
    where, size = str(path / name), source.sizes[name]
    pieces = (piece for piece in source.pieces(name) if piece)
    start = bytearray(next(pieces, b""))
    length = header_length(bytes(start[:8]), file_size=size, where=where, mend=MEND)
    while len(start) < 8 + length and (piece := next(pieces, b"")):
        start += piece
    # The header is judged before memory for the tensors is taken.
    facts = check_header(bytes(start[8 : 8 + length]), file_size=size, where=where, mend=MEND)
    data = bytearray(size)
    position = len(start)
    data[:position] = start
    for piece in pieces:
        data[position : position + len(piece)] = piece
        position += len(piece)
    if position != size:
        _refuse(f"It became {position} bytes long while it was read.", path / name, f"{size} bytes")
    return unpack_tensors(data, facts, where=where, mend=MEND)


ConfigType = TypeVar("ConfigType", bound=Config)


def _validated(cls: type[ConfigType], document: Mapping[str, Any], path: Path) -> ConfigType:
    try:
        return cls.from_values(document)
    except ConfigError as error:
        raise BundleError(error.what, where=f"{path}, {error.where}", accepts=error.accepts, mend=MEND) from None


def _text(data: bytes, path: Path) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        _refuse(f"It is not UTF-8 (byte {error.start}).", path, "text in UTF-8")


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"


def _refuse(what: str, path: Path, accepts: str) -> NoReturn:
    raise BundleError(what, where=str(path), accepts=accepts, mend=MEND) from None
