"""Penalties on parameters, added to a loss: L1 drives weights to zero, L2 keeps them small.

L2 here is strength * sum of w^2. Its gradient is 2 * strength * w, so that for plain gradient descent an L2 penalty of
strength s and an optimizer's `weight_decay` of 2 * s are the same; for adaptive optimizers they are not (the penalty's
gradient is divided like any other; AdamW's decay is not). A penalty is seen in the logged loss, a weight decay is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Literal

import torch
from torch import Tensor

from lamina.core.config import Config, Field
from lamina.core.errors import ConfigError, nearest

__all__ = ["Penalty", "PenaltyConfig", "create_penalties"]


class PenaltyConfig(Config):
    """One penalty."""

    kind: Literal["l1", "l2"] = Field("l2", description="l1: sum of |w|; l2: sum of w^2.")
    strength: float = Field(description="Factor of the sum in what is minimised.", ge=0)
    parameters: tuple[str, ...] = Field(("*",), description="Patterns of parameter names; a parameter counts once.")
    include_bias: bool = Field(False, description="Penalise biases and norms (parameters of one dimension) too.")


class Penalty:
    """A penalty on chosen parameters.

    Args:
        config: Kind, strength and parameters.

    Attributes:
        name: `l1` or `l2`, under which it is logged.
        strength: The factor; the penalty itself comes without it, as it is logged.

    Example:
        >>> penalty = Penalty(PenaltyConfig(kind="l2", strength=0.1))
        >>> [penalty([("w", torch.tensor([w]))]).item() for w in ([1.0, 0.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25])]
        [1.0, 0.25]
    """

    def __init__(self, config: PenaltyConfig) -> None:
        self.config = config
        self.name: str = config.kind
        self.strength = config.strength
        self._chosen: dict[str, bool] = {}

    def __call__(self, named_parameters: Iterable[tuple[str, Tensor]]) -> Tensor:
        """Sum of |w| or w^2 over the chosen parameters, without the strength; 0-d. It does not depend on the batch: its weight is 1.

        Raises:
            ConfigError: The patterns choose no parameter.
        """
        names, terms = [], []
        for name, parameter in named_parameters:
            names.append(name)
            if self.applies_to(name, parameter):
                terms.append(parameter.abs().sum() if self.config.kind == "l1" else parameter.square().sum())
        if not terms:
            pattern = self.config.parameters[0] if self.config.parameters else ""
            near = nearest(pattern, names)
            raise ConfigError(
                f"The {self.name} penalty on {', '.join(self.config.parameters) or 'nothing'} applies to no parameter.",
                where="penalties, key `parameters`",
                accepts=", ".join(names[:24]) + (" …" if len(names) > 24 else "") or "a model with parameters",
                mend=f"did you mean {near[0]!r}?"
                if near
                else "parameters: ['*'], or include_bias: true for biases and norms",
            )
        return torch.stack(terms).sum() if len(terms) > 1 else terms[0]

    def applies_to(self, name: str, parameter: Tensor) -> bool:
        """Whether a parameter is penalised."""
        if name not in self._chosen:
            fits = any(fnmatchcase(name, pattern) for pattern in self.config.parameters)
            self._chosen[name] = fits and (self.config.include_bias or parameter.dim() > 1)
        return self._chosen[name]


def create_penalties(values: Iterable[Mapping[str, Any]]) -> list[Penalty]:
    """Penalties from the values of a recipe; those of one kind are numbered from the second on (`l2_2`).

    Raises:
        ConfigError: An option is unknown or out of bounds.
    """
    penalties: list[Penalty] = []
    for position, row in enumerate(values):
        penalty = Penalty(PenaltyConfig.from_values(row, where=f"penalties.{position}"))
        same = sum(known.config.kind == penalty.config.kind for known in penalties)
        if same:
            penalty.name = f"{penalty.config.kind}_{same + 1}"
        penalties.append(penalty)
    return penalties
