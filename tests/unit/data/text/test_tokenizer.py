"""Tokenizers: text to numbers and back, and through a bundle's document."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.core.errors import BundleError, DataError
from lamina.data.text.tokenizer import END, PAD, SPECIAL, UNKNOWN, Tokenizer, TokenizerConfig

TEXTS = [
    "The cat sat; didn't it?",
    "A dog <br />barked at THE café",
    "日本語 words <unk> here",
    "the end of the cat",
] * 2
KINDS = ("word", "character", "bpe", "wordpiece", "unigram")


def trained(kind: str = "word", **options: Any) -> Tokenizer:
    return Tokenizer.train(TokenizerConfig(kind=kind, vocab_size=400, **options), TEXTS)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_come_first(kind: str) -> None:
    first = trained(kind).vocabulary[:3]
    assert first == (SPECIAL if kind != "wordpiece" else ("[PAD]", "[UNK]", "[SEP]"))


@pytest.mark.parametrize("kind", KINDS)
def test_the_document_gives_the_same_tokenizer(kind: str) -> None:
    one = trained(kind, lowercase=True, strip_accents=True, remove_markup=True, end=True, max_length=6)
    other = Tokenizer.restore(one.config, json.loads(json.dumps(one.document())))
    texts = [*TEXTS, "never seen ☃", ""]
    assert other.encode(texts) == one.encode(texts)
    assert other.vocabulary == one.vocabulary


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind != "unigram"]
)  # whose ties the library breaks by chance
def test_training_twice_gives_the_same(kind: str) -> None:
    assert trained(kind).document() == trained(kind).document()


@pytest.mark.parametrize("kind", ["character", "bpe"])
def test_known_letters_come_back(kind: str) -> None:
    tokenizer = trained(kind)
    for text in TEXTS:
        assert tokenizer.decode(tokenizer.encode([text])[0]) == text


@given(st.text(max_size=30))
def test_bytes_lose_nothing(text: str) -> None:
    text = text.encode("utf-8", "ignore").decode()
    tokenizer = BYTES
    assert tokenizer.decode(tokenizer.encode([text])[0]) == text


BYTES = trained("bpe", unicode="none")


def test_words_split_at_punctuation_and_chinese() -> None:
    tokenizer = trained(lowercase=True)
    assert tokenizer.tokens(tokenizer.encode(["The cat; 日本"])[0]) == ["the", "cat", ";", "日", "本"]
    plain = trained(split="whitespace")
    assert plain.tokens(plain.encode(["sat; didn't"])[0]) == ["sat;", "didn't"]


def test_unknown_words_and_the_texts_own_mark() -> None:
    tokenizer = trained(split="whitespace")
    assert tokenizer.encode(["unheard <unk> cat"])[0][:2] == [UNKNOWN, UNKNOWN]


def test_rare_words_are_unknown() -> None:
    assert trained(min_count=3).number("dog") is None
    assert trained(min_count=2).number("dog") is not None


def test_rows_are_cut_and_ended() -> None:
    one = trained(end=True, max_length=3)
    row = one.encode(["the end of the cat"])[0]
    assert len(row) == 3
    assert row[-1] == END
    tail = trained(max_length=2, truncate="begin")
    assert tail.tokens(tail.encode(["the end of the cat"])[0]) == ["the", "cat"]
    assert trained(end=True, max_length=1).encode(["a b c"]) == [[END]]
    assert trained(end=True, max_length=1, truncate="begin").encode(["a b c"]) == [[END]]


def test_markup_and_accents_go() -> None:
    tokenizer = trained(lowercase=True, strip_accents=True, remove_markup=True)
    assert tokenizer.tokens(tokenizer.encode(["A dog <br />barked at THE café"])[0])[2:] == [
        "barked",
        "at",
        "the",
        "cafe",
    ]


def test_a_line_end_is_a_letter() -> None:
    tokenizer = trained("character", ending="\n")
    row = tokenizer.encode(["cat"])[0]
    assert tokenizer.decode(row) == "cat\n"


def test_padding_is_not_decoded() -> None:
    tokenizer = trained()
    row = tokenizer.encode(["the cat"])[0]
    assert tokenizer.decode([*row, END, PAD, PAD]) == "the cat"
    with pytest.raises(DataError, match="no token"):
        tokenizer.tokens([tokenizer.vocab_size])


def test_no_words_are_refused() -> None:
    with pytest.raises(DataError, match="no words"):
        Tokenizer.train(TokenizerConfig(), ["", "  "])


def faults() -> list[tuple[str, Any]]:
    def no_vocabulary(document: dict[str, Any]) -> None:
        del document["model"]["vocab"]

    def twice(document: dict[str, Any]) -> None:
        document["model"]["vocab"]["cat"] = document["model"]["vocab"]["the"]

    def far(document: dict[str, Any]) -> None:
        document["model"]["vocab"]["cat"] = 2**31

    def negative(document: dict[str, Any]) -> None:
        document["model"]["vocab"]["cat"] = -1

    def pattern(document: dict[str, Any]) -> None:
        document["pre_tokenizer"] = {
            "type": "Split",
            "pattern": {"Regex": "(a+)+$"},
            "behavior": "Isolated",
            "invert": False,
        }

    def other(document: dict[str, Any]) -> None:
        document["normalizer"] = {"type": "Lowercase"}

    def no_unknown(document: dict[str, Any]) -> None:
        del document["model"]["vocab"]["<unk>"]

    def text(document: dict[str, Any]) -> None:
        document["model"] = "word"

    return [(make.__name__, make) for make in (no_vocabulary, twice, far, negative, pattern, other, no_unknown, text)]


@pytest.mark.parametrize(("name", "damage"), faults())
def test_a_strangers_document_is_refused(name: str, damage: Any) -> None:
    tokenizer = trained()
    document = copy.deepcopy(tokenizer.document())
    damage(document)
    with pytest.raises(BundleError):
        Tokenizer.restore(tokenizer.config, document)
