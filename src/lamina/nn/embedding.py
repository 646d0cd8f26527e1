"""A table of word vectors that says how its numbers are drawn.

Source: Bengio, Ducharme, Vincent, Jauvin (2003), "A Neural Probabilistic Language Model", section 2.
"""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["Embedding"]


class Embedding(nn.Embedding):
    """A vector per word, drawn normally with a standard deviation of its own, keyed as `initialise` keys every layer.

    torch draws with a standard deviation of 1, which is far more than the layers behind expect of their inputs.

    Args:
        num_embeddings, embedding_dim: As of `torch.nn.Embedding`.
        std: Standard deviation of the initial numbers.

    Shapes: int64 (…) -> (…, embedding_dim).
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, *, std: float = 0.1) -> None:
        self.std = std  # before the base class draws
        super().__init__(num_embeddings, embedding_dim)

    def reset_parameters(self) -> None:
        """Draw anew from torch's global generator."""
        self.draw_own(torch.default_generator)

    def draw_own(self, generator: torch.Generator) -> None:
        """Draw the vectors; nothing where they are only counted (meta tensors)."""
        if not self.weight.is_meta:
            drawn = torch.empty(self.weight.shape, dtype=torch.float32).normal_(0.0, self.std, generator=generator)
            with torch.no_grad():
                self.weight.copy_(drawn)
