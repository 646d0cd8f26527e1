"""Judging word vectors: do they rank pairs of words as people do, and do they solve analogies.

Word similarity: Spearman's rank correlation between the cosines of pairs and what people said of them (Finkelstein et al. 2002,
doi:10.1145/503104.503110). Analogies "a is to b as c is to d": the word nearest to b - a + c, the three words of the question
left out of the answers (3CosAdd: Mikolov, Yih, Zweig 2013, N13-1090). Pairs and questions with a word that is not in the
vocabulary cannot be judged; they are counted as `vocabulary_coverage` and listed, not dropped without a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor

from lamina.core.errors import DataError
from lamina.core.registry import register
from lamina.tasks.metrics import Metrics

__all__ = ["WordMetrics", "pair_cosines", "solve_analogies", "spearman", "unit"]

_MOST_LISTED: Final = 20
_SOURCE: Final = "Mikolov, Chen, Corrado, Dean (2013), arXiv:1301.3781"


def unit(vectors: Tensor) -> Tensor:
    """The vectors (N, D) scaled to length 1; a vector of zeros stays one."""
    lengths: Tensor = vectors.norm(dim=1, keepdim=True)
    return vectors / lengths.clamp(min=torch.finfo(vectors.dtype).tiny)


def pair_cosines(vectors: Tensor, words: Tensor) -> Tensor:
    """Cosines of pairs: vectors (V, D), words int64 (B, 2) -> (B,)."""
    first, second = unit(vectors[words[:, 0]]), unit(vectors[words[:, 1]])
    return (first * second).sum(1)


def solve_analogies(vectors: Tensor, questions: Tensor, *, allowed: Tensor | None = None) -> Tensor:
    """The answers to analogies by 3CosAdd.

    Args:
        vectors: Float (V, D).
        questions: int64 (B, 3), the words a, b, c of "a is to b as c is to ?".
        allowed: bool (V,), words that may be answers; default: all. The words of a question never are.

    Returns:
        int64 (B,).
    """
    scaled = unit(vectors)
    a, b, c = (scaled[questions[:, column]] for column in range(3))
    scores = (b - a + c) @ scaled.T  # (B, V); its length is the same for all answers
    if allowed is not None:
        scores[:, ~allowed] = -torch.inf
    scores.scatter_(1, questions, -torch.inf)
    return scores.argmax(1)


def ranks(values: Tensor) -> Tensor:
    """Ranks from 1, equal values sharing the mean of theirs: float64 (N,)."""
    _, place, count = torch.unique(values, return_inverse=True, return_counts=True)
    last = count.cumsum(0).double()
    found: Tensor = (last - (count.double() - 1) / 2)[place]
    return found


@register(
    "metric",
    "spearman",
    better="max",
    family="word-vectors",
    source="Spearman (1904), doi:10.2307/1412159",
)
def spearman(first: Tensor, second: Tensor) -> float:
    """Correlation of ranks, -1 to 1, of two series (N,): does one order things as the other does.

    Example:
        >>> spearman(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.1, 0.5, 0.4]))
        0.5
    """
    a, b = ranks(first), ranks(second)
    a, b = a - a.mean(), b - b.mean()
    spread = float((a.square().sum() * b.square().sum()).sqrt())
    return float((a * b).sum()) / spread if spread > 0 else 0.0


@register("metric", "vocabulary_coverage", better="max", family="word-vectors", source=_SOURCE)
def vocabulary_coverage(known: Tensor) -> float:
    """Share of the pairs or questions all of whose words are in the vocabulary: `known` bool (N,)."""
    return float(known.double().mean())


class WordMetrics(Metrics):
    """What was judged of word vectors: running text, pairs with a score, or analogies; one kind at a time."""

    def __init__(self, sections: Sequence[str] = ()) -> None:
        super().__init__(group_names=sections, group_column="section")

    def record(self, **rows: Tensor) -> None:
        """Take in a batch of one kind.

        Args:
            rows: Of running text `total` and `number`, float (1,): a sum of losses and how many were summed. Of pairs `cosine` and `score`,
                float (B,), and `known`, bool (B,): whether all words are in the vocabulary. Of analogies `correct` and `known`,
                bool (B,), and `section`, int64 (B,).
        """
        self._rows.append({name: tensor.detach() for name, tensor in rows.items()})

    def finish(self) -> dict[str, float]:
        """Of text `loss`, the mean of a prediction; of pairs `spearman`, of analogies `accuracy`, both with `vocabulary_coverage`.

        Raises:
            DataError: No pair or question has all its words in the vocabulary.
        """
        rows = self._read()
        if "total" in rows:
            return {"loss": float(rows["total"].sum()) / max(float(rows["number"].sum()), 1.0)}
        known = rows["known"]
        if not bool(known.any()):
            raise DataError(
                f"Of {len(known):,} {'questions' if 'section' in rows else 'pairs'} none has all its words in the vocabulary.",
                where="word vectors, data to be judged",
                accepts="words that the corpus has often enough",
                mend="train on more text, lower min_count of the step tokenize, or check its `lowercase`",
            )
        if "section" in rows:
            value = {"accuracy": float(rows["correct"][known].double().mean())}
        else:
            value = {"spearman": spearman(rows["cosine"][known], rows["score"][known])}
        return {**value, "vocabulary_coverage": vocabulary_coverage(known)}

    def details(self) -> dict[str, Any]:
        """How many rows were left out because a word is not known, and the first of them; of analogies, everything by section.

        A section has `questions`, `judged`, `correct` and `accuracy`; `syntactic` are those whose name begins with `gram`, as in the
        questions of Mikolov et al., `semantic` the rest.
        """
        rows = self._read()
        if "total" in rows:
            return {}
        known = rows["known"]
        document: dict[str, Any] = {
            "rows": len(known),
            "left_out": int((~known).sum()),
            "left_out_rows": (~known).nonzero()[:_MOST_LISTED, 0].tolist(),
        }
        if "section" not in rows:
            return document
        names = self._group_names or tuple(str(number) for number in range(int(rows["section"].max()) + 1))
        grammar = torch.tensor([name.startswith("gram") for name in names])[rows["section"]]
        if bool(grammar.any()) and not bool(grammar.all()):
            document |= {"semantic": _tally(rows, ~grammar), "syntactic": _tally(rows, grammar)}
        sections = [
            {"section": name, **_tally(rows, rows["section"] == number)}
            for number, name in enumerate(names)
            if bool((rows["section"] == number).any())
        ]
        return {**document, "sections": sections}


def _tally(rows: dict[str, Tensor], chosen: Tensor) -> dict[str, Any]:
    judged = chosen & rows["known"]
    number, correct = int(judged.sum()), int((judged & rows["correct"]).sum())
    return {
        "questions": int(chosen.sum()),
        "judged": number,
        "correct": correct,
        "accuracy": correct / number if number else None,
    }
