"""Schemes of tags: seen from their letters, entities, what may follow what."""

from __future__ import annotations

import pytest
import torch

from lamina.tasks.spans import Scheme, TagSet, detect_scheme

SCHEMES = {
    "bio": ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"],
    "types of one word never go on": ["B-PER", "B-LOC", "I-LOC", "O"],
    "a type that never begins with B": ["O", "I-PER", "B-LOC", "I-LOC"],
    "bioes": ["O", "B-X", "I-X", "E-X", "S-X"],
    "single words only": ["O", "S-X", "B-X"],
    "bilou": ["O", "B-X", "I-X", "L-X", "U-X"],
    "io": ["O", "I-PER", "I-LOC"],
    "ioe": ["O", "I-X", "E-X"],
    "without types": ["B", "I", "O"],
    "parts of speech": ["NOUN", "VERB", "INTJ", "X", "O"],
    "O alone": ["O"],
    "no letter": ["LOC", "O"],
}
SEEN = {
    "types of one word never go on": "bio",
    "a type that never begins with B": "iob1",
    "single words only": "bioes",
    "bilou": "bioes",
    "without types": "bio",
    "parts of speech": None,
    "O alone": None,
    "no letter": None,
}


@pytest.mark.parametrize("case", SCHEMES)
def test_the_scheme_is_seen_from_the_letters(case: str) -> None:
    assert detect_scheme(SCHEMES[case]) == SEEN.get(case, case)


def spans(scheme: Scheme, sentence: str, *, strict: bool = False) -> list[tuple[int, int, str]]:
    names = sentence.split()
    tags = tuple(sorted(set(names) | {"O"}))
    tag_set = TagSet(tags, scheme)
    found = tag_set.spans(torch.tensor([tags.index(n) for n in names]), torch.tensor([len(names)]), strict=strict)
    return [(first, end, tag_set.types[kind]) for first, end, kind in found.tolist()]


def test_entities_of_proper_sequences() -> None:
    assert spans("bio", "B-PER I-PER O B-LOC B-LOC") == [(0, 2, "PER"), (3, 4, "LOC"), (4, 5, "LOC")]
    assert spans("iob1", "I-PER I-PER O I-LOC B-LOC") == [(0, 2, "PER"), (3, 4, "LOC"), (4, 5, "LOC")]
    assert spans("bioes", "B-X I-X E-X S-X O S-Y") == [(0, 3, "X"), (3, 4, "X"), (5, 6, "Y")]
    assert spans("bioes", "B-X L-X U-X") == [(0, 2, "X"), (2, 3, "X")]
    assert spans("io", "I-X I-X I-Y O I-X") == [(0, 2, "X"), (2, 3, "Y"), (4, 5, "X")]
    assert spans("bio", "B I O B") == [(0, 2, "_"), (3, 4, "_")]
    assert spans("bio", "O O") == []


def test_what_cannot_go_on_begins_an_entity_but_not_strictly() -> None:
    assert spans("bio", "O I-PER B-PER I-LOC") == [(1, 2, "PER"), (2, 3, "PER"), (3, 4, "LOC")]
    assert spans("bio", "O I-PER B-PER I-LOC", strict=True) == [(2, 3, "PER")]
    assert spans("bioes", "B-X O E-X S-X", strict=True) == [(3, 4, "X")]


def test_entities_end_with_their_row() -> None:
    tag_set = TagSet(("O", "B-X", "I-X"), "bio")
    tags, lengths = torch.tensor([1, 2, 2, 1]), torch.tensor([2, 0, 1, 1])
    assert tag_set.spans(tags, lengths).tolist() == [[0, 2, 0], [2, 3, 0], [3, 4, 0]]
    assert tag_set.spans(torch.empty(0, dtype=torch.int64), torch.tensor([0])).shape == (0, 3)


def test_words_without_a_decision_count_as_outside() -> None:
    tag_set = TagSet(("O", "B-X", "I-X"), "bio")
    assert tag_set.spans(torch.tensor([1, -1, 2]), torch.tensor([3])).tolist() == [[0, 1, 0], [2, 3, 0]]


FOLLOW = {
    "bio": ({"O>B-X", "B-X>I-X", "I-X>I-X", "B-X>B-Y", "I-X>O"}, {"O>I-X", "B-X>I-Y", "start>I-X"}),
    "iob1": ({"O>I-X", "I-X>B-X", "B-X>B-X", "start>I-X", "I-X>I-Y"}, {"O>B-X", "I-Y>B-X", "start>B-X"}),
    "bioes": (
        {"B-X>E-X", "B-X>I-X", "E-X>B-Y", "S-X>S-X", "O>S-Y", "E-X>end", "O>end"},
        {"B-X>O", "B-X>E-Y", "O>E-X", "start>I-X", "I-X>end", "S-X>I-X", "B-X>S-X"},
    ),
}


@pytest.mark.parametrize("scheme", FOLLOW)
def test_what_may_follow_what(scheme: Scheme) -> None:
    letters = {"bio": "BI", "iob1": "BI", "bioes": "BIES"}[scheme]
    tags = ("O", *(f"{letter}-{kind}" for kind in "XY" for letter in letters))
    allowed = TagSet(tags, scheme).allowed
    assert allowed is not None

    def may(pair: str) -> bool:
        before, after = pair.split(">")
        if before == "start":
            return bool(allowed.start[tags.index(after)])
        if after == "end":
            return bool(allowed.end[tags.index(before)])
        return bool(allowed.transitions[tags.index(before), tags.index(after)])

    right, wrong = FOLLOW[scheme]
    assert all(may(pair) for pair in right)
    assert not any(may(pair) for pair in wrong)


def test_everything_may_follow_in_io() -> None:
    tag_set = TagSet(("O", "I-X"), "io")
    assert tag_set.allowed is None
    assert not bool(tag_set.improper(torch.tensor([1, 0, 1]), torch.tensor([3])).any())
