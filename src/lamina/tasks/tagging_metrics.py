"""Metrics of tags of words: per word, and per entity as the shared tasks' scorer counts them.

Recorded are the tags of every word, on the device; entities are looked for once, in `finish`, over all rows together.

Source of the entity scores: conlleval, the scorer of the CoNLL shared tasks (Tjong Kim Sang, Buchholz 2000); an entity counts as found
where its first word, its last word and its type are all right. Parity with seqeval is tested (tests/parity/test_tagging.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import torch
from torch import Tensor

from lamina.core.errors import ShapeError
from lamina.core.registry import register
from lamina.tasks.metrics import Metrics
from lamina.tasks.spans import TagSet

__all__ = ["TaggingMetrics", "TaggingRecords"]

_CONLL: Final = "Tjong Kim Sang, Buchholz (2000), Introduction to the CoNLL-2000 Shared Task: Chunking, section 4"


@dataclass(frozen=True)
class TaggingRecords:
    """What was recorded of judged rows, on the CPU.

    Attributes:
        num_tags: K.
        tag_set: The tags as a scheme; None where they mark no entities.
        lengths: int64 (N,), words of each row.
        targets, predicted: int64 (words,), of all rows one after another; -1 where a long row was cut and nothing decided.
        unknown: Bool (words,): words that the vocabulary lacks.
        strict: Count entities only where they are marked as the scheme says.
    """

    num_tags: int
    tag_set: TagSet | None
    lengths: Tensor
    targets: Tensor
    predicted: Tensor
    unknown: Tensor
    strict: bool = False

    @cached_property
    def confusion(self) -> Tensor:
        """int64 (K, K + 1): rows are true tags, columns decided ones, the last of them none."""
        width = self.num_tags + 1
        cells = self.targets * width + torch.where(self.predicted < 0, self.num_tags, self.predicted)
        return torch.bincount(cells, minlength=self.num_tags * width).reshape(self.num_tags, width)

    @cached_property
    def counts(self) -> Tensor:
        """int64 (types, 3): entities of each type that were found, that were decided for, and that there are."""
        assert self.tag_set is not None
        there, decided = (
            self.tag_set.spans(tags, self.lengths, strict=self.strict) for tags in (self.targets, self.predicted)
        )
        num_types = len(self.tag_set.types)
        # Entities of one row do not overlap, so that the first word, the end and the type name one.
        size = len(self.targets) + 1
        codes = [(spans[:, 0] * size + spans[:, 1]) * num_types + spans[:, 2] for spans in (there, decided)]
        found = decided[torch.isin(codes[1], codes[0])]
        return torch.stack([torch.bincount(s[:, 2], minlength=num_types) for s in (found, decided, there)], dim=1)

    def per_tag(self) -> Tensor:
        """int64 (K, 3), as `counts` for single words."""
        square = self.confusion[:, : self.num_tags]
        return torch.stack([square.diagonal(), square.sum(dim=0), self.confusion.sum(dim=1)], dim=1)

    def micro(self) -> tuple[float, float, float]:
        """Precision, recall and F1 over all entities together."""
        found, decided, there = self.counts.sum(dim=0).tolist()
        return _scores(found, decided, there)

    def macro(self) -> tuple[float, float, float]:
        """Precision, recall and F1 of single words, unweighted means over the tags that occur."""
        rows = [_scores(*row) for row in self.per_tag().tolist() if row[1] + row[2]]
        precision, recall, f1 = (sum(column) / len(rows) for column in zip(*rows, strict=True))
        return precision, recall, f1


def _scores(found: int, decided: int, there: int) -> tuple[float, float, float]:
    """Precision, recall and F1; 0 where they are undefined."""
    both = decided + there
    return (found / decided if decided else 0.0, found / there if there else 0.0, 2 * found / both if both else 0.0)


@register("metric", "precision", better="max", family="tagging", source=_CONLL)
def precision(records: TaggingRecords) -> float | None:
    """Of the entities that were decided for, the share that is right in place, extent and type; in tagging."""
    return records.micro()[0] if records.tag_set is not None else None


@register("metric", "recall", better="max", family="tagging", source=_CONLL)
def recall(records: TaggingRecords) -> float | None:
    """Of the entities that there are, the share that was found in place, extent and type; in tagging."""
    return records.micro()[1] if records.tag_set is not None else None


@register("metric", "f1", better="max", family="tagging", source=_CONLL)
def f1(records: TaggingRecords) -> float | None:
    """Harmonic mean of precision and recall over entities of all types, as conlleval counts; in tagging."""
    return records.micro()[2] if records.tag_set is not None else None


@register("metric", "unknown_words", better="min", family="tagging", source=_CONLL)
def unknown_words(records: TaggingRecords) -> float:
    """Share of words that the vocabulary lacks."""
    return float(records.unknown.double().mean())


@register("metric", "accuracy_unknown", better="max", family="tagging", source=_CONLL)
def accuracy_unknown(records: TaggingRecords) -> float | None:
    """Accuracy of tags over the words that the vocabulary lacks."""
    if not bool(records.unknown.any()):
        return None
    return float((records.predicted == records.targets)[records.unknown].double().mean())


class TaggingMetrics(Metrics):
    """Metrics of tags.

    Args:
        tags: Names in index order.
        tag_set: The same as a scheme; None where they mark no entities.
        strict: As in `TagSet.spans`.
    """

    def __init__(self, tags: Sequence[str], *, tag_set: TagSet | None = None, strict: bool = False) -> None:
        super().__init__()
        self.tags = tuple(tags)
        self.tag_set = tag_set
        self.strict = strict

    def update(
        self,
        predicted: Tensor,
        targets: Tensor,
        *,
        mask: Tensor,
        lengths: Tensor | None = None,
        log_likelihood: Tensor | None = None,
        seen: Tensor | None = None,
        unknown: Tensor | None = None,
    ) -> None:
        """Record a batch.

        Args:
            predicted: int64 (B, T), decided tags.
            targets: int64 (B, W), true tags; W differs from T where long rows were cut.
            mask: Bool (B, T), True at real words, which come first.
            lengths: int64 (B,), words of each row; default: by the mask. Words behind the mask's end have no decided tag.
            log_likelihood: Float (B,), of the true tags of a row.
            seen: int64 (B,), words that it is of; default: those of the mask.
            unknown: Bool (B, T), words that the vocabulary lacks.

        Raises:
            ShapeError: The shapes do not fit.
        """
        for name, tensor in (("predicted", predicted), ("unknown", unknown)):
            if tensor is not None and tensor.shape != mask.shape:
                raise ShapeError(
                    f"{name} is shaped {tuple(tensor.shape)}.",
                    where=f"TaggingMetrics.update, argument `{name}`",
                    accepts=f"{tuple(mask.shape)}, as the mask",
                    mend="give one value per place",
                )
        lengths = mask.sum(dim=1) if lengths is None else lengths
        seen = mask.sum(dim=1) if seen is None else seen
        words = torch.arange(targets.shape[1], device=targets.device) < lengths.unsqueeze(1)
        missing = targets.shape[1] - mask.shape[1]
        if missing < 0:  # padded further than the tags
            predicted, mask = predicted[:, :missing], mask[:, :missing]
            unknown = unknown[:, :missing] if unknown is not None else None
            missing = 0
        if unknown is None:
            unknown = torch.zeros_like(mask)
        pad = (0, missing)
        decided = torch.nn.functional.pad(predicted.masked_fill(~mask, -1), pad, value=-1)
        rows = {
            "lengths": lengths,
            "targets": targets[words],
            "predicted": decided[words],
            "unknown": torch.nn.functional.pad(unknown & mask, pad)[words],
        }
        if log_likelihood is not None:
            rows |= {"log_likelihood": log_likelihood.detach(), "seen": seen}
        self._rows.append(rows)

    def _records(self) -> tuple[dict[str, Tensor], TaggingRecords]:
        rows = self._read()
        if "log_likelihood" in rows:
            self._refuse_non_finite(~rows["log_likelihood"].isfinite())
        records = TaggingRecords(
            len(self.tags),
            self.tag_set,
            rows["lengths"],
            rows["targets"],
            rows["predicted"],
            rows["unknown"],
            strict=self.strict,
        )
        return rows, records

    def finish(self) -> dict[str, float]:
        """accuracy, cross_entropy (per word), unknown_words; precision, recall and f1 of entities, or *_macro of tags."""
        rows, records = self._records()
        if not len(records.targets):
            raise ShapeError(
                "There is nothing to judge: no row has a word.",
                where="TaggingMetrics.finish",
                accepts="at least one word with a tag",
                mend="judge a split that has words; `lamina data` lists the splits",
            )
        found: dict[str, float | None] = {
            "accuracy": float((records.predicted == records.targets).double().mean()),
            "unknown_words": unknown_words(records),
            "accuracy_unknown": accuracy_unknown(records),
        }
        if "log_likelihood" in rows:
            found["cross_entropy"] = float(-rows["log_likelihood"].double().sum() / rows["seen"].sum().clamp(min=1))
        if self.tag_set is not None:
            found["precision"], found["recall"], found["f1"] = records.micro()
        else:
            found["precision_macro"], found["recall_macro"], found["f1_macro"] = records.macro()
        return {name: value for name, value in found.items() if value is not None}

    def details(self) -> dict[str, Any]:
        """`labels`, `confusion_matrix` (words), `per_class`, `num_words`, `unknown_words`, and `scheme` and `per_type` of entities."""
        _, records = self._records()
        document: dict[str, Any] = {
            "labels": list(self.tags),
            "confusion_matrix": records.confusion[:, : len(self.tags)].tolist(),
            "per_class": _table("label", self.tags, records.per_tag()),
            "num_words": len(records.targets),
            "unknown_words": int(records.unknown.sum()),
        }
        if self.tag_set is not None:
            document["scheme"] = self.tag_set.scheme
            document["per_type"] = _table("type", self.tag_set.types, records.counts)
        return document


def _table(key: str, names: Sequence[str], counts: Tensor) -> list[dict[str, Any]]:
    rows = []
    for name, (found, decided, there) in zip(names, counts.tolist(), strict=True):
        precise, recalled, harmonic = _scores(found, decided, there)
        rows.append({key: name, "precision": precise, "recall": recalled, "f1": harmonic, "support": there})
    return rows
