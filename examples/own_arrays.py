"""Train on arrays of your own, take the bundle away, and use it.

Run: python examples/own_arrays.py

The task: tell which of three waves a noisy series of 32 numbers holds. Any (X, y) works the same way: float features,
uint8 images as (N, H, W), (N, H, W, C) or (N, C, H, W), labels as numbers or as text.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

import lamina as lm


def make_rows(num_rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy sine, square and sawtooth waves (N, 32) float32 with labels as text (N,)."""
    rng = np.random.default_rng(seed)
    names = np.array(["sine", "square", "sawtooth"])
    labels = names[np.arange(num_rows) % 3]
    phase = rng.uniform(0, 1, (num_rows, 1)) + np.linspace(0, 2, 32)
    waves = {
        "sine": np.sin(2 * np.pi * phase),
        "square": np.sign(np.sin(2 * np.pi * phase)),
        "sawtooth": 2 * (phase % 1) - 1,
    }
    rows = sum(waves[name] * (labels == name)[:, None] for name in names)
    return (rows + rng.normal(0, 0.4, rows.shape)).astype(np.float32), labels


def main() -> None:
    """Train, judge, save, load, predict."""
    data = lm.load_data({"train": make_rows(1500, seed=0), "test": make_rows(600, seed=1)})
    model = lm.create_model("mlp", in_features=32, num_classes=3, hidden_sizes=(32, 32))
    run = lm.fit(model, data, task="tabular-classification", epochs=15, seed=0)
    print(f"test accuracy {run.metrics['test/accuracy']:.3f}")

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "waves.zip"
        run.bundle.save(path)
        bundle = lm.load_bundle(path)
        rows, labels = make_rows(6, seed=2)
        for found, label in zip(bundle.predict(rows), labels, strict=True):
            print(f"{label:<9} taken for {found['label']:<9} with probability {found['probability']:.2f}")


if __name__ == "__main__":
    main()
