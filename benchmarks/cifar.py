"""A CIFAR-10 recipe from scratch on a folder of images, with its curve: the figures in docs/models/cifar_resnet.md.

Run: python benchmarks/cifar.py DATA_FOLDER [--recipe cifar10-resnet20] [--run RUN_FOLDER] [--output FILE.json] [section.key=value …]

DATA_FOLDER is what `lamina data` reads as images with the splits train and valid: CIFAR-10 itself, or image folders (packed or not). The
curve is written after every epoch, as JSON and as a PNG beside it. Called again with the RUN_FOLDER of an interrupted run it goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lamina.core.devices import describe_hardware
from lamina.core.files import write_atomic
from lamina.core.run import RunFolder
from lamina.recipes.environment import base_environment
from lamina.recipes.needs import check_data_path
from lamina.recipes.recipe import resolve
from lamina.recipes.session import train_run
from lamina.train.callbacks import Callback
from lamina.train.trainer import Trainer, TrainResult

RESULTS = Path(__file__).with_name("results")


class Curve(Callback):
    """Writes what each epoch came to, after its checkpoint."""

    def __init__(self, run: RunFolder, output: Path) -> None:
        self.run = run
        self.output = output
        self.begin = time.perf_counter()
        known = json.loads(output.read_text(encoding="utf-8")) if output.is_file() else {}
        same = known.get("run") == run.path.name
        self.seconds: dict[str, float] = known["wall_seconds"] if same else {}
        self.before = max(self.seconds.values(), default=0.0)  # spent by interrupted processes

    def on_checkpoint(self, trainer: Trainer, path: Path) -> None:
        """After each epoch."""
        del path
        self.write(trainer)

    def on_fit_end(self, trainer: Trainer, result: TrainResult) -> None:
        """With the score at the best epoch."""
        names = ("valid/accuracy", "valid/cross_entropy", "test/accuracy", "test/cross_entropy")
        best = {key: result.metrics[key] for key in names if key in result.metrics}
        self.write(trainer, best=best, samples_per_s=round(result.samples_per_s, 1))

    def write(self, trainer: Trainer, **more: Any) -> None:
        """The document as JSON and its curves as PNG."""
        rows: dict[int, dict[str, Any]] = {}
        for line in self.run.metrics():
            row = rows.setdefault(line["epoch"], {"epoch": line["epoch"]})
            if line["split"] == "train_epoch":
                row |= {"step": line["step"], "train_loss": line["loss"]}
            elif line["split"] == "valid":
                row |= {key: line[key] for key in ("accuracy", "cross_entropy")}
        done = [row for row in rows.values() if "accuracy" in row]
        self.seconds.setdefault(str(len(done)), round(self.before + time.perf_counter() - self.begin, 1))
        values, _ = self.run.recipe()
        document = {
            "schema": 1,
            "recipe": values["name"],
            "run": self.run.path.name,
            "model": values["model"],
            "optimizer": values["optimizer"],
            "schedule": values["schedule"],
            "training": values["training"],
            "augment": values["augment"],
            "rows": {name: columns.num_rows for name, columns in trainer.data.splits.items()},
            "hardware": describe_hardware(),
            "threads": torch.get_num_threads(),
            "choices": {name: choice.value for name, choice in trainer.choices.items()},
            "wall_seconds": self.seconds,
            **more,
            "epochs": done,
        }
        write_atomic(self.output, json.dumps(document, indent=1).encode() + b"\n")
        draw(document, self.output.with_suffix(".png"))


def draw(document: dict[str, Any], path: Path) -> None:
    """Loss and accuracy over the epochs, side by side."""
    epochs = [row["epoch"] for row in document["epochs"]]
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    left.plot(epochs, [row["train_loss"] for row in document["epochs"]], label="training, augmented")
    left.plot(epochs, [row["cross_entropy"] for row in document["epochs"]], "--", label="validation")
    left.set(xlabel="epoch", ylabel="cross-entropy", ylim=(0, None))
    left.legend()
    accuracies = [row["accuracy"] for row in document["epochs"]]
    right.plot(epochs, accuracies)
    best = max(accuracies, default=0.0)
    right.set(xlabel="epoch", ylabel="accuracy", title=f"validation, best {100 * best:.2f} %")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    rows = document["rows"]
    minutes = max(document["wall_seconds"].values(), default=0.0) / 60
    figure.suptitle(
        f"{document['recipe']}: {rows['train']:,} training and {rows['valid']:,} validation images, {minutes:.0f} min"
    )
    figure.savefig(path, dpi=110)


def open_run(arguments: argparse.Namespace) -> tuple[RunFolder, bool]:
    """The run of the folder, or a new one; and whether it was there."""
    if arguments.run is not None and arguments.run.exists():
        return RunFolder.open(arguments.run), True
    resolved = resolve(arguments.recipe, data=str(arguments.folder), assignments=arguments.words)
    resolved.values["data"]["path"] = check_data_path(resolved.values)
    command = ["benchmarks/cifar.py", arguments.recipe, *arguments.words]
    run = RunFolder.create(
        arguments.run, name=resolved.name, values=resolved.values, origins=resolved.origins, command=command
    )
    run.write_environment(base_environment(resolved.values, command=command))
    return run, False


def main() -> None:
    """Train, and write the curve after each epoch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("words", nargs="*", metavar="section.key=value", help="changes of the recipe")
    parser.add_argument("--recipe", default="cifar10-resnet20")
    parser.add_argument("--run", type=Path, help="run folder; an interrupted one is continued")
    parser.add_argument("--output", type=Path, help="default: results/RECIPE.json beside this script")
    parser.add_argument("--device", help="default: the rule of auto")
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_intermixed_args()
    output = arguments.output or RESULTS / f"{arguments.recipe}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    run, resume = open_run(arguments)
    if run.is_finished:
        print(f"{run.path} is finished; its curve is in {output}")
        return
    result = train_run(
        run, resume=resume, device=arguments.device, threads=arguments.threads, callbacks=[Curve(run, output)]
    )
    print(
        f"{arguments.recipe}: {100 * result.metrics['valid/accuracy']:.2f} % in {result.seconds / 60:.1f} min of training"
    )
    print(f"curve: {output} and {output.with_suffix('.png')}; run: {run.path}")


if __name__ == "__main__":
    main()
