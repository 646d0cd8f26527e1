"""What every optimizer can be told, and which of it applies to a parameter."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated, Any, ClassVar

from torch import Tensor

from lamina.core.config import Config, Field

__all__ = ["Groups", "OptimizerConfig", "parameter_options"]

Groups = list[dict[str, Any]]


class OptimizerConfig(Config):
    """What every optimizer can be told.

    Attributes:
        penalties: Fields that are zero for biases and norms unless `decay_bias`.
    """

    penalties: ClassVar[tuple[str, ...]] = ("weight_decay",)

    lr: float = Field(0.01, description="Learning rate; the schedule multiplies it.", gt=0)
    lr_by_name: dict[str, Annotated[float, Field(ge=0)]] = Field(
        {},
        description="Parameter-name pattern (such as head.*) -> learning rate of its own; the first that fits counts.",
    )
    decay_bias: bool = Field(
        False, description="Apply weight decay to biases and norms (parameters of one dimension) too."
    )


def parameter_options(config: OptimizerConfig, name: str, parameter: Tensor) -> tuple[float, bool]:
    """Base learning rate of a parameter, and whether weight decay applies to it."""
    lr = next((rate for pattern, rate in config.lr_by_name.items() if fnmatchcase(name, pattern)), config.lr)
    decays = config.decay_bias or parameter.dim() > 1 or not any(getattr(config, key) for key in config.penalties)
    return lr, decays
