"""The views `gates` and `gradients`: numbers against the cells and against autograd, and refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lamina.core.errors import LaminaError, UsageError
from lamina.explain.gradients_view import compare_gradients, gradients_through_time
from lamina.explain.views import Subject, show_view
from lamina.models.factory import create_model
from unit.explain.view_case import pixels


def signals(name: str = "lstm", **options: object) -> Subject:
    model = create_model(name, seed=0, in_channels=2, num_classes=3, hidden_size=6, **options)
    return Subject(model, name="small", inputs=torch.rand(4, 2, 9, generator=torch.Generator().manual_seed(0)))


def texts(name: str = "lstm", **options: object) -> Subject:
    model = create_model(name, seed=0, vocab_size=30, num_classes=2, embedding_size=5, hidden_size=6, **options)
    ids = torch.randint(2, 30, (3, 7), generator=torch.Generator().manual_seed(1))
    mask = torch.arange(7) < torch.tensor([[7], [4], [1]])
    return Subject(model, name="words", inputs={"input_ids": ids, "attention_mask": mask})


def test_gates_are_those_of_the_cell() -> None:
    subject = signals()
    shown = show_view("gates", subject, row=2)
    assert isinstance(subject.inputs, Tensor)
    cell = subject.model.recurrent.layers[0]
    state = cell.initial_state(1)
    for step in range(9):
        gates = cell.gates(subject.inputs[2:3, :, step], state)
        state = cell.after(gates, state)
        for name, value in {**gates, **state}.items():
            np.testing.assert_allclose(shown.arrays[f"layer1.{name}"][step], value[0].detach().numpy(), atol=1e-6)
    layer = shown.document["layers"][0]
    assert layer["gates"]["forget"]["mean"] == pytest.approx(shown.arrays["layer1.forget"].mean(), abs=1e-6)
    kept = shown.arrays["layer1.forget"].mean(axis=0)
    assert layer["half_life"]["longest"] == pytest.approx(np.log(0.5) / np.log(kept.max()), rel=1e-4)
    assert pixels(shown.figure).std() > 5


def test_gates_along_a_text_without_its_padding() -> None:
    subject = texts("gru", num_layers=2, bidirectional=True)
    shown = show_view("gates", subject, row=1)
    assert isinstance(subject.inputs, dict)
    assert shown.document["steps"] == [str(number) for number in subject.inputs["input_ids"][1, :4].tolist()]
    assert [layer["name"] for layer in shown.document["layers"]] == [
        "layer1",
        "layer1.backward",
        "layer2",
        "layer2.backward",
    ]
    assert all(array.shape == (4, 6) for array in shown.arrays.values())
    alone = show_view("gates", replace(subject, inputs=subject.inputs["input_ids"][1:2, :4]))
    for name, values in alone.arrays.items():
        np.testing.assert_allclose(shown.arrays[name], values, atol=1e-6)
    assert pixels(show_view("gates", subject, layer=2, most=4).figure).std() > 5


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_gradients_are_total_derivatives(name: str) -> None:
    """The derivative by a hidden state in the middle, by going on from there."""
    subject = signals(name)
    model, inputs = subject.model.double(), subject.inputs.double()  # type: ignore[union-attr]
    found = gradients_through_time(model, inputs)
    assert set(found) == ({"layer1", "layer1.cell"} if name == "lstm" else {"layer1"})
    for back in (0, 3, 8):
        cut = inputs.shape[2] - back
        _, state = model.recurrent(inputs[:, :, :cut].transpose(1, 2))
        state = {key: value.detach().requires_grad_() for key, value in state.items()}
        last = state["hidden"][:, 0]
        if back:
            last = model.recurrent(inputs[:, :, cut:].transpose(1, 2), state)[0][:, -1]
        score = model.head(last).amax(dim=1).sum()
        (gradient,) = torch.autograd.grad(score, [state["hidden"]])
        np.testing.assert_allclose(found["layer1"][:, back], gradient.norm(dim=2)[:, 0].numpy(), rtol=1e-4)


def test_gradients_count_back_from_each_rows_last_word() -> None:
    subject = texts("lstm")
    assert isinstance(subject.inputs, dict)
    found = gradients_through_time(subject.model, subject.inputs)["layer1"]
    assert np.isfinite(found).sum(axis=1).tolist() == [7, 4, 1]
    alone = gradients_through_time(subject.model, subject.inputs["input_ids"][1:2, :4])["layer1"]
    np.testing.assert_allclose(found[1, :4], alone[0], rtol=1e-4)


def test_a_language_models_last_answer_is_looked_at() -> None:
    subject = texts("gru", readout="each")
    assert isinstance(subject.inputs, dict)
    found = gradients_through_time(subject.model, subject.inputs)["layer1"]
    last = create_model("gru", vocab_size=30, num_classes=2, embedding_size=5, hidden_size=6, readout="last")
    last.load_state_dict(subject.model.state_dict())
    np.testing.assert_allclose(found, gradients_through_time(last, subject.inputs)["layer1"], rtol=1e-5)


def test_a_simple_network_forgets_and_an_open_forget_gate_does_not() -> None:
    inputs = torch.rand(6, 1, 60, generator=torch.Generator().manual_seed(0))
    plain = create_model("rnn", seed=0, hidden_size=8, num_classes=1)
    with torch.no_grad():
        plain.recurrent.layers[0].weight_recurrent.mul_(0.8)  # of an orthogonal matrix: 0.8 per step at most
    keeping = create_model("lstm", seed=0, hidden_size=8, num_classes=1, forget_bias=8.0)
    shown = compare_gradients({"plain": plain, "keeping": keeping}, inputs)
    lines = {(line["model"], line["layer"]): line for line in shown.document["lines"]}
    assert lines["plain", "layer1"]["factor_per_step"] < 0.8
    assert lines["plain", "layer1"]["vanishes_after"] < 30
    assert lines["keeping", "layer1.cell"]["vanishes_after"] is None
    assert shown.arrays["plain.layer1.quartiles"].shape == (2, 60)
    assert pixels(shown.figure).std() > 5


@pytest.mark.parametrize("view", ["gates", "gradients"])
def test_looking_changes_nothing(view: str) -> None:
    subject = signals(dropout=0.5, num_layers=2)
    model = subject.model.train()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    first = show_view(view, subject).document
    assert show_view(view, subject).document == first
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert "forward" not in model.recurrent.__dict__
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in model.parameters())


def test_refusals() -> None:
    cases: list[tuple[str, Subject, dict[str, object], str]] = [
        ("gates", signals("rnn"), {}, "no gates"),
        ("gates", signals(), {"row": 4}, "no input 4"),
        ("gates", signals(), {"layer": 2}, "no layer 2"),
        ("gates", replace(signals(), inputs=None), {}, "needs an input"),
        ("gates", Subject(nn.Conv1d(2, 3, 1), inputs=torch.rand(1, 2, 5)), {}, "no recurrent layers"),
        ("gradients", Subject(nn.Conv1d(2, 3, 1), inputs=torch.rand(1, 2, 5)), {}, "no recurrent layers"),
        ("gradients", Subject(nn.Conv2d(2, 3, 1), inputs=torch.rand(1, 2, 5, 5)), {}, "no sequences"),
        ("gradients", replace(signals(), inputs=None), {}, "needs an input"),
    ]
    for view, subject, options, match in cases:
        with pytest.raises(LaminaError, match=match) as caught:
            show_view(view, subject, **options)
        assert caught.value.mend
        assert "view" in caught.value.where
    with pytest.raises(UsageError, match="words reads tokens"):
        compare_gradients({"small": signals().model, "words": texts().model}, torch.rand(1, 2, 5))
