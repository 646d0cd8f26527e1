"""Keras 3 at its best: model.fit with many steps per execution, jitted, mixed bfloat16 where asked for.

The backend is chosen by KERAS_BACKEND; each backend has an environment of its own.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import keras
import numpy as np
from keras import layers
from protocol import serve
from work import make_data


def residual(x: Any, inner: int, *, stride: int, bottleneck: bool) -> Any:
    outer = inner * (4 if bottleneck else 1)
    convolutions = (
        [(1, inner, 1), (3, inner, stride), (1, outer, 1)] if bottleneck else [(3, inner, stride), (3, outer, 1)]
    )
    y = x
    for place, (kernel, filters, step) in enumerate(convolutions):
        y = layers.Conv2D(filters, kernel, strides=step, padding="same", use_bias=False)(y)
        y = layers.BatchNormalization()(y)
        if place < len(convolutions) - 1:
            y = layers.ReLU()(y)
    if x.shape[-1] != outer or stride != 1:
        x = layers.BatchNormalization()(layers.Conv2D(outer, 1, strides=stride, use_bias=False)(x))
    return layers.ReLU()(layers.Add()([x, y]))


def make_resnet(work: dict[str, Any]) -> Any:
    inputs = keras.Input((work["size"], work["size"], 3))
    kernel, stride = (3, 1) if work["small_stem"] else (7, 2)
    x = layers.Conv2D(64, kernel, strides=stride, padding="same", use_bias=False)(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    if not work["small_stem"]:
        x = layers.MaxPool2D(3, 2, padding="same")(x)
    for stage, depth in enumerate(work["depths"]):
        for place in range(depth):
            x = residual(x, 64 * 2**stage, stride=1 if stage == 0 or place else 2, bottleneck=work["bottleneck"])
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(work["classes"], dtype="float32")(x))


def make_model(work: dict[str, Any]) -> Any:
    if work["kind"] == "resnet":
        return make_resnet(work)
    if work["kind"] == "mlp":
        stack = [keras.Input((784,))]
        for width in work["widths"][1:-1]:
            stack.append(layers.Dense(width, activation="relu"))
            if work["dropout"]:
                stack.append(layers.Dropout(work["dropout"]))
        return keras.Sequential([*stack, layers.Dense(work["widths"][-1], dtype="float32")])
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(75, 3, padding="same", activation="relu"), layers.BatchNormalization(), layers.MaxPool2D(2, padding="same"),
            layers.Conv2D(50, 3, padding="same", activation="relu"), layers.Dropout(0.2), layers.BatchNormalization(),
            layers.MaxPool2D(2, padding="same"),
            layers.Conv2D(25, 3, padding="same", activation="relu"), layers.BatchNormalization(), layers.MaxPool2D(2, padding="same"),
            layers.Flatten(), layers.Dense(512, activation="relu"), layers.Dropout(0.3), layers.Dense(work["classes"], dtype="float32"),
        ]
    )  # fmt: skip


def setup(work: dict[str, Any]) -> Any:
    if work["precision"] == "bf16":
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    images, labels = make_data(work)
    x = images.astype(np.float32) / 255
    x = x.reshape(len(x), 784) if work["kind"] == "mlp" else x if x.ndim == 4 else x[..., None]
    optimizers = {
        "sgd": lambda: keras.optimizers.SGD(work["lr"]),
        "momentum": lambda: keras.optimizers.SGD(work["lr"], momentum=0.9),
        "adam": lambda: keras.optimizers.Adam(work["lr"]),
    }
    model = make_model(work)
    model.compile(
        optimizer=optimizers[work["optimizer"]](),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=work["jit"],
        steps_per_execution=work["steps_per_execution"],
    )
    data: Any = x
    if keras.backend.backend() == "tensorflow" and work.get("tf_data"):
        import tensorflow as tf

        rows = tf.data.Dataset.from_tensor_slices((x, labels)).shuffle(len(x)).batch(work["batch_size"])
        data = rows.prefetch(tf.data.AUTOTUNE)

    def run() -> int:
        if data is x:
            model.fit(x, labels, batch_size=work["batch_size"], epochs=1, verbose=0, shuffle=True)
        else:
            model.fit(data, epochs=1, verbose=0)
        return len(x)

    run()  # the first compiles
    if work["kind"] != "resnet":
        run()
    return run, f"keras {keras.__version__} on {keras.backend.backend()}"


if __name__ == "__main__":
    serve(setup)
