"""A language model in Keras 3: stateful LSTM layers, many steps per execution, jitted or in bfloat16 where asked for."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import keras
import numpy as np
from keras import layers
from protocol import serve
from work import make_tokens


def setup(work: dict[str, Any]) -> Any:
    if work["precision"] == "bf16":
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    tokens = make_tokens(work)
    batch, steps, size = work["batch_size"], work["steps"], work["hidden_size"]
    length = (len(tokens) - 1) // batch // steps * steps
    # Row i of a batch goes on where row i of the batch before ended: (batches * B, T).
    inputs, targets = (
        np.ascontiguousarray(
            part[: batch * length].reshape(batch, length // steps, steps).swapaxes(0, 1).reshape(-1, steps)
        ).astype(np.int32)
        for part in (tokens[:-1], tokens[1:])
    )
    stack = [keras.Input(batch_shape=(batch, steps), dtype="int32"), layers.Embedding(work["vocabulary"], size)]
    stack += [layers.LSTM(size, return_sequences=True, stateful=True) for _ in range(work["layers"])]
    model = keras.Sequential([*stack, layers.Dense(work["vocabulary"], dtype=work.get("head", "float32"))])
    model.compile(
        optimizer=keras.optimizers.SGD(work["lr"], global_clipnorm=work["clip_norm"]),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=work["jit"],
        steps_per_execution=work["steps_per_execution"],
    )

    def run() -> int:
        model.fit(inputs, targets, batch_size=batch, epochs=1, verbose=0, shuffle=False)
        for layer in model.layers:
            if getattr(layer, "stateful", False):
                layer.reset_states()
        return inputs.size

    run()  # the first compiles
    run()
    return run, f"keras {keras.__version__} on {keras.backend.backend()}"


if __name__ == "__main__":
    serve(setup)
