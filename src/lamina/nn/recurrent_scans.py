"""Whole sequences through a recurrent cell, forwards and backwards, written out so that little is left to do at each step.

What the inputs contribute to the gates is one product over all steps, and so are the gradients of weights and inputs. A step
itself is one product with the recurrent weights and a few operations on (B, G * H); backwards it is the same, because
everything that multiplies the gradient at a step is known beforehand and computed for all steps at once. On a processor this is
as fast as torch's own GRU and simple network, and in bf16 faster; torch's LSTM kernel is faster still, but gives no cell state
but the last and carries everything on, so both are here (benchmarks/recurrent.py compares them).

Each function takes (T, B, ·) tensors, equals the cells of `recurrent_cells.py` to rounding, and can be differentiated once.
Under autocast products are computed in its dtype, everything between them in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

__all__ = ["elman_scan", "gru_scan", "lstm_kernel", "lstm_scan"]


def elman_scan(
    inputs: Tensor,
    hidden: Tensor,
    weight_input: Tensor,
    weight_recurrent: Tensor,
    bias: Tensor,
    mask: Tensor | None = None,
    *,
    relu: bool = False,
) -> Tensor:
    """The simple recurrent network over all steps.

    Args:
        inputs: (T, B, I).
        hidden: (B, H) before the first step.
        weight_input, weight_recurrent, bias: (H, I), (H, H), (H,).
        mask: (B, H), multiplies what is carried into each step (recurrent dropout).
        relu: Rectify instead of tanh.

    Returns:
        Hidden states (T, B, H).
    """
    dtype = _product_dtype(inputs)
    with _plain(inputs):
        given = _given(inputs, weight_input, bias, dtype)
        result: Tensor = _call(_Elman, given, hidden, weight_recurrent, mask, relu, dtype)
    return result


def lstm_scan(
    inputs: Tensor,
    hidden: Tensor,
    cell: Tensor,
    weight_input: Tensor,
    weight_recurrent: Tensor,
    bias: Tensor,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Long short-term memory over all steps; gates in the order input, forget, candidate, output.

    Args:
        inputs: (T, B, I).
        hidden, cell: (B, H) before the first step.
        weight_input, weight_recurrent, bias: (4 H, I), (4 H, H), (4 H,).
        mask: (B, H), multiplies the hidden state that is carried into each step.

    Returns:
        Hidden and cell states (T, B, H).
    """
    dtype = _product_dtype(inputs)
    with _plain(inputs):
        given = _given(inputs, weight_input, bias, dtype)
        result: tuple[Tensor, Tensor] = _call(_LSTM, given, hidden, cell, weight_recurrent, mask, dtype)
    return result


