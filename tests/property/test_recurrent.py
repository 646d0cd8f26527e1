"""Padding changes nothing: a sequence alone, or padded anywhere in any batch, gives the same."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lamina.models.factory import create_model
from lamina.nn.recurrent import Recurrent

LENGTHS = st.lists(st.integers(0, 7), min_size=1, max_size=4)


@pytest.mark.parametrize("kind", ["elman", "lstm", "gru"])
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_padding_anywhere(kind: str, data: st.DataObject) -> None:
    seed = data.draw(st.integers(0, 1000))
    both, layers = data.draw(st.booleans()), data.draw(st.integers(1, 2))
    generator = torch.Generator().manual_seed(seed)
    model = Recurrent(kind, input_size=3, hidden_size=4, num_layers=layers, bidirectional=both).double()
    rows, steps = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 6))
    mask = torch.rand(rows, steps, generator=generator) < 0.6
    inputs = torch.randn(rows, steps, 3, dtype=torch.float64, generator=generator)
    before = {
        name: torch.randn(rows, len(model.layers), 4, dtype=torch.float64, generator=generator)
        for name in model.state_names
    }
    hidden, after = model(inputs, before, mask=mask)
    noise = torch.where(
        mask.unsqueeze(2), inputs, 100 * torch.randn(inputs.shape, dtype=torch.float64, generator=generator)
    )
    assert torch.equal(model(noise, before, mask=mask)[0], hidden), "what stands at padding does not matter"
    assert bool((hidden[~mask] == 0).all())
    for row in range(rows):
        if not bool(mask[row].any()):
            continue
        own = {name: value[row : row + 1] for name, value in before.items()}
        alone, state = model(inputs[row : row + 1, mask[row]], own)
        torch.testing.assert_close(hidden[row, mask[row]], alone[0], rtol=1e-10, atol=1e-12)
        for name, value in state.items():
            torch.testing.assert_close(after[name][row], value[0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
@settings(max_examples=10, deadline=None)
@given(lengths=LENGTHS, seed=st.integers(0, 1000), extra=st.integers(0, 3), data=st.data())
def test_a_text_gives_the_same_alone_and_in_any_batch(
    name: str, lengths: list[int], seed: int, extra: int, data: st.DataObject
) -> None:
    readout = data.draw(st.sampled_from(["each", "last", "mean", "max"]))
    both = data.draw(st.booleans())
    model = create_model(
        name,
        seed=seed,
        vocab_size=20,
        num_classes=3,
        embedding_size=5,
        hidden_size=4,
        readout=readout,
        bidirectional=both,
    )
    model = model.double().eval()
    width = max(lengths) + extra
    real = torch.arange(width) < torch.tensor(lengths).unsqueeze(1)
    tokens = torch.randint(0, 20, (len(lengths), width), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        together = model(tokens, real)
        for row, length in enumerate(lengths):
            alone = model(tokens[row : row + 1, :length])
            if readout == "each":
                torch.testing.assert_close(together[row, :length], alone[0], rtol=1e-10, atol=1e-12)
            else:
                torch.testing.assert_close(together[row], alone[0], rtol=1e-10, atol=1e-12)
