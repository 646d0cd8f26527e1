"""rnn, lstm and gru: readouts, tied weights, reading piece by piece, counts, initial weights, refusals."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from lamina.core.errors import ConfigError, DtypeError, LaminaError, ShapeError
from lamina.explain.views import Subject, show_view
from lamina.models.factory import create_model

LANGUAGE = {"vocab_size": 12, "num_classes": 12, "embedding_size": 6, "hidden_size": 6, "readout": "each"}


def test_counts() -> None:
    """Zaremba's small network, 2 x 200 units over 10,000 words; torch's second bias is not there."""
    with torch.device("meta"):
        model = create_model(
            "lstm",
            vocab_size=10_000,
            num_classes=10_000,
            embedding_size=200,
            hidden_size=200,
            num_layers=2,
            readout="each",
        )
    layer = 4 * 200 * (200 + 200 + 1)
    assert sum(p.numel() for p in model.parameters()) == 10_000 * 200 + 2 * layer + 10_000 * 201


def test_layers_are_counted_in_words() -> None:
    model = create_model("gru", in_channels=3, hidden_size=5, num_layers=2)
    rows = {row["name"]: row for row in show_view("layers", Subject(model)).document["layers"]}
    first, second = rows["recurrent.layers.0"], rows["recurrent.layers.1"]
    assert first["how"] == "3*5*(3 + 5 + 1) + 5 = 140 parameters"
    assert first["num_parameters"] == 140
    assert (first["type"], first["flops"]) == ("GRULayer", 16 * 2 * 3 * 5 * (3 + 5))
    assert second["receptive_field"] == 16


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_reading_piece_by_piece(name: str) -> None:
    model = create_model(name, seed=0, num_layers=2, **LANGUAGE).eval()
    tokens = torch.randint(0, 12, (3, 10))
    state, pieces = model.initial_state(3), []
    for piece in tokens.split([4, 1, 5], dim=1):
        hidden, state = model.scan(piece, state)
        pieces.append(model.head(hidden))
    torch.testing.assert_close(torch.cat(pieces, dim=1), model(tokens))
    assert model(tokens).shape == (3, 10, 12)


def test_tied_weights_are_one_tensor_and_stay_one() -> None:
    model = create_model("lstm", seed=1, tie_weights=True, **LANGUAGE)
    assert model.head.weight is model.embedding.weight
    assert model.projection is None
    names = [name for name, _ in model.named_parameters()]
    assert "embedding.weight" in names
    assert "head.weight" not in names
    again = copy.deepcopy(model)
    assert again.head.weight is again.embedding.weight
    assert 0.08 < float(model.embedding.weight.detach().std()) < 0.12, "drawn as vectors are, not as a head's weights"
    other = create_model("lstm", seed=2, tie_weights=True, **{**LANGUAGE, "hidden_size": 9})
    assert other.projection.weight.shape == (6, 9)
    assert other.features(torch.zeros(1, 4, dtype=torch.int64)).shape == (1, 4, 6)
    assert list(other.stages) == ["embedding", "layer1", "projection", "head"]


def test_readouts() -> None:
    tokens, real = torch.randint(0, 12, (2, 5)), torch.tensor([[True] * 5, [True, True, True, False, False]])
    options = {**LANGUAGE, "num_classes": 3, "bidirectional": True}
    for readout in ("last", "mean", "max"):
        model = create_model("gru", seed=0, **{**options, "readout": readout}).eval()
        states = model.features(tokens, real)
        assert states.shape == (2, 5, 12)
        own = states[1, :3]
        wanted = {
            "last": torch.cat([own[-1, :6], own[0, 6:]]),
            "mean": own.mean(dim=0),
            "max": own.amax(dim=0),
        }[readout]
        torch.testing.assert_close(model.pool(states, real)[1], wanted)
        torch.testing.assert_close(model(tokens, real)[1], model.head(wanted))


def test_texts_without_tokens() -> None:
    empty = torch.zeros(2, 0, dtype=torch.int64)
    for readout in ("last", "mean", "max"):
        model = create_model("lstm", vocab_size=5, num_classes=2, readout=readout).eval()
        wanted = model.head.bias.expand(2, 2)
        assert torch.equal(model(empty, empty.bool()), wanted)
        assert torch.equal(model(torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 3, dtype=torch.bool)), wanted)
    each = create_model("lstm", vocab_size=5, num_classes=2, readout="each")
    assert each(empty).shape == (2, 0, 2)


def test_every_number_within_a_bound() -> None:
    model = create_model("lstm", seed=4, init_bound=0.1, forget_bias=2.0, tie_weights=True, **LANGUAGE)
    cell = model.recurrent.layers[0]
    for name, parameter in model.named_parameters():
        values = parameter.detach().clone()
        if name.endswith("layers.0.bias"):
            cell.gate(values, "forget").sub_(2.0)
        assert 0 < float(values.abs().max()) <= 0.1, name
        assert float(values.abs().max()) > 0.07, name
    same = create_model("lstm", seed=4, init_bound=0.1, forget_bias=2.0, tie_weights=True, **LANGUAGE)
    assert torch.equal(same.head.bias, model.head.bias)


def test_dropout_before_the_head_and_on_vectors() -> None:
    model = create_model("lstm", seed=0, dropout=0.9, **LANGUAGE).train()
    tokens = torch.randint(0, 12, (2, 6))
    hidden, _ = model.scan(tokens, model.initial_state(2))
    assert 0.7 < float((hidden == 0).float().mean()) < 1
    assert torch.equal(model.eval()(tokens), model(tokens))


def test_signals_of_any_length() -> None:
    model = create_model("gru", in_channels=2, num_classes=3, seed=0).eval()
    assert model(torch.zeros(4, 2, 1)).shape == model(torch.zeros(4, 2, 90)).shape == (4, 3)


@pytest.mark.parametrize(
    ("inputs", "error", "mend"),
    [
        (torch.zeros(1, 7, 2), ShapeError, "transpose"),
        (torch.zeros(2, 7), ShapeError, "unsqueeze"),
        (torch.zeros(1, 3, 7), ShapeError, "in_channels=3"),
        (torch.zeros(1, 2, 0), ShapeError, "in_channels"),
        (torch.zeros(1, 2, 7, dtype=torch.uint8), DtypeError, "float"),
    ],
)
def test_wrong_signals(inputs: torch.Tensor, error: type[LaminaError], mend: str) -> None:
    with pytest.raises(error) as caught:
        create_model("lstm", in_channels=2)(inputs)
    assert mend in caught.value.mend


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="no tokens and 10 outputs"):
        create_model("lstm", tie_weights=True)
    with pytest.raises(ConfigError, match="12 tokens and 3 outputs"):
        create_model("rnn", **{**LANGUAGE, "num_classes": 3}, tie_weights=True)
    both = create_model("lstm", bidirectional=True, **LANGUAGE)
    with pytest.raises(ConfigError, match="piece by piece"):
        both.scan(torch.zeros(1, 2, dtype=torch.int64), both.initial_state(1))
    with pytest.raises(ConfigError, match="forget_bias"):
        create_model("gru", forget_bias=1.0)


def test_a_simple_network_learns_to_tell_the_first_token() -> None:
    """Which of two tokens came first, three steps ago."""
    model = create_model("rnn", seed=0, vocab_size=4, num_classes=2, embedding_size=8, hidden_size=16)
    tokens = torch.randint(2, 4, (64, 4), generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(80):
        loss = nn.functional.cross_entropy(model(tokens), tokens[:, 0] - 2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
