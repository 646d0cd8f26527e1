"""A language model through `lamina.fit` on text files, with a run folder: a round is an epoch of its real training.

As in lamina_fit.py a callback holds training at the start of each epoch until the benchmark asks for the next round.
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
from work import make_tokens

import lamina
from lamina.train.callbacks import Callback

_WORDS_PER_LINE = 20
_START = time.perf_counter()


class Rounds(Callback):
    """Gives the process's time out epoch by epoch."""

    def __init__(self, to: Any) -> None:
        self._to = to
        self._begin = time.perf_counter()
        self._steps = 0
        self._warm = False

    def on_fit_begin(self, trainer: Any) -> None:
        """Note what a round is."""
        feed = trainer.task.feed(
            trainer.data.splits["train"], batch_size=trainer.config.batch_size, seed=0, training=True
        )
        self._num_steps = len(feed)
        self._tokens = sum(feed.batch(0, number)["tokens"].numel() for number in range(len(feed)))

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
        if self._steps < self._num_steps:
            return
        seconds = time.perf_counter() - self._begin
        if self._warm:
            answer(self._to, samples=self._tokens, seconds=seconds)
            return
        self._warm = True
        choices = ", ".join(f"{name} {choice.value}" for name, choice in trainer.choices.items())
        answer(self._to, ready=True, notes=choices, setup_s=round(time.perf_counter() - _START, 2))


def main() -> None:
    to = take_stdout()
    work = json.loads(sys.stdin.readline())["work"]
    words = [f"w{token}" for token in make_tokens(work)]
    lines = [" ".join(words[first : first + _WORDS_PER_LINE]) for first in range(0, len(words), _WORDS_PER_LINE)]
    model = {
        "kind": "lstm",
        "readout": "each",
        "embedding_size": work["hidden_size"],
        "hidden_size": work["hidden_size"],
        "num_layers": work["layers"],
    }
    training = {"batch_size": work["batch_size"], "clip_norm": work["clip_norm"]}
    training |= {"evaluate_every": 1_000_000, "checkpoint_every": 1_000_000_000}
    with tempfile.TemporaryDirectory() as folder:
        texts = Path(folder) / "texts"
        texts.mkdir()
        (texts / "train.txt").write_text("\n".join(lines), encoding="utf-8")
        (texts / "valid.txt").write_text("\n".join(lines[:20]), encoding="utf-8")
        lamina.fit(
            model,
            str(texts),
            task={"name": "text-generation", "length": work["steps"]},
            epochs=1_000_000,
            run=str(Path(folder) / "run"),
            callbacks=[Rounds(to)],
            data={"reader": "corpus", "split": "given", "test_fraction": 0.0},
            preprocess=[{"name": "tokenize", "kind": "word", "split": "whitespace"}],
            optimizer={"name": work["optimizer"], "lr": work["lr"]},
            training={**training, **work.get("training", {})},
        )


if __name__ == "__main__":
    main()
