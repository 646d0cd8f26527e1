"""Lamina's augmentation: a batch of bytes in, float32 out."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from protocol import serve

from lamina.core.draws import stream_key
from lamina.core.memory import keep_freed_memory
from lamina.data.augment.warp import is_native
from lamina.data.augmentation import Augmentation
from lamina.data.columns import DataSpec, column_spec


def setup(work: dict[str, Any]) -> Any:
    shape = (work["pool"], work["channels"], work["size"], work["size"])
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    torch.set_num_threads(work["threads"])
    keep_freed_memory()  # as the Trainer does
    augment = Augmentation(
        [
            {"name": "rotate", "degrees": work["degrees"]},
            {"name": "zoom", "fraction": work["zoom"]},
            {"name": "shift", "fraction": work["shift"]},
            {"name": "flip_horizontal"},
        ],
        DataSpec(columns={"image": column_spec("image", images)}, num_rows={"all": len(images)}),
    )
    rows = torch.arange(len(images)).split(work["batch"])
    epoch = 0

    def run() -> int:
        nonlocal epoch
        done, end = 0, time.perf_counter() + work["seconds"]
        while True:
            key = stream_key(0, "augment", epoch)
            epoch += 1
            for row in rows:
                # Gathering is not part of the work for anybody: rows lie one after another.
                augment({"image": images[int(row[0]) : int(row[-1]) + 1], "row": row}, key)
                done += len(row)
                if time.perf_counter() >= end:
                    return done

    run()
    return run, f"torch {torch.__version__}, {'native' if is_native(images) else 'grid_sample'}"


if __name__ == "__main__":
    serve(setup)
