"""The loop that everybody writes: a DataLoader over tensors, forward, backward, step."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from protocol import serve
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from work import make_data


class Residual(nn.Module):
    """A block of two 3x3 convolutions, or of 1x1, 3x3 and 1x1 with four times as many channels at the end."""

    def __init__(self, channels: int, inner: int, outer: int, *, stride: int, bottleneck: bool) -> None:
        super().__init__()
        if bottleneck:
            self.body = nn.Sequential(
                nn.Conv2d(channels, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU(inplace=True),
                nn.Conv2d(inner, inner, 3, stride, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU(inplace=True),
                nn.Conv2d(inner, outer, 1, bias=False), nn.BatchNorm2d(outer),
            )  # fmt: skip
        else:
            self.body = nn.Sequential(
                nn.Conv2d(channels, inner, 3, stride, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU(inplace=True),
                nn.Conv2d(inner, outer, 3, 1, 1, bias=False), nn.BatchNorm2d(outer),
            )  # fmt: skip
        self.shortcut: nn.Module = nn.Identity()
        if channels != outer or stride != 1:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, channels, H, W) -> (B, outer, H / stride, W / stride)."""
        return self.relu(self.body(x) + self.shortcut(x))


def make_resnet(work: dict[str, Any]) -> nn.Module:
    if work["small_stem"]:
        layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True)]
    else:
        layers = [
            nn.Conv2d(3, 64, 7, 2, 3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, 1),
        ]
    channels, bottleneck = 64, work["bottleneck"]
    for stage, depth in enumerate(work["depths"]):
        inner = 64 * 2**stage
        outer = inner * (4 if bottleneck else 1)
        for place in range(depth):
            stride = 1 if stage == 0 or place else 2
            layers.append(Residual(channels, inner, outer, stride=stride, bottleneck=bottleneck))
            channels = outer
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, work["classes"]))


def make_model(work: dict[str, Any]) -> nn.Module:
    if work["kind"] == "resnet":
        return make_resnet(work)
    if work["kind"] == "mlp":
        layers: list[nn.Module] = [nn.Flatten()]
        widths = work["widths"]
        for depth, (fan_in, fan_out) in enumerate(pairwise(widths)):
            layers.append(nn.Linear(fan_in, fan_out))
            if depth < len(widths) - 2:
                layers.append(nn.ReLU())
                if work["dropout"]:
                    layers.append(nn.Dropout(work["dropout"]))
        return nn.Sequential(*layers)
    return nn.Sequential(
        nn.Conv2d(1, 75, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(75), nn.MaxPool2d(2, ceil_mode=True),
        nn.Conv2d(75, 50, 3, padding=1), nn.ReLU(), nn.Dropout(0.2), nn.BatchNorm2d(50), nn.MaxPool2d(2, ceil_mode=True),
        nn.Conv2d(50, 25, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(25), nn.MaxPool2d(2, ceil_mode=True),
        nn.Flatten(), nn.Linear(400, 512), nn.ReLU(), nn.Dropout(0.3), nn.Linear(512, work["classes"]),
    )  # fmt: skip


def setup(work: dict[str, Any]) -> Any:
    images, labels = make_data(work)
    pixels = torch.from_numpy(images).float().div_(255)
    pixels = pixels.permute(0, 3, 1, 2).contiguous() if pixels.dim() == 4 else pixels.unsqueeze(1)
    tensors = TensorDataset(pixels, torch.from_numpy(labels))
    loader = DataLoader(tensors, batch_size=work["batch_size"], shuffle=True)
    model = make_model(work).train()
    if work["optimizer"] == "adam":
        optimizer: torch.optim.Optimizer = torch.optim.Adam(model.parameters(), lr=work["lr"])
    else:
        optimizer = torch.optim.SGD(model.parameters(), lr=work["lr"], momentum=0.9 * (work["optimizer"] == "momentum"))
    loss_of = nn.CrossEntropyLoss()

    def run() -> int:
        for x, y in loader:
            optimizer.zero_grad()
            loss = loss_of(model(x), y)
            loss.backward()
            optimizer.step()
        return len(tensors)

    run()
    return run, f"torch {torch.__version__.split('+')[0]}, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    serve(setup)
