"""One training at a time per run folder.

The lock is the kernel's (`flock` on a file `.lock` inside the folder): whatever way its process dies, it is gone, so a run
that was killed can be resumed at once. The file says who holds it and is removed when the training ends. Where the system
or the file system has no such locks (Windows, some network disks), nothing is locked. Imports no torch.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shlex
import socket
import stat
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from lamina.core.errors import LaminaError, RunError
from lamina.core.files import storage_errors
from lamina.core.strict_json import parse_json

__all__ = ["LOCK_NAME", "run_lock"]

LOCK_NAME: Final = ".lock"
_MAX_BYTES: Final = 4096
_MAX_COMMAND: Final = 300
_WITHOUT_LOCKS: Final = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)

# Folders that this thread holds: a training inside the command that locked its folder already need not wait for itself.
_held: set[tuple[int, int, str]] = set()


@contextlib.contextmanager
def run_lock(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Inside the block no other process (and no other thread) trains in `folder`. A thread may take it twice.

    Raises:
        RunError: Somebody else holds it; names the process.
        StorageError: The folder cannot be written.
    """
    folder = Path(folder)
    key = (os.getpid(), threading.get_ident(), str(folder.resolve()))
    if key in _held or sys.platform == "win32":
        yield
        return
    descriptor = _take(folder)
    _held.add(key)
    try:
        yield
    finally:
        _held.discard(key)
        # Removed while it is still held: who opened it meanwhile sees that it is no longer there, and tries again.
        with contextlib.suppress(OSError):
            (folder / LOCK_NAME).unlink()
        os.close(descriptor)


def _take(folder: Path) -> int:
    import fcntl  # noqa: PLC0415 - not on Windows

    path = folder / LOCK_NAME
    while True:
        with storage_errors(path):
            # A run folder may come from elsewhere: a link must not lead to some other file.
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        try:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode) or facts.st_nlink > 1:
                raise _no_lock_file(path)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                    raise _held_by(folder, os.pread(descriptor, _MAX_BYTES + 1, 0)) from None
                if error.errno not in _WITHOUT_LOCKS:
                    raise
            if _is_at(path, facts):
                with storage_errors(path):
                    os.ftruncate(descriptor, 0)
                    os.pwrite(descriptor, _who(), 0)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its holder removed it while we were opening it


def _is_at(path: Path, facts: os.stat_result) -> bool:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    return (found.st_dev, found.st_ino) == (facts.st_dev, facts.st_ino)


def _who() -> bytes:
    document = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(sys.argv)[:_MAX_COMMAND],
    }
    return (json.dumps(document) + "\n").encode()


def _held_by(folder: Path, content: bytes) -> RunError:
    who: dict[str, Any] = {}
    with contextlib.suppress(LaminaError):  # it is being written this moment, or is not ours: we know less
        who = parse_json(content, where=LOCK_NAME, mend="", max_bytes=_MAX_BYTES, error=RunError)
    pid, command = who.get("pid"), who.get("command")
    process = f"process {pid}" if isinstance(pid, int) else "another process"
    if pid == os.getpid():
        process += " (this one)"
    elif isinstance(command, str):
        process += f" ({''.join(letter if letter.isprintable() else ' ' for letter in command)[:_MAX_COMMAND]})"
    host, since = who.get("host"), who.get("since")
    place = f" on {host[:64]}" if isinstance(host, str) and host.isprintable() and host != socket.gethostname() else ""
    when = f", since {since[:32]}" if isinstance(since, str) and since.isprintable() else ""
    end = f", or end it (kill {pid})" if isinstance(pid, int) and pid != os.getpid() and not place else ""
    return RunError(
        f"A training is under way in {folder}: {process}{place}{when}.",
        where=str(folder),
        accepts="one training at a time in a run folder",
        mend=f"wait until it is done{end}; a new run has a folder of its own",
    )


def _no_lock_file(path: Path) -> RunError:
    return RunError(
        f"{path} is no plain file of its own.",
        where=str(path),
        accepts="a run folder as `lamina train` makes it",
        mend=f"remove {path}",
    )
