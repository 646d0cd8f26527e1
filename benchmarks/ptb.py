"""A language-model recipe from scratch, with its curve and some of what it writes: the figures in docs/language-models.md.

Run: python benchmarks/ptb.py DATA [--recipe ptb-lstm-small] [--run RUN_FOLDER] [--output FILE.json] [section.key=value …]

DATA is the folder of the Penn Treebank as Mikolov prepared it (ptb.train.txt, ptb.valid.txt, packed or not), or for another recipe
whatever it reads; `stdlib` is found on every machine. The curve is written after every epoch, as JSON and as a PNG beside it.
Called again with the RUN_FOLDER of an interrupted run it goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any, Final

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lamina.core.devices import describe_hardware
from lamina.core.files import write_atomic
from lamina.core.run import RunFolder
from lamina.data.ragged import RaggedColumns
from lamina.recipes.environment import base_environment
from lamina.recipes.needs import check_data_path
from lamina.recipes.recipe import resolve
from lamina.recipes.session import train_run
from lamina.train.callbacks import Callback
from lamina.train.trainer import Trainer, TrainResult

RESULTS = Path(__file__).with_name("results")
METRICS: Final = ("cross_entropy", "perplexity", "bits_per_character")
SAMPLING: Final[dict[str, Any]] = {"temperature": 0.8, "seed": 0}
_SAMPLES: Final = 3


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
        """With the scores at the best epoch, and some samples."""
        best = {key: value for key, value in result.metrics.items() if key.partition("/")[2] in METRICS}
        samples: list[str] = []
        if result.bundle is not None:
            length = 60 if trainer.preprocessing.spec.columns["input_ids"].vocab_size > 1000 else 400
            made = result.bundle.generate(num=_SAMPLES, max_length=length, **SAMPLING)
            samples = [sample["text"] for sample in made]
        # Rows are streams, of which a step takes so many tokens.
        tokens_per_s = round(result.samples_per_s * getattr(trainer.task.config, "length", 1))
        self.write(trainer, best=best, tokens_per_s=tokens_per_s, sampling=SAMPLING, samples=samples)

    def write(self, trainer: Trainer, **more: Any) -> None:
        """The document as JSON and its curves as PNG."""
        rows: dict[int, dict[str, Any]] = {}
        for line in self.run.metrics():
            row = rows.setdefault(line["epoch"], {"epoch": line["epoch"]})
            if line["split"] == "train_epoch":
                row |= {"step": line["step"], "train_cross_entropy": line["cross_entropy"]}
            elif line["split"] == "valid":
                row |= {key: line[key] for key in METRICS if key in line}
        done = [row for row in rows.values() if "perplexity" in row]
        self.seconds.setdefault(str(len(done)), round(self.before + time.perf_counter() - self.begin, 1))
        values, _ = self.run.recipe()
        document = {
            "schema": 1,
            "recipe": values["name"],
            "run": self.run.path.name,
            **{section: values[section] for section in ("task", "model", "optimizer", "schedule", "training")},
            "tokens": {split: _num_tokens(trainer, split) for split in trainer.data.splits},
            "vocabulary": trainer.preprocessing.spec.columns["input_ids"].vocab_size,
            "num_parameters": sum(parameter.numel() for parameter in trainer.model.parameters()),
            "hardware": describe_hardware(),
            "threads": torch.get_num_threads(),
            "choices": {name: choice.value for name, choice in trainer.choices.items()},
            "wall_seconds": self.seconds,
            **more,
            "epochs": done,
        }
        write_atomic(self.output, json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n")
        draw(document, self.output.with_suffix(".png"))


def _num_tokens(trainer: Trainer, split: str) -> int:
    columns = trainer.data.splits[split]
    assert isinstance(columns, RaggedColumns)
    return len(columns.ragged["tokens"].values)


def draw(document: dict[str, Any], path: Path) -> None:
    """Perplexity over the epochs; bits per character where tokens are characters."""
    epochs = [row["epoch"] for row in document["epochs"]]
    characters = document["vocabulary"] < 1000
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    if characters:
        train = [row["train_cross_entropy"] / math.log(2) for row in document["epochs"]]
        valid = [row["cross_entropy"] / math.log(2) for row in document["epochs"]]
    else:
        train = [math.exp(row["train_cross_entropy"]) for row in document["epochs"]]
        valid = [row["perplexity"] for row in document["epochs"]]
        axes.set_yscale("log")
    axes.plot(epochs, train, label="training, during the epoch")
    axes.plot(epochs, valid, "--", label="validation")
    best = min(valid, default=0.0)
    name = "bits per character" if characters else "perplexity"
    minutes = max(document["wall_seconds"].values(), default=0.0) / 60
    axes.set(xlabel="epoch", ylabel=name, title=f"{document['recipe']}: best {name} {best:.4g}, {minutes:.0f} min")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.savefig(path, dpi=110)


def open_run(arguments: argparse.Namespace) -> tuple[RunFolder, bool]:
    """The run of the folder, or a new one; and whether it was there."""
    if arguments.run is not None and arguments.run.exists():
        return RunFolder.open(arguments.run), True
    resolved = resolve(arguments.recipe, data=str(arguments.data), assignments=arguments.words)
    resolved.values["data"]["path"] = check_data_path(resolved.values)
    command = ["benchmarks/ptb.py", arguments.recipe, *arguments.words]
    run = RunFolder.create(
        arguments.run, name=resolved.name, values=resolved.values, origins=resolved.origins, command=command
    )
    run.write_environment(base_environment(resolved.values, command=command))
    return run, False


def main() -> None:
    """Train, and write the curve after each epoch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("words", nargs="*", metavar="section.key=value", help="changes of the recipe")
    parser.add_argument("--recipe", default="ptb-lstm-small")
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
    found = ", ".join(f"{name} {result.metrics[f'valid/{name}']:.4g}" for name in METRICS)
    print(f"{arguments.recipe}: validation {found} in {result.seconds / 60:.1f} min of training")
    print(f"curve: {output} and {output.with_suffix('.png')}; run: {run.path}")


if __name__ == "__main__":
    main()
