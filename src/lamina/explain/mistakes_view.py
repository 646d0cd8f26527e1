"""View `mistakes`: rows that were judged wrongly, rows that could have gone either way, and labels that are likely wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from torch import Tensor

from lamina.core.config import Config, Field
from lamina.core.registry import register
from lamina.data.columns import Columns
from lamina.explain.confident_learning import doubt_labels
from lamina.explain.drawing import bare, draw, shorten, show_image, to_shares
from lamina.explain.judged import Judged, choose_rows, judge, judged_rows
from lamina.explain.views import Subject, ViewResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["MistakesConfig", "mistakes_view"]

_COLUMNS: Final = 8
_GROUPS: Final = {
    "wrong": "Wrong, the surest first",
    "unsure": "Unsure: the two most probable classes nearly tie",
    "label_doubts": "Labels that are likely wrong, the likeliest first",
}


class MistakesConfig(Config):
    """Options of the view `mistakes`."""

    most: int = Field(16, description="Rows of each kind at most.", ge=1, le=500)
    most_rows: int = Field(50_000, description="Rows judged at most, drawn by seed.", ge=1)
    seed: int = Field(0, description="Keys the choice of rows.")


@register(
    "view",
    "mistakes",
    config=MistakesConfig,
    source="Northcutt, Jiang, Chuang (2021), arXiv:1911.00068 (likely wrong labels)",
    example="lamina inspect runs/digits-1 mistakes --output mistakes.png",
    reads="rows",
)
def mistakes_view(subject: Subject, config: MistakesConfig) -> ViewResult:
    """Rows that were judged wrongly, unsure ones, and labels that are likely wrong, as pictures or a table.

    `arrays` holds `row`, `label`, `predicted` (N,) and `probabilities` (N, C).

    Raises:
        UsageError: No labelled rows, or no classes.
    """
    pipeline, columns = judged_rows(subject, "mistakes")
    rows = choose_rows(columns, config.most_rows, seed=config.seed)
    judged = _judge_all(pipeline, columns, rows)
    doubts = doubt_labels(judged.probs, judged.labels)
    two = judged.probs.topk(min(2, judged.probs.shape[1]), dim=1).values
    margins = two[:, 0] - two[:, -1]
    sureness = judged.probs.gather(1, judged.predicted.unsqueeze(1)).squeeze(1)
    wrong = (judged.predicted != judged.labels).nonzero().squeeze(1)
    chosen = {
        "wrong": wrong[sureness[wrong].argsort(descending=True, stable=True)],
        "unsure": margins.argsort(stable=True),
        "label_doubts": doubts.rows,
    }
    groups = {
        kind: [_describe(judged, columns, int(place)) for place in places[: config.most]]
        for kind, places in chosen.items()
    }
    for item, suggested, margin in zip(groups["label_doubts"], doubts.suggested, doubts.margin, strict=False):
        item.update(suggested=judged.classes[int(suggested)], margin=float(margin))
    in_sample = subject.split == "train"
    document = {
        "model": subject.title,
        "shown": "probabilities of the classes",
        "split": subject.split,
        "num_rows": len(rows),
        "accuracy": judged.accuracy,
        "num_wrong": len(wrong),
        "num_label_doubts": len(doubts.rows),
        "out_of_sample": not in_sample,
        **groups,
        "means": "the model was trained on these rows, so its doubts about labels mean little"
        if in_sample
        else "a label in doubt is one to look at again: the model may be wrong where the label is right",
    }
    shown = next((name for name in ("image", "signal", "volume") if name in columns), None)
    figure = partial(_draw, subject, columns, shown, document) if shown is not None else None
    arrays: dict[str, NDArray[Any]] = {
        "row": rows.numpy(),
        "label": judged.labels.numpy(),
        "predicted": judged.predicted.numpy(),
        "probabilities": judged.probs.numpy(),
    }
    return ViewResult(document, _render(document), figure, arrays)


def _judge_all(pipeline: Any, columns: Columns, rows: Tensor) -> Judged:
    """In pieces, so that rows that stay in their files are not held together."""
    parts = [judge(pipeline, columns.batch(piece), piece) for piece in rows.split(1024)]
    return Judged(
        rows,
        torch.cat([part.probs for part in parts]),
        torch.cat([part.predicted for part in parts]),
        torch.cat([part.labels for part in parts]),
        parts[0].classes,
    )


def _describe(judged: Judged, columns: Columns, place: int) -> dict[str, Any]:
    row = int(judged.rows[place])
    true, predicted = int(judged.labels[place]), int(judged.predicted[place])
    return {
        "row": row,
        "origin": columns.origin[row] if columns.origin is not None else None,
        "true": judged.classes[true],
        "predicted": judged.classes[predicted],
        "probability": float(judged.probs[place, predicted]),
        "probability_of_label": float(judged.probs[place, true]),
    }


def _draw(subject: Subject, columns: Columns, column: str, document: dict[str, Any]) -> bytes:
    groups = [(kind, document[kind]) for kind in _GROUPS if document[kind]]
    spec = subject.preprocessing.input_spec.columns.get(column) if subject.preprocessing is not None else None
    heights = [math.ceil(len(items) / _COLUMNS) for _, items in groups]

    def paint(figure: Figure) -> None:
        parts = np.atleast_1d(np.asarray(figure.subfigures(len(groups), 1, height_ratios=heights)))
        for part, (kind, items), lines in zip(parts.flat, groups, heights, strict=True):
            part.suptitle(_GROUPS[kind], fontsize=9, x=0.01, ha="left", weight="bold")
            grid = part.subplots(lines, _COLUMNS, squeeze=False)
            pixels = columns.batch(torch.tensor([item["row"] for item in items]))[column]
            for place, axes in enumerate(grid.flat):
                bare(axes)
                if place < len(items):
                    show_image(axes, _shares(pixels[place], spec.maximum if spec is not None else None))
                    axes.set_title(_caption(kind, items[place]), fontsize=7)

    split = f" of the split {document['split']}" if document["split"] else ""
    return draw(
        paint,
        width=1.12 * _COLUMNS,
        height=1.5 * sum(heights) + 0.25 * len(groups),
        title=f"{subject.title}: {document['num_wrong']:,} of {document['num_rows']:,} rows{split} are wrong",
        note="Numbers are probabilities. " + document["means"][0].upper() + document["means"][1:] + ".",
    )


def _caption(kind: str, item: dict[str, Any]) -> str:
    true, predicted = shorten(item["true"], 12), shorten(item["predicted"], 12)
    if kind in ("wrong", "unsure"):
        return f"labelled {true}\nsaid {predicted} {item['probability']:.2f}"
    # A line each: names of a few letters more would run into the picture beside.
    return f"labelled {true}\nrather {shorten(item['suggested'], 12)}?\nits label {item['probability_of_label']:.2f}"


def _shares(pixels: Tensor, maximum: float | None) -> NDArray[np.floating[Any]]:
    high = maximum or (255.0 if pixels.dtype == torch.uint8 else None)
    return to_shares(pixels.double().numpy(), low=0.0 if high else None, high=high)


def _render(document: dict[str, Any]) -> RenderableType:
    parts: list[RenderableType] = []
    for kind, title in _GROUPS.items():
        items: Sequence[dict[str, Any]] = document[kind]
        table = Table(box=None, pad_edge=False, header_style="bold", title=title, title_justify="left")
        for name in ("row", "true", "predicted", "probability", "of the label"):
            table.add_column(name, justify="left" if name in ("row", "true", "predicted") else "right")
        for item in items:
            place = item["origin"] or str(item["row"])
            numbers = (f"{item[key]:.4f}" for key in ("probability", "probability_of_label"))
            table.add_row(place, item["true"], item["predicted"], *numbers)
        parts += [table if items else Text(f"{title}: none"), Text("")]
    total = f"{document['num_wrong']:,} of {document['num_rows']:,} rows are wrong; {document['num_label_doubts']:,} labels in doubt"
    return Group(*parts, Text(total), Text(document["means"], style="dim"))
