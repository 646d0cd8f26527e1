"""Recurrent layers and cells against torch.nn, float64: outputs, states, all gradients.

The tolerance is 1e-10 relative: both sides round in float64 over sums of a few hundred terms. torch keeps two biases where we
have one; both of its biases have the gradient of ours.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lamina.nn.recurrent import Recurrent
from lamina.nn.recurrent_cells import Cell, ElmanCell, GRUCell, LSTMCell

TORCH = {"elman": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
TORCH_CELLS = {"elman": (ElmanCell, nn.RNNCell), "lstm": (LSTMCell, nn.LSTMCell), "gru": (GRUCell, nn.GRUCell)}
WIDTH, H, B, T = 5, 7, 3, 6


def close(ours: Tensor, theirs: Tensor, name: str = "") -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12, msg=lambda text: f"{name}: {text}")


def fill(cell: Cell, reference: nn.Module, suffix: str) -> None:
    """Copy torch's weights; the order of gates is the same."""
    weights = [getattr(reference, f"{name}{suffix}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    with torch.no_grad():
        cell.weight_input.copy_(weights[0])
        cell.weight_recurrent.copy_(weights[1])
        cell.bias.copy_(weights[2] + weights[3])
        if isinstance(cell, GRUCell):
            cell.bias[2 * H :] = weights[2][2 * H :]
            cell.bias_recurrent.copy_(weights[3][2 * H :])


def pair(kind: str, *, layers: int, both: bool, relu: bool = False) -> tuple[Recurrent, nn.Module, list[str]]:
    options = {"nonlinearity": "relu"} if relu else {}
    reference = TORCH[kind](WIDTH, H, num_layers=layers, bidirectional=both, batch_first=True, **options).double()
    activation = "relu" if relu else "tanh"
    ours = Recurrent(
        kind, input_size=WIDTH, hidden_size=H, num_layers=layers, bidirectional=both, activation=activation
    ).double()
    suffixes = [f"_l{layer}{end}" for layer in range(layers) for end in ("", "_reverse")[: 1 + both]]
    for cell, suffix in zip(ours.layers, suffixes, strict=True):
        fill(cell, reference, suffix)
    return ours, reference, suffixes


def test_names_and_order_of_gates() -> None:
    assert LSTMCell.gates_in_order == ("input", "forget", "candidate", "output")
    assert GRUCell.gates_in_order == ("reset", "update", "candidate")


@pytest.mark.parametrize("path", ["scan", "kernel"])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize(("kind", "relu"), [("elman", False), ("elman", True), ("lstm", False), ("gru", False)])
def test_layers(kind: str, relu: bool, both: bool, path: str) -> None:
    """`kernel` is what runs by default; a mask of ones makes an LSTM go through our own scan."""
    ours, reference, suffixes = pair(kind, layers=2, both=both, relu=relu)
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    inputs = draw(B, T, WIDTH).requires_grad_()
    before = {name: draw(B, len(suffixes), H).requires_grad_() for name in ours.state_names}
    mask = torch.ones(B, T, dtype=torch.bool) if path == "scan" else None
    hidden, after = ours(inputs, before, mask=mask)
    state = tuple(before[name].transpose(0, 1).contiguous() for name in ours.state_names)
    wanted, last = reference(inputs, state if kind == "lstm" else state[0])
    last = last if kind == "lstm" else (last,)
    close(hidden, wanted, "hidden states")
    for name, value in zip(ours.state_names, last, strict=True):
        close(after[name], value.transpose(0, 1), name)

    weight, weights = draw(*hidden.shape), [draw(*after[name].shape) for name in ours.state_names]
    loss = (hidden * weight).sum() + sum((after[n] * w).sum() for n, w in zip(ours.state_names, weights, strict=True))
    their_loss = (wanted * weight).sum()
    their_loss = their_loss + sum((v.transpose(0, 1) * w).sum() for v, w in zip(last, weights, strict=True))
    leaves = [inputs, *before.values()]
    for got, expected in zip(
        torch.autograd.grad(loss, leaves, retain_graph=True),
        torch.autograd.grad(their_loss, leaves, retain_graph=True),
        strict=True,
    ):
        close(got, expected, "gradient of inputs and states")
    loss.backward()
    their_loss.backward()
    for cell, suffix in zip(ours.layers, suffixes, strict=True):
        theirs = {
            name: getattr(reference, f"{name}{suffix}").grad
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        }
        close(cell.weight_input.grad, theirs["weight_ih"], f"weight_input{suffix}")
        close(cell.weight_recurrent.grad, theirs["weight_hh"], f"weight_recurrent{suffix}")
        close(cell.bias.grad, theirs["bias_ih"], f"bias{suffix}")
        if kind == "gru":
            close(cell.bias_recurrent.grad, theirs["bias_hh"][2 * H :], f"bias_recurrent{suffix}")


@pytest.mark.parametrize("kind", sorted(TORCH_CELLS))
def test_cells(kind: str) -> None:
    ours_class, theirs_class = TORCH_CELLS[kind]
    reference = theirs_class(WIDTH, H).double()
    ours = ours_class(input_size=WIDTH, hidden_size=H).double()
    fill(ours, reference, "")
    inputs = torch.randn(B, WIDTH, dtype=torch.float64)
    state = {name: torch.randn(B, H, dtype=torch.float64) for name in ours.state_names}
    theirs = reference(inputs, tuple(state.values()) if kind == "lstm" else state["hidden"])
    after = ours(inputs, state)
    for name, value in zip(ours.state_names, theirs if kind == "lstm" else (theirs,), strict=True):
        close(after[name], value, name)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dropped", [0.0, 0.4])
@pytest.mark.parametrize("kind", sorted(TORCH))
def test_whole_sequences_equal_the_cells(kind: str, dropped: float, masked: bool) -> None:
    """The fast way and the readable one: values and gradients, with padding anywhere and dropout on what is carried."""
    layers = Recurrent(
        kind, input_size=WIDTH, hidden_size=H, num_layers=2, bidirectional=True, variational_dropout=dropped
    ).double()
    for module in layers.modules():
        if hasattr(module, "engine_driven"):  # a fixed key instead of a fresh draw at each pass
            module.engine_driven = True
    inputs = torch.randn(B, T, WIDTH, dtype=torch.float64, requires_grad=True)
    mask = torch.rand(B, T) < 0.6 if masked else None
    hidden, after = layers(inputs, mask=mask)
    by_steps, state, traces = layers.trace(inputs, mask=mask)
    assert len(traces) == 4
    close(hidden, by_steps, "hidden states")
    for name in layers.state_names:
        close(after[name], state[name], name)
    weight = torch.randn_like(hidden)
    leaves = [inputs, *layers.parameters()]
    for got, wanted in zip(
        torch.autograd.grad((hidden * weight).sum() + after["hidden"].sum(), leaves),
        torch.autograd.grad((by_steps * weight).sum() + state["hidden"].sum(), leaves),
        strict=True,
    ):
        close(got, wanted, "gradients")


@pytest.mark.parametrize("kind", sorted(TORCH))
def test_bf16_is_near(kind: str) -> None:
    """bf16 has 8 bits: 0.4 % per product, which sums of both signs do not add up."""
    layers = Recurrent(kind, input_size=16, hidden_size=32, num_layers=2)
    inputs = torch.randn(4, 20, 16)
    wanted, _ = layers(inputs)
    exact = torch.autograd.grad(wanted.square().sum(), list(layers.parameters()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden, state = layers(inputs)
        loss = hidden.float().square().sum()
    assert all(value.dtype == torch.float32 for value in state.values()), "a state is kept as it began"
    torch.testing.assert_close(hidden.float(), wanted, rtol=0.05, atol=0.03)
    for got, expected in zip(torch.autograd.grad(loss, list(layers.parameters())), exact, strict=True):
        assert got.dtype == torch.float32
        assert float((got - expected).norm() / expected.norm()) < 0.05
