"""Choosing the next token: temperature, top-k, nucleus, greedy; every draw keyed by its place.

The draw of a sample's t-th token depends on (seed, number of the sample, t) alone: sample 3 of ten is sample 3 of a hundred.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lamina.core import draws
from lamina.core.config import Config, Field
from lamina.core.errors import ConfigError, NonFiniteError

__all__ = ["SamplingConfig", "choose", "sampling_probs"]


class SamplingConfig(Config):
    """How tokens are chosen, and how many."""

    temperature: float = Field(
        1.0, description="Logits are divided by it: below 1 bolder, above 1 more varied; 0 is greedy.", ge=0, le=1000
    )
    top_k: int | None = Field(None, description="Choose among this many most probable tokens only.", ge=1)
    top_p: float | None = Field(
        None, description="Choose among the most probable tokens that together have this probability.", gt=0, le=1
    )
    max_length: int = Field(200, description="Tokens to add to the prompt.", ge=1, le=1_000_000)
    seed: int = Field(0, description="Keys every draw.", ge=0, lt=2**63)


def sampling_probs(
    logits: Tensor, *, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Tensor:
    """The distribution from which a token is drawn.

    Temperature first, then the k best, then of what is left the smallest set of the most probable tokens whose
    probability reaches `top_p`; at least one token stays. Of equally probable ones the lower numbers stay.

    Args:
        logits: Float (B, V); minus infinity excludes a token.
        temperature: 0: all probability on the largest logit.
        top_k: None: all.
        top_p: None: all.

    Returns:
        float64 (B, V), each row summing to 1.

    Raises:
        ConfigError: A value is out of its range.
        NonFiniteError: A row has NaN, or no token that can be chosen.

    Source: top-k: Fan, Lewis, Dauphin (2018), arXiv:1805.04833; nucleus: Holtzman, Buys, Du, Forbes, Choi (2020), arXiv:1904.09751.
    """
    _check(temperature, top_k, top_p)
    wide = logits.to(torch.float64)
    highest = wide.amax(dim=1, keepdim=True)
    if bool(highest.isnan().any()) or bool(highest.isinf().any()):
        raise NonFiniteError(
            "The model gave logits that are not finite.",
            where="sampling",
            accepts="finite logits for at least one token",
            mend="train again with a lower optimizer.lr or training.clip_norm=1.0",
        )
    if temperature == 0:
        top_k, temperature = 1, 1.0
    # Subtracted before the division, which would overflow for a tiny temperature.
    probs = torch.softmax((wide - highest) / temperature, dim=1)
    if top_k is None and top_p is None:
        return probs
    # By logits, which tell apart what a tiny temperature has made equal (zero).
    order = wide.argsort(dim=1, descending=True, stable=True)
    ranked = probs.gather(1, order)
    if top_k is not None:
        ranked[:, top_k:] = 0
        ranked /= ranked.sum(dim=1, keepdim=True)
    if top_p is not None:
        before = ranked.cumsum(dim=1) - ranked
        ranked = ranked * ((before < top_p) | (torch.arange(ranked.shape[1], device=ranked.device) == 0))
        ranked /= ranked.sum(dim=1, keepdim=True)
    return torch.zeros_like(probs).scatter_(1, order, ranked)


def choose(probs: Tensor, *, seed: int, samples: Tensor, place: int) -> Tensor:
    """One token per row, drawn from its distribution.

    Args:
        probs: float64 (B, V), rows summing to 1.
        seed: Of the generation.
        samples: int64 (B,), the number of each row's sample.
        place: Of the token in the sample, from 0.

    Returns:
        int64 (B,). A token of probability 0 is never drawn.
    """
    key = draws.combine(draws.stream_key(seed, "sample"), samples)
    position = torch.full_like(samples, place, dtype=torch.int32)
    drawn = draws.uniform(key, position).to(torch.float64).unsqueeze(1)  # [0, 1)
    cumulated = probs.cumsum(dim=1)
    # Scaled by what the sum came to, so that rounding cannot put the draw behind the last possible token.
    drawn = drawn * cumulated[:, -1:]
    return torch.searchsorted(cumulated, drawn, right=True).squeeze(1)


def _check(temperature: float, top_k: int | None, top_p: float | None) -> None:
    for name, value, fits, accepts in (
        ("temperature", temperature, 0 <= temperature < math.inf, "0 (greedy) or more, finite"),
        ("top_k", top_k, top_k is None or top_k >= 1, "1 or more, or None"),
        ("top_p", top_p, top_p is None or 0 < top_p <= 1, "above 0, at most 1, or None"),
    ):
        if not fits:
            raise ConfigError(
                f"{name} got {value}.",
                where=f"sampling, argument `{name}`",
                accepts=accepts,
                mend="temperature=0.8, top_k=40, top_p=0.9 are usual values",
            )
