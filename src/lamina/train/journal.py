"""What a run writes while it trains: `metrics.jsonl` and TensorBoard events.

A line holds the step, the epoch, the split and the values, no clock times, so that a resumed run's file is equal to an
uninterrupted one's byte for byte. NaN and infinities are written as such, never dropped or averaged away.
"""

from __future__ import annotations

import functools
import json
import operator
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lamina.core.files import storage_errors

_EVENTS_EVERY_S = 2.0  # a live view need not be fresher


class Journal:
    """Appends lines to `metrics.jsonl` and scalars to `events/`.

    Args:
        run: The run folder; None keeps the lines in memory only.
        tensorboard: Write TensorBoard events too.
    """

    def __init__(self, run: Path | None, *, tensorboard: bool) -> None:
        self.lines: list[dict[str, Any]] = []
        self._path = run / "metrics.jsonl" if run is not None else None
        self._events = run / "events" if run is not None and tensorboard else None
        self._file: Any = None
        self._writer: Any = None
        self._waiting: list[tuple[str, float, int, float]] = []
        self._handed_on = time.monotonic()

    def open(self, *, offset: int, step: int) -> None:
        """Continue behind byte `offset` of the file; what a process that died wrote behind it is cut off."""
        if self._path is None:
            return
        with storage_errors(self._path):
            self._path.touch()
            os.truncate(self._path, offset)
            text = self._path.read_text(encoding="utf-8")
            self._file = self._path.open("a", encoding="utf-8")
        self.lines = [json.loads(line) for line in text.splitlines()]
        if self._events is not None:
            from tensorboardX import SummaryWriter  # noqa: PLC0415 - heavy, and only for runs with events

            with storage_errors(self._events):
                self._writer = SummaryWriter(str(self._events), purge_step=step or None)

    @property
    def offset(self) -> int:
        """Bytes written so far, all of them flushed to the disk."""
        if self._file is None:
            return 0
        with storage_errors(self._path or ""):
            self._file.flush()
            os.fsync(self._file.fileno())
            return int(self._file.tell())

    def write(self, *, step: int, epoch: int, split: str, values: Mapping[str, float]) -> None:
        """One line; `values` by metric name without the split."""
        line = {"step": step, "epoch": epoch, "split": split, **values}
        self.lines.append(line)
        if self._file is not None:
            with storage_errors(self._path or ""):
                self._file.write(json.dumps(line) + "\n")
                self._file.flush()
        if self._writer is not None:
            self._waiting += [(f"{split}/{name}", value, step, time.time()) for name, value in values.items()]
            if time.monotonic() - self._handed_on > _EVENTS_EVERY_S:
                self._hand_on()

    def _hand_on(self) -> None:
        """Give the waiting scalars to TensorBoard's writer, whose thread costs milliseconds per call."""
        with storage_errors(self._events or ""):
            for name, value, step, wall in self._waiting:
                self._writer.add_scalar(name, value, step, walltime=wall)
        self._waiting.clear()
        self._handed_on = time.monotonic()

    def close(self) -> None:
        """Flush and close the files."""
        if self._writer is not None:
            self._hand_on()
            with storage_errors(self._events or ""):
                self._writer.close()
            self._writer = None
        if self._file is not None:
            with storage_errors(self._path or ""):
                self._file.close()
            self._file = None


class RunningMeans:
    """Means of per-step losses since they were last taken, summed in Python floats in the order of the steps.

    The sums are therefore the same however the steps were cut into segments, and they are part of a checkpoint.
    """

    def __init__(self) -> None:
        self._sums: dict[str, list[float]] = {}

    def add(self, columns: Mapping[str, Sequence[float]]) -> None:
        """Take in consecutive steps: each name's values in their order."""
        for name, values in columns.items():
            total = self._sums.setdefault(name, [0.0, 0.0])
            # One after the other: `sum` compensates rounding in newer Pythons, and then a cut would change the total.
            total[0] = functools.reduce(operator.add, values, total[0])
            total[1] += len(values)

    def take(self) -> dict[str, float]:
        """The means, and start anew."""
        means = {name: total / count for name, (total, count) in self._sums.items()}
        self._sums = {}
        return means

    def state(self) -> dict[str, list[float]]:
        """For a checkpoint."""
        return {name: list(pair) for name, pair in self._sums.items()}

    def load_state(self, state: Mapping[str, list[float]]) -> None:
        """From a checkpoint."""
        self._sums = {name: list(pair) for name, pair in state.items()}
