"""Gradient clipping by norm and by value, in place for eager steps and as pure functions for compiled ones.

None of them reads from the device. A norm that is NaN or infinite makes the clipped gradients NaN, as in torch; whoever
steps looks at the returned norm, which is the norm before clipping.

Source: Pascanu, Mikolov, Bengio (2013), arXiv:1211.5063.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["all_finite", "clip_by_norm", "clip_by_value", "clipped_by_norm", "clipped_by_value", "global_norm"]

_EPS = 1e-6  # as torch.nn.utils.clip_grad_norm_ has it


def global_norm(tensors: Sequence[Tensor]) -> Tensor:
    """The L2 norm of all elements of all tensors together; 0-d, 0 for none; pure and traceable."""
    if not tensors:
        return torch.zeros(())
    norm: Tensor = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(tensor) for tensor in tensors]))
    return norm


def clip_by_norm(grads: Sequence[Tensor], max_norm: float) -> Tensor:
    """Scale gradients in place so that their joint L2 norm is at most `max_norm`.

    Returns:
        The norm before clipping, 0-d.
    """
    if not grads:
        return torch.zeros(())
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(grads))))
    torch._foreach_mul_(list(grads), _factor(norm, max_norm))
    return norm


def clip_by_value(grads: Sequence[Tensor], max_value: float) -> None:
    """Clamp each element of the gradients in place to [-max_value, max_value]; NaN stays."""
    if grads:
        torch._foreach_clamp_min_(list(grads), -max_value)
        torch._foreach_clamp_max_(list(grads), max_value)


def clipped_by_norm(grads: Sequence[Tensor], max_norm: float) -> tuple[list[Tensor], Tensor]:
    """New gradients with a joint L2 norm of at most `max_norm`, and the norm before clipping; pure and traceable."""
    norm = global_norm(grads)
    factor = _factor(norm, max_norm)
    return [grad * factor.to(grad.dtype) for grad in grads], norm


def clipped_by_value(grads: Sequence[Tensor], max_value: float) -> list[Tensor]:
    """New gradients with each element in [-max_value, max_value]; pure and traceable."""
    return [grad.clamp(-max_value, max_value) for grad in grads]


def all_finite(tensors: Sequence[Tensor]) -> Tensor:
    """Whether no element of any tensor is NaN or infinite; 0-d bool; pure and traceable."""
    if not tensors:
        return torch.ones((), dtype=torch.bool)
    return torch.stack([torch.isfinite(tensor).all() for tensor in tensors]).all()


def _factor(norm: Tensor, max_norm: float) -> Tensor:
    return torch.clamp(max_norm / (norm + _EPS), max=1.0)
