"""One training at a time per run folder: refused by name, free again whatever way the holder died."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lamina.core.errors import RunError, StorageError
from lamina.core.run_lock import LOCK_NAME, run_lock

HOLDER = """
import sys, time
from lamina.core.run_lock import run_lock
with run_lock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path: Path):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_another_process_is_refused_by_name(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(RunError) as caught, run_lock(tmp_path):
        pass
    error = caught.value
    assert f"A training is under way in {tmp_path}: process {holder.pid} (-c {tmp_path}), since 20" in error.what
    assert error.where == str(tmp_path)
    assert f"kill {holder.pid}" in error.mend
    assert error.exit_status == 2


def test_a_holder_that_was_killed_holds_nothing(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert (tmp_path / LOCK_NAME).exists()
    with run_lock(tmp_path):
        assert str(os.getpid()) in (tmp_path / LOCK_NAME).read_text()
    assert list(tmp_path.iterdir()) == []


def test_the_same_thread_may_take_it_twice_and_another_not(tmp_path: Path) -> None:
    refused: list[str] = []

    def attempt() -> None:
        try:
            with run_lock(tmp_path):
                pass
        except RunError as error:
            refused.append(error.what)

    with run_lock(tmp_path):
        with run_lock(tmp_path / ".." / tmp_path.name):
            pass
        assert (tmp_path / LOCK_NAME).exists()
        other = threading.Thread(target=attempt)
        other.start()
        other.join()
    assert "(this one)" in refused[0]
    with run_lock(tmp_path):
        pass


def test_a_forked_child_is_another_process(tmp_path: Path) -> None:
    with run_lock(tmp_path):
        pid = os.fork()
        if not pid:
            status = 1
            try:
                with run_lock(tmp_path):
                    pass
            except RunError:
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0


def test_what_is_no_plain_file_is_left_alone(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("thesis")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / LOCK_NAME).symlink_to(precious)
    with pytest.raises(StorageError), run_lock(folder):
        pass
    (folder / LOCK_NAME).unlink()
    os.link(precious, folder / LOCK_NAME)
    with pytest.raises(RunError, match="no plain file"), run_lock(folder):
        pass
    (folder / LOCK_NAME).unlink()
    os.mkfifo(folder / LOCK_NAME)
    with pytest.raises(RunError, match="no plain file"), run_lock(folder):
        pass
    assert precious.read_text() == "thesis"


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"[1]", b'{"pid": "x"}', b"[" * 100_000, b'{"command": "a\\u001b[2Jb"}']
)
def test_what_the_file_says_is_not_trusted(tmp_path: Path, holder: subprocess.Popen[str], content: bytes) -> None:
    (tmp_path / LOCK_NAME).write_bytes(content)
    with pytest.raises(RunError, match="another process") as caught, run_lock(tmp_path):
        pass
    assert "\x1b" not in str(caught.value)
