"""The work that contenders do: data of one shape drawn from a seed, one network, one optimizer, batches of one size.

Numpy and the standard library only: every environment has them.
"""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import numpy as np


def mlp(*, widths: tuple[int, ...], optimizer: str, dropout: float = 0.0, rows: int = 48_000) -> dict[str, Any]:
    """A dense network on images of 28x28 pixels; a round is an epoch."""
    rates = {"sgd": 0.05, "momentum": 0.02, "adam": 0.001}
    return {
        "kind": "mlp",
        "widths": list(widths),
        "dropout": dropout,
        "optimizer": optimizer,
        "lr": rates[optimizer],
        "batch_size": 32,
        "rows": rows,
        "seed": 0,
    }


def drawn_mlp(seed: int) -> dict[str, Any]:
    """Widths, optimizer and dropout by lot."""
    lot = random.Random(seed)
    hidden = tuple(lot.randint(8, 96) for _ in range(lot.randint(1, 3)))
    return mlp(
        widths=(784, *hidden, 10),
        optimizer=lot.choice(["sgd", "momentum", "adam"]),
        dropout=lot.choice([0.0, 0.0, 0.3]),
    )


def sign_cnn(*, rows: int = 1_920) -> dict[str, Any]:
    """The network of the sign-language course on images of 28x28 pixels, without augmentation."""
    return {
        "kind": "sign-cnn",
        "optimizer": "adam",
        "lr": 0.001,
        "batch_size": 32,
        "rows": rows,
        "seed": 0,
        "classes": 24,
    }


def describe(work: dict[str, Any]) -> str:
    """A line for tables."""
    if work["kind"] == "mlp":
        dropout = f", dropout {work['dropout']}" if work["dropout"] else ""
        return f"{'-'.join(map(str, work['widths']))}, {work['optimizer']}{dropout}, batch {work['batch_size']}"
    return f"sign-cnn, {work['optimizer']}, batch {work['batch_size']}"


def make_data(work: dict[str, Any], *, rows: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images (N, 28, 28) with a class-dependent pattern, int64 labels (N,)."""
    rng = np.random.default_rng(work["seed"])
    count = rows or work["rows"]
    classes = work["classes"] if work["kind"] == "sign-cnn" else work["widths"][-1]
    labels = rng.integers(0, classes, count)
    patterns = rng.integers(0, 200, (classes, 28, 28))
    noise = rng.integers(0, 56, (count, 28, 28), dtype=np.uint8)
    return (patterns.astype(np.uint8)[labels] + noise).astype(np.uint8), labels.astype(np.int64)


def multiply_adds(work: dict[str, Any]) -> int:
    """Of one sample's forward and backward pass: three times the forward pass, less the first layer's input gradient."""
    if work["kind"] == "mlp":
        layers = [a * b for a, b in pairwise(work["widths"])]
    else:
        layers = [28 * 28 * 75 * 9, 14 * 14 * 50 * 75 * 9, 7 * 7 * 25 * 50 * 9, 400 * 512, 512 * 24]
    return 3 * sum(layers) - layers[0]
