"""kNN through the same engine: learning without gradients, in one pass over the data, interrupted and resumed.

Run: python examples/knn.py [--run DIR]

A `DirectUpdate` stores the rows of each batch; checkpoints, the cursor and judging are the engine's, as for a network.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lamina.recipes.build import build, read_data
from lamina.recipes.recipe import resolve
from lamina.train.trainer import Trainer


def make_trainer(run_dir: Path | None, *, seed: int = 0) -> Trainer:
    """A trainer that stores the embedded digits, 128 at a time, and votes among the 3 nearest."""
    words = [f"seed={seed}", "training.batch_size=128", "training.checkpoint_every=2", "training.tensorboard=false"]
    recipe = resolve("mnist-knn", data="digits", assignments=words).recipe()
    return build(recipe, read_data(recipe)).trainer(run_dir)


def main() -> None:
    """Store the digits and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path)
    arguments = parser.parse_args()
    result = make_trainer(arguments.run).fit(resume=arguments.run is not None)
    print(f"accuracy {result.metrics['valid/accuracy']:.4f}")


if __name__ == "__main__":
    main()
