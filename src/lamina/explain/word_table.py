"""The words of a trained model with their vectors, for views that look at words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from lamina.core.errors import UsageError, nearest
from lamina.data.text.tokenizer import SPECIAL
from lamina.explain.views import Subject, refusal
from lamina.tasks.word_evaluation import unit

__all__ = ["WordTable", "frequency", "word_table"]

_COMPARED: Final = 20_000  # words among which the nearest spelling is looked for, the most frequent first


@dataclass(frozen=True)
class WordTable:
    """Words of a vocabulary and their vectors.

    Attributes:
        words: The more frequent first.
        vectors: float32 (V, D).
        counts: How often each occurs in the corpus, int64 (V,); None where the model does not say.
        index: Word -> place.
        lowercase: Whether the tokenizer makes letters small.
    """

    words: tuple[str, ...]
    vectors: Tensor
    counts: Tensor | None
    index: dict[str, int]
    lowercase: bool

    def number(self, word: str, *, view: str) -> int:
        """The place of a word.

        Raises:
            UsageError: It is not in the vocabulary; the nearest spellings are named.
        """
        found = self.index.get(word)
        if found is None and self.lowercase:
            found = self.index.get(word.lower())
        if found is None:
            near = nearest(word, self.words[:_COMPARED])
            raise UsageError(
                f"The word {word!r} is not in the vocabulary.",
                where=f"view {view}",
                accepts=f"one of {len(self.words):,} words that the training text has often enough",
                mend=f"did you mean {' or '.join(map(repr, near))}?" if near else "give a more frequent word",
            )
        return found

    def nearest_to(self, vector: Tensor, *, most: int, without: Sequence[int] = ()) -> list[tuple[int, float]]:
        """Places and cosines of the words nearest to a vector (D,), best first."""
        scores = unit(self.vectors) @ unit(vector.unsqueeze(0))[0]
        scores[list(without)] = -torch.inf
        values, places = scores.topk(min(most, len(scores) - len(without)))
        return list(zip(places.tolist(), values.tolist(), strict=True))


def word_table(subject: Subject, view: str) -> WordTable:
    """The words and vectors of a subject whose text is made into words.

    Raises:
        UsageError: The model has no table of words.
    """
    text = subject.preprocessing.text if subject.preprocessing is not None else None
    if text is None or text.config.kind != "word":
        raise refusal(
            view,
            f"{type(subject.model).__name__} has no vectors of words: its data is not text made into words.",
            mend="train on text, for example with word2vec-sg",
        )
    size = text.tokenizer.vocab_size
    tables = (module.weight for module in subject.model.modules() if isinstance(module, nn.Embedding))
    vectors = next((table.detach().float().cpu() for table in tables if len(table) == size), None)
    if vectors is None:
        raise refusal(
            view,
            f"{type(subject.model).__name__} has no embedding with a row per word.",
            mend="use a model with an embedding",
        )
    skipped = len(SPECIAL)
    words = text.tokenizer.vocabulary[skipped:]
    counts = getattr(subject.model, "counts", None)
    return WordTable(
        words=words,
        vectors=vectors[skipped:].clone(),
        counts=counts[skipped:].cpu() if isinstance(counts, Tensor) and len(counts) == size else None,
        index={word: place for place, word in enumerate(words)},
        lowercase=text.config.lowercase,
    )


def frequency(table: WordTable, place: int) -> dict[str, int]:
    """`count` of a word, where it is known."""
    return {"count": int(table.counts[place])} if table.counts is not None else {}
