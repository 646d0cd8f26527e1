"""Lamina through `lamina.fit` with a run folder: a round is an epoch of its real training, journal and events included.

A callback holds training at the start of each epoch until the benchmark asks for the next round, and answers when the
epoch's last step is done. What follows an epoch (judging, checkpoint) is outside, as it is for the other contenders.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from protocol import answer, take_stdout
from work import make_data

import lamina
from lamina.train.callbacks import Callback

_TRAIN_SHARE = 0.8 * 0.8  # lamina.fit keeps a fifth for the test and a fifth of the rest for validation


class Rounds(Callback):
    """Gives the process's time out epoch by epoch."""

    def __init__(self, to: Any) -> None:
        self._to = to
        self._begin = time.perf_counter()
        self._steps = 0
        self._epoch_steps = 0
        self._warm = False

    def on_fit_begin(self, trainer: Any) -> None:
        """Note what a round is."""
        self._rows = trainer.data.splits["train"].num_rows
        self._batch_size = trainer.config.batch_size

    def on_epoch_begin(self, trainer: Any, epoch: int) -> None:
        """Wait to be asked."""
        del trainer, epoch
        if self._warm and json.loads(sys.stdin.readline() or '{"op": "quit"}')["op"] == "quit":
            raise SystemExit
        self._steps = 0
        self._begin = time.perf_counter()

    def on_steps(self, trainer: Any, num_steps: int, losses: Mapping[str, float]) -> None:
        """Answer after the epoch's last step."""
        del losses
        self._steps += num_steps
        if self._steps * self._batch_size < self._rows:
            return
        seconds = time.perf_counter() - self._begin
        if self._warm:
            answer(self._to, samples=self._rows, seconds=seconds)
            return
        self._warm = True
        choices = ", ".join(f"{name} {choice.value}" for name, choice in trainer.choices.items())
        answer(self._to, ready=True, notes=choices, setup_s=round(time.perf_counter() - _START, 2))


_START = time.perf_counter()


def main() -> None:
    to = take_stdout()
    work = json.loads(sys.stdin.readline())["work"]
    images, labels = make_data(work, rows=round(work["rows"] / _TRAIN_SHARE))
    if work["kind"] == "mlp":
        model: dict[str, Any] = {"kind": "mlp", "hidden_sizes": work["widths"][1:-1], "dropout": work["dropout"]}
    elif work["kind"] == "resnet":
        model = {"kind": f"resnet{work['layers']}", "stem": "cifar" if work["small_stem"] else "imagenet"}
    else:
        model = {"kind": "sign-cnn"}
    training = {"batch_size": work["batch_size"], "evaluate_every": 1_000_000, "checkpoint_every": 1_000_000_000}
    with tempfile.TemporaryDirectory() as folder:
        lamina.fit(
            model,
            (images, labels),
            epochs=1_000_000,
            run=str(Path(folder) / "run"),
            callbacks=[Rounds(to)],
            preprocess=[{"name": "scale"}],
            optimizer={"name": work["optimizer"], "lr": work["lr"]},
            training={**training, **work.get("training", {})},
        )


if __name__ == "__main__":
    main()
