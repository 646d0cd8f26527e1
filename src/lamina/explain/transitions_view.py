"""View `transitions`: what a tagger's conditional random field has learned about which tag follows which.

Scores are logarithms of factors: of two sequences that differ in one pair of neighbours, the one whose pair scores 1 higher is 2.7
times as probable, the network's own scores being equal. A row is the tag before, a column the tag behind; `start` and `end` stand for the
borders of the sentence. Adding a number to all scores changes nothing, so that only differences mean something: what is shown has
the mean 0.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.console import RenderableType
from rich.table import Table

from lamina.core.config import Config, Field
from lamina.core.registry import register
from lamina.explain.drawing import draw, largest, shorten, show_map
from lamina.explain.views import Subject, ViewResult, refusal, titled
from lamina.nn.crf import CRF

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["TransitionsConfig", "transitions_view"]

_INCH_PER_TAG: Final = 0.28


class TransitionsConfig(Config):
    """Options of the view `transitions`."""

    most: int = Field(10, description="Pairs listed at each end: the likeliest and the least likely.", ge=1, le=1000)


@register(
    "view",
    "transitions",
    config=TransitionsConfig,
    source="Lafferty, McCallum, Pereira (2001), Conditional Random Fields; Lample et al. (2016), arXiv:1603.01360",
    example="lamina inspect RUN transitions --output transitions.png",
)
def transitions_view(subject: Subject, config: TransitionsConfig) -> ViewResult:
    """Which tag follows which, as a tagger's conditional random field has learned it.

    Raises:
        UsageError: The model has no conditional random field.
    """
    crf = getattr(subject.model, "crf", None)
    if not isinstance(crf, CRF):
        raise refusal(
            "transitions",
            f"{type(subject.model).__name__} decides for each place by itself: it has no conditional random field.",
            mend="train a tagger with one: lamina train conll2000-bilstm-crf --data PATH",
        )
    column = subject.spec.columns.get("tags") if subject.spec is not None else None
    known = (column.classes or ()) if column is not None else ()
    tags = list(known) if len(known) == crf.num_tags else [str(number) for number in range(crf.num_tags)]
    scores = np.full((crf.num_tags + 1, crf.num_tags + 1), np.nan, dtype=np.float32)  # from start; to end
    scores[1:, :-1] = crf.transitions.detach().float().cpu().numpy()
    scores[0, :-1] = crf.start.detach().float().cpu().numpy()
    scores[1:, -1] = crf.end.detach().float().cpu().numpy()
    scores -= np.nanmean(scores)
    before, after = ["start", *tags], [*tags, "end"]
    found = [(float(scores[place]), place) for place in zip(*np.isfinite(scores).nonzero(), strict=True)]
    found.sort(key=lambda pair: (-pair[0], pair[1]))
    pairs = [{"before": before[row], "after": after[place], "score": score} for score, (row, place) in found]
    document = {
        "model": subject.title,
        "shown": "scores of pairs of neighbouring tags, with the mean 0; their differences are logarithms of factors",
        "tags": tags,
        "scale": float(np.nanmax(np.abs(scores))),
        "likeliest": pairs[: config.most],
        "least_likely": pairs[::-1][: config.most],
        "scores": {
            one: {
                other: float(scores[row, place]) for place, other in enumerate(after) if np.isfinite(scores[row, place])
            }
            for row, one in enumerate(before)
        },
    }
    shown = np.nan_to_num(scores)
    figure = partial(_draw, shown, before, after, title=subject.title)
    return ViewResult(document, _table(document), figure, {"scores": shown})


def _draw(scores: NDArray[np.float32], before: list[str], after: list[str], *, title: str) -> bytes:
    """A PNG: a square per pair, red where the pair is likely, blue where it is not."""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        image = show_map(axes, scores, scale=largest(scores), signed=True)
        axes.set_xticks(range(len(after)), [shorten(tag) for tag in after], rotation=90, fontsize=7)
        axes.set_yticks(range(len(before)), [shorten(tag) for tag in before], fontsize=7)
        axes.set_xlabel("tag behind")
        axes.set_ylabel("tag before")
        figure.colorbar(image, ax=axes, shrink=0.8).set_label("score")

    side = max(3.0, _INCH_PER_TAG * len(before))
    return draw(
        paint,
        width=side + 2.2,
        height=side + 1.4,
        title=f"{title}: which tag follows which",
        note="Red pairs are likely, blue ones are not; start and end are the borders of the sentence.",
    )


def _table(document: dict[str, Any]) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title, side in (("likeliest", "left"), ("score", "right"), ("  least likely", "left"), ("score", "right")):
        table.add_column(title, justify="right" if side == "right" else "left")
    for first, last in zip(document["likeliest"], document["least_likely"], strict=True):
        table.add_row(
            f"{first['before']} → {first['after']}",
            f"{first['score']:+.2f}",
            f"  {last['before']} → {last['after']}",
            f"{last['score']:+.2f}",
        )
    return titled(f"{document['model']}: scores of neighbouring tags", table)
