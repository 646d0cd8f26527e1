"""A CIFAR-10 recipe from scratch on a folder of images, with its curve: the figures in docs/models/cifar_resnet.md.

Run: python benchmarks/cifar.py DATA_FOLDER [--recipe cifar10-resnet20] [--run RUN_FOLDER] [--output FILE.json] [section.key=value …]

DATA_FOLDER is what `lamina data` reads as images with the splits train and valid: CIFAR-10 itself, or image folders (packed or not). The
curve is written after every epoch, as JSON and as a PNG beside it. Called again with the RUN_FOLDER of an interrupted run it goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure
from recorded import Curve, minutes_of, record

from lamina.train.trainer import Trainer, TrainResult


class Images(Curve):
    """Loss and accuracy."""

    metrics = ("accuracy", "cross_entropy")
    loss = "loss"
    sections = ("model", "optimizer", "schedule", "training", "augment")
    width = 10

    def facts(self, trainer: Trainer) -> dict[str, Any]:
        """How many images there are."""
        return {"rows": {name: columns.num_rows for name, columns in trainer.data.splits.items()}}

    def final(self, trainer: Trainer, result: TrainResult) -> dict[str, Any]:
        """With the score at the best epoch."""
        names = ("valid/accuracy", "valid/cross_entropy", "test/accuracy", "test/cross_entropy")
        best = {key: result.metrics[key] for key in names if key in result.metrics}
        return {"best": best, "samples_per_s": round(result.samples_per_s, 1)}

    def draw(self, document: Mapping[str, Any], figure: Figure) -> None:
        """Loss and accuracy over the epochs, side by side."""
        epochs = [row["epoch"] for row in document["epochs"]]
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
        counts = f"{rows['train']:,} training and {rows['valid']:,} validation images"
        figure.suptitle(f"{document['recipe']}: {counts}, {minutes_of(document):.0f} min")

    def tell(self, result: TrainResult) -> str:
        """Accuracy at the best epoch."""
        return f"{100 * result.metrics['valid/accuracy']:.2f} %"


if __name__ == "__main__":
    record(Images, description=__doc__ or "", recipe="cifar10-resnet20", script="benchmarks/cifar.py")
