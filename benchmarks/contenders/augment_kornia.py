"""kornia: RandomAffine and RandomHorizontalFlip on a batch, in float32."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import kornia
import kornia.augmentation as K
import torch
from protocol import serve


def setup(work: dict[str, Any]) -> Any:
    shape = (work["pool"], work["channels"], work["size"], work["size"])
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    torch.set_num_threads(work["threads"])
    zoom = (1 - work["zoom"], 1 + work["zoom"])
    augment = K.AugmentationSequential(
        K.RandomAffine(work["degrees"], translate=(work["shift"],) * 2, scale=zoom, padding_mode="border", p=1.0),
        K.RandomHorizontalFlip(p=0.5),
        data_keys=["input"],
    )

    @torch.no_grad()
    def run() -> int:
        done, end = 0, time.perf_counter() + work["seconds"]
        while True:
            for batch in images.split(work["batch"]):
                augment(batch.float() / 255)
                done += len(batch)
                if time.perf_counter() >= end:
                    return done

    run()
    return run, f"kornia {kornia.__version__}, torch {torch.__version__}"


if __name__ == "__main__":
    serve(setup)
