"""Forecasts of ETTh1 over seeds: DLinear, an LSTM, dilated convolutions, and the season before repeated.

Run: python benchmarks/forecasting.py ETTh1.csv.gz [--only NAME …] [--seeds N] [--output FILE]

The protocol of the literature (Zhou et al. 2021, Zeng et al. 2022): training, validation and test are 12, 4 and 4 months of 30 days,
each column divided by its standard deviation in training, the next 96 hours of all seven columns forecast at every hour of the
test months; errors are means over windows, steps and columns. The epoch is chosen on the validation months. Every window of
the test months is judged (the authors' code leaves out those of the last, incomplete batch).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lamina.core.devices import use_threads
from lamina.core.files import write_atomic
from lamina.recipes.build import build, choose_machine, read_data
from lamina.recipes.recipe import resolve

METRICS = ("mse", "mae", "mase", "smape", "coverage")
STEPS = (1, 24, 48, 96)


@dataclass(frozen=True)
class Contender:
    """A recipe over seeds."""

    name: str
    recipe: str
    seeds: int
    changes: tuple[str, ...] = ()
    published: dict[str, float] = field(default_factory=dict)


CONTENDERS = (
    Contender("DLinear", "etth1-dlinear", 5, published={"mse": 0.375, "mae": 0.399}),
    Contender("LSTM", "etth1-lstm", 2),
    Contender("Dilated convolutions", "etth1-cnn", 2),
    Contender(
        "Seasonal naive",
        "etth1-dlinear",
        1,
        changes=("model={kind: seasonal_naive}", "training.patience=null"),
    ),
)


def run(contender: Contender, path: Path, *, seeds: int | None) -> dict[str, Any]:
    """Train over the seeds and collect what the test months say."""
    values: dict[str, list[float]] = {name: [] for name in METRICS}
    valid: list[float] = []
    processor_s: list[float] = []
    steps: list[dict[str, float]] = []
    windows: dict[str, int] = {}
    for seed in range(min(seeds or contender.seeds, contender.seeds)):
        words = [f"seed={seed}", "training.tensorboard=false", *contender.changes]
        recipe = resolve(contender.recipe, data=str(path), assignments=words).recipe()
        data = read_data(recipe)
        job = build(recipe, data, machine=choose_machine("cpu", 1))
        begin = time.process_time()
        result = job.trainer(None).fit()
        processor_s.append(round(time.process_time() - begin, 1))
        for name in METRICS:
            values[name].append(result.metrics[f"test/{name}"])
        valid.append(result.metrics["valid/mse"])
        windows = dict(data.spec.num_rows)
        by_step = result.evaluations["test"].details["per_step"]
        steps.append({str(step): by_step[step - 1]["mse"] for step in STEPS})
        print(f"{contender.name}, seed {seed}: test mse {values['mse'][-1]:.4f}, {processor_s[-1]} s", flush=True)
    return {
        "name": contender.name,
        "recipe": contender.recipe,
        "changes": list(contender.changes),
        "past": recipe.data.past_length,
        "windows": windows,
        "seeds": len(valid),
        "test": {name: summary(found) for name, found in values.items()},
        "valid_mse": summary(valid),
        "mse_by_step": {str(step): statistics.fmean(row[str(step)] for row in steps) for step in STEPS},
        "published": contender.published,
        "processor_s": processor_s,
    }


def summary(values: list[float]) -> dict[str, Any]:
    """Mean, spread (standard deviation over seeds; none of one) and the values themselves."""
    return {
        "mean": statistics.fmean(values),
        "spread": statistics.stdev(values) if len(values) > 1 else None,
        "values": values,
    }


def main() -> None:
    """Run the contenders and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="ETTh1.csv, plain or compressed")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="; ".join(c.name for c in CONTENDERS))
    parser.add_argument("--seeds", type=int, help="at most so many seeds each")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "forecasting.json")
    options = parser.parse_args()
    use_threads(1)
    known: dict[str, Any] = json.loads(options.output.read_text()) if options.only and options.output.is_file() else {}
    rows = {row["name"]: row for row in known.get("rows", [])}
    for contender in CONTENDERS:
        if options.only and contender.name not in options.only:
            continue
        rows[contender.name] = run(contender, options.path, seeds=options.seeds)
        document = {"horizon": 96, "threads": 1, "rows": [rows[c.name] for c in CONTENDERS if c.name in rows]}
        write_atomic(options.output, (json.dumps(document, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
