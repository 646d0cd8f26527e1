"""Words divided by white space, counted and numbered fast: corpora of many millions of words.

The same numbers as the `tokenizers` library gives, several times as fast, a bounded piece of text at a time. What the two would read
differently (control characters that Python counts as white space, special tokens inside a word) is left to the library.
"""

from __future__ import annotations

import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lamina.core.files import storage_errors
from lamina.data.ragged import Ragged

if TYPE_CHECKING:
    from lamina.data.text.tokenizer import TokenizerConfig

__all__ = ["WordNumbers", "count_words", "encode_words", "is_plain", "most_frequent"]

_PIECE_BYTES: Final = 4 << 20  # of text that are looked at together
_HELD_BYTES: Final = 1 << 30  # numbers beyond this lie in a file that the system reads as it needs it
_MOST_COUNTED: Final = 20_000_000  # different words that are held while counting; beyond, the rarest are forgotten
_SEPARATORS: Final = ("\x1c", "\x1d", "\x1e", "\x1f")


class WordNumbers(dict[str, int]):
    """Word -> number; an unknown word has the number `unknown`."""

    def __init__(self, words: Mapping[str, int], *, unknown: int) -> None:
        super().__init__(words)
        self._unknown = unknown

    def __missing__(self, word: str) -> int:
        return self._unknown


def is_plain(config: TokenizerConfig) -> bool:
    """Whether this tokenizer only cuts at white space, so that the functions here do what it does."""
    return (
        config.kind == "word"
        and config.split == "whitespace"
        and not (config.strip_accents or config.remove_markup or config.ending or config.end)
        and config.max_length is None
    )


def normaliser(config: TokenizerConfig) -> Callable[[str], str]:
    """What a plain tokenizer does to a text before it cuts it."""
    form: Literal["NFC", "NFKC"] | None = {"nfc": "NFC", "nfkc": "NFKC"}.get(config.unicode)  # type: ignore[assignment]

    def normalise(text: str) -> str:
        if form is not None and not text.isascii():
            text = unicodedata.normalize(form, text)
        # Letter by letter, as the library does it: Python alone knows that a sigma at the end of a word has another form.
        return text.replace("Σ", "σ").lower() if config.lowercase else text

    return normalise


def count_words(texts: Ragged, config: TokenizerConfig) -> Counter[str]:
    """How often each word occurs in ragged UTF-8 texts; the rarest of very many are forgotten on the way, as word2vec does.

    Source of the forgetting: Manku, Motwani (2002), doi:10.1016/B978-155860869-6/50038-X, as released with Mikolov et al. (2013).
    """
    counts: Counter[str] = Counter()
    normalise, least = normaliser(config), 1
    for piece in _pieces(texts):
        counts.update(normalise(" \n ".join(piece)).split())
        while len(counts) > _MOST_COUNTED:
            counts = Counter({word: count for word, count in counts.items() if count > least})
            least += 1
    return counts


def most_frequent(counts: Mapping[str, int], config: TokenizerConfig, special: Sequence[str]) -> dict[str, int]:
    """The vocabulary, word -> number: special tokens, then the words by falling frequency, equals in alphabetical order."""
    known = ((word, count) for word, count in counts.items() if count >= config.min_count and word not in special)
    ordered = sorted(known, key=lambda pair: (-pair[1], pair[0]))
    return {word: number for number, word in enumerate([*special, *(word for word, _ in ordered)][: config.vocab_size])}


def encode_words(
    texts: Ragged,
    numbers: WordNumbers,
    config: TokenizerConfig,
    *,
    special: Sequence[str],
    slowly: Callable[[Sequence[str]], Sequence[Sequence[int]]],
) -> Ragged:
    """Numbers of ragged UTF-8 texts: int32 values, in a temporary file where they are more than a gigabyte.

    Args:
        special: Special tokens, which the text may hold.
        slowly: The library's way, for pieces in which it differs.
    """
    normalise = normaliser(config)
    avoided = (*special, *_SEPARATORS)
    lengths = torch.empty(len(texts), dtype=torch.int64)
    # At most: a word takes a byte and the space behind it, and its number four bytes.
    store = _Store(limit=len(texts.values) * 2 + 4)
    row = 0
    for piece in _pieces(texts):
        joined = "\n".join(piece)
        if any(token in joined for token in avoided):
            found = slowly(piece)
            values, sizes = np.fromiter(chain.from_iterable(found), np.int32), [len(one) for one in found]
        else:
            rows = [normalise(text).split() for text in piece]
            values = np.fromiter(map(numbers.__getitem__, chain.from_iterable(rows)), np.int32)
            sizes = [len(one) for one in rows]
        store.append(values)
        lengths[row : row + len(piece)] = torch.tensor(sizes, dtype=torch.int64)
        row += len(piece)
    return Ragged.of_lengths(store.values(), lengths)


class _Store:
    """Numbers appended piece by piece, in memory or in a file without a name that is gone with the process."""

    def __init__(self, *, limit: int) -> None:
        self._in_file = limit > _HELD_BYTES
        self._parts: list[NDArray[np.int32]] = []
        self._size = 0
        self._file: Any = tempfile.TemporaryFile(prefix="lamina-") if self._in_file else None  # noqa: SIM115 (mapped below)

    def append(self, values: NDArray[np.int32]) -> None:
        self._size += len(values)
        if self._file is None:
            self._parts.append(values)
            return
        with storage_errors(tempfile.gettempdir()):
            self._file.write(values.data)

    def values(self) -> Tensor:
        if self._file is None:
            return torch.from_numpy(np.concatenate([np.empty(0, np.int32), *self._parts]))
        with self._file, storage_errors(tempfile.gettempdir()):
            if self._size == 0:
                return torch.empty(0, dtype=torch.int32)
            self._file.flush()
            # A private mapping, which outlives the closed file: writing to it would change memory only.
            mapped = np.memmap(self._file, dtype=np.int32, mode="c", shape=(self._size,))
        return torch.from_numpy(cast("NDArray[np.int32]", mapped))


def _pieces(texts: Ragged) -> Iterator[list[str]]:
    """The texts in order, some megabytes at a time."""
    offsets, start, size = texts.offsets, 0, len(texts)
    data = memoryview(cast(Any, texts.values.numpy()))
    while start < size:
        wanted = torch.tensor([int(offsets[start]) + _PIECE_BYTES])
        stop = min(max(int(torch.searchsorted(offsets, wanted, right=True)) - 1, start + 1), size)
        bounds = offsets[start : stop + 1].tolist()
        yield [str(data[begin:end], "utf-8") for begin, end in pairwise(bounds)]
        start = stop
