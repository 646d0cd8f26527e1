"""What a kernel does: a photograph under five small kernels that nobody trained.

Run: python examples/fixed_filters.py [PICTURE.png]

A convolution lays a small table of numbers over every place of an image, multiplies and adds up. Which numbers stand in the
table decides what comes out: an average blurs; a centre that outweighs its neighbours sharpens; left against right answers to
vertical edges, top against bottom to horizontal ones. A network learns such tables instead of being given them, and the first
ones it finds look much like these. The photograph comes with scikit-learn; nothing is downloaded.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.datasets import load_sample_image
from torch import Tensor, nn

from lamina.nn.convolution import create_convolution

# Sums of 1 keep the brightness, sums of 0 make an even surface black (grey in the picture, where edges have two signs).
KERNELS = {
    "blur: the average of 5x5": torch.full((5, 5), 1 / 25),
    "sharpen: more of itself, less of its neighbours": torch.tensor([[0.0, -1, 0], [-1, 5, -1], [0, -1, 0]]),
    "vertical edges: left against right": torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]),
    "horizontal edges: top against bottom": torch.tensor([[-1.0, -2, -1], [0, 0, 0], [1, 2, 1]]),
    "all edges: a place against those around it": torch.tensor([[-1.0, -1, -1], [-1, 8, -1], [-1, -1, -1]]),
}


def fixed_filter(kernel: Tensor) -> nn.Module:
    """A convolution of one channel whose weights are given and never trained.

    "same" padding keeps the size; the zeros around the image are why a frame of edges appears in it.
    """
    layer = create_convolution(1, 1, kernel_size=tuple(kernel.shape), padding="same", bias=False)
    with torch.no_grad():
        layer.get_parameter("weight").copy_(kernel)
    return layer.requires_grad_(False)


def photograph() -> Tensor:
    """A Chinese temple in grey, values in [0, 1], as a batch of one image with one channel: (1, 1, H, W)."""
    pixels = torch.tensor(load_sample_image("china.jpg"), dtype=torch.float32) / 255  # (H, W, 3)
    grey = pixels @ torch.tensor([0.299, 0.587, 0.114])  # as bright as the eye finds each colour
    return grey[None, None]


def draw(path: Path) -> dict[str, Tensor]:
    """Write the picture and return the filtered images by title."""
    image = photograph()
    filtered = {title: fixed_filter(kernel)(image) for title, kernel in KERNELS.items()}
    figure = Figure(figsize=(14, 8.4), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle("A photograph under fixed kernels (below: grey is 0, white positive, black negative)")
    for axes, (title, values) in zip(
        figure.subplots(2, 3).flat, {"the photograph, in grey": image, **filtered}.items(), strict=True
    ):
        edges = "edges" in title
        axes.imshow(values[0, 0].numpy(), cmap="gray", vmin=-1 if edges else 0, vmax=1)
        axes.set_title(title, fontsize=11)
        axes.set_xticks([])
        axes.set_yticks([])
        if title in KERNELS:
            axes.set_xlabel(written(KERNELS[title]), fontsize=9, family="monospace")
    figure.savefig(path, dpi=90)
    return filtered


def written(kernel: Tensor) -> str:
    """The numbers of a kernel, row by row."""
    if bool((kernel == kernel[0, 0]).all()):
        return f"each of the {kernel.shape[0]}x{kernel.shape[1]} is {kernel[0, 0]:.2f}"
    return "\n".join(" ".join(f"{value:3.0f}" for value in row) for row in kernel.tolist())


def main() -> None:
    """Draw, and say in numbers what the picture shows."""
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "fixed-filters.png")
    for title, values in draw(path).items():
        inner = values[..., 2:-2, 2:-2]  # without the frame that the padding makes
        print(f"{title:48} mean {inner.mean():6.3f}   spread {inner.std():.3f}")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
