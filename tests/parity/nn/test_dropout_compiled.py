"""Dropout masks in a graph compiled by Inductor are those of eager steps, forwards and backwards.

The only test of `torch.compile` for these layers: a compilation takes about ten seconds.
"""

from __future__ import annotations

import shutil
import warnings

import pytest
import torch
from torch import Tensor, nn

from lamina.nn.dropout import Dropout, DropoutKeys, SpatialDropout


@pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None, reason="Inductor needs a C++ compiler"
)
def test_compiled_masks_equal_eager_ones() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 75),
        Dropout(0.3),
        nn.Unflatten(1, (3, 5, 5)),
        Dropout(0.2),
        SpatialDropout(0.5),
        nn.Flatten(),
        nn.Linear(75, 2),
    )
    keys = DropoutKeys(model, 3)
    parameters = {name: p.detach().clone() for name, p in model.named_parameters()}
    x = torch.randn(8, 6)

    def loss(values: dict[str, Tensor], step: Tensor, first_row: Tensor) -> tuple[Tensor, Tensor]:
        out = torch.func.functional_call(model, {**values, **keys.values(step, first_row)}, (x,))
        return out.square().sum(), out

    step_of = torch.func.grad(loss, has_aux=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Inductor's own
        compiled = torch.compile(step_of, fullgraph=True)
        results = {
            (step, row): compiled(parameters, torch.tensor(step), torch.tensor(row))
            for step, row in ((0, 0), (7, 0), (7, 3))
        }
    for (step, row), (grads, out) in results.items():
        keys.refresh(step, row)
        model.zero_grad()
        wanted = model(x)
        wanted.square().sum().backward()
        torch.testing.assert_close(out, wanted, rtol=1e-5, atol=1e-5)
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(grads[name], parameter.grad, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(results[0, 0][1], results[7, 0][1])
    assert not torch.allclose(results[7, 0][1], results[7, 3][1])
