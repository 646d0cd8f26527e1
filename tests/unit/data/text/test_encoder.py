"""Text preprocessing: tokens once per row, batches with masks, the same through a bundle."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lamina.core.errors import BundleError, ConfigError, DataError
from lamina.data.batching import BucketFeed
from lamina.data.columns import Columns, ColumnSpec, DataSpec
from lamina.data.preprocessing import Preprocessing
from lamina.data.ragged import Ragged, RaggedColumns
from lamina.data.text.encoder import EncodedColumns

TEXTS = ("the cat sat", "a dog", "", "the the dog sat on a cat")
TEXT = ColumnSpec(role="text", dtype="uint8", shape=(-1,))


def rows(*texts: str, pairs: tuple[str, ...] = ()) -> tuple[RaggedColumns, DataSpec]:
    ragged = {"text": Ragged.of_texts(texts), **({"text_pair": Ragged.of_texts(pairs)} if pairs else {})}
    label = ColumnSpec(role="label", dtype="int64", classes=("no", "yes"))
    spec = DataSpec(columns={**dict.fromkeys(ragged, TEXT), "label": label}, num_rows={"train": len(texts)})
    return RaggedColumns({"label": torch.arange(len(texts)) % 2}, ragged=ragged), spec


def fitted(*texts: str, **options: Any) -> tuple[Preprocessing, RaggedColumns]:
    columns, spec = rows(*(texts or TEXTS))
    return Preprocessing.fit([{"name": "tokenize", "kind": "word", **options}], columns, spec), columns


def test_raw_and_encoded_rows_give_the_same_batch() -> None:
    preprocessing, columns = fitted()
    encoded = preprocessing.encode(columns)
    assert isinstance(encoded, EncodedColumns)
    chosen = torch.tensor([3, 0, 2])
    raw, ready = preprocessing(columns.batch(chosen)), preprocessing(encoded.batch(chosen))
    assert raw.keys() == ready.keys() == {"label", "row", "input_ids", "attention_mask"}
    assert all(torch.equal(raw[name], ready[name]) for name in raw)
    assert raw["input_ids"].dtype == torch.int64
    assert raw["attention_mask"].sum(1).tolist() == [7, 3, 1]  # an empty text is one unknown word


def test_the_raw_columns_stay_at_hand() -> None:
    preprocessing, columns = fitted()
    encoded = preprocessing.encode(columns)
    assert encoded.raw is columns
    assert encoded.take(torch.tensor([1])).raw["text"].tolist() == [list(b"a dog")]
    assert preprocessing.encode(encoded) is encoded
    assert "text" not in encoded


def test_the_spec_says_how_many_tokens_there_are() -> None:
    preprocessing, _ = fitted()
    column = preprocessing.spec.columns["input_ids"]
    assert column.vocab_size == 3 + len({"the", "cat", "sat", "a", "dog", "on"})
    assert "text" not in preprocessing.spec.columns


def test_a_bundle_brings_it_back() -> None:
    preprocessing, columns = fitted(lowercase=True, max_length=4)
    again = Preprocessing.restore(
        preprocessing.describe(),
        preprocessing.tensors(),
        preprocessing.input_spec,
        tokenizer=preprocessing.tokenizer(),
    )
    batch = columns.batch(torch.arange(4))
    assert torch.equal(again(batch)["input_ids"], preprocessing(batch)["input_ids"])
    with pytest.raises(BundleError, match="no tokenizer"):
        Preprocessing.restore(preprocessing.describe(), {}, preprocessing.input_spec)


def test_pairs_are_one_row_with_types() -> None:
    columns, spec = rows("a b", "c", pairs=("c", "b a"))
    preprocessing = Preprocessing.fit(None, columns, spec)
    batch = preprocessing(columns.batch(torch.arange(2)))
    assert batch["attention_mask"].sum(1).tolist() == [5, 5]
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 1, 1], [0, 0, 1, 1, 1]]
    assert torch.equal(
        preprocessing(preprocessing.encode(columns).batch(torch.arange(2)))["input_ids"], batch["input_ids"]
    )


def tagged(*, characters: int = 3) -> tuple[Preprocessing, RaggedColumns]:
    words = ColumnSpec(role="text", dtype="uint8", shape=(-1,), words=True)
    spec = DataSpec(columns={"text": words}, num_rows={"train": 2})
    columns = RaggedColumns({}, ragged={"text": Ragged.of_texts(["New\nYork\ndidn't", "a"])})
    steps = [{"name": "tokenize", "kind": "word", "lowercase": True, "characters": characters}]
    return Preprocessing.fit(steps, columns, spec), columns


def test_words_keep_their_number_and_their_letters() -> None:
    preprocessing, columns = tagged()
    batch = preprocessing(columns.batch(torch.arange(2)))
    assert batch["attention_mask"].sum(1).tolist() == [3, 1]
    assert batch["char_ids"].shape == (2, 3, 3)
    letters = sorted(set("NewYorkdidn'ta"))
    assert batch["char_ids"][0, 0].tolist() == [letters.index(letter) + 2 for letter in "New"]
    assert batch["char_ids"][1, 0].tolist() == [letters.index("a") + 2, 0, 0]
    assert preprocessing.spec.columns["char_ids"].vocab_size == len(letters) + 2
    again = Preprocessing.restore(
        preprocessing.describe(),
        preprocessing.tensors(),
        preprocessing.input_spec,
        tokenizer=preprocessing.tokenizer(),
    )
    assert torch.equal(again(columns.batch(torch.arange(2)))["char_ids"], batch["char_ids"])


def test_unknown_words_are_counted() -> None:
    preprocessing, _ = fitted()
    other, _ = rows("the bird sat", "birds")
    assert preprocessing.count_unknown(other) == {"text": 2}


@pytest.mark.parametrize(
    ("steps", "match"),
    [
        ([{"name": "tokenize"}, {"name": "scale"}], "neither images nor numbers"),
        ([{"name": "scale"}], "tokenize"),
        ([{"name": "tokenize"}, {"name": "tokenize"}], "2 times"),
        ([{"name": "tokenize", "characters": 4}], "lists of words"),
        ([{"name": "tokenize", "kind": "words"}], "word"),
    ],
)
def test_steps_that_do_not_fit_are_refused(steps: Any, match: str) -> None:
    columns, spec = rows(*TEXTS)
    with pytest.raises(ConfigError, match=match):
        Preprocessing.fit(steps, columns, spec)


def test_pictures_are_not_tokenized() -> None:
    spec = DataSpec(columns={"image": ColumnSpec(role="image", dtype="uint8", shape=(1, 2, 2))}, num_rows={})
    columns = Columns({"image": torch.zeros(2, 1, 2, 2, dtype=torch.uint8)})
    with pytest.raises(ConfigError, match="for texts"):
        Preprocessing.fit([{"name": "tokenize"}], columns, spec)


def test_no_rows_are_refused() -> None:
    columns, spec = rows(*TEXTS)
    with pytest.raises(DataError):
        Preprocessing.fit(None, columns.take(torch.empty(0, dtype=torch.int64)), spec)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=60), st.integers(1, 8), st.integers(0, 3))
def test_buckets_hold_every_row_once(lengths: list[int], batch_size: int, epoch: int) -> None:
    columns = Columns({"x": torch.arange(len(lengths))})
    feed = BucketFeed(columns, lengths=torch.tensor(lengths), batch_size=batch_size, seed=1, pool=3)
    order = feed.rows(epoch)
    assert sorted(order.tolist()) == list(range(len(lengths)))
    assert torch.equal(
        order, BucketFeed(columns, lengths=torch.tensor(lengths), batch_size=batch_size, seed=1, pool=3).rows(epoch)
    )


def test_buckets_pad_little() -> None:
    lengths = torch.arange(1000) % 97
    columns = Columns({"x": lengths})
    feeds = [BucketFeed(columns, lengths=lengths, batch_size=10, seed=0, pool=pool) for pool in (1, 50)]
    padding = [
        sum(int(lengths[part].max()) * 10 for part in feed.rows(0).split(10)) - int(lengths.sum()) for feed in feeds
    ]
    assert padding[1] < padding[0] / 10
