"""Recurrent layers: shapes, state, initial weights, dropout that is kept over time, refusals."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lamina.core.errors import DtypeError, LaminaError, ShapeError
from lamina.nn.dropout import DropoutKeys
from lamina.nn.initialisers import initialise
from lamina.nn.meta import without_values
from lamina.nn.recurrent import Recurrent
from lamina.nn.recurrent_cells import CELLS, GRUCell, LSTMCell

KINDS = sorted(CELLS)


def layers(kind: str = "lstm", **options: object) -> Recurrent:
    return Recurrent(kind, **{"input_size": 4, "hidden_size": 6, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_in_pieces_is_the_sequence(kind: str) -> None:
    model = layers(kind, num_layers=2)
    inputs = torch.randn(3, 9, 4)
    whole, last = model(inputs)
    state, pieces = model.initial_state(3), []
    for piece in inputs.split([1, 5, 3], dim=1):
        hidden, state = model(piece, state)
        pieces.append(hidden)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole)
    for name, value in last.items():
        assert value.shape == (3, 2, 6)
        torch.testing.assert_close(state[name], value)


def test_an_lstm_that_keeps_everything_adds_up() -> None:
    """Worked by hand: gates saturated open, so that the cell sums tanh(x) and the gradient reaches the first step whole."""
    cell = LSTMCell(input_size=1, hidden_size=1).double()
    with torch.no_grad():
        cell.weight_input.zero_()
        cell.weight_recurrent.zero_()
        cell.gate(cell.bias, "forget").fill_(40.0)
        cell.gate(cell.bias, "input").fill_(40.0)
        cell.gate(cell.bias, "output").fill_(40.0)
        cell.gate(cell.weight_input, "candidate").fill_(1.0)
    inputs = torch.tensor([[0.5], [-0.2], [0.1]], dtype=torch.float64, requires_grad=True)
    state = None
    for step in inputs:
        state = cell(step.unsqueeze(0), state)
    assert state is not None
    total = inputs.detach().tanh().sum()
    assert state["cell"].item() == pytest.approx(total.item(), abs=1e-12)
    assert state["hidden"].item() == pytest.approx(total.tanh().item(), abs=1e-12)
    (by_first,) = torch.autograd.grad(state["cell"].sum(), inputs)
    torch.testing.assert_close(by_first.squeeze(1), 1 - inputs.detach().squeeze(1).tanh().square())


def test_initial_weights() -> None:
    cell = LSTMCell(input_size=8, hidden_size=16, forget_bias=3.0)
    for name in cell.gates_in_order:
        recurrent = cell.gate(cell.weight_recurrent, name)
        torch.testing.assert_close(recurrent @ recurrent.T, torch.eye(16), atol=1e-5, rtol=0)
        assert cell.gate(cell.weight_input, name).abs().max() <= (6 / 24) ** 0.5
        assert bool((cell.gate(cell.bias, name) == (3.0 if name == "forget" else 0.0)).all())


def test_gates_that_begin_with_keeping_for_long() -> None:
    cell = LSTMCell(input_size=2, hidden_size=2000, memory_length=100)
    keeps = torch.sigmoid(cell.gate(cell.bias, "forget").detach())
    steps = 1 / (1 - keeps)  # u + 1 of a gate with bias log(u)
    assert 2 <= float(steps.min()) < 4
    assert 95 < float(steps.max()) <= 100
    assert float(steps.mean()) == pytest.approx(51, abs=3)
    assert torch.equal(cell.gate(cell.bias, "input"), -cell.gate(cell.bias, "forget"))
    assert not bool(cell.gate(cell.bias, "output").any())
    unit = GRUCell(input_size=2, hidden_size=5, memory_length=10)
    assert bool((unit.gate(unit.bias, "update") > 0).all())
    assert not bool(unit.gate(unit.bias, "reset").any())


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_keyed_by_seed_and_place(kind: str) -> None:
    one, same, deeper = layers(kind), layers(kind), layers(kind, num_layers=2)
    for model in (one, same, deeper):
        initialise(model, "xavier-uniform", seed=3)
    for key, value in one.state_dict().items():
        assert torch.equal(value, same.state_dict()[key]), key
        assert torch.equal(value, deeper.state_dict()[key]), "adding a layer leaves the others alone"
    assert not torch.equal(deeper.layers[0].weight_recurrent, deeper.layers[1].weight_recurrent)


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_are_known_without_values(kind: str) -> None:
    model = layers(kind, num_layers=2, bidirectional=True)
    mask = torch.ones(2, 5, dtype=torch.bool, device="meta")
    with without_values(model):
        hidden, state = model(torch.empty(2, 5, 4, device="meta"), mask=mask)
        assert hidden.shape == (2, 5, 12)
        assert all(value.shape == (2, 4, 6) for value in state.values())
        assert model(torch.empty(2, 5, 4, device="meta"))[0].shape == (2, 5, 12)


def masks_over_time(outputs: Tensor) -> Tensor:
    return (outputs != 0).float()


def test_variational_dropout_is_the_same_at_all_steps() -> None:
    model = layers("elman", variational_dropout=0.5).train()
    keys = DropoutKeys(model, 0)
    assert keys.names == ["of_carried.0", "of_inputs.0", "of_inputs.1"]
    keys.refresh(5)
    inputs = torch.randn(3, 7, 4)
    first, _ = model(inputs)
    kept = masks_over_time(first)
    assert torch.equal(kept, kept[:, :1].expand_as(kept)), "one mask for the whole sequence"
    assert 0 < kept.mean() < 1
    assert not torch.equal(kept[0], kept[1]), "another for each row"
    assert torch.equal(model(inputs)[0], first), "a function of seed, step and row"
    keys.refresh(6)
    assert not torch.equal(masks_over_time(model(inputs)[0]), kept)
    keys.refresh(5, first_row=2)
    assert torch.equal(masks_over_time(model(inputs[2:])[0]), kept[2:]), "micro-batches draw what the whole batch draws"
    model.eval()
    assert torch.equal(model(inputs)[0], layers_without_dropout(model)(inputs)[0])


def layers_without_dropout(model: Recurrent) -> Recurrent:
    plain = layers(model.kind)
    plain.load_state_dict(model.state_dict())
    return plain


def test_dropout_between_layers_draws_anew_at_each_step() -> None:
    model = layers("gru", num_layers=3, dropout=0.5).train()
    assert DropoutKeys(model, 0).names == ["between.0", "between.1"]
    seen: list[Tensor] = []
    model.layers[1].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    model(torch.randn(2, 8, 4))
    kept = masks_over_time(seen[0])
    assert not torch.equal(kept[:, 0], kept[:, 1])


def test_without_the_state_nothing_else_changes() -> None:
    model = layers("lstm", num_layers=2, bidirectional=True)
    inputs, mask = torch.randn(3, 6, 4), torch.rand(3, 6) < 0.7
    hidden, state = model(inputs, mask=mask, need_state=False)
    assert state == {}
    torch.testing.assert_close(hidden, model(inputs, mask=mask)[0])


def test_a_row_without_steps_keeps_its_state() -> None:
    model = layers("lstm")
    before = {name: torch.randn(2, 1, 6) for name in ("hidden", "cell")}
    mask = torch.tensor([[False, False, False], [True, False, True]])
    hidden, after = model(torch.randn(2, 3, 4), before, mask=mask)
    for name, value in after.items():
        assert torch.equal(value[0], before[name][0])
        assert not torch.equal(value[1], before[name][1])
    assert bool((hidden[~mask] == 0).all())


@pytest.mark.parametrize("kind", KINDS)
def test_the_trace_says_where_things_happened(kind: str) -> None:
    model = layers(kind, bidirectional=True)
    inputs = torch.randn(2, 5, 4)
    mask = torch.tensor([[True] * 5, [False, True, True, False, True]])
    hidden, _, (forward, backward) = model.trace(inputs, mask=mask)
    assert (forward.reverse, backward.reverse) == (False, True)
    places = mask[1].nonzero().flatten()
    torch.testing.assert_close(forward.states["hidden"][1, places], hidden[1, places, :6])
    torch.testing.assert_close(backward.states["hidden"][1, places], hidden[1, places, 6:])
    torch.testing.assert_close(backward.steps[0]["hidden"][1], hidden[1, 4, 6:]), "it begins at the last real step"
    cell = CELLS[kind]
    assert set(forward.gates) == set(cell.gates_in_order)
    (by_first,) = torch.autograd.grad(hidden[0, -1, :6].sum(), [forward.steps[0]["hidden"]])
    assert by_first[0].abs().sum() > 0


@pytest.mark.parametrize(
    ("inputs", "options", "error", "match"),
    [
        (torch.zeros(3, 4), {}, ShapeError, r"shaped \(3, 4\)"),
        (torch.zeros(2, 3, 5), {}, ShapeError, r"\(2, 3, 5\)"),
        (torch.zeros(2, 0, 4), {}, ShapeError, r"\(2, 0, 4\)"),
        (torch.zeros(2, 3, 4, dtype=torch.int64), {}, DtypeError, "int64"),
        (torch.zeros(2, 3, 4), {"mask": torch.ones(2, 3)}, ShapeError, "float32"),
        (torch.zeros(2, 3, 4), {"mask": torch.ones(2, 4, dtype=torch.bool)}, ShapeError, r"\(2, 4\)"),
        (torch.zeros(2, 3, 4), {"state": {"hidden": torch.zeros(2, 1, 6)}}, ShapeError, "'cell' is missing"),
        (
            torch.zeros(2, 3, 4),
            {"state": {"hidden": torch.zeros(1, 2, 6), "cell": torch.zeros(1, 2, 6)}},
            ShapeError,
            r"'hidden' is shaped \(1, 2, 6\)",
        ),
    ],
)
def test_refusals(inputs: Tensor, options: dict[str, object], error: type[LaminaError], match: str) -> None:
    with pytest.raises(error, match=match) as caught:
        layers()(inputs, **options)
    assert caught.value.mend
    with pytest.raises(LaminaError, match="no recurrent cell called 'lstn'"):
        layers("lstn")
    with pytest.raises(ShapeError, match=r"\(1, 3, 2\)") as refused:
        LSTMCell(input_size=2, hidden_size=2)(torch.zeros(1, 3, 2))
    assert "one step" in refused.value.accepts


def test_a_module_of_torch_beside_it_is_not_needed() -> None:
    """The layers hold no torch.nn.LSTM: their weights are theirs alone."""
    assert not any(isinstance(module, nn.RNNBase) for module in layers().modules())
