"""The tagger: padding, characters, unknown words, errors."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lamina.core.errors import ConfigError, DtypeError, ShapeError
from lamina.models.bilstm_crf import BiLSTMCRF
from lamina.models.factory import create_model

SIZES: dict[str, Any] = {"vocab_size": 20, "embedding_size": 6, "hidden_size": 5, "num_classes": 4}
KINDS: tuple[Literal["cnn", "lstm"], ...] = ("cnn", "lstm")


def tagger(*, letters: Literal["cnn", "lstm"] | None = "cnn", **options: Any) -> BiLSTMCRF:
    more = {"char_vocab_size": 9, "char_hidden_size": 5, "characters": letters} if letters else {}
    model = create_model("bilstm_crf", seed=0, **{**SIZES, **more, **options})
    assert isinstance(model, BiLSTMCRF)
    return model.eval()


def sentence(length: int, *, seed: int, width: int = 6) -> tuple[Tensor, Tensor]:
    """Words (1, T) and their characters (1, T, W), of one to W characters each."""
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(1, 20, (1, length), generator=generator)
    letters = torch.randint(1, 9, (1, length, width), generator=generator)
    sizes = torch.randint(1, width + 1, (1, length, 1), generator=generator)
    return words, letters * (torch.arange(width) < sizes)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("letters", [*KINDS, None])
def test_padding_never_changes_a_result(letters: Literal["cnn", "lstm"] | None, layers: int) -> None:
    model = tagger(letters=letters, num_layers=layers)

    @settings(max_examples=15, deadline=None, database=None)
    @given(
        st.lists(st.integers(1, 7), min_size=1, max_size=4), st.integers(0, 3), st.integers(0, 2), st.integers(0, 99)
    )
    def check(lengths: list[int], more: int, wider: int, seed: int) -> None:
        size = max(lengths) + more
        words, chars = torch.randint(0, 20, (len(lengths), size)), torch.zeros(len(lengths), size, 6 + wider).long()
        mask = torch.arange(size) < torch.tensor(lengths).unsqueeze(1)
        rows = [sentence(length, seed=seed + number) for number, length in enumerate(lengths)]
        for number, (row, row_letters) in enumerate(rows):
            words[number, : row.shape[1]] = row
            chars[number, : row.shape[1], :6] = row_letters
        together = model(words, mask, chars if letters else None)
        for number, (row, row_letters) in enumerate(rows):
            alone = model(row, None, row_letters if letters else None)
            torch.testing.assert_close(together[number : number + 1, : row.shape[1]], alone, rtol=1e-5, atol=1e-6)

    with torch.no_grad():
        check()


@pytest.mark.parametrize("letters", KINDS)
def test_characters_and_both_directions_are_read(letters: Literal["cnn", "lstm"]) -> None:
    model = tagger(letters=letters)
    words, chars = sentence(5, seed=1)
    before = model(words, None, chars)
    other = chars.clone()
    other[0, 0, 0] = other[0, 0, 0] % 8 + 1
    assert bool((model(words, None, other) != before).any(dim=2).all()), "a letter of the first word reaches every word"
    other = words.clone()
    other[0, 4] = other[0, 4] % 19 + 1
    assert bool((model(other, None, chars) != before).any(dim=2).all()), "the last word reaches every word"


def test_every_parameter_learns() -> None:
    model = tagger(dropout=0.0, word_dropout=0.5, letters="lstm").train()
    words, chars = sentence(9, seed=3)
    assert model.crf is not None
    model.crf(model(words, None, chars), torch.arange(9).unsqueeze(0) % 4).sum().neg().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not bool(p.grad.any())]
    assert not without


def test_words_are_taken_for_unknown_in_training_alone() -> None:
    model = tagger(letters=None, dropout=0.0, word_dropout=0.4).train()
    words = torch.full((1, 2000), 7)
    seen = []
    model.embedding.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    model(words)
    model.eval()(words)
    assert 0.3 < float((seen[0] == 1).float().mean()) < 0.5
    assert torch.equal(seen[0][seen[0] != 1], words[seen[0] != 1])
    assert torch.equal(seen[1], words)


def test_scores_are_in_float32_under_autocast() -> None:
    model = tagger()
    words, chars = sentence(6, seed=2)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        hidden, scores = model.features(words, char_ids=chars), model(words, None, chars)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, model.head(hidden.float()), rtol=0, atol=1e-6)


def test_without_a_field_it_is_bilstm() -> None:
    model = create_model("bilstm", seed=0, **SIZES)
    assert isinstance(model, BiLSTMCRF)
    assert model.crf is None
    assert tagger(letters=None).crf is not None


def test_wrong_inputs_are_refused_with_the_mend() -> None:
    model = tagger()
    words, chars = sentence(4, seed=0)
    with pytest.raises(ConfigError, match="got none") as missing:
        model(words)
    assert "char_vocab_size=None" in missing.value.mend
    with pytest.raises(ShapeError, match=r"\(1, 3, 6\) for words shaped \(1, 4\)"):
        model(words, None, chars[:, :3])
    with pytest.raises(DtypeError, match="uint8"):
        model(words, None, chars.to(torch.uint8))
    with pytest.raises(ShapeError, match=r"tokens shaped \(4,\)"):
        model(words[0])
