"""kill -9 at twenty moments, a full disk, Ctrl-C: nothing is lost, and a resume is exact."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lamina.train.native.toolchain import find_compiler

DRIVER = Path(__file__).with_name("crash_driver.py")


def killed(tmp_path: Path, *words: str) -> list[dict[str, Any]]:
    """The driver's trials, each of them a death and an exact resume."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(DRIVER), str(tmp_path), *words],
        capture_output=True,
        text=True,
        env=environment,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    for row in rows:
        assert row["status"] == 0, (row, done.stderr)
        assert row["equal"], row
        assert not row["torn"], row
        assert not row["leftovers"], row
    return rows


def test_killed_at_twenty_moments_resumes_bit_for_bit(tmp_path):
    rows = killed(tmp_path)
    assert len(rows) == 20
    assert any(row["resumed_from"] == 0 for row in rows), "no death before the first checkpoint"
    assert sum(row["resumed_from"] > 0 for row in rows) >= 4, "hardly a resume continued from a checkpoint"
    assert sum(row["kind"] == "write" for row in rows) == 6


@pytest.mark.skipif(find_compiler() is None, reason="there is no C++ compiler")
def test_killed_compiled_runs_resume_bit_for_bit(tmp_path):
    rows = killed(tmp_path, "compiled")
    assert len(rows) == 9
    assert sum(row["kind"] == "write" and row["resumed_from"] > 0 for row in rows) >= 3


@pytest.fixture
def small_disk(tmp_path):
    """A tmpfs of 300 KiB; needs the right to mount."""
    target = tmp_path / "small"
    target.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(target)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a tmpfs here: {mounted.stderr.strip()}")
    yield target
    subprocess.run(["umount", "--lazy", str(target)], check=True)


def test_a_full_disk_loses_no_checkpoint(small_disk):
    from e2e.crash_driver import make_trainer
    from lamina.core.errors import StorageError
    from lamina.train.checkpoints import list_checkpoints, read_checkpoint

    filler = small_disk / "filler"

    class Fill:
        """After the second checkpoint the disk is filled by somebody else."""

        def __init__(self):
            self.seen = 0

        def __call__(self, trainer, path):
            self.seen += 1
            if self.seen == 2:
                with filler.open("wb", buffering=0) as file:
                    try:
                        while file.write(b"\0" * 4096):
                            pass
                    except OSError:
                        pass

    from lamina.train.callbacks import Callback, Callbacks

    fill = Fill()
    watcher = type("Watcher", (Callback,), {"on_checkpoint": lambda self, trainer, path: fill(trainer, path)})()
    trainer = make_trainer(small_disk / "run")
    trainer.callbacks = Callbacks([watcher])
    (small_disk / "run").mkdir(exist_ok=True)
    with pytest.raises(StorageError) as caught:
        trainer.fit(resume=True)
    text = str(caught.value)
    assert "where" in text
    assert "mend" in text
    assert "free some space" in text
    kept = list_checkpoints(small_disk / "run" / "checkpoints")
    assert len(kept) >= 2
    for path in kept:
        read_checkpoint(path)
    assert not list((small_disk / "run").rglob(".tmp-*"))
    filler.unlink()
    again = make_trainer(small_disk / "run")
    result = again.fit(resume=True)
    assert result.steps == 6 * 48
