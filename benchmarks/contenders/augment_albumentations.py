"""albumentations: Affine and HorizontalFlip, image by image on bytes; `workers` threads share the batch."""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import albumentations as A
import cv2
import numpy as np
from protocol import serve


def setup(work: dict[str, Any]) -> Any:
    shape = (work["pool"], work["size"], work["size"], work["channels"])
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    cv2.setNumThreads(work["cv_threads"])
    zoom, shift = (1 - work["zoom"], 1 + work["zoom"]), (-work["shift"], work["shift"])
    augment = A.Compose(
        [
            A.Affine(
                rotate=(-work["degrees"], work["degrees"]), scale=zoom, translate_percent={"x": shift, "y": shift},
                border_mode=cv2.BORDER_REPLICATE, p=1.0,
            ),
            A.HorizontalFlip(p=0.5),
        ]
    )  # fmt: skip
    pool = ThreadPoolExecutor(work["workers"]) if work["workers"] > 1 else None

    def one(image: Any) -> Any:
        return augment(image=image)["image"]

    def run() -> int:
        done, end = 0, time.perf_counter() + work["seconds"]
        while True:
            for start in range(0, len(images), work["batch"]):
                batch = images[start : start + work["batch"]]
                np.stack(list(pool.map(one, batch) if pool is not None else map(one, batch)))
                done += len(batch)
                if time.perf_counter() >= end:
                    return done

    run()
    return run, f"albumentations {A.__version__}, OpenCV {cv2.__version__}"


if __name__ == "__main__":
    serve(setup)
