"""A jitted JAX step of a dense network: data on the device, batches gathered inside, parameters donated."""

from __future__ import annotations

import sys
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import jax.numpy as jnp
import numpy as np
from protocol import serve
from work import make_data


def setup(work: dict[str, Any]) -> Any:
    images, labels = make_data(work)
    x = jnp.asarray(images.reshape(len(images), 784).astype(np.float32) / 255)
    y = jnp.asarray(labels.astype(np.int32))
    rng = np.random.default_rng(0)
    widths = work["widths"]
    params = [
        (jnp.asarray(rng.normal(0, (2 / a) ** 0.5, (a, b)), jnp.float32), jnp.zeros(b, jnp.float32))
        for a, b in pairwise(widths)
    ]
    zeros = jax.tree.map(jnp.zeros_like, params)
    state = {"sgd": (), "momentum": zeros, "adam": (zeros, jax.tree.map(jnp.zeros_like, params))}[work["optimizer"]]
    lr, drop = work["lr"], work["dropout"]

    def loss_of(params: Any, xb: Any, yb: Any, key: Any) -> Any:
        h = xb
        for weight, bias in params[:-1]:
            h = jax.nn.relu(h @ weight + bias)
            if drop:
                key, now = jax.random.split(key)
                h = jnp.where(jax.random.bernoulli(now, 1 - drop, h.shape), h / (1 - drop), 0.0)
        weight, bias = params[-1]
        logits = h @ weight + bias
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), yb[:, None], 1).mean()

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Any, state: Any, rows: Any, number: Any) -> Any:
        loss, grads = jax.value_and_grad(loss_of)(params, x[rows], y[rows], jax.random.key(number))
        if work["optimizer"] == "adam":
            mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, state[0], grads)
            square = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, state[1], grads)
            t = number + 1
            rate = lr * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
            params = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) + 1e-8), params, mean, square)
            return params, (mean, square), loss
        if work["optimizer"] == "momentum":
            state = jax.tree.map(lambda m, g: 0.9 * m + g, state, grads)
            return jax.tree.map(lambda p, m: p - lr * m, params, state), state, loss
        return jax.tree.map(lambda p, g: p - lr * g, params, grads), state, loss

    held = {"params": params, "state": state, "number": 0}
    size = work["batch_size"]

    def run() -> int:
        params, state, number = held["params"], held["state"], held["number"]
        order = rng.permutation(len(x)).astype(np.int32)
        loss = None
        for first in range(0, len(x) - size + 1, size):
            params, state, loss = step(params, state, order[first : first + size], number)
            number += 1
        jax.block_until_ready(loss)
        held.update(params=params, state=state, number=number)
        return len(x) // size * size

    run()
    return run, f"jax {jax.__version__}"


if __name__ == "__main__":
    serve(setup)
