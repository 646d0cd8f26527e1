"""Shapes, types and memory of the chunked output layer; its values are tested in tests/parity/nn."""

from __future__ import annotations

import pytest
import torch

from lamina.core.errors import DtypeError, ShapeError
from lamina.nn import output_layer
from lamina.nn.output_layer import linear_cross_entropy


def test_the_loss_is_float32_whatever_the_products_are() -> None:
    hidden, weight, targets = torch.randn(4, 3), torch.randn(5, 3), torch.tensor([0, 1, 2, 4])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert linear_cross_entropy(hidden, weight, None, targets).dtype == torch.float32
    assert linear_cross_entropy(hidden.bfloat16(), weight.bfloat16(), None, targets).dtype == torch.float32
    assert linear_cross_entropy(hidden.double(), weight.double(), None, targets).dtype == torch.float64


def test_gradients_have_the_types_of_what_they_are_of() -> None:
    hidden = torch.randn(4, 3).bfloat16().requires_grad_()
    weight = torch.randn(5, 3, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        linear_cross_entropy(hidden, weight, None, torch.tensor([0, 1, 2, 4])).sum().backward()
    assert (hidden.grad.dtype, weight.grad.dtype) == (torch.bfloat16, torch.float32)


@pytest.mark.parametrize("kept_bytes", [1 << 20, 0])
def test_the_logits_of_all_rows_are_never_there_at_once(kept_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    original = output_layer._probs

    def watched(rows: torch.Tensor, *more: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(len(rows))
        return original(rows, *more)

    monkeypatch.setattr(output_layer, "_probs", watched)
    hidden = torch.randn(10, 3, requires_grad=True)
    targets = torch.zeros(10, dtype=torch.int64)
    linear_cross_entropy(hidden, torch.randn(5, 3), None, targets, chunk_rows=4, kept_bytes=kept_bytes).sum().backward()
    assert seen == [4, 4, 2] * (1 if kept_bytes else 2)


@pytest.mark.parametrize(
    ("hidden", "weight", "targets"), [((2, 3, 4), (5, 4), (6,)), ((6, 4), (5, 3), (6,)), ((6, 4), (5, 4), (5,))]
)
def test_shapes_that_do_not_fit_are_refused(
    hidden: tuple[int, ...], weight: tuple[int, ...], targets: tuple[int, ...]
) -> None:
    with pytest.raises(ShapeError, match="hidden is shaped"):
        linear_cross_entropy(torch.zeros(hidden), torch.zeros(weight), None, torch.zeros(targets, dtype=torch.int64))


def test_targets_must_be_int64() -> None:
    with pytest.raises(DtypeError, match="targets are int32"):
        linear_cross_entropy(torch.zeros(2, 3), torch.zeros(4, 3), None, torch.zeros(2, dtype=torch.int32))
