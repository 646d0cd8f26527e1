"""A recipe trained from scratch and recorded: its curve as JSON and PNG after every epoch; an interrupted run goes on.

`cifar.py` and `ptb.py` say what is recorded, drawn and told; everything else is here.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

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
    """Writes what each epoch came to, after its checkpoint.

    Attributes:
        metrics: Of the validation split, those that are recorded; an epoch counts once it has the first.
        loss: Of training, the loss that is recorded.
        sections: Of the recipe, those that are recorded.
        width: Of the picture, in inches.
    """

    metrics: ClassVar[tuple[str, ...]]
    loss: ClassVar[str]
    sections: ClassVar[tuple[str, ...]]
    width: ClassVar[float] = 7

    def __init__(self, run: RunFolder, output: Path) -> None:
        self.run = run
        self.output = output
        self.begin = time.perf_counter()
        known = json.loads(output.read_text(encoding="utf-8")) if output.is_file() else {}
        same = known.get("run") == run.path.name
        self.seconds: dict[str, float] = known["wall_seconds"] if same else {}
        self.before = max(self.seconds.values(), default=0.0)  # spent by interrupted processes

    def facts(self, trainer: Trainer) -> dict[str, Any]:
        """What is recorded of data and model."""
        raise NotImplementedError

    def final(self, trainer: Trainer, result: TrainResult) -> dict[str, Any]:
        """What is recorded at the end."""
        raise NotImplementedError

    def draw(self, document: Mapping[str, Any], figure: Figure) -> None:
        """The curves."""
        raise NotImplementedError

    def tell(self, result: TrainResult) -> str:
        """The result in a line."""
        raise NotImplementedError

    def on_checkpoint(self, trainer: Trainer, path: Path) -> None:
        """After each epoch."""
        del path
        self.write(trainer)

    def on_fit_end(self, trainer: Trainer, result: TrainResult) -> None:
        """With what is known at the end."""
        self.write(trainer, **self.final(trainer, result))

    def write(self, trainer: Trainer, **more: Any) -> None:
        """The document as JSON and its curves as PNG."""
        rows: dict[int, dict[str, Any]] = {}
        for line in self.run.metrics():
            row = rows.setdefault(line["epoch"], {"epoch": line["epoch"]})
            if line["split"] == "train_epoch":
                row |= {"step": line["step"], f"train_{self.loss}": line[self.loss]}
            elif line["split"] == "valid":
                row |= {key: line[key] for key in self.metrics if key in line}
        done = [row for row in rows.values() if self.metrics[0] in row]
        self.seconds.setdefault(str(len(done)), round(self.before + time.perf_counter() - self.begin, 1))
        values, _ = self.run.recipe()
        document = {
            "schema": 1,
            "recipe": values["name"],
            "run": self.run.path.name,
            **{section: values[section] for section in self.sections},
            **self.facts(trainer),
            "hardware": describe_hardware(),
            "threads": torch.get_num_threads(),
            "choices": {name: choice.value for name, choice in trainer.choices.items()},
            "wall_seconds": self.seconds,
            **more,
            "epochs": done,
        }
        write_atomic(self.output, json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n")
        figure = Figure(figsize=(self.width, 4), layout="constrained")
        FigureCanvasAgg(figure)
        self.draw(document, figure)
        figure.savefig(self.output.with_suffix(".png"), dpi=110)


def minutes_of(document: Mapping[str, Any]) -> float:
    """How long a recorded run took."""
    return max(document["wall_seconds"].values(), default=0.0) / 60


def record(curve: type[Curve], *, description: str, recipe: str, script: str) -> None:
    """Train a recipe as the command line says, and record it.

    Args:
        curve: What is recorded.
        description: Of the script.
        recipe: By default.
        script: Its path, for the run's record of how it was made.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("words", nargs="*", metavar="section.key=value", help="changes of the recipe")
    parser.add_argument("--recipe", default=recipe)
    parser.add_argument("--run", type=Path, help="run folder; an interrupted one is continued")
    parser.add_argument("--output", type=Path, help="default: results/RECIPE.json beside this script")
    parser.add_argument("--device", help="default: the rule of auto")
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_intermixed_args()
    output = arguments.output or RESULTS / f"{arguments.recipe}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    run, resume = _open_run(arguments, script)
    if run.is_finished:
        print(f"{run.path} is finished; its curve is in {output}")
        return
    watcher = curve(run, output)
    result = train_run(run, resume=resume, device=arguments.device, threads=arguments.threads, callbacks=[watcher])
    print(f"{arguments.recipe}: {watcher.tell(result)} in {result.seconds / 60:.1f} min of training")
    print(f"curve: {output} and {output.with_suffix('.png')}; run: {run.path}")


def _open_run(arguments: argparse.Namespace, script: str) -> tuple[RunFolder, bool]:
    """The run of the folder, or a new one; and whether it was there."""
    if arguments.run is not None and arguments.run.exists():
        return RunFolder.open(arguments.run), True
    resolved = resolve(arguments.recipe, data=arguments.data, assignments=arguments.words)
    resolved.values["data"]["path"] = check_data_path(resolved.values)
    command = [script, arguments.recipe, *arguments.words]
    run = RunFolder.create(
        arguments.run, name=resolved.name, values=resolved.values, origins=resolved.origins, command=command
    )
    run.write_environment(base_environment(resolved.values, command=command))
    return run, False
