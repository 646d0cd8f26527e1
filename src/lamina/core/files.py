"""Files that are whole or not there: atomic writes, storage errors in four parts, checksums, safe archive names.

A write goes to a temporary name in the same folder, is flushed to the disk, renamed over the old file, and the rename
itself is flushed. Whatever byte a process dies at, the path holds the old content or the new. Imports no torch.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from lamina.core.errors import DataError, LaminaError, StorageError

TEMPORARY_PREFIX: Final = ".tmp-"

_MENDS: Final = {
    errno.ENOSPC: "free some space, or write to another disk",
    errno.EDQUOT: "free some space in your quota, or write to another disk",
    errno.EACCES: "choose a folder that you may write to, or change its permissions",
    errno.EPERM: "choose a folder that you may write to, or change its permissions",
    errno.EROFS: "choose a folder on a disk that is not read-only",
    errno.ENOENT: "create the folder first, or correct the path",
    errno.ENOTDIR: "correct the path: a part of it is a file",
    errno.EISDIR: "give the name of a file, not of a folder",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EFBIG: "write to a disk that takes files of this size",
}


def storage_error(error: OSError, path: str | Path) -> StorageError:
    """The four-part error for a write to `path` that the system refused."""
    reason = error.strerror or str(error)
    return StorageError(
        f"Writing failed: {reason}.",
        where=str(path),
        accepts="a writable path with enough free space",
        mend=_MENDS.get(error.errno or 0, "check the disk and the path"),
    )


@contextlib.contextmanager
def storage_errors(path: str | Path) -> Iterator[None]:
    """Turn any OSError inside the block into a StorageError that names `path`."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        raise storage_error(error, path) from error


def write_atomic(path: str | Path, data: bytes) -> None:
    """Write a file so that it holds either all of `data` or what it held before.

    A device or pipe (`/dev/stdout`) is written directly.

    Raises:
        StorageError: The disk is full or the path cannot be written; nothing is left behind and the old file stands.
    """
    path = Path(path)
    temporary = path.with_name(_temporary_name(path))
    with storage_errors(path):
        if path.exists() and not path.is_file() and not path.is_dir():
            path.write_bytes(data)
            return
        try:
            # 0o666 lets the umask decide, as for any other file; tempfile would make it private.
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        fsync_folder(path.parent)


@contextlib.contextmanager
def atomic_folder(path: str | Path, *, replace: bool = False) -> Iterator[Path]:
    """A temporary folder beside `path` that becomes `path` when the block ends well, and vanishes when it does not.

    Args:
        path: The folder to make; its parent is made when missing.
        replace: An existing folder is exchanged for the new one; otherwise it is refused.

    Yields:
        The temporary folder. Every file in it is flushed to the disk before it gets its name.

    Raises:
        StorageError: The folder exists and `replace` is false, or the disk is full or cannot be written.
    """
    path = Path(path)
    with storage_errors(path):
        if not replace and os.path.lexists(path):
            raise _exists(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(_temporary_name(path))
        temporary.mkdir()
        try:
            yield temporary
            fsync_tree(temporary)
            if replace and path.is_dir() and not path.is_symlink():
                _exchange(temporary, path)
            elif os.path.lexists(path):  # it came into being while we wrote
                raise _exists(path)
            else:
                temporary.rename(path)
        finally:
            # After an exchange this is the old folder; after a failure, what was written so far.
            shutil.rmtree(temporary, ignore_errors=True)
        fsync_folder(path.parent)


def write_folder_atomic(path: str | Path, writer: Callable[[Path], object], *, replace: bool = False) -> None:
    """Let `writer(temporary_folder)` write files, then give the folder its name; see `atomic_folder`."""
    with atomic_folder(path, replace=replace) as folder:
        writer(folder)


def remove_leftovers(folder: str | Path) -> list[str]:
    """Remove the temporary files and folders that a killed process left in `folder`; returns their names.

    Only for folders that no other process writes to (a run that is being resumed).
    """
    removed = []
    for entry in sorted(Path(folder).glob(f"{TEMPORARY_PREFIX}*")):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                entry.unlink()
        removed.append(entry.name)
    return removed


def fsync_tree(folder: Path) -> None:
    """Flush every file and folder below `folder`, and the folder itself, to the disk."""
    for root, _, files in os.walk(folder, topdown=False):
        for name in files:
            descriptor = os.open(Path(root) / name, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        fsync_folder(Path(root))


def fsync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk, where the system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows has no descriptors for folders, and a folder may be writable but not readable
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that cannot flush a folder
            raise
    finally:
        os.close(descriptor)


def sha256_file(path: str | Path) -> str:
    """The sha256 of a file's bytes, hexadecimal; read in pieces."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_free_space(path: str | Path, num_bytes: int) -> None:
    """Refuse to begin a write of `num_bytes` that the disk of `path` (which need not exist yet) cannot take.

    Raises:
        StorageError: Too little free space, or no folder on the way to `path` can be looked at.
    """
    with storage_errors(path):
        folder = Path(path).absolute()
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise StorageError(
            f"The disk has {free / 2**20:.1f} MiB free; {num_bytes / 2**20:.1f} MiB are needed.",
            where=str(path),
            accepts="a disk with enough free space",
            mend="free some space, or write to another disk",
        )


def safe_member_name(
    name: str, *, is_link: bool = False, where: str = "archive", error: type[LaminaError] = DataError
) -> str:
    """The name of an archive's member as a plain relative path with forward slashes.

    Args:
        name: As it stands in the archive; backslashes count as separators.
        is_link: The archive calls the member a symbolic or hard link, or a device.
        where: The archive, for the message.
        error: Class of the error.

    Raises:
        LaminaError: Absolute, with `..`, a drive letter, NUL or another control character, empty, or a link.

    Example:
        >>> safe_member_name("./train/cat/1.png")
        'train/cat/1.png'
    """
    plain = name.replace("\\", "/")
    parts = [part for part in PurePosixPath(plain).parts if part != "."]
    problem = None
    if is_link:
        problem = "is a link or a device"
    elif not parts:
        problem = "is empty"
    elif any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
        problem = "has a control character"
    elif plain.startswith("/") or re.match(r"[A-Za-z]:", plain):
        problem = "is an absolute path"
    elif ".." in parts:
        problem = "leads out of the archive"
    if problem is not None:
        raise error(
            f"The member {name!r} {problem}.",
            where=where,
            accepts="members that are plain files with relative names inside the archive",
            mend="pack the archive again without it; do not trust where this one came from",
        )
    return "/".join(parts)


def _temporary_name(path: Path) -> str:
    # Long names are cut so that the temporary one still fits a file system's 255 bytes.
    return f"{TEMPORARY_PREFIX}{path.name[:60]}-{os.getpid()}-{secrets.token_hex(4)}"


def _exists(path: Path) -> StorageError:
    return StorageError(
        "There is something at this path already.",
        where=str(path),
        accepts="a path that does not exist yet",
        mend="choose another name, or remove it first",
    )


def _exchange(new: Path, old: Path) -> None:
    """Swap two folders: in one step where the system can (Linux), else in two renames that lose neither."""
    if hasattr(ctypes, "CDLL") and os.name == "posix":
        rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
        at_working_folder, exchange = -100, 2
        if (
            rename is not None
            and rename(
                at_working_folder, os.fsencode(new.absolute()), at_working_folder, os.fsencode(old.absolute()), exchange
            )
            == 0
        ):
            return
    aside = old.with_name(_temporary_name(old))
    old.rename(aside)
    try:
        new.rename(old)
    except OSError:
        aside.rename(old)
        raise
    aside.rename(new)
