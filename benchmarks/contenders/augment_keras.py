"""Keras's preprocessing layers on TensorFlow, one compiled function for the batch."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from protocol import serve


def setup(work: dict[str, Any]) -> Any:
    tf.config.threading.set_intra_op_parallelism_threads(work["threads"])
    shape = (work["pool"], work["size"], work["size"], work["channels"])
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    batches = [tf.constant(images[start : start + work["batch"]]) for start in range(0, len(images), work["batch"])]
    augment = keras.Sequential(
        [
            layers.RandomRotation(work["degrees"] / 360, fill_mode="nearest"),
            layers.RandomZoom(work["zoom"], work["zoom"], fill_mode="nearest"),
            layers.RandomTranslation(work["shift"], work["shift"], fill_mode="nearest"),
            layers.RandomFlip("horizontal"),
        ]
    )
    function = tf.function(lambda batch: augment(tf.cast(batch, tf.float32), training=True))

    def run() -> int:
        done, end = 0, time.perf_counter() + work["seconds"]
        while True:
            for batch in batches:
                function(batch).numpy()
                done += len(batch)
                if time.perf_counter() >= end:
                    return done

    run()
    return run, f"keras {keras.__version__}, tensorflow {tf.__version__}"


if __name__ == "__main__":
    serve(setup)
