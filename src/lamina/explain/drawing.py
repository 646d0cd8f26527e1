"""What the views' pictures share: one look, images of any number of axes, signed and positive maps, a PNG at the end.

A picture says itself what it shows: a title, the names of the classes, units at the colour bars, and a note below.
"""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "CLASS_COLOURS",
    "SEQUENTIAL",
    "SIGNED",
    "as_picture",
    "bare",
    "draw",
    "largest",
    "shorten",
    "show_image",
    "show_map",
    "to_shares",
]

SIGNED: Final = "RdBu_r"
SEQUENTIAL: Final = "viridis"
# Okabe and Ito's colours, told apart by all common forms of colour blindness, then others for more classes.
CLASS_COLOURS: Final = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#000000",
    "#B8A800",
    "#7F3C8D",
    "#8C8C8C",
)
_DPI: Final = 110
_STYLE: Final = {
    "text.parse_math": False,  # a class may be called $x$
    "font.size": 8.0,
    "axes.titlesize": 8.0,
    "axes.labelsize": 8.0,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "legend.fontsize": 7.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
}

Floats = NDArray[np.floating[Any]]


def draw(paint: Callable[[Figure], None], *, width: float, height: float, title: str, note: str = "") -> bytes:
    """A PNG of what `paint` puts into an empty figure.

    Args:
        width, height: In inches, without title and note, for which room is added.
        title: Above; wrapped.
        note: Below, in small letters; wrapped.
    """
    import matplotlib  # noqa: PLC0415 (heavy, and needed only where something is drawn)
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    width = max(width, 4.0)
    titles = textwrap.wrap(title, int(width * 13))
    notes = textwrap.wrap(note, int(width * 18))
    height += 0.2 * len(titles) + 0.15 * len(notes)
    style: Any = _STYLE
    with matplotlib.rc_context(style), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a letter that the font lacks is drawn as a box
        figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        figure.suptitle("\n".join(titles), fontsize=10)
        paint(figure)
        if notes:
            figure.supxlabel("\n".join(notes), fontsize=7, color="#444444")
        buffer = io.BytesIO()
        canvas.print_png(buffer)
    return buffer.getvalue()


def shorten(text: str, most: int = 16) -> str:
    """The text, cut in the middle where it is long, so that both ends can be read."""
    if len(text) <= most:
        return text
    head = (most - 1) // 2
    return f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"


def bare(axes: Axes) -> Axes:
    """Axes without ticks and frame; a label at the side stays."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def to_shares(image: Floats, *, low: Floats | float | None = None, high: Floats | float | None = None) -> Floats:
    """Values as shares from 0 (`low`) to 1 (`high`), by default the smallest and the largest there are."""
    low = image.min() if low is None else low
    high = image.max() if high is None else high
    return np.clip((image - low) / np.maximum(np.asarray(high - low, dtype=np.float64), 1e-12), 0.0, 1.0)


def as_picture(values: Floats) -> Floats:
    """An array (C, *positions) as (C, H, W): a line gets height 1, of a volume the middle slice is taken."""
    if values.ndim == 2:
        return values[:, None, :]
    while values.ndim > 3:
        values = values[:, values.shape[1] // 2]
    return values


def show_image(axes: Axes, image: Floats, *, extent: tuple[float, float, float, float] | None = None) -> None:
    """An image (C, *positions) of shares in [0, 1]: three channels in colour, otherwise the mean over the channels in grey.

    A line (C, L) is drawn as curves, one per channel.
    """
    if image.ndim == 2:
        for channel in image[:6]:
            axes.plot(np.arange(image.shape[1]), channel, linewidth=0.8)
        axes.set_yticks([])
        return
    picture = as_picture(image)
    bare(axes)
    if len(picture) == 3:
        axes.imshow(picture.transpose(1, 2, 0), interpolation="nearest", extent=extent)
    else:
        axes.imshow(picture.mean(0), cmap="gray", vmin=0, vmax=1, interpolation="nearest", extent=extent)


def show_map(axes: Axes, values: Floats, *, scale: float, signed: bool, alpha: float | Floats | None = None) -> Any:
    """A map over positions, without channels: signed ones from blue (-scale) over white to red, others from 0 to `scale`.

    A map over a line is a strip. Returns the image, for a colour bar.
    """
    picture = as_picture(values[None])[0]
    scale = scale or 1.0
    bare(axes)
    return axes.imshow(
        picture,
        cmap=SIGNED if signed else SEQUENTIAL,
        vmin=-scale if signed else 0.0,
        vmax=scale,
        interpolation="nearest",
        aspect="auto" if picture.shape[0] == 1 < picture.shape[1] else "equal",
        alpha=alpha,
    )


def largest(values: Floats) -> float:
    """The largest magnitude that is finite; 1 where all is zero, so that it can be divided by."""
    finite = np.abs(values[np.isfinite(values)])
    return float(finite.max(initial=0.0)) or 1.0
