"""View `augment`: training images beside what the recipe's augmentation makes of them, and whether flips keep the classes.

Each column is an epoch: the draws are those that a training with this seed makes in it. Values outside what a pixel can
be are cut off in the picture alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Group
from rich.table import Table
from rich.text import Text
from torch import Tensor

from lamina.core import draws
from lamina.core.config import Config, Field
from lamina.core.errors import UsageError
from lamina.core.registry import register
from lamina.data.augment.meaning import check_flips
from lamina.data.augmentation import Augmentation
from lamina.data.columns import Columns, DataSpec
from lamina.explain.drawing import bare, draw, shorten
from lamina.explain.views import Subject, ViewResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["AugmentViewConfig", "augment_view"]

_INCH: Final = 1.15
_STRIDE: Final = 4096


class AugmentViewConfig(Config):
    """Options of the view `augment`."""

    images: int = Field(
        6, description="Training images shown, of different classes where there are labels.", ge=1, le=64
    )
    draws: int = Field(6, description="Draws of each: the first so many epochs.", ge=1, le=32)
    seed: int = Field(0, description="Seed of the training whose draws are shown.", ge=0)
    epoch: int = Field(0, description="The first epoch shown, counted from 0.", ge=0)


@register(
    "view",
    "augment",
    config=AugmentViewConfig,
    reads="training",
    example="lamina inspect sign-cnn augment --data PATH --output augment.png",
)
def augment_view(subject: Subject, config: AugmentViewConfig) -> ViewResult:
    """Training images beside what augmentation makes of them, and what flips do to the classes.

    Raises:
        UsageError: The subject is no recipe with data, has no images, or augments nothing.
    """
    augmentation, columns = subject.augmentation, subject.columns
    spec = subject.preprocessing.input_spec if subject.preprocessing is not None else subject.spec
    if columns is None or spec is None:
        raise UsageError(
            f"{subject.title} has no training images to augment.",
            where="view augment",
            accepts="a recipe with data",
            mend="name a recipe, with --data PATH unless it brings data along",
        )
    if augmentation is None or not len(augmentation):
        raise UsageError(
            f"{subject.title} augments nothing.",
            where="view augment",
            accepts="a recipe with steps in its section `augment`",
            mend="give it some in a YAML file: `extends: RECIPE` and `augment: [{name: rotate}, {name: crop}]`",
        )
    rows = _rows(columns, config.images)
    batch = columns.batch(rows)
    drawn = [
        augmentation(batch, draws.stream_key(config.seed, "augment", config.epoch + number))
        for number in range(config.draws)
    ]
    labels = _labels(batch, spec)
    flips = check_flips(augmentation, spec, columns)
    document: dict[str, Any] = {
        "subject": subject.title,
        "steps": [dict(step) for step in augmentation.steps],
        "seed": config.seed,
        "epochs": [config.epoch + number for number in range(config.draws)],
        "images": [{"row": int(row), "label": label} for row, label in zip(rows, labels, strict=True)],
        "draws": [_statistics(batch["image"], one, spec) for one in drawn],
        "flips": [flip.describe() for flip in flips],
        "warnings": [flip.sentence() for flip in flips if flip.warns],
        "left_out": f"The training leaves all this out in {subject.unaugmented}." if subject.unaugmented else None,
    }
    sentences = [flip.sentence() for flip in flips] + ([document["left_out"]] if document["left_out"] else [])
    figure = _draw(subject.title, batch["image"], drawn, labels, augmentation, spec, config, sentences)
    arrays = {
        "originals": batch["image"].numpy(),
        "draws": torch.stack([one["image"] for one in drawn], dim=1).numpy(),  # (images, draws, C, H, W)
    }
    return ViewResult(document, _renderable(document, augmentation), figure, arrays)


def _rows(columns: Columns, count: int) -> Tensor:
    """Rows of as many classes as there are, evenly spread over the split."""
    count = min(count, columns.num_rows)
    spread = torch.linspace(0, columns.num_rows - 1, min(_STRIDE, columns.num_rows)).round().to(torch.int64)
    if "label" not in columns:
        return spread[torch.linspace(0, len(spread) - 1, count).round().to(torch.int64)]
    labels = columns["label"][spread]
    # The first row of every class, then the second of every class, and so on.
    ranks, seen = torch.empty_like(labels), dict[int, int]()
    for place, label in enumerate(labels.tolist()):
        ranks[place] = seen[label] = seen.get(label, -1) + 1
    order = torch.argsort(ranks * (int(labels.max()) + 1) + labels, stable=True)
    return spread[order[:count]]


def _labels(batch: dict[str, Tensor], spec: DataSpec) -> list[str]:
    if "label" not in batch or not spec.classes:
        return ["" for _ in batch["row"]]
    return [spec.classes[label] for label in batch["label"].tolist()]


def _statistics(images: Tensor, one: dict[str, Tensor], spec: DataSpec) -> dict[str, Any]:
    changed = (one["image"] - images.to(torch.float32)).abs().mean(dim=(1, 2, 3))
    found: dict[str, Any] = {
        "mean_change": [round(value, 3) for value in changed.tolist()],
        "low": round(float(one["image"].min()), 3),
        "high": round(float(one["image"].max()), 3),
    }
    if "mix" in one:
        found["label_other"] = [spec.classes[label] for label in one["label_other"].tolist()]
        found["mix"] = [round(value, 4) for value in one["mix"].tolist()]
    return found


def _draw(
    title: str,
    originals: Tensor,
    drawn: list[dict[str, Tensor]],
    labels: list[str],
    augmentation: Augmentation,
    spec: DataSpec,
    config: AugmentViewConfig,
    sentences: list[str],
) -> bytes:
    low, high = 0.0, augmentation.maximum
    if high is None:
        low, high = float(originals.min()), float(originals.max())
    height, width = originals.shape[-2:]
    tall = _INCH * min(max(height / width, 0.4), 2.5)

    def paint(figure: Figure) -> None:
        grid = figure.subplots(len(originals), 1 + len(drawn), squeeze=False)
        for number, row in enumerate(grid):
            pictures = [originals[number], *(one["image"][number] for one in drawn)]
            for place, (axes, picture) in enumerate(zip(row, pictures, strict=True)):
                bare(axes)
                shown = _picture(picture, low, high)
                axes.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect="equal")
                if number == 0:
                    axes.set_title("original" if place == 0 else f"epoch {config.epoch + place}")
                if place == 0:
                    axes.set_ylabel(shorten(labels[number], 14), rotation=0, ha="right", va="center")
                elif "mix" in drawn[place - 1] and float(drawn[place - 1]["mix"][number]) < 0.995:
                    mix, other = float(drawn[place - 1]["mix"][number]), int(drawn[place - 1]["label_other"][number])
                    own, others = shorten(labels[number], 9), shorten(spec.classes[other], 9)
                    axes.set_xlabel(f"{mix:.0%} {own}, {1 - mix:.0%} {others}", fontsize=5.5)

    note = f"Seed {config.seed}. " + " ".join(sentences)
    return draw(
        paint,
        width=_INCH * (1 + len(drawn)) + 0.9,
        height=(tall + 0.08 + (0.15 if augmentation.mixes else 0)) * len(originals) + 0.3,
        title=f"{title}: {describe_steps(augmentation.steps)}",
        note=note,
    )


def describe_steps(steps: Any) -> str:
    """Steps in words: `rotate 10, one_of (blur, noise)`."""
    words = []
    for step in steps:
        values = {"name": step} if isinstance(step, str) else dict(step)
        name, inner = values.pop("name"), values.pop("steps", None)
        told = " ".join(str(value) for value in values.values() if not isinstance(value, list | tuple | dict))
        words.append(" ".join(part for part in (name, told, f"({describe_steps(inner)})" if inner else "") if part))
    return ", ".join(words)


def _picture(image: Tensor, low: float, high: float) -> NDArray[np.floating[Any]]:
    """(H, W) of one channel or (H, W, 3), as shares."""
    shares = ((image.to(torch.float32) - low) / max(high - low, 1e-12)).clamp(0, 1).numpy()
    picture: NDArray[np.floating[Any]] = shares[:3].transpose(1, 2, 0) if len(shares) >= 3 else shares[0]
    return picture


def _renderable(document: dict[str, Any], augmentation: Augmentation) -> Group:
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left")
    table.title = f"{document['subject']}: {describe_steps(augmentation.steps)}"
    table.add_column("row", justify="right")
    table.add_column("label")
    for epoch in document["epochs"]:
        table.add_column(f"epoch {epoch + 1}", justify="right")
    for number, image in enumerate(document["images"]):
        changes = [f"{one['mean_change'][number]:.2f}" for one in document["draws"]]
        table.add_row(str(image["row"]), image["label"], *changes)
    lines: list[Any] = [
        table,
        Text("Mean change of a pixel per draw; --output FILE.png draws the images.", style="dim"),
    ]
    lines += [Text(flip["sentence"], style="yellow" if flip["warns"] else "") for flip in document["flips"]]
    lines += [Text(document["left_out"], style="yellow")] if document["left_out"] else []
    return Group(*lines)
