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


def make_model(work: dict[str, Any]) -> nn.Module:
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
    tensors = TensorDataset(torch.from_numpy(images).float().div_(255).unsqueeze(1), torch.from_numpy(labels))
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
