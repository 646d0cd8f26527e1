"""Accuracy of the foundation's recipes over seeds, on the user's copies of the data: the figures in docs/results.md.

Run: python benchmarks/quality.py DATA_FOLDER [NAME …] [--seeds N] [--output FILE]

DATA_FOLDER holds `mnist/` (IDX), `sign_digits/`, `tabular/` (iris.csv, housing.csv) and `cifar10_jpg/`. A fifth of the
rows is held out, drawn by the run's seed; what is reported is the held-out part at the best checkpoint, so it carries
the small optimism of choosing an epoch on the same rows.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from lamina.core.files import write_atomic
from lamina.recipes.build import build, choose_machine, read_data
from lamina.recipes.recipe import resolve


@dataclass(frozen=True)
class Experiment:
    """A recipe on a dataset, over seeds."""

    name: str
    recipe: str
    path: str
    metric: str = "accuracy"
    seeds: int = 3
    changes: tuple[str, ...] = ()


EXPERIMENTS = (
    Experiment("mnist-linear", "mnist-linear", "mnist"),
    Experiment("mnist-svm", "mnist-svm", "mnist"),
    Experiment("mnist-knn", "mnist-knn", "mnist"),
    Experiment("mnist-mlp", "mnist-mlp", "mnist"),
    Experiment("mnist-mlp-sigmoid", "mnist-mlp-sigmoid", "mnist"),
    Experiment("mnist-lenet5", "mnist-lenet5", "mnist"),
    Experiment("sign-cnn", "sign-cnn", "sign_digits", seeds=5),
    Experiment("sign-cnn without augmentation", "sign-cnn", "sign_digits", seeds=5, changes=("augment=[]",)),
    Experiment(
        "sign-cnn without the flip",
        "sign-cnn",
        "sign_digits",
        seeds=5,
        changes=("augment=[{name: rotate}, {name: zoom}, {name: shift}]",),
    ),
    Experiment("sign-cnn in fp32", "sign-cnn", "sign_digits", seeds=5, changes=("training.precision=fp32",)),
    Experiment("iris-mlp", "iris-mlp", "tabular/iris.csv", seeds=5),
    Experiment("housing-mlp", "housing-mlp", "tabular/housing.csv", metric="mae", seeds=5),
    Experiment(
        "housing, linear",
        "housing-mlp",
        "tabular/housing.csv",
        metric="mae",
        seeds=5,
        changes=("model.hidden_sizes=[]",),
    ),
    Experiment("cifar10-linear", "cifar10-linear", "cifar10_jpg", seeds=1),
    Experiment("cifar10-knn", "cifar10-knn", "cifar10_jpg", seeds=1),
)


def run(experiment: Experiment, folder: Path, *, seeds: int | None) -> dict[str, object]:
    """Train over the seeds and collect the held-out metric."""
    values: list[float] = []
    seconds: list[float] = []
    choices: dict[str, str] = {}
    for seed in range(seeds or experiment.seeds):
        words = [f"seed={seed}", "training.tensorboard=false", *experiment.changes]
        recipe = resolve(experiment.recipe, data=str(folder / experiment.path), assignments=words).recipe()
        job = build(recipe, read_data(recipe), machine=choose_machine("cpu", None))
        begin = time.perf_counter()
        result = job.trainer(None).fit()
        seconds.append(time.perf_counter() - begin)
        values.append(result.metrics[f"valid/{experiment.metric}"])
        choices = {name: choice.value for name, choice in result.choices.items()}
    return {
        "name": experiment.name,
        "metric": experiment.metric,
        "mean": statistics.fmean(values),
        "spread": statistics.stdev(values) if len(values) > 1 else None,
        "values": values,
        "seconds": statistics.median(seconds),
        "choices": choices,
    }


def main() -> None:
    """Run the experiments and print one line each; with --output also write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", help="experiments; default: all")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    known: dict[str, dict[str, object]] = {}  # rows of earlier calls stay, in the order of EXPERIMENTS
    if arguments.output and arguments.output.is_file():
        known = {row["name"]: row for row in json.loads(arguments.output.read_text(encoding="utf-8"))["rows"]}
    for experiment in EXPERIMENTS:
        if arguments.names and experiment.name not in arguments.names:
            continue
        row = run(experiment, arguments.folder, seeds=arguments.seeds)
        known[experiment.name] = row
        spread = f" ± {row['spread']:.4f}" if row["spread"] is not None else ""
        print(f"{row['name']:<32} {row['metric']:<9} {row['mean']:.4f}{spread}  {row['seconds']:.1f} s", flush=True)
        if arguments.output:
            rows = [known[other.name] for other in EXPERIMENTS if other.name in known]
            write_atomic(arguments.output, json.dumps({"schema": 1, "rows": rows}, indent=1).encode() + b"\n")


if __name__ == "__main__":
    main()
