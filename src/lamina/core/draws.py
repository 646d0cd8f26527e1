"""Random draws keyed by position, not by how often somebody drew before.

Every draw is a pure function of (seed, stream, position): a counter-based hash in 32-bit integer arithmetic. The same
sample therefore gets the same draw whatever the batch size, the number of processes or the moment of a restart, and
the same code runs eagerly and inside a compiled graph with the same bits.

Source of the mixing function: Wellons, "Prospecting for Hash Functions" (2018), constants of lowbias32; two rounds
with different keys decorrelate neighbouring counters (tests/unit/core/test_draws.py checks uniformity, independence
between neighbours and streams, and the avalanche of every input bit).
"""

from __future__ import annotations

import hashlib
import math
from typing import Final

import torch
from torch import Tensor

STREAMS: Final = ("init", "order", "augment", "dropout", "negative", "latent", "split", "sample")

# As signed 32-bit numbers: torch's int32 products wrap around, which is what the hash wants.
_M1: Final = 0x7FEB352D
_M2: Final = 0x846CA68B - (1 << 32)
_GOLDEN: Final = 0x9E3779B9 - (1 << 32)


def stream_key(seed: int, stream: str, *position: int | str) -> int:
    """A 32-bit key (as a signed number) for a seed, a named stream and any position in it.

    >>> stream_key(0, "order", 3) == stream_key(0, "order", 3) != stream_key(0, "augment", 3)
    True
    """
    text = "/".join([str(seed), stream, *map(str, position)])
    return int.from_bytes(hashlib.blake2s(text.encode(), digest_size=4).digest(), "little", signed=True)


def _shift(bits: Tensor, places: int) -> Tensor:
    """Logical right shift of int32."""
    return (bits >> places) & ((1 << (32 - places)) - 1)


def _mix(bits: Tensor) -> Tensor:
    bits = bits ^ _shift(bits, 16)
    bits = bits * _M1
    bits = bits ^ _shift(bits, 15)
    bits = bits * _M2
    return bits ^ _shift(bits, 16)


def random_bits(key: int | Tensor, counters: Tensor) -> Tensor:
    """32 random bits per counter.

    Args:
        key: From `stream_key`, or an int32 tensor broadcastable to `counters`.
        counters: int32 tensor of any shape; distinct counters give independent bits.

    Returns:
        int32 tensor shaped like `counters` (broadcast with `key`), uniform over all 2**32 values.
    """
    return _mix(_mix(counters * _GOLDEN + key) ^ key)


def combine(key: int | Tensor, position: Tensor) -> Tensor:
    """A new key per position (int32 tensor); for nesting: row keys from a step key, and so on."""
    return random_bits(key, position.to(torch.int32))


def uniform(key: int | Tensor, counters: Tensor) -> Tensor:
    """Float32 uniform in [0, 1), 24 bits, one per counter; shapes as in `random_bits`."""
    return _shift(random_bits(key, counters), 8).to(torch.float32) * (1.0 / (1 << 24))


def normal(key: int | Tensor, counters: Tensor) -> Tensor:
    """Float32 standard normal, one per counter (Box and Muller 1958); |value| <= 5.8."""
    first = (_shift(random_bits(key, counters * 2), 8).to(torch.float32) + 1.0) * (1.0 / (1 << 24))
    second = uniform(key, counters * 2 + 1)
    return torch.sqrt(-2.0 * torch.log(first)) * torch.cos((2.0 * math.pi) * second)


def counters(rows: Tensor, width: int) -> Tensor:
    """int32 counters (B, width) for `width` draws at each of the given rows; a row's counters do not depend on B."""
    return rows.to(torch.int32).unsqueeze(1) * width + torch.arange(width, dtype=torch.int32, device=rows.device)


def permutation(seed: int, stream: str, *position: int | str, num_rows: int) -> Tensor:
    """A permutation of range(num_rows) as int64 (num_rows,), keyed by seed, stream and position."""
    generator = torch.Generator().manual_seed(stream_key(seed, stream, *position) & 0xFFFFFFFF)
    return torch.randperm(num_rows, generator=generator)


def generator(seed: int, stream: str, *position: int | str) -> torch.Generator:
    """A CPU generator keyed by seed, stream and position, for library calls that want one (initialisers)."""
    return torch.Generator().manual_seed(stream_key(seed, stream, *position) & 0xFFFFFFFF)
