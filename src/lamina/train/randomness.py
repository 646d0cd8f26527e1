"""Generators that user code may draw from: saved and restored, so that a resume is exact even when it does.

Lamina's own draws are keyed by position (`core.draws`) and need no state.
"""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor

from lamina.core.draws import stream_key
from lamina.core.errors import CheckpointError
from lamina.train.state import Generators


def seed_generators(seed: int) -> None:
    """Seed Python's, NumPy's and torch's global generators from the run's seed."""
    key = stream_key(seed, "sample", "global") & 0xFFFFFFFF
    random.seed(key)
    np.random.seed(key)
    torch.manual_seed(key)


def pack_generators() -> tuple[dict[str, Tensor], Generators]:
    """The states of all global generators as tensors and numbers."""
    tensors = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors |= {f"cuda.{index}": state for index, state in enumerate(torch.cuda.get_rng_state_all())}
    version, words, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    tensors["numpy"] = torch.from_numpy(np.asarray(keys, dtype=np.uint32).astype(np.int64))
    assert kind == "MT19937"
    return tensors, Generators(
        python=(version, list(words), gauss), numpy=("MT19937", int(position), int(has_gauss), float(cached))
    )


def unpack_generators(tensors: dict[str, Tensor], numbers: Generators, *, where: str) -> None:
    """Put all global generators where `pack_generators` found them.

    Raises:
        CheckpointError: The states are none.
    """
    try:
        torch.set_rng_state(tensors["torch"])
        if torch.cuda.is_available():
            states = [tensors[name] for name in sorted(tensors) if name.startswith("cuda.")]
            if len(states) == torch.cuda.device_count():
                torch.cuda.set_rng_state_all(states)
        version, words, gauss = numbers.python
        random.setstate((version, tuple(words), gauss))
        kind, position, has_gauss, cached = numbers.numpy
        np.random.set_state((kind, tensors["numpy"].numpy().astype(np.uint32), position, has_gauss, cached))
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise CheckpointError(
            f"The checkpoint's generators cannot be restored: {' '.join(str(error).split())}.",
            where=where,
            accepts="the states that `torch`, `random` and `numpy` gave",
            mend="remove the checkpoint to continue from the one before it",
        ) from None
