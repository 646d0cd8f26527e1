"""Ragged columns: texts, tokens, tags."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lamina.core.errors import ShapeError
from lamina.data.decoded_ahead import join_columns
from lamina.data.loading import fingerprint
from lamina.data.ragged import Ragged, RaggedColumns, is_stretch, texts_of, with_lengths


@given(st.lists(st.text(max_size=12), max_size=8), st.data())
def test_texts_come_back(texts: list[str], data: st.DataObject) -> None:
    texts = [text.encode("utf-8", "ignore").decode() for text in texts]
    ragged = Ragged.of_texts(texts)
    assert ragged.texts() == texts
    rows = data.draw(st.lists(st.integers(0, max(len(texts) - 1, 0)), max_size=5)) if texts else []
    chosen = torch.tensor(rows, dtype=torch.int64)
    assert ragged.take(chosen).texts() == [texts[row] for row in rows]
    assert texts_of(ragged.padded(chosen), ragged.lengths[chosen]) == [texts[row] for row in rows]


def test_rows_are_padded_to_the_longest() -> None:
    ragged = Ragged.of_rows([[1, 2, 3], [], [4]])
    assert ragged.padded().tolist() == [[1, 2, 3], [0, 0, 0], [4, 0, 0]]
    assert ragged.padded(torch.tensor([2]), fill=-1).tolist() == [[4]]
    assert ragged.padded(torch.tensor([1])).shape == (1, 0)
    assert ragged.row(0).tolist() == [1, 2, 3]


def test_values_may_be_rows_themselves() -> None:
    ragged = Ragged.of_lengths(torch.arange(6).view(3, 2), torch.tensor([1, 2]))
    assert ragged.padded().tolist() == [[[0, 1], [0, 0]], [[2, 3], [4, 5]]]


@pytest.mark.parametrize("offsets", [[1, 2], [0, 3], [0, 2, 1, 2], []])
def test_wrong_offsets_are_refused(offsets: list[int]) -> None:
    with pytest.raises(ShapeError, match="offsets"):
        Ragged(torch.arange(2), torch.tensor(offsets, dtype=torch.int64))


def columns(*texts: str) -> RaggedColumns:
    labels = torch.arange(len(texts))
    return RaggedColumns({"label": labels}, ragged={"text": Ragged.of_texts(texts)}, origin=[f"f:{n}" for n in labels])


def test_a_batch_has_the_lengths() -> None:
    batch = columns("a", "", "abc").batch(torch.tensor([2, 0]))
    assert batch["text"].tolist() == [[97, 98, 99], [97, 0, 0]]
    assert batch["text_length"].tolist() == [3, 1]
    assert batch["label"].tolist() == [2, 0]
    assert batch["row"].tolist() == [2, 0]
    assert set(with_lengths(batch, {"text"})) == {"text", "text_length"}


def test_columns_are_a_mapping_of_all_names() -> None:
    found = columns("a", "bc")
    assert list(found) == ["label", "text"]
    assert len(found) == 2
    assert "text" in found
    assert found["text"].tolist() == [[97, 0], [98, 99]]
    assert found.raw is found


def test_rows_are_taken_and_joined() -> None:
    joined = join_columns([columns("a", "bc"), columns("d").take(torch.tensor([0, 0]))])
    assert isinstance(joined, RaggedColumns)
    assert joined.ragged["text"].texts() == ["a", "bc", "d", "d"]
    assert joined.origin == ["f:0", "f:1", "f:0", "f:0"]


def test_another_number_of_rows_is_refused() -> None:
    with pytest.raises(ShapeError, match="numbers of rows"):
        RaggedColumns({"label": torch.zeros(2)}, ragged={"text": Ragged.of_texts(["a"])})


def test_the_fingerprint_knows_where_rows_end() -> None:
    assert fingerprint({"all": columns("ab", "c")}) != fingerprint({"all": columns("a", "bc")})
    assert fingerprint({"all": columns("ab", "c")}) == fingerprint({"all": columns("ab", "c")})


def test_a_stretch_of_rows_is_a_view_since_it_may_be_larger_than_memory() -> None:
    ragged = Ragged.of_rows([[1, 2], [], [3], [4, 5, 6]])
    columns = RaggedColumns({}, ragged={"tokens": ragged}, origin=["a", "b", "c", "d"])
    part = columns.take(torch.tensor([1, 2, 3]))
    assert part.ragged["tokens"].values.data_ptr() == ragged.values[2:].data_ptr()
    assert part.ragged["tokens"].offsets.tolist() == [0, 0, 1, 4]
    assert list(part.origin or ()) == ["b", "c", "d"]
    chosen = columns.take(torch.tensor([3, 1, 2]))
    assert chosen.ragged["tokens"].values.tolist() == [4, 5, 6, 3]
    assert [is_stretch(torch.tensor(rows)) for rows in ([2, 3], [3, 2], [0, 2, 1, 3], [1], [0, 0])] == [
        True,
        False,
        False,
        True,
        False,
    ]
    assert not is_stretch(torch.tensor([], dtype=torch.int64))
    assert columns.take(torch.arange(4)).origin is columns.origin
