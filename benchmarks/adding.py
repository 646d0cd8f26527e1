"""The adding problem at length 200: what an LSTM, a GRU and a simple recurrent network make of it, over seeds.

Run: python benchmarks/adding.py [NAME …] [--seeds N] [--output FILE] [--picture FILE]

The recipes are trained as they are, on made-up sequences that are the same everywhere. Judged on the held-out
fifth at the best epoch; always answering with the mean has an error of 1/6. Beside the error stands what the view
`gradients` says of the network before and after: by which factor the gradient changes with each step back.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from lamina.core.devices import use_threads
from lamina.core.files import write_atomic
from lamina.explain.gradients_view import compare_gradients
from lamina.recipes.build import build, choose_machine, read_data
from lamina.recipes.recipe import resolve

ROWS = 32  # sequences over which gradients are looked at


@dataclass(frozen=True)
class Experiment:
    """A recipe with changes."""

    name: str
    recipe: str
    changes: tuple[str, ...] = ()


EXPERIMENTS = (
    Experiment("adding-lstm", "adding-lstm"),
    Experiment("adding-rnn", "adding-rnn"),
    Experiment("adding-rnn, a tenth of the rate", "adding-rnn", ("optimizer.lr=0.001",)),
)


def reach(model: torch.nn.Module, signals: torch.Tensor) -> dict[str, dict[str, float | None]]:
    """How the gradient changes with each step back, by the hidden state (`layer1`) and by an LSTM's cell (`layer1.cell`)."""
    lines = compare_gradients({"": model}, signals).document["lines"]
    return {line["layer"]: {key: line[key] for key in ("factor_per_step", "vanishes_after")} for line in lines}


def run(experiment: Experiment, seed: int, kept: dict[str, torch.nn.Module]) -> tuple[dict[str, object], torch.Tensor]:
    """Train once; gives the row and the sequences that gradients were looked at with."""
    words = [f"seed={seed}", "training.tensorboard=false", *experiment.changes]
    recipe = resolve(experiment.recipe, assignments=words).recipe()
    job = build(recipe, read_data(recipe), machine=choose_machine("cpu", 1))
    signals = job.data.splits["valid"]["signal"][:ROWS]
    before = reach(job.model, signals)
    begin, cpu = time.perf_counter(), time.process_time()
    result = job.trainer(None).fit()
    kept.setdefault(experiment.name, job.model)
    row = {
        "seed": seed,
        "mse": result.metrics["valid/mse"],
        "seconds": time.perf_counter() - begin,
        "cpu_seconds": time.process_time() - cpu,
        "gradient_before": before,
        "gradient_after": reach(job.model, signals),
    }
    return row, signals


def main() -> None:
    """Run the experiments and print one line each; with --output also write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="experiments; default: all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--picture", type=Path, help="gradients of the trained networks of seed 0, side by side (PNG)")
    arguments = parser.parse_args()
    use_threads(1)
    known: dict[str, dict[str, object]] = {}  # rows of earlier calls stay
    if arguments.output and arguments.output.is_file():
        known = {row["name"]: row for row in json.loads(arguments.output.read_text(encoding="utf-8"))["rows"]}
    kept: dict[str, torch.nn.Module] = {}
    for experiment in EXPERIMENTS:
        if arguments.names and experiment.name not in arguments.names:
            continue
        runs = []
        for seed in range(arguments.seeds):
            row, signals = run(experiment, seed, kept)
            runs.append(row)
            print(f"{experiment.name:<34} seed {seed}: mse {row['mse']:.5f}, {row['cpu_seconds']:.0f} s", flush=True)
        errors = [float(str(row["mse"])) for row in runs]
        known[experiment.name] = {
            "name": experiment.name,
            "recipe": experiment.recipe,
            "changes": list(experiment.changes),
            "mean": statistics.fmean(errors),
            "worst": max(errors),
            "runs": runs,
        }
        if arguments.output:
            rows = [known[other.name] for other in EXPERIMENTS if other.name in known]
            document = {"schema": 1, "length": 200, "mse_of_the_mean": 1 / 6, "threads": 1, "rows": rows}
            write_atomic(arguments.output, json.dumps(document, indent=1).encode() + b"\n")
        pair = {name: kept[name] for name in ("adding-lstm", "adding-rnn") if name in kept}
        if arguments.picture and len(pair) == 2:
            figure = compare_gradients(pair, signals).figure
            assert figure is not None
            write_atomic(arguments.picture, figure)


if __name__ == "__main__":
    main()
