"""View `projection`: word vectors in two dimensions, by principal components and by t-SNE.

Principal components keep straight distances as well as two axes can, and say how much of the variance that is: of word vectors
little. t-SNE keeps neighbours; distances between groups, their size and density mean little.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from lamina.core.config import Config, Field
from lamina.core.errors import UsageError
from lamina.core.registry import register
from lamina.explain.drawing import CLASS_COLOURS, draw, shorten
from lamina.explain.embedding import principal_components, tsne
from lamina.explain.views import Subject, ViewResult, titled
from lamina.explain.word_table import word_table
from lamina.tasks.word_evaluation import unit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ProjectionConfig", "projection_view"]

_LEAST: Final = 5
_MOST_NAMED: Final = 400


class ProjectionConfig(Config):
    """Options of the view `projection`."""

    words: str = Field("", description="Words, divided by spaces; by default the most frequent.", max_length=100_000)
    method: Literal["both", "pca", "tsne"] = Field("both", description="Which projection.")
    most: int = Field(200, description="How many of the most frequent words, where none are given.", ge=5, le=5000)
    skip: int = Field(50, description="Of these, leave the first so many out: they are grammar mostly.", ge=0)
    perplexity: float = Field(
        30.0, description="t-SNE: about how many neighbours count; at most a third of the words.", gt=1
    )
    seed: int = Field(0, description="Keys t-SNE.")


@register(
    "view",
    "projection",
    config=ProjectionConfig,
    source="van der Maaten, Hinton (2008), Visualizing Data using t-SNE, JMLR 9; Pearson (1901), doi:10.1080/14786440109462720",
    example="lamina inspect runs/word2vec-sg-1 projection --output words.png",
    reads="model",
)
def projection_view(subject: Subject, config: ProjectionConfig) -> ViewResult:
    """Word vectors, scaled to length 1, in two dimensions.

    `arrays` holds `vectors` (N, D), `pca` and `tsne` (N, 2).

    Raises:
        UsageError: The model has no vectors of words, there are too few words, or one is not in the vocabulary.
    """
    table = word_table(subject, "projection")
    places = [table.number(word, view="projection") for word in dict.fromkeys(config.words.split())]
    if not places:
        skip = min(config.skip, max(len(table.words) - config.most, 0))
        places = list(range(skip, min(skip + config.most, len(table.words))))
    if len(places) < _LEAST:
        raise UsageError(
            f"There are {len(places)} words.",
            where="view projection, view.words",
            accepts=f"at least {_LEAST} words",
            mend="give more words, or none for the most frequent ones",
        )
    words = [table.words[place] for place in places]
    vectors = unit(table.vectors[places]).double().numpy()
    document: dict[str, Any] = {
        "model": subject.title,
        "shown": f"vectors of {len(words):,} words, scaled to length 1",
        "words": words,
    }
    shown: dict[str, NDArray[np.float64]] = {}
    if config.method in ("both", "pca"):
        shown["pca"], shares = principal_components(vectors)
        document["explained_variance"] = shares.tolist()
    if config.method in ("both", "tsne"):
        perplexity = min(config.perplexity, (len(words) - 1) / 3)
        shown["tsne"] = tsne(vectors, perplexity=perplexity, seed=config.seed)
        document["perplexity"] = perplexity
    document["points"] = {method: points.tolist() for method, points in shown.items()}
    figure = partial(_draw, subject, document, shown)
    return ViewResult(document, _table(document), figure, {"vectors": vectors, **shown})


def _table(document: dict[str, Any]) -> Any:
    table = Table(box=None, pad_edge=False)
    table.add_column("word")
    for method in document["points"]:
        table.add_column(method, justify="right")
    for place, word in enumerate(document["words"][:40]):
        cells = (f"{points[place][0]:.2f}, {points[place][1]:.2f}" for points in document["points"].values())
        table.add_row(word, *cells)
    if len(document["words"]) > 40:
        table.add_row(f"… {len(document['words']) - 40} more; --json and --output FILE have all", style="dim")
    return titled(f"{document['model']}: {document['shown']}", table)


def _draw(subject: Subject, document: dict[str, Any], shown: dict[str, NDArray[np.float64]]) -> bytes:
    words = document["words"]

    def paint(figure: Figure) -> None:
        grid = figure.subplots(1, len(shown), squeeze=False)[0]
        for axes, (method, points) in zip(grid, shown.items(), strict=True):
            axes.scatter(points[:, 0], points[:, 1], s=4, color=CLASS_COLOURS[0], alpha=0.4, linewidths=0)
            for word, (x, y) in zip(words[:_MOST_NAMED], points, strict=False):
                axes.annotate(shorten(word, 20), (x, y), ha="center", va="center", fontsize=6)
            axes.set_xticks([])
            axes.set_yticks([])
            if method == "pca":
                shares = [*document["explained_variance"], 0.0][:2]
                axes.set_title("principal components")
                axes.set_xlabel(f"first, {shares[0]:.0%} of the variance")
                axes.set_ylabel(f"second, {shares[1]:.0%}")
            else:
                axes.set_title(f"t-SNE, perplexity {document['perplexity']:.3g}")
                axes.set_xlabel("no units; only neighbours mean something")

    return draw(
        paint,
        width=6.0 * len(shown),
        height=5.4,
        title=f"{subject.title}: {document['shown']}",
        note="Principal components show what two axes can of the straight distances. In t-SNE distances between groups, their size and "
        "density mean little.",
    )
