"""Entities and their scores against seqeval: its default mode follows conlleval, its strict mode the schemes."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lamina.tasks.spans import SCHEMES, Scheme, TagSet
from lamina.tasks.tagging_metrics import TaggingMetrics

seqeval = pytest.importorskip("seqeval")

TYPES = ("PER", "LOC", "work-of-art")
LETTERS = {"bio": "BI", "iob1": "BI", "bioes": "BIES", "io": "I", "ioe": "IE"}


def tags_of(scheme: str) -> tuple[str, ...]:
    return ("O", *(f"{letter}-{kind}" for kind in TYPES for letter in LETTERS[scheme]))


def rows_of(number_of_tags: int) -> st.SearchStrategy[list[list[tuple[int, int]]]]:
    """Rows of pairs of a true and a decided tag; proper sequences are rare among them."""
    tag = st.integers(0, number_of_tags - 1)
    return st.lists(st.lists(st.tuples(tag, tag), min_size=1, max_size=9), min_size=1, max_size=5)


def ours(scheme: Scheme, rows: list[list[tuple[int, int]]], *, strict: bool) -> TaggingMetrics:
    tags = tags_of(scheme)
    metrics = TaggingMetrics(tags, tag_set=TagSet(tags, scheme), strict=strict)
    for row in rows:  # one by one: padding and batches have tests of their own
        pairs = torch.tensor(row)
        metrics.update(pairs[:, 1].unsqueeze(0), pairs[:, 0].unsqueeze(0), mask=torch.ones(1, len(row)).bool())
    return metrics


def compared(scheme: Scheme, rows: list[list[tuple[int, int]]], /, **options: object) -> None:
    from seqeval.metrics import classification_report, f1_score, precision_score, recall_score

    tags = tags_of(scheme)
    true, decided = ([[tags[pair[side]] for pair in row] for row in rows] for side in (0, 1))
    metrics = ours(scheme, rows, strict=bool(options))
    found, details = metrics.finish(), metrics.details()
    scorers: dict[str, Callable[..., float]] = {
        "precision": precision_score,
        "recall": recall_score,
        "f1": f1_score,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # seqeval warns of divisions by zero
        for name, scorer in scorers.items():
            assert found[name] == pytest.approx(scorer(true, decided, zero_division=0, **options), abs=1e-12), name
        if not any(tag != "O" for row in (*true, *decided) for tag in row):
            return
        table = classification_report(true, decided, output_dict=True, zero_division=0, **options)
    for row in details["per_type"]:
        if row["type"] in table:
            wanted = table[row["type"]]
            assert [row["precision"], row["recall"], row["f1"]] == pytest.approx(
                [wanted["precision"], wanted["recall"], wanted["f1-score"]], abs=1e-12
            )
            assert row["support"] == wanted["support"]
        else:
            assert row["support"] == 0


@pytest.mark.parametrize("scheme", SCHEMES)
def test_entities_are_counted_as_conlleval_does(scheme: Scheme) -> None:
    @settings(max_examples=80, deadline=None, database=None)
    @given(rows_of(len(tags_of(scheme))))
    def check(rows: list[list[tuple[int, int]]]) -> None:
        compared(scheme, rows)

    check()


@pytest.mark.parametrize(("scheme", "theirs"), [("bio", "IOB2"), ("bioes", "IOBES")])
def test_strict_entities_are_those_of_the_scheme(scheme: Scheme, theirs: str) -> None:
    from seqeval import scheme as schemes

    @settings(max_examples=80, deadline=None, database=None)
    @given(rows_of(len(tags_of(scheme))))
    def check(rows: list[list[tuple[int, int]]]) -> None:
        compared(scheme, rows, mode="strict", scheme=getattr(schemes, theirs))

    check()
