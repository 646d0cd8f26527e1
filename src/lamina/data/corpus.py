"""Running text as word2vec reads it: stretches of sentences, and phrases found in them.

Source: Mikolov, Sutskever, Chen, Corrado, Dean (2013), "Distributed Representations of Words and Phrases and their Compositionality",
arXiv:1310.4546.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor

from lamina.core.errors import ConfigError, DataError
from lamina.data.batching import Feed
from lamina.data.columns import Columns
from lamina.data.ragged import LENGTH, RaggedColumns

__all__ = ["CorpusFeed", "find_phrases", "join_phrases", "keep_probabilities", "word_counts"]

_CHUNK: Final = 1 << 22
_MOST_COUNTED: Final = 20_000_000  # pairs and words that are held while counting; beyond, the rarest are forgotten
_NOT_WORDS: Final = 3  # padding, unknown words and ends of rows


class CorpusFeed(Feed):
    """Stretches of a tokenized corpus in its order; each has as many words as `batch_size` says, the last may have fewer.

    The rows of the corpus are sentences: windows do not reach from one into another. A sentence that goes on beyond a stretch is cut
    there. Nothing is copied but the stretch, so that a corpus in a memory-mapped file stays there. Batches hold

        tokens         int32 (1, N)
        tokens_length  int64 (1,): N
        bounds         int64 (S + 1,): sentence s is tokens[0, bounds[s] : bounds[s + 1]]
        first          int64 (): position of the first token in the corpus
        row            int64 (N,): positions of all

    Args:
        columns: Has ragged `tokens`.
        batch_size: Words of a stretch; 0: the whole corpus.

    Raises:
        ConfigError: There are no words.
    """

    def __init__(self, columns: Columns, *, batch_size: int) -> None:
        assert isinstance(columns, RaggedColumns)
        self.columns = columns
        self._tokens = columns.ragged["tokens"]
        self.num_words = len(self._tokens.values)
        self.batch_size = min(batch_size or self.num_words, max(self.num_words, 1))
        if self.num_words == 0:
            raise ConfigError(
                "The corpus has no words.",
                where="data",
                accepts="text with words",
                mend="check the file with `lamina data`",
            )

    def __len__(self) -> int:
        return -(-self.num_words // self.batch_size)

    def rows(self, epoch: int) -> Tensor:
        """Positions of all words, in order: rows of this feed are words."""
        return torch.arange(self.num_words)

    def batch(self, epoch: int, number: int) -> dict[str, Tensor]:
        """Stretch `number`, the same in every epoch."""
        begin = number * self.batch_size
        end = min(begin + self.batch_size, self.num_words)
        offsets = self._tokens.offsets
        low = int(torch.searchsorted(offsets, begin, right=True))
        high = int(torch.searchsorted(offsets, end, right=False))
        inner = offsets[low:high]
        bounds = torch.cat([torch.tensor([begin]), inner, torch.tensor([end])]) - begin
        return {
            "tokens": self._tokens.values[begin:end].unsqueeze(0),
            f"tokens{LENGTH}": torch.tensor([end - begin]),
            "bounds": bounds,
            "first": torch.tensor(begin),
            "row": torch.arange(begin, end),
        }


def word_counts(columns: Columns, *, vocab_size: int) -> Tensor:
    """How often each token occurs in a tokenized corpus, int64 (vocab_size,); 0 for padding, unknown words and ends.

    Raises:
        DataError: A token is outside the vocabulary.
    """
    assert isinstance(columns, RaggedColumns)
    counts = torch.zeros(vocab_size, dtype=torch.int64)
    for part in columns.ragged["tokens"].values.split(_CHUNK):
        if len(part) and (int(part.max()) >= vocab_size or int(part.min()) < 0):
            raise DataError(
                f"The corpus has the token {int(part.max())}; the vocabulary has {vocab_size:,}.",
                where="column 'tokens'",
                accepts=f"0 to {vocab_size - 1}",
                mend="tokenize it with the vocabulary of the model",
            )
        counts += torch.bincount(part, minlength=vocab_size)
    counts[:_NOT_WORDS] = 0
    return counts


def keep_probabilities(counts: Tensor, *, threshold: float) -> Tensor:
    """With what probability each occurrence of a word is kept, float32 (V,); 0 for words that never occur.

    Frequent words carry little and would be learned from most: a word whose share f of the corpus is far above the threshold t is kept
    with probability (sqrt(f / t) + 1) t / f. A threshold of 0 keeps all.

    Source: the code released with Mikolov et al. (2013); their equation 5 is sqrt(t / f).
    """
    share = counts.double() / max(int(counts.sum()), 1)
    if threshold > 0:
        keep = torch.where(share > 0, ((share / threshold).sqrt() + 1) * threshold / share, 0.0).clamp(max=1.0)
    else:
        keep = (share > 0).double()
    return keep.float()


# --- phrases ---------------------------------------------------------------------------------------------------------


def find_phrases(
    sentences: Iterable[list[str]], *, discount: float = 5.0, threshold: float = 100.0
) -> dict[tuple[str, str], float]:
    """Pairs of neighbouring words that occur together far more often than apart: `new york`.

    The score is (count(a b) - discount) / (count(a) count(b)), times the number of words, so that the threshold means the same
    for corpora of any size (equation 6 of the paper, in the form of the code released with it). Memory is bounded: of very many
    pairs the rarest are forgotten.

    Args:
        sentences: Lists of words, walked through once.
        discount: Taken off each pair's count, so that rare pairs do not score high; and no word or pair that occurs less often counts.
        threshold: Least score; lower gives more phrases.

    Returns:
        (first, second) -> score.

    Raises:
        ConfigError: `discount` or `threshold` is negative.

    Example:
        >>> find_phrases([["new", "york", "is", "new"]] * 20, discount=1, threshold=1.0)
        {('new', 'york'): 1.9, ('york', 'is'): 3.8, ('is', 'new'): 1.9}
    """
    if discount < 0 or threshold < 0:
        raise ConfigError(
            f"discount is {discount} and threshold {threshold}.",
            where="find_phrases",
            accepts="numbers of 0 or more",
            mend="the usual ones are 5 and 100",
        )
    words: Counter[str] = Counter()
    pairs: Counter[tuple[str, str]] = Counter()
    total, least = 0, 1
    for sentence in sentences:
        words.update(sentence)
        pairs.update(pairwise(sentence))
        total += len(sentence)
        while len(words) + len(pairs) > _MOST_COUNTED:
            words = Counter({word: count for word, count in words.items() if count > least})
            pairs = Counter({pair: count for pair, count in pairs.items() if count > least})
            least += 1
    found: dict[tuple[str, str], float] = {}
    for (first, second), count in pairs.items():
        apart = words.get(first, 0) * words.get(second, 0)
        if count < discount or not apart:
            continue
        score = (count - discount) / apart * total
        if score > threshold:
            found[first, second] = score
    return found


def join_phrases(
    sentences: Callable[[], Iterable[list[str]]],
    *,
    passes: int = 1,
    discount: float = 5.0,
    threshold: float = 100.0,
    joint: str = "_",
) -> Iterator[list[str]]:
    """Sentences with their phrases as single words: `new_york_times` after two passes.

    Args:
        sentences: Gives the sentences anew each time it is called: each pass counts first and joins then.
        passes: Phrases of up to 2 ** passes words.
        discount, threshold: As of `find_phrases`.
        joint: Stands between the words of a phrase.

    Example:
        >>> text = lambda: [["in", "new", "york"], ["new", "york"], ["in", "it"]] * 20
        >>> next(join_phrases(text, discount=1, threshold=1.9))
        ['in', 'new_york']
    """
    if passes < 1:
        yield from sentences()
        return
    inner = (
        sentences
        if passes == 1
        else lambda: join_phrases(sentences, passes=passes - 1, discount=discount, threshold=threshold, joint=joint)
    )
    phrases = find_phrases(inner(), discount=discount, threshold=threshold)
    for sentence in inner():
        joined: list[str] = []
        place = 0
        while place < len(sentence):
            pair = tuple(sentence[place : place + 2])
            if pair in phrases:
                joined.append(joint.join(pair))
                place += 2
            else:
                joined.append(sentence[place])
                place += 1
        yield joined