def lstm_kernel(
    inputs: Tensor, hidden: Tensor, cell: Tensor, weight_input: Tensor, weight_recurrent: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """The same by torch's kernel, which is the fastest there is, but gives the cell after the last step only and drops nothing.

    Returns:
        Hidden states (T, B, H), and the last cell state (B, H).
    """
    weights = [weight_input, weight_recurrent, bias, torch.zeros_like(bias)]  # of torch's two biases the second
    before = (hidden.to(inputs.dtype).unsqueeze(0), cell.to(inputs.dtype).unsqueeze(0))
    states, _, last = torch._VF.lstm(inputs, before, weights, True, 1, 0.0, False, False, False)
    return states, last[0]


def gru_scan(
    inputs: Tensor,
    hidden: Tensor,
    weight_input: Tensor,
    weight_recurrent: Tensor,
    bias: Tensor,
    bias_recurrent: Tensor,
    mask: Tensor | None = None,
) -> Tensor:
    """Gated recurrent unit over all steps; gates in the order reset, update, candidate.

    Args:
        inputs: (T, B, I).
        hidden: (B, H) before the first step.
        weight_input, weight_recurrent, bias: (3 H, I), (3 H, H), (3 H,).
        bias_recurrent: (H,), added to the candidate's recurrent product, inside the reset gate.
        mask: (B, H), multiplies what is carried into each step's products, not what the update gate keeps.

    Returns:
        Hidden states (T, B, H).
    """
    dtype = _product_dtype(inputs)
    with _plain(inputs):
        given = _given(inputs, weight_input, bias, dtype)
        result: Tensor = _call(_GRU, given, hidden, weight_recurrent, bias_recurrent, mask, dtype)
    return result


# --- arithmetic ----------------------------------------------------------------------------------------------------


def _product_dtype(inputs: Tensor) -> torch.dtype:
    """What products are computed in: autocast's dtype where it is on (not for float64), else that of the inputs."""
    device = inputs.device.type
    if inputs.dtype != torch.float64 and device in ("cpu", "cuda") and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return inputs.dtype


def _plain(inputs: Tensor) -> Any:
    """No autocast inside: what is computed in which dtype is said here."""
    device = inputs.device.type if inputs.device.type in ("cpu", "cuda") else "cpu"
    return torch.autocast(device, enabled=False)


def _between(dtype: torch.dtype) -> torch.dtype:
    """The dtype between products."""
    return dtype if dtype == torch.float64 else torch.float32


def _given(inputs: Tensor, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> Tensor:
    """What the inputs contribute to the gates at all steps (T, B, G * H), differentiable, in the dtype between products."""
    product = torch.nn.functional.linear(inputs.to(dtype), weight.to(dtype), bias.to(dtype))
    return product.to(_between(dtype))


def _call(function: Any, *args: Any) -> Any:
    """With gradients through autograd; without, the same loop and nothing kept."""
    if torch.is_grad_enabled() and any(isinstance(arg, Tensor) and arg.requires_grad for arg in args):
        return function.apply(*args)
    return function.run(*args)[0]


def _plus_product(total: Tensor, rows: Tensor, weight: Tensor, out: Tensor | None = None) -> Tensor:
    """The sum total + rows @ weight: the product in the weight's dtype, the sum in that of `total`."""
    if total.dtype == weight.dtype:
        return torch.addmm(total, rows, weight) if out is None else torch.addmm(total, rows, weight, out=out)
    product = torch.mm(rows, weight)
    return torch.add(total, product) if out is None else torch.add(total, product, out=out)


def _product(rows: Tensor, weight: Tensor, between: torch.dtype) -> Tensor:
    """The product rows @ weight in the weight's dtype, given as `between`."""
    return torch.mm(rows.to(weight.dtype), weight).to(between)


def _backwards(*tensors: Tensor | None) -> Iterator[tuple[Any, ...]]:
    """What each holds of each step, the last step first; None of what is None."""
    num_steps = max(len(tensor) for tensor in tensors if tensor is not None)
    each = [[None] * num_steps if tensor is None else tensor.unbind(0)[::-1] for tensor in tensors]
    return zip(*each, strict=True)


def _carried(hidden: Tensor, states: Tensor, mask: Tensor | None) -> Tensor:
    """What each step's product was taken of (T, B, H): the states before it."""
    before = torch.cat([hidden.to(states.dtype).unsqueeze(0), states[:-1]])
    return before if mask is None else before * mask


def _weight_gradient(totals: Tensor, carried: Tensor, dtype: torch.dtype, to: torch.dtype) -> Tensor:
    """The sum over all steps of totals^T carried (G * H, H): one product."""
    return torch.mm(totals.flatten(0, 1).to(dtype).t(), carried.flatten(0, 1).to(dtype)).to(to)


class _Elman(torch.autograd.Function):
    @staticmethod
    def run(
        given: Tensor, hidden: Tensor, weight: Tensor, mask: Tensor | None, relu: bool, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        across = weight.to(dtype).t()
        states = given.new_empty(given.shape, dtype=dtype)
        carried = hidden.to(dtype)
        for total, state in zip(given.unbind(0), states.unbind(0), strict=True):
            if mask is not None:
                carried = carried * mask
            total = _plus_product(total, carried, across)
            if relu:
                state.copy_(total.relu_())
            else:
                torch.tanh(total, out=state)
            carried = state
        return states, states

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Tensor:
        _, hidden, weight, mask, relu, dtype = args
        states = _Elman.run(*args)[0]
        ctx.save_for_backward(hidden, weight, mask, states)
        ctx.relu, ctx.dtype = relu, dtype
        return states

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, mask, kept = ctx.saved_tensors
        back, between = weight.to(ctx.dtype), _between(ctx.dtype)
        states = kept.to(between)
        totals = (states > 0).to(between) if ctx.relu else 1 - states * states  # the slopes; becomes the gradient
        flowing = torch.zeros_like(states[0])
        for own, total in _backwards(gradient, totals):
            total.mul_(flowing.add_(own))
            flowing = _product(total, back, between)
            if mask is not None:
                flowing.mul_(mask)
        recurrent = _weight_gradient(totals, _carried(hidden, kept, mask), ctx.dtype, weight.dtype)
        return totals, flowing.to(hidden.dtype), recurrent, None, None, None


class _LSTM(torch.autograd.Function):
    @staticmethod
    def run(
        given: Tensor, hidden: Tensor, cell: Tensor, weight: Tensor, mask: Tensor | None, dtype: torch.dtype
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        size = hidden.shape[1]
        across = weight.to(dtype).t()
        gates = torch.empty_like(given)
        states = given.new_empty(*given.shape[:2], size, dtype=dtype)
        cells, bent = (given.new_empty(*given.shape[:2], size) for _ in range(2))
        carried, cell = hidden.to(dtype), cell.to(given.dtype)
        steps = zip(
            *(tensor.unbind(0) for tensor in (given, gates, gates[..., : 2 * size], *gates.split(size, dim=2))),
            *(tensor.unbind(0) for tensor in (states, cells, bent)),
            strict=True,
        )
        for total, all_gates, first, i, f, g, o, state, new, tanh in steps:
            if mask is not None:
                carried = carried * mask
            _plus_product(total, carried, across, out=all_gates)
            first.sigmoid_()
            g.tanh_()
            o.sigmoid_()
            torch.mul(f, cell, out=new).addcmul_(i, g)
            torch.tanh(new, out=tanh)
            torch.mul(o, tanh, out=state)
            carried, cell = state, new
        return (states, cells), (gates, bent)

    @staticmethod
    def forward(ctx: Any, *args: Any) -> tuple[Tensor, Tensor]:
        _, hidden, cell, weight, mask, dtype = args
        (states, cells), (gates, bent) = _LSTM.run(*args)
        ctx.save_for_backward(hidden, cell, weight, mask, states, cells, gates, bent)
        ctx.dtype = dtype
        ctx.set_materialize_grads(False)
        return states, cells

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor | None, by_cells: Tensor | None) -> tuple[Tensor | None, ...]:
        hidden, cell, weight, mask, states, cells, gates, bent = ctx.saved_tensors
        size = hidden.shape[1]
        back, between = weight.to(ctx.dtype), _between(ctx.dtype)
        # What multiplies the gradient at each step: the hidden state's for the output gate, the cell's for the others.
        totals = gates * (1 - gates)
        entry, forget, candidate, output = gates.split(size, dim=2)
        of_entry, of_forget, of_candidate, of_output = totals.split(size, dim=2)
        of_output.mul_(bent)
        of_forget[0].mul_(cell)
        of_forget[1:].mul_(cells[:-1])
        of_entry.mul_(candidate)
        torch.addcmul(entry, entry * candidate, candidate, value=-1, out=of_candidate)
        into_cell = torch.addcmul(output, output * bent, bent, value=-1)
        others = totals[..., : 3 * size].unflatten(2, (3, size))
        flowing, remembered = torch.zeros_like(bent[0]), torch.zeros_like(bent[0])
        walk = (gradient, by_cells, into_cell, totals, of_output, others, forget)
        for own, own_cell, bend, total, first, rest, keep in _backwards(*walk):
            if own is not None:
                flowing.add_(own)
            if own_cell is not None:
                remembered.add_(own_cell)
            remembered.addcmul_(flowing, bend)
            first.mul_(flowing)
            rest.mul_(remembered.unsqueeze(1))
            remembered.mul_(keep)
            flowing = _product(total, back, between)
            if mask is not None:
                flowing.mul_(mask)
        recurrent = _weight_gradient(totals, _carried(hidden, states, mask), ctx.dtype, weight.dtype)
        return totals, flowing.to(hidden.dtype), remembered.to(cell.dtype), recurrent, None, None


class _GRU(torch.autograd.Function):
    @staticmethod
    def run(
        given: Tensor, hidden: Tensor, weight: Tensor, bias: Tensor, mask: Tensor | None, dtype: torch.dtype
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        size = hidden.shape[1]
        across = weight.to(dtype).t()
        gates = given.clone()
        states = torch.empty_like(given[..., :size])  # what is kept is added up over all steps: in the wider dtype
        inside = torch.empty_like(states)
        beside = torch.cat([bias.new_zeros(2 * size), bias]).to(given.dtype)
        carried = hidden.to(given.dtype)
        steps = zip(
            *(tensor.unbind(0) for tensor in (gates[..., : 2 * size], *gates.split(size, dim=2), states, inside)),
            strict=True,
        )
        for sigmoids, reset, update, candidate, state, within in steps:
            seen = carried if mask is None else carried * mask
            product = _plus_product(beside, seen.to(dtype), across)
            sigmoids.add_(product[:, : 2 * size]).sigmoid_()
            within.copy_(product[:, 2 * size :])
            candidate.addcmul_(reset, within).tanh_()
            torch.lerp(candidate, carried, update, out=state)
            carried = state
        return states, (gates, inside)

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Tensor:
        _, hidden, weight, _, mask, dtype = args
        states, (gates, inside) = _GRU.run(*args)
        ctx.save_for_backward(hidden, weight, mask, states, gates, inside)
        ctx.dtype = dtype
        return states

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, mask, states, gates, inside = ctx.saved_tensors
        size = hidden.shape[1]
        back, between = weight.to(ctx.dtype), _between(ctx.dtype)
        reset, update, candidate = gates.split(size, dim=2)
        of_candidate = (1 - update) * (1 - candidate * candidate)
        totals = torch.empty_like(gates)  # by which the gradient at each step is multiplied, for the recurrent product
        of_reset, of_update, of_inside = totals.split(size, dim=2)
        torch.mul(of_candidate, reset, out=of_inside)
        torch.mul(of_inside, (1 - reset) * inside, out=of_reset)
        torch.mul(_carried(hidden, states, None) - candidate, update * (1 - update), out=of_update)
        flows = torch.empty_like(states)
        flowing = torch.zeros_like(states[0])
        for own, total, gate_by_gate, keep, flow in _backwards(
            gradient, totals, totals.unflatten(2, (3, size)), update, flows
        ):
            torch.add(flowing, own, out=flow)
            gate_by_gate.mul_(flow.unsqueeze(1))
            flowing = _product(total, back, between)
            if mask is not None:
                flowing.mul_(mask)
            flowing.addcmul_(flow, keep)
        recurrent = _weight_gradient(totals, _carried(hidden, states, mask), ctx.dtype, weight.dtype)
        by_bias = of_inside.sum((0, 1)).to(weight.dtype)
        # The candidate's input is not behind the reset gate.
        given = torch.cat([totals[..., : 2 * size], of_candidate.mul_(flows)], dim=2)
        return given, flowing.to(hidden.dtype), recurrent, by_bias, None, None
