"""Transfer learning on photographs: a new head, careful fine-tuning and a network from scratch, over seeds; for docs/transfer.md.

Run: python benchmarks/transfer.py PHOTOS WEIGHTS [NAME …] [--seeds N] [--first-seed N] [--output FILE]

PHOTOS is a folder with `train/class/*.jpg` and `val/class/*.jpg`, WEIGHTS a file for mobilenet-v1. Seeds key the new
head, the order and the augmentation; the split is the folder's own. `best` is the validation accuracy at the epoch with
the smallest validation cross-entropy, which carries the small optimism of choosing on the same rows; `last` is that of
the last epoch, for which nothing was chosen. `head` is the frozen body of the same run, before the fine-tuning. Rows of
earlier calls stay in FILE; a seed that is there already is not run again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from lamina.core.files import write_atomic
from lamina.data.columns import Data
from lamina.recipes.build import build, choose_machine, read_data
from lamina.recipes.cross_validation import cross_validate, reason_for
from lamina.recipes.recipe import resolve
from lamina.tasks.derived import FeatureStore
from lamina.train.callbacks import Callback
from lamina.train.trainer import Trainer

RECIPES: Final = ("photos-transfer", "photos-finetune", "sports-cnn")
_SHOWN: Final = ("best", "last", "head", "cross_validation")


class Accuracies(Callback):
    """The validation accuracy after every judged epoch, with the stage."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, float, float]] = []

    def on_evaluated(self, trainer: Trainer, split: str, values: Mapping[str, float]) -> None:
        """Keep stage, cross-entropy and accuracy."""
        self.rows.append((trainer.stage.name, values["cross_entropy"], values["accuracy"]))


def run(
    name: str, photos: Path, weights: Path, *, seed: int, data: dict[str, Data], features: FeatureStore
) -> dict[str, Any]:
    """One training; accuracies on the validation part. `data` and `features` are shared by all seeds of a recipe."""
    words = [f"seed={seed}", "training.tensorboard=false"]
    given = str(weights) if name != "sports-cnn" else None
    recipe = resolve(name, data=str(photos), weights=given, assignments=words).recipe()
    if name not in data:
        data[name] = read_data(recipe)
    job = build(recipe, data[name], machine=choose_machine("cpu", None))
    job.features = features
    found: dict[str, Any] = {"seed": seed}
    reason = reason_for(job)
    if reason is not None:
        found["cross_validation"] = cross_validate(job, reason=reason).mean("accuracy")
    watch = Accuracies()
    begin = time.perf_counter()
    result = job.trainer(None, callbacks=[watch]).fit()
    found |= {"best": result.metrics["valid/accuracy"], "last": watch.rows[-1][2]}
    if len(job.stages) > 1:
        first = [row for row in watch.rows if row[0] == job.stages[0].name]
        found["head"] = min(first, key=lambda row: row[1])[2]
        found["first_epoch"] = next(row[2] for row in watch.rows if row[0] != job.stages[0].name)
    return {**found, "seconds": round(time.perf_counter() - begin, 1), "epochs": result.epochs}


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and spread over the seeds."""
    result: dict[str, Any] = {}
    for key in (*_SHOWN, "seconds"):
        values = [row[key] for row in rows if key in row]
        if values:
            result[key] = {
                "mean": statistics.fmean(values),
                "std": statistics.stdev(values) if len(values) > 1 else None,
                "min": min(values),
            }
    return result


def main() -> None:
    """Run what is asked for, print a line for each run and for each recipe, write FILE after every run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(RECIPES)}; default: all")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    known: dict[str, dict[str, Any]] = {}
    if arguments.output and arguments.output.is_file():
        known = json.loads(arguments.output.read_text(encoding="utf-8"))["recipes"]
    data: dict[str, Data] = {}
    for name in arguments.names or RECIPES:
        features = FeatureStore()
        rows = list(known.get(name, {}).get("runs", []))
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
            if any(row["seed"] == seed for row in rows):
                continue
            rows.append(run(name, arguments.photos, arguments.weights, seed=seed, data=data, features=features))
            rows.sort(key=lambda row: row["seed"])
            known[name] = {"summary": summary(rows), "runs": rows}
            print(name, rows[-1] if rows[-1]["seed"] == seed else rows, flush=True)
            if arguments.output:
                ordered = {key: known[key] for key in RECIPES if key in known}
                document = {"schema": 1, "photos": arguments.photos.name, "weights": arguments.weights.name}
                write_atomic(arguments.output, json.dumps({**document, "recipes": ordered}, indent=1).encode() + b"\n")
        for key, found in summary(rows).items():
            spread = f" ± {found['std']:.4f}" if found["std"] is not None else ""
            print(f"{name:<16} {key:<17} {found['mean']:.4f}{spread}", flush=True)


if __name__ == "__main__":
    main()
