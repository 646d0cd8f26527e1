"""Live progress on stderr: a bar where there is a terminal, plain lines where there is none."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from lamina.train.callbacks import Callback, Stop

if TYPE_CHECKING:
    from lamina.train.trainer import Trainer

_SHOWN = ("accuracy", "f1", "cross_entropy", "loss", "mae", "r2", "perplexity")
_LINE_EVERY_S = 10.0
_SPEED_OVER_S = 5.0


def _short(values: Mapping[str, float]) -> str:
    names = [name for name in _SHOWN if name in values] or list(values)[:3]
    return "  ".join(f"{name} {values[name]:.4g}" for name in names[:3])


class LiveProgress(Callback):
    """Shows epoch, step, speed, losses and the validation metrics.

    Args:
        console: Where to show it; default: stderr.
        clock: Seconds that only go forward.
    """

    def __init__(self, console: Console | None = None, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self.console = console or Console(file=sys.stderr, stderr=True)
        self._clock = clock
        self._live: Progress | None = None
        self._task: TaskID | None = None
        self._valid = ""
        self._rate = 0.0
        self._marks: deque[tuple[float, int]] = deque()
        self._last_line = 0.0

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Say what `auto` chose, then start."""
        for name, choice in trainer.choices.items():
            self.console.print(f"[dim]{name}: {choice.value} ({choice.reason})[/dim]", highlight=False)
        self._marks = deque([(self._clock(), trainer.cursor.step)])
        self._last_line = self._clock()
        if self.console.is_terminal:
            self._live = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[speed]}"),
                TimeRemainingColumn(compact=True),
                TextColumn("{task.fields[losses]}  [green]{task.fields[valid]}[/green]"),
                console=self.console,
                refresh_per_second=8,
            )
            self._task = self._live.add_task(
                "epoch 1", total=trainer.total_steps, completed=trainer.cursor.step, speed="", losses="", valid=""
            )
            self._live.start()

    def on_steps(self, trainer: Trainer, num_steps: int, losses: Mapping[str, float]) -> None:
        """Move the bar; without a terminal, a line every ten seconds."""
        now = self._clock()
        self._marks.append((now, trainer.cursor.step))
        # The speed of now: a slow first second (compiling, warming up) or a judgement must not colour the rest of the run.
        while len(self._marks) > 2 and now - self._marks[1][0] >= _SPEED_OVER_S:
            self._marks.popleft()
        begin, first_step = self._marks[0]
        self._rate = (trainer.cursor.step - first_step) * trainer.rows_per_step / max(now - begin, 1e-9)
        speed = f"{self._rate:,.0f} samples/s"
        if self._live is not None and self._task is not None:
            self._live.update(
                self._task,
                completed=trainer.cursor.step,
                description=f"epoch {trainer.cursor.epoch + 1}/{trainer.total_epochs}",
                speed=speed,
                losses=_short(losses),
                valid=self._valid,
            )
        elif now - self._last_line > _LINE_EVERY_S:
            self._last_line = now
            self._plain(f"step {trainer.cursor.step}/{trainer.total_steps}  {_short(losses)}  {speed}")

    def on_evaluated(self, trainer: Trainer, split: str, values: Mapping[str, float]) -> Stop | None:
        """Show the judgement."""
        self._valid = f"{split}: {_short(values)}"
        if self._live is None:
            self._plain(
                f"epoch {trainer.cursor.epoch}/{trainer.total_epochs}  {self._valid}  {self._rate:,.0f} samples/s"
            )
        elif self._task is not None:
            self._live.update(self._task, valid=self._valid)
        return None

    def on_checkpoint(self, trainer: Trainer, path: Path) -> None:
        """Nothing to show."""

    def on_close(self, trainer: Trainer) -> None:
        """Close the bar and give the terminal its cursor back."""
        self._close()

    def _plain(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
