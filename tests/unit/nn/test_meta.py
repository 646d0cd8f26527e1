"""A model without values is whole again afterwards, also when layers share what they have."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lamina.nn.meta import without_values


def shared() -> nn.Sequential:
    norm, linear = nn.BatchNorm1d(6), nn.Linear(6, 6)
    other = nn.Linear(6, 6)
    other.weight = linear.weight
    linear.bias.requires_grad_(False)
    return nn.Sequential(linear, norm, other, linear, norm).eval()


def test_values_come_back() -> None:
    model = shared()
    before = dict([*model.named_parameters(), *model.named_buffers()])
    with without_values(model):
        assert model(torch.empty(3, 6, device="meta")).shape == (3, 6)
        assert all(parameter.is_meta for parameter in model.parameters())
        assert model[0].weight is model[2].weight
        assert not model[0].bias.requires_grad
    after = dict([*model.named_parameters(), *model.named_buffers()])
    assert all(after[name] is tensor for name, tensor in before.items())
    assert model(torch.zeros(3, 6)).isfinite().all()


def test_values_come_back_after_an_error() -> None:
    model = shared()
    with pytest.raises(RuntimeError), without_values(model):
        model(torch.empty(3, 5, device="meta"))
    assert not any(tensor.is_meta for tensor in model.state_dict().values())
