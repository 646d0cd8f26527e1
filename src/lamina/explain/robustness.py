"""View `robustness`: the accuracy under covering, clutter, darkness and noise, level by level.

Each level is judged on several keyed draws; the curve is their mean and the band reaches from the lowest to the highest.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.console import RenderableType
from rich.table import Table
from torch import Tensor

from lamina.core import draws
from lamina.core.config import Config, Field
from lamina.core.registry import register
from lamina.explain.disturbances import DISTURBANCES, Draw
from lamina.explain.drawing import bare, draw, show_image, to_shares
from lamina.explain.judged import as_given, choose_rows, judge, judged_rows, pixel_maximum
from lamina.explain.views import Subject, ViewResult, titled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["RobustnessConfig", "robustness_view"]


class RobustnessConfig(Config):
    """Options of the view `robustness`."""

    occlusion: tuple[float, ...] = Field(
        DISTURBANCES["occlusion"].levels, description="Shares of the area under a grey square."
    )
    clutter: tuple[float, ...] = Field(
        DISTURBANCES["clutter"].levels, description="Numbers of bright or dark patches, a fifth of the side each."
    )
    light: tuple[float, ...] = Field(DISTURBANCES["light"].levels, description="Brightness, times the original.")
    noise: tuple[float, ...] = Field(
        DISTURBANCES["noise"].levels, description="Standard deviations of the noise as shares of the range."
    )
    draws: int = Field(3, description="Keyed draws per level.", ge=1, le=100)
    most: int = Field(500, description="Rows judged at most, drawn by seed.", ge=1)
    seed: int = Field(0, description="Keys the choice of rows and every draw.")


@register(
    "view",
    "robustness",
    config=RobustnessConfig,
    source="Hendrycks, Dietterich (2019), arXiv:1903.12261; occlusion after Zeiler, Fergus (2014), arXiv:1311.2901",
    example="lamina inspect runs/digits-1 robustness --output robustness.png",
    reads="rows",
)
def robustness_view(subject: Subject, config: RobustnessConfig) -> ViewResult:
    """Accuracy when pictures are partly covered, cluttered, darkened or noisy, by level.

    `arrays` holds, per disturbance, `KIND/level` (levels,) and `KIND/accuracy` (levels, draws).

    Raises:
        UsageError: No labelled rows, or rows that are not images.
    """
    pipeline, columns = judged_rows(subject, "robustness", images=True)
    rows = choose_rows(columns, config.most, seed=config.seed)
    batch = columns.batch(rows)
    images, maximum = batch["image"].float(), pixel_maximum(pipeline, batch["image"])
    plain = judge(pipeline, batch, rows)
    kinds: dict[str, Any] = {}
    for kind, disturbance in DISTURBANCES.items():
        levels: Sequence[float] = getattr(config, kind)
        scores: list[list[float]] = []
        for level in levels:
            if level == disturbance.levels[0]:
                scores.append([plain.accuracy])
                continue
            scores.append(
                [
                    judge(
                        pipeline,
                        {**batch, "image": _disturbed(images, kind, level, n, config, rows, maximum, batch)},
                        rows,
                    ).accuracy
                    for n in range(config.draws if disturbance.is_random else 1)
                ]
            )
        kinds[kind] = {
            "what": disturbance.what,
            "level": list(levels),
            "accuracy": [float(np.mean(found)) for found in scores],
            "lowest": [min(found) for found in scores],
            "highest": [max(found) for found in scores],
        }
    document = {
        "model": subject.title,
        "shown": "accuracy",
        "split": subject.split,
        "num_rows": len(rows),
        "draws": config.draws,
        "accuracy": plain.accuracy,
        "disturbances": kinds,
        "means": "accuracy under these made disturbances; real ones differ, and so does what a new camera brings",
    }
    arrays: dict[str, NDArray[Any]] = {
        f"{kind}/{name}": np.asarray(found[name])
        for kind, found in kinds.items()
        for name in ("level", "accuracy", "lowest", "highest")
    }
    example = slice(1 % len(images), 1 % len(images) + 1)
    examples = {
        kind: [
            _disturbed(images[example], kind, level, 0, config, rows[example], maximum, None)
            for level in (found["level"][len(found["level"]) // 2], found["level"][-1])
        ]
        for kind, found in kinds.items()
    }
    figure = partial(_draw, subject, images[example], examples, maximum, document)
    return ViewResult(document, _table(document), figure, arrays)


def _disturbed(
    images: Tensor,
    kind: str,
    level: float,
    number: int,
    config: RobustnessConfig,
    rows: Tensor,
    maximum: float,
    like: dict[str, Tensor] | None,
) -> Tensor:
    """Disturbed pictures, in the element type of `like`'s."""
    key = draws.stream_key(config.seed, "sample", "robustness", kind, str(level), number)
    made = DISTURBANCES[kind].apply(images, level, Draw(key, rows, maximum))
    return made if like is None else as_given(made, like["image"])


def _draw(
    subject: Subject, image: Tensor, examples: dict[str, list[Tensor]], maximum: float, document: dict[str, Any]
) -> bytes:
    chance = 1 / max(len(subject.spec.classes) if subject.spec is not None else 0, 2)

    def paint(figure: Figure) -> None:
        parts = np.asarray(figure.subfigures(2, 2)).flat
        first = next(iter(document["disturbances"]))
        for part, (kind, found) in zip(parts, document["disturbances"].items(), strict=True):
            grid = part.add_gridspec(2, 3, height_ratios=(1, 2.6))
            levels = found["level"]
            shown = zip([image, *examples[kind]], [levels[0], levels[len(levels) // 2], levels[-1]], strict=True)
            for place, (picture, level) in enumerate(shown):
                axes = bare(part.add_subplot(grid[0, place]))
                show_image(axes, to_shares(picture[0].double().numpy(), low=0.0, high=maximum))
                axes.set_title(f"{level:g}")
            axes = part.add_subplot(grid[1, :])
            axes.fill_between(levels, found["lowest"], found["highest"], color="#0072B2", alpha=0.2, linewidth=0)
            axes.plot(levels, found["accuracy"], "o-", color="#0072B2", markersize=3.5, label="accuracy")
            axes.axhline(chance, color="#888888", linewidth=0.8, linestyle=":", label=f"chance {chance:.2g}")
            axes.set_ylim(-0.03, 1.03)
            if levels[0] > levels[-1]:
                axes.invert_xaxis()  # worse to the right, as in the others
            axes.set_xlabel(f"{kind}: {found['what']}")
            axes.set_ylabel("accuracy")
            axes.grid(alpha=0.3)
            if kind == first:
                axes.legend(frameon=True, loc="lower left", borderaxespad=0.1)

    split = f" of the split {document['split']}" if document["split"] else ""
    return draw(
        paint,
        width=7.6,
        height=6.6,
        title=f"{subject.title}: disturbed pictures, {document['num_rows']:,} rows{split}",
        note=f"Mean over {document['draws']} keyed draws per level; the band reaches from the lowest to the highest. Made "
        "disturbances: real ones differ.",
    )


def _table(document: dict[str, Any]) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("disturbance", "level", "accuracy", "lowest", "highest"):
        table.add_column(name, justify="left" if name == "disturbance" else "right")
    for kind, found in document["disturbances"].items():
        for place, level in enumerate(found["level"]):
            numbers = (f"{found[key][place]:.4f}" for key in ("accuracy", "lowest", "highest"))
            table.add_row(kind if place == 0 else "", f"{level:g}", *numbers)
    return titled(document["shown"], table)
