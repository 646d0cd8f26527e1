"""Fast words: the same numbers as the library gives."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lamina.core.errors import DataError
from lamina.data.ragged import Ragged
from lamina.data.text import words
from lamina.data.text.tokenizer import Tokenizer, TokenizerConfig

pytest.importorskip("tokenizers")

PLAIN = {"kind": "word", "split": "whitespace"}
TEXTS = [
    "The cat  saw\tthe dog",
    "",
    "ΟΔΟΣ İstanbul Ünïcode e\u0301",
    "a\x1cb c\u2003d\u00a0e",
    "<unk> the <eos>",
    "x<pad>y the",
]
letters = st.sampled_from("aAbBÅéΣσIİ \t\n\u00a0\u2028\x1c\x85.<>unk")
texts = st.lists(st.text(letters, max_size=20) | st.sampled_from(TEXTS), min_size=1, max_size=6)


@settings(max_examples=150, deadline=None)
@given(texts, st.booleans(), st.sampled_from(["none", "nfc", "nfkc"]))
def test_numbers_are_those_of_the_library(given_texts: list[str], lowercase: bool, unicode: str) -> None:
    config = TokenizerConfig(**PLAIN, lowercase=lowercase, unicode=unicode)
    assert words.is_plain(config)
    library = Tokenizer.train(config, [*TEXTS, "the of"])
    found = library.encode_ragged(Ragged.of_texts(given_texts))
    assert [found.row(row).tolist() for row in range(len(given_texts))] == library.encode(given_texts)


@pytest.mark.parametrize("options", [{}, {"min_count": 2}, {"vocab_size": 9}, {"lowercase": True}])
def test_the_vocabulary_is_that_of_the_library(options: dict[str, object]) -> None:
    text = ["b a c a d", "B b a e <unk>", "f g h i j k l"]
    config = TokenizerConfig(**PLAIN, **options)
    fast, library = Tokenizer.of_words(config, [Ragged.of_texts(text)]), Tokenizer.train(config, text)
    assert fast.vocabulary == library.vocabulary
    assert fast.document() == library.document()
    again = Tokenizer.restore(config, fast.document())
    assert torch.equal(
        again.encode_ragged(Ragged.of_texts(text)).values, fast.encode_ragged(Ragged.of_texts(text)).values
    )


def test_no_words_are_an_error() -> None:
    with pytest.raises(DataError, match="no words to learn"):
        Tokenizer.of_words(TokenizerConfig(**PLAIN, min_count=3), [Ragged.of_texts(["a b", "a"])])


def test_large_corpora_lie_in_a_file_and_are_counted_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    text = [f"w{number % 7} the {'x' * (number % 5)}" for number in range(200)]
    config = TokenizerConfig(**PLAIN)
    tokenizer = Tokenizer.of_words(config, [Ragged.of_texts(text)])
    wanted = tokenizer.encode_ragged(Ragged.of_texts(text))
    monkeypatch.setattr(words, "_HELD_BYTES", 100)
    monkeypatch.setattr(words, "_PIECE_BYTES", 64)
    found = tokenizer.encode_ragged(Ragged.of_texts(text))
    assert torch.equal(found.values, wanted.values)
    assert torch.equal(found.offsets, wanted.offsets)
    assert Tokenizer.of_words(config, [Ragged.of_texts(text)]).vocabulary == tokenizer.vocabulary
    assert len(tokenizer.encode_ragged(Ragged.of_texts([""]))) == 1
    monkeypatch.setattr(words, "_MOST_COUNTED", 10)
    counts = words.count_words(Ragged.of_texts([*text, *(f"once{number}" for number in range(50))]), config)
    assert counts.most_common(1)[0][0] == "the"
    assert len(counts) <= 20


@pytest.mark.parametrize(
    "options", [{"kind": "bpe"}, {"split": "punctuation"}, {"end": True}, {"max_length": 3}, {"remove_markup": True}]
)
def test_others_are_left_to_the_library(options: dict[str, object]) -> None:
    assert not words.is_plain(TokenizerConfig(**{**PLAIN, **options}))
