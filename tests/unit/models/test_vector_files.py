"""Word vectors in files: what is written is read again, other tools' files too, damaged ones are refused."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest
import torch

from lamina.core.errors import DataError, ShapeError
from lamina.models.vector_files import NamedVectors, embedding_matrix, load_word2vec, save_word2vec

WORDS = ("the", "Ünïcode", "new_york", "12,5")
VECTORS = torch.tensor([[0.1, -2.0], [1e-30, 3.0], [1 / 3, 1e10], [0.0, -0.0]])


@pytest.mark.parametrize("name", ["v.txt", "v.vec", "v.bin"])
def test_written_and_read_again_to_the_bit(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    save_word2vec(path, WORDS, VECTORS)
    found = load_word2vec(path)
    assert found.words == WORDS
    assert torch.equal(found.vectors, VECTORS)
    assert torch.equal(found["new_york"], VECTORS[2])
    assert [file.name for file in tmp_path.iterdir()] == [name]
    packed = tmp_path / f"{name}.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert torch.equal(load_word2vec(packed).vectors, VECTORS)
    assert load_word2vec(path, limit=2).words == WORDS[:2]
    assert load_word2vec(path, wanted=["12,5", "no"]).words == ("12,5",)


def test_the_format_says_what_the_tool_says(tmp_path: Path) -> None:
    save_word2vec(tmp_path / "v.txt", ["a", "b"], torch.tensor([[1.0, 2.5], [0.0, -1.0]]))
    assert (tmp_path / "v.txt").read_text() == "2 2\na 1 2.5\nb 0 -1\n"
    save_word2vec(tmp_path / "v.bin", ["a"], torch.tensor([[1.0, 2.5]]))
    assert (tmp_path / "v.bin").read_bytes() == b"1 2\na " + struct.pack("<2f", 1.0, 2.5) + b"\n"


@pytest.mark.parametrize(
    "content",
    [
        b"2 2\na " + struct.pack("<2f", 1, 2) + b"b " + struct.pack("<2f", 3, 4),  # gensim: no line ends
        b"2 2\na " + struct.pack("<2f", 1, 2) + b"\nb " + struct.pack("<2f", 3, 4) + b"\n",  # the tool itself
        b"2 2\na 1 2 \nb 3.0 4e0 \n",  # the tool's text ends lines with a space
        b"2 2\r\na 1 2\r\nb 3 4\r\n",
        b"a 1 2\nb 3 4\n",  # GloVe
    ],
)
def test_files_of_other_tools(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "vectors"
    path.write_bytes(content)
    found = load_word2vec(path)
    assert found.words == ("a", "b")
    assert found.vectors.tolist() == [[1, 2], [3, 4]]


def test_long_files_are_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lamina.models.vector_files._BUFFER", 37)
    words = [f"word{number}" for number in range(50)]
    vectors = torch.randn(50, 5, generator=torch.Generator().manual_seed(0))
    for name in ("v.bin", "v.txt"):
        save_word2vec(tmp_path / name, words, vectors)
        found = load_word2vec(tmp_path / name)
        assert found.words == tuple(words)
        assert torch.equal(found.vectors, vectors)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "begins with b''"),
        (b"hello\n", "not with two numbers"),
        (b"999999999999 300\n", "announces 999,999,999,999 words"),
        (b"1000000 300\nthe 1 2 3\n", "has 22"),
        (b"0 5\n", "announces 0 words"),
        (b"2 2\na 1 2\n", "take"),
        (b"2 2\na 1 2\nb 3 4\nc 5 6\n", "goes on behind the 2 words"),
        (b"2 2\na 1 2\na 3 4\n", "Row 2 has the word 'a', as row 1 has"),
        (b"2 2\na 1 nan\nb 3 4\n", "not finite"),
        (b"2 2\na 1 2\nb 3 x4\n", "Row 2 has something that is no number"),
        (b"2 2\na 1 2\nbbb 3\nc\n", "Row 2 has"),
        (b"2 2\n\xff\xfe 1 2\nb 3 4\n", "not UTF-8"),
        (b"2 1\na " + struct.pack("<f", 1) + b"b " + struct.pack("<f", 1)[:3], "ends in row 2 of 2"),
        (b"1 1\n" + b"x" * 5000 + b" " + struct.pack("<f", 1), "no word|line of more than"),
        (b"1 1\na " + struct.pack("<f", float("inf")), "not finite"),
        (gzip.compress(b"2 2\na 1 2\n", mtime=0), "ends behind row 1 of 2"),
        (gzip.compress(b"1 2\na 1 2\n" * 50, mtime=0)[:30], "cannot be unpacked"),
    ],
)
def test_damaged_files_are_refused(content: bytes, match: str, tmp_path: Path) -> None:
    path = tmp_path / "vectors"
    path.write_bytes(content)
    with pytest.raises(DataError, match=match) as caught:
        load_word2vec(path)
    assert caught.value.where == str(path)
    assert caught.value.mend


def test_files_larger_than_wanted_and_missing_ones(tmp_path: Path) -> None:
    save_word2vec(tmp_path / "v.txt", WORDS, VECTORS)
    with pytest.raises(DataError, match="take more than") as caught:
        load_word2vec(tmp_path / "v.txt", max_bytes=20)
    assert "limit=" in caught.value.mend
    with pytest.raises(DataError, match="no such file"):
        load_word2vec(tmp_path / "other.txt")
    with pytest.raises(DataError, match="none of the wanted"):
        load_word2vec(tmp_path / "v.txt", wanted=["nothing"])


@pytest.mark.parametrize(
    ("words", "vectors", "match"),
    [
        (["a b"], torch.ones(1, 2), "white space"),
        (["a", "a"], torch.ones(2, 2), "occurs twice"),
        ([""], torch.ones(1, 2), "empty"),
        (["a"], torch.tensor([[float("nan")]]), "not finite"),
    ],
)
def test_what_cannot_be_written_is_refused(words: list[str], vectors: torch.Tensor, match: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=match):
        save_word2vec(tmp_path / "v.txt", words, vectors)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ShapeError, match="shaped"):
        save_word2vec(tmp_path / "v.txt", ["a"], torch.ones(2, 2))


def test_embeddings_begin_with_what_is_known() -> None:
    known = NamedVectors(WORDS, VECTORS)
    initial = torch.full((4, 2), 7.0)
    matrix, found = embedding_matrix(["<pad>", "THE", "12,5", "unheard"], known, initial=initial)
    assert found == 2
    assert torch.equal(matrix, torch.stack([initial[0], VECTORS[0], VECTORS[3], initial[3]]))
    assert torch.equal(initial, torch.full((4, 2), 7.0))
    assert embedding_matrix(["THE"], known, initial=initial[:1], lowercase=False)[1] == 0
    assert torch.equal(embedding_matrix(["the"], {"the": VECTORS[0]}, initial=initial[:1])[0][0], VECTORS[0])
    with pytest.raises(ShapeError, match="2 numbers"):
        embedding_matrix(["a"], known, initial=torch.zeros(1, 3))
