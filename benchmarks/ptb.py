"""A language-model recipe from scratch, with its curve and some of what it writes: the figures in docs/language-models.md.

Run: python benchmarks/ptb.py DATA [--recipe ptb-lstm-small] [--run RUN_FOLDER] [--output FILE.json] [section.key=value …]

DATA is the folder of the Penn Treebank as Mikolov prepared it (ptb.train.txt, ptb.valid.txt, packed or not), or for another recipe
whatever it reads; `stdlib` is found on every machine. The curve is written after every epoch, as JSON and as a PNG beside it.
Called again with the RUN_FOLDER of an interrupted run it goes on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from matplotlib.figure import Figure
from recorded import Curve, minutes_of, record

from lamina.data.ragged import RaggedColumns
from lamina.train.trainer import Trainer, TrainResult

SAMPLING: Final[dict[str, Any]] = {"temperature": 0.8, "seed": 0}
_SAMPLES: Final = 3


class Language(Curve):
    """Perplexity, or bits per character, and some samples."""

    metrics = ("perplexity", "cross_entropy", "bits_per_character")
    loss = "cross_entropy"
    sections = ("task", "model", "optimizer", "schedule", "training")

    def facts(self, trainer: Trainer) -> dict[str, Any]:
        """Tokens, vocabulary and parameters."""
        return {
            "tokens": {split: _num_tokens(trainer, split) for split in trainer.data.splits},
            "vocabulary": trainer.preprocessing.spec.columns["input_ids"].vocab_size,
            "num_parameters": sum(parameter.numel() for parameter in trainer.model.parameters()),
        }

    def final(self, trainer: Trainer, result: TrainResult) -> dict[str, Any]:
        """With the scores at the best epoch, and some samples."""
        best = {key: value for key, value in result.metrics.items() if key.partition("/")[2] in self.metrics}
        samples: list[str] = []
        if result.bundle is not None:
            length = 60 if (trainer.preprocessing.spec.columns["input_ids"].vocab_size or 0) > 1000 else 400
            made = result.bundle.generate(num=_SAMPLES, max_length=length, **SAMPLING)
            samples = [sample["text"] for sample in made]
        # Rows are streams, of which a step takes so many tokens.
        tokens_per_s = round(result.samples_per_s * getattr(trainer.task.config, "length", 1))
        return {"best": best, "tokens_per_s": tokens_per_s, "sampling": SAMPLING, "samples": samples}

    def draw(self, document: Mapping[str, Any], figure: Figure) -> None:
        """Perplexity over the epochs; bits per character where tokens are characters."""
        epochs = [row["epoch"] for row in document["epochs"]]
        characters = document["vocabulary"] < 1000
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
        title = f"{document['recipe']}: best {name} {best:.4g}, {minutes_of(document):.0f} min"
        axes.set(xlabel="epoch", ylabel=name, title=title)
        axes.grid(alpha=0.3, which="both")
        axes.legend()

    def tell(self, result: TrainResult) -> str:
        """All scores at the best epoch."""
        return ", ".join(f"{name} {result.metrics[f'valid/{name}']:.4g}" for name in self.metrics)


def _num_tokens(trainer: Trainer, split: str) -> int:
    columns = trainer.data.splits[split]
    assert isinstance(columns, RaggedColumns)
    return len(columns.ragged["tokens"].values)


if __name__ == "__main__":
    record(Language, description=__doc__ or "", recipe="ptb-lstm-small", script="benchmarks/ptb.py")
