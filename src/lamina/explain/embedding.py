"""View `embedding`: the features of many rows in two dimensions, by principal components and by t-SNE.

Features are what stands before the last linear layer. Principal components keep straight distances as well as two axes
can, and say how much of the variance that is. t-SNE keeps neighbours: who is next to whom means something, how far groups
lie apart, how large and how dense they are does not. The share of rows whose nearest neighbour in the full feature space is
of the same class is given as a number that no projection distorts.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import RenderableType
from rich.table import Table
from torch import Tensor

from lamina.core import draws
from lamina.core.config import Config, Field
from lamina.core.errors import UsageError
from lamina.core.registry import register
from lamina.data.columns import batch_to
from lamina.explain.activations import penultimate
from lamina.explain.drawing import CLASS_COLOURS, draw, shorten
from lamina.explain.judged import choose_rows, judge, judged_rows
from lamina.explain.views import Subject, ViewResult, refusal, titled
from lamina.tasks.inputs import TOKENS, model_input, model_inputs
from lamina.tasks.pipeline import Pipeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["EmbeddingConfig", "embedding_view", "moved_apart", "principal_components", "same_class_neighbours", "tsne"]

_MOST_NAMED: Final = 20
_CHUNK: Final = 256
# Of a name's box beside its text, of a letter and of the box's height, as shares of the axes as `_draw` makes them.
_NAME_MARGIN: Final = 0.035
_LETTER_WIDTH: Final = 0.018
_NAME_HEIGHT: Final = 0.058

Floats = NDArray[np.float64]


class EmbeddingConfig(Config):
    """Options of the view `embedding`."""

    method: Literal["both", "pca", "tsne"] = Field("both", description="Which projection.")
    most: int = Field(1000, description="Rows shown at most, drawn by seed.", ge=8, le=20_000)
    perplexity: float = Field(
        30.0, description="t-SNE: about how many neighbours count; at most a third of the rows.", gt=1
    )
    seed: int = Field(0, description="Keys the choice of rows and t-SNE.")


@register(
    "view",
    "embedding",
    config=EmbeddingConfig,
    source="van der Maaten, Hinton (2008), Visualizing Data using t-SNE, JMLR 9; Pearson (1901), doi:10.1080/14786440109462720",
    example="lamina inspect runs/digits-1 embedding --output embedding.png",
    reads="rows",
)
def embedding_view(subject: Subject, config: EmbeddingConfig) -> ViewResult:
    """The features of a split's rows in two dimensions, coloured by class: principal components and t-SNE.

    `arrays` holds `features` (N, F), `pca` and `tsne` (N, 2), `label`, `predicted` and `row` (N,).

    Raises:
        UsageError: No labelled rows, too few of them, or a model without a last linear layer (kNN).
    """
    pipeline, columns = judged_rows(subject, "embedding")
    rows = choose_rows(columns, config.most, seed=config.seed)
    batch = columns.batch(rows)
    if len(rows) < 8:
        raise UsageError(
            f"There are {len(rows)} rows.",
            where="view embedding",
            accepts="at least 8 rows; some hundreds show more",
            mend="give more rows with --data PATH",
        )
    features = _features(pipeline, batch)
    judged = judge(pipeline, batch, rows)
    labels = judged.labels.numpy()
    shown: dict[str, Floats] = {}
    document: dict[str, Any] = {
        "model": subject.title,
        "shown": f"the {features.shape[1]} features before the last layer",
        "split": subject.split,
        "num_rows": len(rows),
        "classes": list(judged.classes),
        "accuracy": judged.accuracy,
        "same_class_neighbours": same_class_neighbours(features, labels),
    }
    if config.method in ("both", "pca"):
        shown["pca"], shares = principal_components(features)
        document["explained_variance"] = shares.tolist()
    if config.method in ("both", "tsne"):
        perplexity = min(config.perplexity, (len(rows) - 1) / 3)
        shown["tsne"] = tsne(features, perplexity=perplexity, seed=config.seed)
        document["perplexity"] = perplexity
    document["means"] = (
        "PCA: straight distances, as far as two axes can. t-SNE: neighbours; distances between groups, their size and "
        "density mean little."
    )
    figure = partial(_draw, subject, shown, labels, judged.predicted.numpy(), document)
    arrays: dict[str, NDArray[Any]] = {
        "features": features,
        **shown,
        "label": labels,
        "predicted": judged.predicted.numpy(),
        "row": rows.numpy(),
    }
    return ViewResult(document, _table(document), figure, arrays)


def principal_components(features: Floats, *, num: int = 2) -> tuple[Floats, Floats]:
    """The first principal components of rows (N, F), and the share of the variance that each explains.

    Signs are fixed: the largest loading of each component is positive.
    """
    centred = features - features.mean(axis=0)
    left, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    num = min(num, len(sizes))
    signs = np.sign(axes[np.arange(num), np.abs(axes[:num]).argmax(axis=1)])
    signs[signs == 0] = 1.0
    points = np.zeros((len(features), max(num, 2)))
    points[:, :num] = left[:, :num] * sizes[:num] * signs
    total = float((sizes**2).sum()) or 1.0
    shares: Floats = sizes[:num] ** 2 / total
    return points, shares


def same_class_neighbours(features: Floats, labels: NDArray[np.integer[Any]]) -> float:
    """The share of rows whose nearest other row (Euclidean) is of the same class."""
    points = torch.from_numpy(features)
    same = 0
    for start in range(0, len(points), _CHUNK):
        distances = torch.cdist(points[start : start + _CHUNK], points)
        place = torch.arange(len(distances))
        distances[place, place + start] = float("inf")
        nearest = distances.argmin(dim=1).numpy()
        same += int((labels[nearest] == labels[start : start + len(nearest)]).sum())
    return same / len(points)


def _features(pipeline: Pipeline, batch: dict[str, Tensor]) -> Floats:
    preprocessing = pipeline.preprocessing.to(pipeline.device)
    parts = []
    for start in range(0, len(batch["row"]), _CHUNK):
        raw = {name: tensor[start : start + _CHUNK] for name, tensor in batch.items()}
        with torch.no_grad():
            prepared = preprocessing(batch_to(raw, pipeline.device))
            others = {name: value for name, value in model_inputs(pipeline.model, prepared).items() if name != TOKENS}
            found = penultimate(pipeline.model, model_input(prepared), **others)
        if found is None:
            raise refusal(
                "embedding",
                f"{type(pipeline.model).__name__} has no last linear layer, so it has no features of its own.",
                mend="use a network; for kNN the features are the inputs themselves",
                usable=["layers", "mistakes", "invariance", "robustness"],
            )
        parts.append(found.cpu().double())
    features: Floats = torch.cat(parts).numpy()
    return features


def tsne(features: Floats, *, perplexity: float, seed: int) -> Floats:
    """Rows (N, F) in two dimensions by t-SNE, begun from principal components: (N, 2)."""
    from sklearn.manifold import TSNE  # noqa: PLC0415 (heavy, and needed only here)

    state = draws.stream_key(seed, "sample", "tsne") & 0x7FFFFFFF
    spread = float(features.std()) or 1.0
    points: Floats = TSNE(
        n_components=2, perplexity=perplexity, init="pca", learning_rate="auto", random_state=state
    ).fit_transform(features / spread)
    return points.astype(np.float64)


def moved_apart(places: Floats, names: Sequence[str]) -> Floats:
    """Places of names, as shares of the axes (N, 2), moved up and down until no name lies on another.

    Names are taken from the lowest to the highest; each one that would lie on another goes above it.
    """
    moved = places.copy()
    widths = [_NAME_MARGIN + _LETTER_WIDTH * len(name) for name in names]
    placed: list[int] = []
    for one in np.argsort(places[:, 1], kind="stable").tolist():
        for other in sorted(placed, key=lambda number: float(moved[number, 1])):
            beside = abs(moved[one, 0] - moved[other, 0]) >= (widths[one] + widths[other]) / 2
            if not beside and abs(moved[one, 1] - moved[other, 1]) < _NAME_HEIGHT:
                moved[one, 1] = moved[other, 1] + _NAME_HEIGHT
        placed.append(one)
    return moved


def _draw(
    subject: Subject,
    shown: dict[str, Floats],
    labels: NDArray[np.integer[Any]],
    predicted: NDArray[np.integer[Any]],
    document: dict[str, Any],
) -> bytes:
    classes: list[str] = document["classes"]

    def scatter(axes: Axes, points: Floats) -> None:
        wrong = labels != predicted
        for number in range(len(classes)):
            colour = CLASS_COLOURS[number % len(CLASS_COLOURS)]
            mine = labels == number
            if not mine.any():
                continue
            axes.scatter(points[mine & ~wrong, 0], points[mine & ~wrong, 1], s=9, color=colour, alpha=0.7, linewidths=0)
            axes.scatter(
                points[mine & wrong, 0],
                points[mine & wrong, 1],
                s=26,
                color=colour,
                marker="X",
                edgecolors="black",
                linewidths=0.6,
            )
        if len(classes) <= _MOST_NAMED:
            name_groups(axes, points)
        axes.set_xticks([])
        axes.set_yticks([])

    def name_groups(axes: Axes, points: Floats) -> None:
        present = [number for number in range(len(classes)) if (labels == number).any()]
        names = [shorten(classes[number]) for number in present]
        middles = np.array([np.median(points[labels == number], axis=0) for number in present])
        shares = axes.transAxes.inverted().transform(axes.transData.transform(middles))
        for number, name, (x, y) in zip(present, names, moved_apart(shares, names), strict=True):
            colour = CLASS_COLOURS[number % len(CLASS_COLOURS)]
            box = {"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": colour, "alpha": 0.85}
            style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8, "weight": "bold", "bbox": box}
            axes.text(x, y, name, transform=axes.transAxes, **style)

    def paint(figure: Figure) -> None:
        grid = figure.subplots(1, len(shown), squeeze=False)[0]
        for axes, (method, points) in zip(grid, shown.items(), strict=True):
            scatter(axes, points)
            if method == "pca":
                shares = [*document["explained_variance"], 0.0][:2]
                axes.set_title("principal components")
                axes.set_xlabel(f"first, {shares[0]:.0%} of the variance")
                axes.set_ylabel(f"second, {shares[1]:.0%}")
            else:
                axes.set_title(f"t-SNE, perplexity {document['perplexity']:.3g}")
                axes.set_xlabel("no units; only neighbours mean something")

    split = f" of the split {subject.split}" if subject.split else ""
    return draw(
        paint,
        width=4.2 * len(shown),
        height=3.9,
        title=f"{subject.title}: {document['shown']}, {document['num_rows']:,} rows{split}",
        note=f"Colour and name: true class; crosses were judged wrongly (accuracy {document['accuracy']:.1%}). The nearest "
        f"row in the full space is of the same class for {document['same_class_neighbours']:.1%}. In t-SNE distances "
        "between groups, their size and density mean little.",
    )


def _table(document: dict[str, Any]) -> RenderableType:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_row("rows", f"{document['num_rows']:,} {document['split']}")
    table.add_row("accuracy", f"{document['accuracy']:.4f}")
    table.add_row("nearest row of the same class", f"{document['same_class_neighbours']:.4f}")
    if "explained_variance" in document:
        table.add_row("variance on the first two axes", f"{sum(document['explained_variance']):.4f}")
    return titled(document["shown"], table)
