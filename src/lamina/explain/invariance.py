"""View `invariance`: how the score changes when the pictures are shifted, scaled or turned.

Two curves: the accuracy, and how often the decision stays what it was for the unmoved picture. A flat curve means that the
network does not care; a steep one that its training never showed it such pictures. A flat curve is not always wanted: a six
turned by 180 degrees is a nine.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import RenderableType
from rich.table import Table

from lamina.core.config import Config, Field
from lamina.core.registry import register
from lamina.explain.disturbances import MOVES, moved
from lamina.explain.drawing import bare, draw, show_image, to_shares
from lamina.explain.judged import as_given, choose_rows, judge, judged_rows, pixel_maximum
from lamina.explain.views import Subject, ViewResult, titled
from lamina.tasks.pipeline import Pipeline

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["InvarianceConfig", "invariance_view"]


class InvarianceConfig(Config):
    """Options of the view `invariance`."""

    shifts: tuple[float, ...] | None = Field(
        None, description="Pixels to the right and down; by default up to a quarter of the side."
    )
    scales: tuple[float, ...] = Field((0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0), description="Times the original size.")
    rotations: tuple[float, ...] = Field(
        (-180.0, -90.0, -45.0, -20.0, -10.0, 0.0, 10.0, 20.0, 45.0, 90.0, 180.0),
        description="Degrees counter-clockwise.",
    )
    most: int = Field(500, description="Rows judged at most, drawn by seed.", ge=1)
    seed: int = Field(0, description="Keys the choice of rows.")


@register(
    "view",
    "invariance",
    config=InvarianceConfig,
    source="Goodfellow, Le, Saxe, Lee, Ng (2009), Measuring Invariances in Deep Networks, NIPS 22",
    example="lamina inspect runs/digits-1 invariance --output invariance.png",
    reads="rows",
)
def invariance_view(subject: Subject, config: InvarianceConfig) -> ViewResult:
    """Accuracy, and how often the decision stays the same, when pictures are shifted, scaled or turned.

    `arrays` holds, per kind of move, `KIND/amount`, `KIND/accuracy` and `KIND/same`, all (amounts,).

    Raises:
        UsageError: No labelled rows, or rows that are not images.
    """
    pipeline, columns = judged_rows(subject, "invariance", images=True)
    rows = choose_rows(columns, config.most, seed=config.seed)
    batch = columns.batch(rows)
    images = batch["image"].float()
    height, width = images.shape[2:]
    plain = judge(pipeline, batch, rows)
    amounts = {
        "shift-right": config.shifts or _shifts(width),
        "shift-down": config.shifts or _shifts(height),
        "scale": config.scales,
        "rotation": config.rotations,
    }
    kinds: dict[str, Any] = {}
    for kind, levels in amounts.items():
        found = [
            judge(pipeline, {**batch, "image": as_given(moved(images, kind, level), batch["image"])}, rows)
            for level in levels
        ]
        kinds[kind] = {
            "unit": MOVES[kind].unit,
            "amount": list(levels),
            "accuracy": [one.accuracy for one in found],
            "same": [float((one.predicted == plain.predicted).double().mean()) for one in found],
        }
    document = {
        "model": subject.title,
        "shown": "accuracy, and share of decisions that stay as for the unmoved picture",
        "split": subject.split,
        "num_rows": len(rows),
        "accuracy": plain.accuracy,
        "border": "what comes in from outside repeats the border",
        "moves": kinds,
        "means": "how the score changes; whether it should not change is for the task to say",
    }
    arrays: dict[str, NDArray[Any]] = {
        f"{kind}/{name}": np.asarray(found[name])
        for kind, found in kinds.items()
        for name in ("amount", "accuracy", "same")
    }
    figure = partial(_draw, subject, pipeline, images[1 % len(images) :][:1], document)
    return ViewResult(document, _table(document), figure, arrays)


def _shifts(side: int) -> tuple[float, ...]:
    """Seven shifts, whole pixels, up to a quarter of the side."""
    most = max(side // 4, 1)
    return tuple(float(x) for x in sorted({round(share * most / 3) for share in range(-3, 4)}))


def _draw(subject: Subject, pipeline: Pipeline, image: torch.Tensor, document: dict[str, Any]) -> bytes:
    maximum = pixel_maximum(pipeline, image)
    chance = 1 / max(len(subject.spec.classes) if subject.spec is not None else 0, 2)

    def paint(figure: Figure) -> None:
        parts = np.asarray(figure.subfigures(2, 2)).flat
        first = next(iter(document["moves"]))
        for part, (kind, found) in zip(parts, document["moves"].items(), strict=True):
            grid = part.add_gridspec(2, 3, height_ratios=(1, 2.6))
            amounts = found["amount"]
            for place, amount in enumerate((amounts[0], MOVES[kind].neutral, amounts[-1])):
                axes = bare(part.add_subplot(grid[0, place]))
                show_image(axes, to_shares(moved(image, kind, amount)[0].double().numpy(), low=0.0, high=maximum))
                axes.set_title(f"{amount:g}")
            axes = part.add_subplot(grid[1, :])
            axes.plot(amounts, found["accuracy"], "o-", color="#0072B2", markersize=3.5, label="accuracy")
            axes.plot(amounts, found["same"], "s--", color="#E69F00", markersize=3.5, label="same decision")
            axes.axhline(chance, color="#888888", linewidth=0.8, linestyle=":", label=f"chance {chance:.2g}")
            axes.set_ylim(-0.03, 1.03)
            if kind == "scale":
                axes.set_xscale("log")
                axes.set_xticks(amounts, [f"{amount:g}" for amount in amounts])
                axes.minorticks_off()
            axes.set_xlabel(f"{kind.replace('-', ' ')}, {found['unit']}")
            axes.set_ylabel("share of rows")
            axes.grid(alpha=0.3)
            if kind == first:
                axes.legend(frameon=True, loc="lower center", borderaxespad=0.1)

    split = f" of the split {document['split']}" if document["split"] else ""
    return draw(
        paint,
        width=7.6,
        height=6.6,
        title=f"{subject.title}: moved pictures, {document['num_rows']:,} rows{split}",
        note="Same decision: as for the unmoved picture, right or wrong. What comes in from outside repeats the border. "
        "Whether the score should stay is for the task to say: a six turned round is a nine.",
    )


def _table(document: dict[str, Any]) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("move", "amount", "accuracy", "same decision"):
        table.add_column(name, justify="left" if name == "move" else "right")
    for kind, found in document["moves"].items():
        for place, amount in enumerate(found["amount"]):
            numbers = (f"{found[key][place]:.4f}" for key in ("accuracy", "same"))
            table.add_row(kind if place == 0 else "", f"{amount:g} {found['unit']}", *numbers)
    return titled(document["shown"], table)
