"""Kills training processes and resumes them; prints one JSON line per trial. Started by test_crash.py in a process of its own.

The parent imports everything once and forks a child per trial, so that twenty deaths cost seconds, not minutes.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Literal

import torch

from lamina.core.files import TEMPORARY_PREFIX, sha256_file
from lamina.core.run_lock import LOCK_NAME
from lamina.data.columns import Columns, Data, DataSpec, column_spec
from lamina.data.preprocessing import Preprocessing
from lamina.models.factory import create_model
from lamina.tasks.tabular_classification import TabularClassification
from lamina.train import checkpoints
from lamina.train.config import TrainingConfig
from lamina.train.trainer import Trainer

EPOCHS, ROWS, BATCH = 6, 512, 8
COMPILE: Literal["never", "always"] = "always" if sys.argv[2:] == ["compiled"] else "never"


def make_trainer(folder: Path | None) -> Trainer:
    generator = torch.Generator().manual_seed(1)
    number = torch.randn(ROWS, 6, generator=generator)
    label = (number[:, 0] * number[:, 1] > 0).long()
    columns = Columns({"number": number, "label": label})
    fields = tuple({"name": f"x{i}"} for i in range(6))
    spec = DataSpec(
        columns={
            "number": column_spec("number", number, fields=fields),
            "label": column_spec("label", label, classes=("no", "yes")),
        },
        num_rows={"train": 384, "valid": 128},
    )
    splits = {"train": columns.take(torch.arange(384)), "valid": columns.take(torch.arange(384, ROWS))}
    data = Data(splits=splits, spec=spec, source="crash")
    preprocessing = Preprocessing.fit([{"name": "standardise"}], splits["train"], spec)
    model = create_model("mlp", preprocessing.spec, seed=3, hidden_sizes=(16,), dropout=0.2, num_classes=2)
    task = TabularClassification(TabularClassification.Config(), preprocessing.spec)
    return Trainer(
        model,
        task,
        data,
        preprocessing=preprocessing,
        optimizer={"name": "adam", "lr": 0.01},
        schedule={"name": "cosine"},
        config=TrainingConfig(
            epochs=EPOCHS,
            batch_size=BATCH,
            checkpoint_every=7,
            log_every=5,
            compile=COMPILE,
            ema_decay=0.9,
            tensorboard=False,
        ),
        seed=5,
        run_dir=folder,
    )


def train(folder: Path) -> None:
    make_trainer(folder).fit(resume=True)


def in_child(work, *arguments) -> int:
    """Run in a fork; returns the pid."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        torch.set_num_threads(1)
        work(*arguments)
        status = 0
    except BaseException as error:  # reported to the parent by the exit status
        print(repr(error), file=sys.stderr, flush=True)
    finally:
        os._exit(status)


def kill_in_write(folder: Path, call: int) -> None:
    """Die inside the checkpoint writer: at the call-th checksum, between files."""
    seen = 0
    original = checkpoints.sha256_file

    def dying(path):
        nonlocal seen
        seen += 1
        if seen == call:
            with Path(path).open("r+b") as file:  # half a file, as a torn write leaves it
                file.truncate(max(path.stat().st_size // 2, 1))
            os.kill(os.getpid(), signal.SIGKILL)
        return original(path)

    checkpoints.sha256_file = dying
    train(folder)


def digest(folder: Path) -> dict[str, str]:
    last = checkpoints.list_checkpoints(folder / "checkpoints")[-1]
    found = {file.name: sha256_file(file) for file in sorted(last.iterdir())}
    found["metrics.jsonl"] = sha256_file(folder / "metrics.jsonl")
    return {"checkpoint": last.name, **found}


def leftovers(folder: Path) -> list[str]:
    return [str(path) for pattern in (f"{TEMPORARY_PREFIX}*", LOCK_NAME) for path in folder.rglob(pattern)]


def main() -> None:
    base = Path(sys.argv[1])
    whole = base / "whole"
    whole.mkdir()
    if COMPILE == "always":  # once: the children inherit the program
        torch.set_num_threads(1)
        make_trainer(None).open_for_sweep()
    begin = time.perf_counter()
    os.waitpid(in_child(train, whole), 0)
    duration = time.perf_counter() - begin
    expected = digest(whole)
    dice = random.Random(0)
    moments = (
        [("early", 0.0)]
        + [("time", dice.uniform(0, duration)) for _ in range(13)]
        + [("write", n) for n in (1, 2, 8, 14, 20, 27)]
    )
    if COMPILE == "always":
        moments = moments[:5] + moments[-4:]
    for number, (kind, value) in enumerate(moments):
        folder = base / f"run-{number}"
        folder.mkdir()
        if kind == "write":
            os.waitpid(in_child(kill_in_write, folder, value), 0)
        else:
            pid = in_child(train, folder)
            time.sleep(value)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        before = checkpoints.list_checkpoints(folder / "checkpoints")
        started_from = checkpoints.step_of(before[-1]) if before else 0
        torn = [str(path) for path in before if not _whole(path)]
        _, status = os.waitpid(in_child(train, folder), 0)
        found = digest(folder) if status == 0 else {}
        row = {
            "kind": kind,
            "value": value,
            "resumed_from": started_from,
            "status": status,
            "equal": found == expected,
            "torn": torn,
            "leftovers": leftovers(folder),
        }
        print(json.dumps(row), flush=True)
        shutil.rmtree(folder)


def _whole(path: Path) -> bool:
    try:
        checkpoints.verify_checkpoint(path)
    except checkpoints.CheckpointError:
        return False
    return True


if __name__ == "__main__":
    main()
