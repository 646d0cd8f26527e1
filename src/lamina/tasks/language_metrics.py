"""Metrics of language models: what the right next token cost, and what that comes to per token and per character."""

from __future__ import annotations

import math
from typing import Any, Final

import torch
from torch import Tensor

from lamina.core.registry import register
from lamina.tasks.metrics import Metrics

__all__ = ["LanguageMetrics", "bits_per_character", "perplexity"]

_LARGEST: Final = 700.0  # exp of it is still a number


@register(
    "metric",
    "perplexity",
    better="min",
    family="language",
    source="Jelinek, Mercer, Bahl, Baker (1977), doi:10.1121/1.2016299",
)
def perplexity(cross_entropy: float) -> float:
    """The exponential of the mean cross-entropy per token in nats: as uncertain as if so many tokens were equally likely.

    >>> round(perplexity(math.log(10_000)))
    10000
    """
    return math.exp(min(cross_entropy, _LARGEST))


@register(
    "metric",
    "bits_per_character",
    better="min",
    family="language",
    source="Shannon (1951), doi:10.1002/j.1538-7305.1951.tb01366.x; Graves (2013), arXiv:1308.0850, section 3",
)
def bits_per_character(cross_entropy: float, characters_per_token: float) -> float:
    """Bits that a character of the text costs, whatever the tokens are; line ends count as characters where they are predicted.

    >>> bits_per_character(math.log(2), 1.0)
    1.0
    """
    return cross_entropy / math.log(2) / characters_per_token


class LanguageMetrics(Metrics):
    """Records the cost of every judged token.

    Example:
        >>> metrics = LanguageMetrics()
        >>> metrics.update(torch.tensor([math.log(4.0), math.log(16.0)]), characters_per_token=2.0)
        >>> {name: round(value, 4) for name, value in metrics.finish().items()}
        {'cross_entropy': 2.0794, 'perplexity': 8.0, 'bits_per_character': 1.5}
    """

    def update(self, nats: Tensor, *, characters_per_token: Tensor | float | None = None) -> None:
        """Record tokens in the order of the text.

        Args:
            nats: Float (N,), -log of the probability that each token got.
            characters_per_token: Mean over the whole judged text (a number, or 0-d); None where its text is not known.
        """
        rows = {"nats": nats.detach()}
        if characters_per_token is not None:
            rows["characters"] = torch.as_tensor(characters_per_token, dtype=torch.float64).expand(len(nats))
        self._rows.append(rows)

    def finish(self) -> dict[str, float]:
        """cross_entropy (nats per token), perplexity and, where the text is known, bits_per_character."""
        rows = self._read()
        nats = rows["nats"].double()
        self._refuse_non_finite(nats.isnan())
        mean = float(nats.mean())
        found = {"cross_entropy": mean, "perplexity": perplexity(mean)}
        if "characters" in rows:
            found["bits_per_character"] = bits_per_character(mean, float(rows["characters"].mean()))
        return found

    def details(self) -> dict[str, Any]:
        """`num_tokens`."""
        return {"num_tokens": self.num_samples}
