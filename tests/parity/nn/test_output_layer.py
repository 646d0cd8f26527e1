"""The chunked cross-entropy against torch's own over all logits: values and gradients in float64."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from lamina.nn.output_layer import head_cross_entropy, linear_cross_entropy

# Both compute in float64; only the order of sums differs.
TOLERANCE = {"rtol": 1e-12, "atol": 1e-12}


def _case(num_rows: int, *, bias: bool, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(num_rows)
    hidden = torch.randn(num_rows, 7, dtype=dtype, generator=generator)
    weight = torch.randn(23, 7, dtype=dtype, generator=generator)
    shift = torch.randn(23, dtype=dtype, generator=generator) if bias else None
    targets = torch.randint(0, 23, (num_rows,), generator=generator)
    row_weights = torch.rand(num_rows, dtype=dtype, generator=generator)
    return hidden, weight, shift, targets, row_weights


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kept_bytes", [1 << 20, 0], ids=["kept", "calculated-again"])
@pytest.mark.parametrize(("num_rows", "chunk_rows"), [(1, 8), (16, 4), (17, 5), (17, 100), (6, 1)])
def test_values_and_gradients(num_rows: int, chunk_rows: int, kept_bytes: int, bias: bool) -> None:
    hidden, weight, shift, targets, row_weights = _case(num_rows, bias=bias)
    given = [tensor for tensor in (hidden, weight, shift) if tensor is not None]
    ours = [tensor.clone().requires_grad_() for tensor in given]
    theirs = [tensor.clone().requires_grad_() for tensor in given]
    found = linear_cross_entropy(
        ours[0], ours[1], ours[2] if bias else None, targets, chunk_rows=chunk_rows, kept_bytes=kept_bytes
    )
    wanted = functional.cross_entropy(
        functional.linear(theirs[0], theirs[1], theirs[2] if bias else None), targets, reduction="none"
    )
    torch.testing.assert_close(found, wanted, **TOLERANCE)
    (found * row_weights).sum().backward()
    (wanted * row_weights).sum().backward()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad, **TOLERANCE)


def test_gradients_by_finite_differences() -> None:
    hidden, weight, shift, targets, _ = _case(5, bias=True)
    inputs = tuple(tensor.requires_grad_() for tensor in (hidden, weight, shift))
    assert torch.autograd.gradcheck(lambda h, w, b: linear_cross_entropy(h, w, b, targets, chunk_rows=2), inputs)


@pytest.mark.parametrize("wanted", [(True, False, False), (False, True, False), (False, False, True)])
@pytest.mark.parametrize("kept_bytes", [1 << 20, 0])
def test_only_what_is_asked_for_gets_a_gradient(wanted: tuple[bool, ...], kept_bytes: int) -> None:
    hidden, weight, shift, targets, _ = _case(9, bias=True)
    inputs = [tensor.requires_grad_(want) for tensor, want in zip((hidden, weight, shift), wanted, strict=True)]
    linear_cross_entropy(*inputs, targets, chunk_rows=4, kept_bytes=kept_bytes).sum().backward()
    assert [tensor.grad is not None for tensor in inputs] == list(wanted)


def test_large_logits_stay_exact() -> None:
    """The loss of a row is not taken from its target's probability, which may be too small for a number."""
    weight = torch.tensor([[1.0], [-1.0]], dtype=torch.float32)
    found = linear_cross_entropy(torch.tensor([[400.0]]), weight, None, torch.tensor([1]))
    assert float(found) == 800.0


def test_bf16_is_as_close_to_the_truth_as_autocast() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(64, 32, generator=generator), torch.randn(500, 32, generator=generator) / 4
    bias, targets = torch.randn(500, generator=generator), torch.randint(0, 500, (64,), generator=generator)

    def gradients(kind: str) -> list[torch.Tensor]:
        dtype = torch.float64 if kind == "truth" else torch.float32
        inputs = [tensor.to(dtype).requires_grad_() for tensor in (hidden, weight, bias)]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=kind != "truth"):
            if kind == "ours":
                nats = linear_cross_entropy(*inputs, targets, chunk_rows=10)
            else:
                nats = functional.cross_entropy(functional.linear(*inputs), targets, reduction="none")
        nats.mean().backward()
        return [nats.detach().double(), *(tensor.grad.double() for tensor in inputs)]

    truth = gradients("truth")
    for ours, theirs, wanted in zip(gradients("ours"), gradients("autocast"), truth, strict=True):
        error, autocast_error = float((ours - wanted).norm()), float((theirs - wanted).norm())
        assert error <= 1.5 * autocast_error
        assert error < 0.02 * float(wanted.norm())


def test_a_head_that_is_no_linear_layer_is_called() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(7, 23).double()
    hidden, _, _, targets, _ = _case(6, bias=False)
    torch.testing.assert_close(
        head_cross_entropy(nn.Sequential(linear), hidden, targets), head_cross_entropy(linear, hidden, targets)
    )


def test_a_row_that_is_nearly_certain_still_learns_in_bf16() -> None:
    """p = 0.9995 is 1 in bf16; the gradient is the difference to 1 all the same."""
    hidden = torch.tensor([[7.6, 0.0]], requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        linear_cross_entropy(hidden, torch.eye(2), None, torch.tensor([0])).sum().backward()
    gradient = hidden.grad
    assert gradient is not None
    assert -6e-4 < float(gradient[0, 0]) < -4e-4
