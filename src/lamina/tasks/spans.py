"""Tags of words as entities: schemes, the entities that a sequence of tags marks, and which tags may follow each other.

An entity is marked by tags `B-PER I-PER`: a letter that says where in the entity a word stands, and its type.

    BIO    B begins an entity, I goes on, O is outside (also called IOB2)
    IOB1   I marks an entity, B only begins one right behind another of its type
    BIOES  B, I and E: beginning, middle and end of several words; S: a single word (BILOU with other letters)
    IO     I marks an entity, whatever stands before
    IOE    I and E: the end is marked in place of the beginning

Sources: Ramshaw, Marcus (1995), arXiv:cmp-lg/9505040 (IOB); Tjong Kim Sang, Buchholz (2000), "Introduction to the CoNLL-2000 Shared Task:
Chunking", and its scorer conlleval.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, get_args

import torch
from torch import Tensor

from lamina.nn.crf import Allowed

__all__ = ["Scheme", "TagSet", "detect_scheme"]

Scheme = Literal["bio", "iob1", "bioes", "io", "ioe"]
SCHEMES: Final = get_args(Scheme)

_TAG: Final = re.compile(r"O|[BIESLU](-.+)?")
_ALIASES: Final = {"L": "E", "U": "S"}  # BILOU: last and unit
_LETTERS: Final = "OBIES"
_O, _B, _I, _E, _S = range(5)


def detect_scheme(tags: Sequence[str]) -> Scheme | None:
    """The scheme of a set of tags, by their letters; None where they are classes of words (parts of speech).

    BIO and IOB1 have the same letters. IOB1 it is only where a type never begins with B; `TagSet.begun_with_inside` looks at
    the sequences.

    >>> detect_scheme(["O", "B-PER", "I-PER"]), detect_scheme(["NOUN", "VERB", "X"])
    ('bio', None)
    """
    if not all(_TAG.fullmatch(tag) for tag in tags) or set(tags) <= {"O"}:
        return None
    letters = {_ALIASES.get(tag[0], tag[0]) for tag in tags} - {"O"}
    if letters & {"S"} or letters >= {"B", "E"}:
        return "bioes"
    if "E" in letters:
        return "ioe"
    if "B" not in letters:
        return "io"
    types: dict[str, set[str]] = {}
    for tag in tags:
        types.setdefault(tag[1:], set()).add(tag[0])
    return "iob1" if any(found == {"I"} for found in types.values()) else "bio"


@dataclass(frozen=True)
class TagSet:
    """Tags in index order, understood as a scheme.

    Args:
        tags: Names in index order.
        scheme: How they mark entities.
    """

    tags: tuple[str, ...]
    scheme: Scheme

    @cached_property
    def types(self) -> tuple[str, ...]:
        """Types of entities, sorted; `_` where the tags name none."""
        return tuple(sorted({_type(tag) for tag in self.tags if tag != "O"}))

    @cached_property
    def letters(self) -> Tensor:
        """int64 (K,): place of each tag's letter in O, B, I, E, S."""
        return torch.tensor([_LETTERS.index(_ALIASES.get(tag[0], tag[0])) for tag in self.tags])

    @cached_property
    def type_numbers(self) -> Tensor:
        """int64 (K,): number of each tag's type; -1 for O."""
        return torch.tensor([-1 if tag == "O" else self.types.index(_type(tag)) for tag in self.tags])

    @cached_property
    def outside(self) -> int:
        """Index of the tag O; -1 where there is none."""
        return self.tags.index("O") if "O" in self.tags else -1

    def spans(self, tags: Tensor, lengths: Tensor, *, strict: bool = False) -> Tensor:
        """The entities of rows of tags.

        Args:
            tags: int64 (total,): the tags of all rows one after another; -1 counts as O.
            lengths: int64 (N,): words of each row.
            strict: Count only entities that are marked as the scheme says. Otherwise as the shared tasks' scorer conlleval
                does: whatever cannot continue an entity begins one, so that `O I-PER` marks one and `B-PER I-LOC` two.

        Returns:
            int64 (entities, 3): first word and end (the word behind the last) as places in `tags`, and the number of the type.
        """
        if not len(tags):
            return torch.empty(0, 3, dtype=torch.int64)
        known = tags.clamp(min=0)
        letter = torch.where(tags < 0, _O, self.letters[known])
        kind = torch.where(tags < 0, -1, self.type_numbers[known])
        # Rows are parted by an O between them, so that all can be looked at together.
        place = torch.arange(len(tags)) + torch.repeat_interleave(torch.arange(len(lengths)), lengths)
        size = len(tags) + len(lengths) + 1
        letters, kinds = torch.full((size,), _O), torch.full((size,), -1)
        letters[place], kinds[place] = letter, kind
        origin = torch.zeros(size, dtype=torch.int64)
        origin[place] = torch.arange(len(tags))
        before = torch.cat([torch.tensor([_O]), letters[:-1]])
        kind_before = torch.cat([torch.tensor([-1]), kinds[:-1]])
        changed = kinds != kind_before
        if strict and self.scheme in ("bio", "bioes"):
            first, last = self._strict(letters, before, changed)
        else:
            inside, was_inside = letters != _O, before != _O
            begins = inside & (
                ~was_inside | changed | (letters == _B) | (letters == _S) | (before == _E) | (before == _S)
            )
            # An entity ends where the next begins or an O stands.
            ends = was_inside & (begins | ~inside)
            first, last = begins.nonzero().squeeze(1), ends.nonzero().squeeze(1) - 1
        return torch.stack([origin[first], origin[last] + 1, kinds[first]], dim=1)

    def _strict(self, letters: Tensor, before: Tensor, changed: Tensor) -> tuple[Tensor, Tensor]:
        """First and last place of each entity that is marked as BIO or BIOES say."""
        open_before = (before == _B) | (before == _I)
        goes_on = ((letters == _I) | (letters == _E)) & open_before & ~changed
        starts = (letters == _B) | (letters == _S)
        # A run is what begins with B or S and goes on; runs that begin otherwise are not marked properly.
        begins = (~goes_on).nonzero().squeeze(1)
        ends = torch.cat([begins[1:], torch.tensor([len(letters)])]) - 1
        proper = starts[begins]
        if self.scheme == "bioes":
            proper = proper & ((letters[ends] == _E) | (letters[ends] == _S))
        return begins[proper], ends[proper]

    @cached_property
    def allowed(self) -> Allowed | None:
        """Which tags may follow each other in this scheme; None where all may."""
        if self.scheme in ("io", "ioe"):
            return None
        letter, kind = self.letters, self.type_numbers
        same = kind.unsqueeze(0) == kind.unsqueeze(1)  # [i, j]
        before, after = letter.unsqueeze(1), letter.unsqueeze(0)
        everything = torch.ones(len(self.tags), dtype=torch.bool)
        if self.scheme == "bio":
            goes_on = (before != _O) & same
            return Allowed(letter != _I, everything, (after != _I) | goes_on)
        if self.scheme == "iob1":
            return Allowed(letter != _B, everything, (after != _B) | ((before != _O) & same))
        is_open = (before == _B) | (before == _I)
        continues = (after == _I) | (after == _E)
        opens = (letter == _O) | (letter == _B) | (letter == _S)
        closed = (letter == _O) | (letter == _E) | (letter == _S)
        return Allowed(opens, closed, torch.where(is_open, continues & same, ~continues))

    def improper(self, tags: Tensor, lengths: Tensor) -> Tensor:
        """Which words' tags may not follow the one before in this scheme, bool (total,); arguments as of `spans`."""
        if self.allowed is None or not len(tags):
            return torch.zeros(len(tags), dtype=torch.bool)
        first = torch.zeros(len(tags), dtype=torch.bool)
        first[(lengths.cumsum(0) - lengths)[lengths > 0]] = True
        before = torch.cat([tags[:1], tags[:-1]])
        return ~torch.where(first, self.allowed.start[tags], self.allowed.transitions[before, tags])


def _type(tag: str) -> str:
    return tag[2:] or "_"
