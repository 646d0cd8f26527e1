"""What a run writes while it trains: `metrics.jsonl` and TensorBoard events.

A line holds the step, the epoch, the split and the values, no clock times, so that a resumed run's file is equal to an
uninterrupted one's byte for byte. NaN and infinities are written as such, never dropped or averaged away.
"""

from __future__ import annotations

import functools
import json
import operator
import os
import stat
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lamina.core.errors import CheckpointError, LaminaError
from lamina.core.files import storage_errors
from lamina.core.run_documents import read_line

_EVENTS_EVERY_S = 2.0  # a live view need not be fresher


class _Events:
    """TensorBoard events, written where we stand.

    tensorboardX's SummaryWriter hands events to a thread through a bounded queue; when the disk is full the thread dies
    and the next hand-over waits for ever. Its writer of single events has no thread, and a full disk is an OSError.
    """

    def __init__(self, folder: Path, *, step: int) -> None:
        from tensorboardX.event_file_writer import EventsWriter  # noqa: PLC0415 - heavy, and only for runs with events
        from tensorboardX.proto.event_pb2 import Event, SessionLog  # noqa: PLC0415
        from tensorboardX.summary import scalar  # noqa: PLC0415

        folder.mkdir(exist_ok=True)
        self._event, self._scalar = Event, scalar
        # The library names files by the second; a resume within it must not overwrite what is there.
        number = sum(1 for _ in folder.iterdir())
        self._writer = EventsWriter(str(folder / "events"), f".{step}.{number}")
        if step:  # what an interrupted process wrote behind the checkpoint is not shown
            log = SessionLog(status=SessionLog.START)
            self._writer.write_event(Event(wall_time=time.time(), step=step, session_log=log))

    def add(self, rows: Sequence[tuple[str, float, int, float]]) -> None:
        for name, value, step, wall in rows:
            self._writer.write_event(self._event(wall_time=wall, step=step, summary=self._scalar(name, value)))
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class Journal:
    """Appends lines to `metrics.jsonl` and scalars to `events/`.

    Args:
        run: The run folder; None keeps the lines in memory only.
        tensorboard: Write TensorBoard events too.
    """

    def __init__(self, run: Path | None, *, tensorboard: bool) -> None:
        self.lines: list[dict[str, Any]] = []
        self._path = run / "metrics.jsonl" if run is not None else None
        self._folder = run / "events" if run is not None and tensorboard else None
        self._file: Any = None
        self._events: _Events | None = None
        self._waiting: list[tuple[str, float, int, float]] = []
        self._handed_on = time.monotonic()

    def open(self, *, offset: int, step: int) -> None:
        """Continue behind byte `offset` of the file; what a process that died wrote behind it is cut off.

        Raises:
            CheckpointError: The file is shorter than the checkpoint knows, is no regular file, or holds other lines than training's.
            StorageError: It cannot be written.
        """
        if self._path is None:
            return
        with storage_errors(self._path):
            # A run folder may come from elsewhere: a link must not lead to cutting some other file.
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        file = os.fdopen(descriptor, "r+", encoding="utf-8")
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size < offset:
            file.close()
            raise self._unusable(f"it has {facts.st_size} bytes, the checkpoint knows {offset}")
        self._file = file
        try:
            with storage_errors(self._path):
                file.truncate(offset)
                self.lines = [read_line(line) for line in file.read().split("\n") if line]
                file.seek(0, os.SEEK_END)
        except ValueError as error:
            if isinstance(error, LaminaError):
                raise
            raise self._unusable(f"it holds a line that is not training's ({error})") from None
        if self._folder is not None:
            with storage_errors(self._folder):
                self._events = _Events(self._folder, step=step)

    def _unusable(self, why: str) -> CheckpointError:
        return CheckpointError(
            f"metrics.jsonl does not belong to the latest checkpoint: {why}.",
            where=str(self._path),
            accepts="the file as the training wrote it",
            mend="bring the file back, or begin a new run",
        )

    @property
    def offset(self) -> int:
        """Bytes written so far, all of them flushed to the disk."""
        if self._file is None:
            return 0
        with storage_errors(self._path or ""):
            self._file.flush()
            os.fsync(self._file.fileno())
            return os.fstat(self._file.fileno()).st_size

    def write(self, *, step: int, epoch: int, split: str, values: Mapping[str, float]) -> None:
        """One line; `values` by metric name without the split."""
        line = {"step": step, "epoch": epoch, "split": split, **values}
        self.lines.append(line)
        if self._file is not None:
            with storage_errors(self._path or ""):
                self._file.write(json.dumps(line) + "\n")
                self._file.flush()
        if self._events is not None:
            self._waiting += [(f"{split}/{name}", value, step, time.time()) for name, value in values.items()]
            if time.monotonic() - self._handed_on > _EVENTS_EVERY_S:
                self._hand_on()

    def _hand_on(self) -> None:
        """Write the waiting scalars, many at a time."""
        rows, self._waiting = self._waiting, []
        self._handed_on = time.monotonic()
        if self._events is not None:
            with storage_errors(self._folder or ""):
                self._events.add(rows)

    def close(self) -> None:
        """Flush and close the files; both are closed even where one fails."""
        events, self._events = self._events, None
        file, self._file = self._file, None
        rows, self._waiting = self._waiting, []
        try:
            if events is not None:
                with storage_errors(self._folder or ""):
                    events.add(rows)
                    events.close()
        finally:
            if file is not None:
                with storage_errors(self._path or ""):
                    file.close()


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
