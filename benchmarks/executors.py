"""Where compiling a training step pays: the constants of the rule in `lamina.train.compiled_rule`.

    python benchmarks/executors.py [--epochs 5]

For dense networks of growing size: microseconds per step eagerly (torch's own threads) and compiled, both through
`lamina.fit`; seconds to build the program; and the number of steps from which on building pays. Writes
benchmarks/results/executors.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

import lamina
from lamina.train import compiled_rule
from lamina.train.callbacks import Callback
from lamina.train.compiled import CompiledExecutor

NETWORKS = (
    ((16, 16), 32),
    ((128, 64), 32),
    ((256, 128), 64),
    ((512, 256), 64),
    ((512, 512), 128),
    ((1024, 1024), 128),
)
ROWS = 6_400


class StepTimes(Callback):
    """Microseconds per step, epoch by epoch, the first left out."""

    def __init__(self) -> None:
        self.epochs: list[float] = []
        self.executor = ""

    def on_fit_begin(self, trainer: Any) -> None:
        """Which executor it is."""
        self.executor = trainer.choices["executor"].value

    def on_epoch_begin(self, trainer: Any, epoch: int) -> None:
        """Start the clock."""
        del trainer, epoch
        self._begin, self._steps = time.perf_counter(), 0

    def on_steps(self, trainer: Any, num_steps: int, losses: Mapping[str, float]) -> None:
        """Read the clock."""
        del trainer, losses
        if not self._steps:
            self.epochs.append(0.0)
        self._steps += num_steps
        self.epochs[-1] = (time.perf_counter() - self._begin) / self._steps * 1e6

    @property
    def step_us(self) -> float:
        """The median over epochs."""
        return statistics.median(self.epochs[1:])


def measure(hidden: tuple[int, ...], batch_size: int, *, compile: str, epochs: int) -> float:
    rng = np.random.default_rng(0)
    rows = round(ROWS / 0.64)
    images = rng.integers(0, 256, (rows, 28, 28), dtype=np.uint8)
    times = StepTimes()
    with tempfile.TemporaryDirectory() as folder:
        lamina.fit(
            {"kind": "mlp", "hidden_sizes": list(hidden)},
            (images, rng.integers(0, 10, rows)),
            epochs=epochs,
            run=str(Path(folder) / "run"),
            callbacks=[times],
            preprocess=[{"name": "scale"}],
            optimizer={"name": "adam"},
            training={"batch_size": batch_size, "compile": compile, "precision": "fp32", "evaluate_every": 1000},
        )
    assert times.executor == ("compiled" if compile == "always" else "eager")
    return times.step_us


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=6)
    arguments = parser.parse_args()
    builds: list[float] = []

    class Timed(CompiledExecutor):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            begin = time.perf_counter()
            super().__init__(*args, **kwargs)
            builds.append(time.perf_counter() - begin)

    compiled_rule.CompiledExecutor = Timed  # type: ignore[misc]
    rows = []
    print(
        f"{'network':<24}{'batch':>6}{'forward':>12}{'eager':>10}{'compiled':>10}{'ratio':>7}{'build':>8}{'pays from':>11}"
    )
    for hidden, batch_size in NETWORKS:
        eager = measure(hidden, batch_size, compile="never", epochs=arguments.epochs)
        compiled = measure(hidden, batch_size, compile="always", epochs=arguments.epochs)
        widths = (784, *hidden, 10)
        work = batch_size * sum(a * b for a, b in pairwise(widths))
        pays = builds[-1] / max(eager - compiled, 1e-9) * 1e6
        rows.append(
            {
                "widths": widths,
                "batch_size": batch_size,
                "forward_multiply_adds": work,
                "eager_us": round(eager, 1),
                "compiled_us": round(compiled, 1),
                "build_s": round(builds[-1], 2),
                "pays_from_steps": round(pays) if eager > compiled else None,
            }
        )
        print(
            f"{'-'.join(map(str, widths)):<24}{batch_size:>6}{work:>12,}{eager:>8.0f}us{compiled:>8.0f}us"
            f"{eager / compiled:>7.1f}{builds[-1]:>7.1f}s{pays if eager > compiled else float('inf'):>11,.0f}"
        )
    target = Path(__file__).resolve().parent / "results" / "executors.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps({"benchmark": "executors", "rows": rows}, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
