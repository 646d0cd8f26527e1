"""The live display: the speed of now, and a terminal left in order however training ends."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from lamina.train.callbacks import Callback
from lamina.train.progress import LiveProgress
from unit.train.engine_case import make_trainer


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=120)


class Break(Callback):
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def on_steps(self, trainer, num_steps, losses):
        raise self.error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), ZeroDivisionError("of the user's own")])
def test_the_terminal_is_left_in_order(error: BaseException) -> None:
    console = terminal()
    live = LiveProgress(console)
    with pytest.raises(type(error)):
        make_trainer(callbacks=[live, Break(error)]).fit()
    assert live._live is None
    written = console.file.getvalue()
    hidden, shown = written.rfind("\x1b[?25l"), written.rfind("\x1b[?25h")
    assert -1 < hidden < shown, "the cursor stays hidden"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Slow(Callback):
    """The first epoch's steps take ten times as long."""

    def __init__(self, clock: Clock, live: LiveProgress) -> None:
        self.clock, self.live, self.rates = clock, live, []

    def on_steps(self, trainer, num_steps, losses):
        self.clock.now += num_steps * (10.0 if trainer.cursor.epoch == 0 else 1.0)
        self.live.on_steps(trainer, num_steps, losses)
        self.rates.append(self.live._rate)


def test_the_speed_is_that_of_the_last_seconds() -> None:
    clock = Clock()
    live = LiveProgress(Console(file=io.StringIO()), clock=clock)
    slow = Slow(clock, live)
    trainer = make_trainer(callbacks=[slow], epochs=3)
    live._marks.append((clock.now, 0))
    trainer.fit()
    assert slow.rates[0] == pytest.approx(0.8)  # 8 rows in 10 s
    assert slow.rates[-1] == pytest.approx(8.0)
