"""Proof, on the user's own run, that resuming is exact: replay between two checkpoints and compare every byte."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lamina.core.errors import InterruptedRunError, RunError
from lamina.core.files import sha256_file
from lamina.train.checkpoints import list_checkpoints, read_checkpoint, step_of
from lamina.train.trainer import Trainer


@dataclass(frozen=True)
class Replay:
    """What a replay showed.

    Attributes:
        exact: Every file of the replayed checkpoint equals the run's, byte for byte.
        from_step, to_step: What was replayed; `from_step` 0 means from the beginning.
        differing: Names of files that differ.
    """

    exact: bool
    from_step: int
    to_step: int
    differing: tuple[str, ...]


def verify_resume(run_dir: Path, make_trainer: Callable[[Path], Trainer]) -> Replay:
    """Resume a copy of the run from its earliest checkpoint and compare the latest with what the run has.

    Args:
        run_dir: A run with at least one checkpoint.
        make_trainer: Builds the run's trainer, writing to the given folder.

    Raises:
        RunError: The run has no checkpoint.
        CheckpointError: A checkpoint is damaged.
    """
    found = list_checkpoints(run_dir / "checkpoints")
    if not found:
        raise RunError(
            "The run has no checkpoint to replay.",
            where=str(run_dir / "checkpoints"),
            accepts="a run with at least one checkpoint",
            mend=f"train it further: lamina train --resume {run_dir}",
        )
    goal = found[-1]
    start = found[0] if len(found) > 1 else None
    expected = read_checkpoint(goal)  # verifies it
    with tempfile.TemporaryDirectory(prefix="lamina-verify-") as name:
        replayed = Path(name)
        (replayed / "checkpoints").mkdir()
        if start is not None:
            shutil.copytree(start, replayed / "checkpoints" / start.name)
            if (run_dir / "metrics.jsonl").exists():
                shutil.copy(run_dir / "metrics.jsonl", replayed / "metrics.jsonl")
        trainer = make_trainer(replayed)
        if start is None:
            # The rules of auto may have been overruled on the command line; the replay keeps what the run did.
            trainer.keep_choices(expected.state.choices)
        with contextlib.suppress(InterruptedRunError):
            pending = expected.state.cursor.pending
            trainer.fit(resume=True, until=step_of(goal), until_pending=pending)
        other = replayed / "checkpoints" / goal.name
        names = sorted(path.name for path in goal.iterdir())
        differing = tuple(
            file
            for file in names
            if not (other / file).exists() or sha256_file(other / file) != sha256_file(goal / file)
        )
    return Replay(
        exact=not differing,
        from_step=step_of(start) if start is not None else 0,
        to_step=step_of(goal),
        differing=differing,
    )
