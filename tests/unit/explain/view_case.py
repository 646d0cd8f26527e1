"""Small subjects that the tests of several views look into."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from lamina.explain.subjects import subject_of
from lamina.explain.views import Subject


def pixels(png: bytes | None) -> np.ndarray:
    """A PNG as RGB."""
    assert png is not None
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def bars(num_rows: int = 60, *, side: int = 8) -> tuple[Tensor, Tensor]:
    """Grey pictures with a bright vertical (class 0) or horizontal (class 1) bar through the middle, and noise."""
    generator = torch.Generator().manual_seed(0)
    images = 0.2 * torch.rand(num_rows, 1, side, side, generator=generator)
    labels = torch.arange(num_rows) % 2
    middle = side // 2
    images[labels == 0, :, :, middle] = 1.0
    images[labels == 1, :, middle, :] = 1.0
    return images, labels


class BarNet(nn.Module):
    """Tells the bars apart without training: one vertical and one horizontal kernel, the mean of each map."""

    def __init__(self, side: int = 8) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1, bias=False)
        self.act = nn.ReLU(inplace=True)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(2 * side * side, 2, bias=False)
        with torch.no_grad():
            line = torch.tensor([-1.0, 2.0, -1.0])
            self.conv.weight[0, 0] = line.expand(3, 3)
            self.conv.weight[1, 0] = line.expand(3, 3).T
            self.head.weight.zero_()
            self.head.weight[0, : side * side] = 0.1
            self.head.weight[1, side * side :] = 0.1

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.flatten(self.act(self.conv(images))))


def bar_subject(num_rows: int = 60) -> Subject:
    """A subject that judges bars rightly."""
    images, labels = bars(num_rows)
    return subject_of(
        BarNet().eval(), name="bars", inputs=images, labels=labels, classes=("vertical", "horizontal"), split="test"
    )
