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


def resnet(*, layers: int, size: int, batch_size: int, rows: int) -> dict[str, Any]:
    """A residual network for ImageNet on colour images; below 64 pixels with the stem of 3x3 that keeps their size."""
    depths = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}[layers]
    return {
        "kind": "resnet",
        "layers": layers,
        "depths": list(depths),
        "bottleneck": layers >= 50,
        "small_stem": size < 64,
        "size": size,
        "classes": 10,
        "optimizer": "momentum",
        "lr": 0.01,
        "batch_size": batch_size,
        "rows": rows,
        "seed": 0,
    }


def lstm_lm(*, steps: int = 35, batches: int = 40) -> dict[str, Any]:
    """A language model: two LSTM layers of 200 units over 10,000 words, 20 streams, the state carried on; a sample is a token."""
    return {
        "kind": "lstm-lm",
        "vocabulary": 10_000,
        "hidden_size": 200,
        "layers": 2,
        "batch_size": 20,
        "steps": steps,
        "optimizer": "sgd",
        "lr": 1.0,
        "clip_norm": 5.0,
        "rows": 20 * steps * batches,
        "seed": 0,
    }


def make_tokens(work: dict[str, Any]) -> np.ndarray:
    """int64 (rows + 1,): every word but the first three (which tokenizers keep for themselves) once, then words as rare as in texts."""
    rng = np.random.default_rng(work["seed"])
    words = rng.permutation(np.arange(3, work["vocabulary"]))
    chances = 1.0 / np.arange(10, 10 + len(words))
    drawn = rng.choice(words, work["rows"] + 1 - len(words), p=chances / chances.sum())
    return np.concatenate([words, drawn])


def describe(work: dict[str, Any]) -> str:
    """A line for tables."""
    if work["kind"] == "lstm-lm":
        return (
            f"LSTM language model, {work['layers']} x {work['hidden_size']} units, {work['vocabulary']:,} words, "
            f"{work['batch_size']} streams of {work['steps']} tokens"
        )
    if work["kind"] == "resnet":
        shape = f"ResNet-{work['layers']} at {work['size']}x{work['size']}"
        return f"{shape}, {work['optimizer']}, batch {work['batch_size']}"
    if work["kind"] == "mlp":
        dropout = f", dropout {work['dropout']}" if work["dropout"] else ""
        return f"{'-'.join(map(str, work['widths']))}, {work['optimizer']}{dropout}, batch {work['batch_size']}"
    return f"sign-cnn, {work['optimizer']}, batch {work['batch_size']}"


def make_data(work: dict[str, Any], *, rows: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images (N, 28, 28) or, for a residual network, (N, size, size, 3), of a class-dependent pattern; int64 labels (N,)."""
    rng = np.random.default_rng(work["seed"])
    count = rows or work["rows"]
    classes = work["widths"][-1] if work["kind"] == "mlp" else work["classes"]
    shape = (work["size"], work["size"], 3) if work["kind"] == "resnet" else (28, 28)
    labels = rng.integers(0, classes, count)
    patterns = rng.integers(0, 200, (classes, *shape))
    noise = rng.integers(0, 56, (count, *shape), dtype=np.uint8)
    return (patterns.astype(np.uint8)[labels] + noise).astype(np.uint8), labels.astype(np.int64)


def multiply_adds(work: dict[str, Any]) -> int:
    """Of one sample's forward and backward pass: three times the forward pass, less the first layer's input gradient."""
    if work["kind"] == "lstm-lm":
        units = work["hidden_size"]
        return 3 * (work["layers"] * 8 * units * units + units * work["vocabulary"])
    if work["kind"] == "mlp":
        layers = [a * b for a, b in pairwise(work["widths"])]
    elif work["kind"] == "resnet":
        layers = resnet_layers(work)
    else:
        layers = [28 * 28 * 75 * 9, 14 * 14 * 50 * 75 * 9, 7 * 7 * 25 * 50 * 9, 400 * 512, 512 * 24]
    return 3 * sum(layers) - layers[0]


def resnet_layers(work: dict[str, Any]) -> list[int]:
    """Multiply-adds of the forward pass, layer by layer."""
    size, channels = work["size"], 64
    size = size if work["small_stem"] else -(-size // 2)
    layers = [size * size * 64 * 3 * (9 if work["small_stem"] else 49)]
    size = size if work["small_stem"] else -(-size // 2)
    for stage, depth in enumerate(work["depths"]):
        inner = 64 * 2**stage
        outer = inner * (4 if work["bottleneck"] else 1)
        for place in range(depth):
            before, size = size, size if stage == 0 or place else -(-size // 2)
            area = size * size
            if work["bottleneck"]:
                layers += [before * before * channels * inner, area * inner * inner * 9, area * inner * outer]
            else:
                layers += [area * channels * inner * 9, area * inner * inner * 9]
            if channels != outer:
                layers.append(area * channels * outer)
            channels = outer
    return [*layers, channels * work["classes"]]
