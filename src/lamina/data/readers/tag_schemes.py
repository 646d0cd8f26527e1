"""Schemes by which tags of words mark spans, and which tags a file of a scheme may hold.

BIO: B-X begins a span of type X, I-X goes on with it, O is outside (Ramshaw and Marcus 1995; the form of CoNLL-2000). IOB1, its older
form: B-X only where a span follows another of its type. BIOES and BILOU also mark the last word (E or L) and spans of one word
(S or U). IO: I-X for every word of a span.

Two things can be wrong. A tag that no tag of the scheme is (`B_LOC`, `X-LOC`, `LOC`, `B-`) means nothing: always a fault. A tag that
cannot follow the one before it (I-LOC after O) is wrong by the book, but the scorers of the shared tasks begin a span there, and real
files have such tags: it is a fault only where `data.scheme` states the scheme; otherwise a note counts them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

LETTERS: Final = {"bio": "BI", "iob1": "BI", "bioes": "BIES", "bilou": "BILU", "io": "I"}
NAMES: Final = {"bio": "BIO", "iob1": "IOB1", "bioes": "BIOES", "bilou": "BILOU", "io": "IO"}
_TAG: Final = re.compile(r"([BIESLU])-(\S.*)")
# So much of the tags must be of a scheme's form before the others are called wrong.
_SHARE: Final = 0.95
_RARE: Final = 0.01


def see_scheme(sentences: Iterable[Sequence[str]]) -> str:
    """The scheme of sentences' tags: `bio`, `iob1`, `bioes`, `bilou`, `io`, or `none` for plain classes.

    >>> see_scheme([["B-LOC", "I-LOC", "O"], ["O", "B-PER"]]), see_scheme([["DET", "NOUN"]]), see_scheme([["S-X", "O"]])
    ('bio', 'none', 'bioes')
    """
    letters: Counter[str] = Counter()
    total = outside = begun_by_i = 0
    for tags in sentences:
        before = "O"
        for tag in tags:
            total += 1
            outside += tag == "O"
            match = _TAG.fullmatch(tag)
            if match is not None:
                letters[match[1]] += 1
                begun_by_i += match[1] == "I" and before[2:] != match[2]
            before = tag
    inside = letters.total()
    if inside == 0 or inside + outside < _SHARE * total:
        return "none"
    common = {letter for letter, count in letters.items() if count >= _RARE * inside}
    if common & {"L", "U"}:
        return "bilou"
    if common & {"E", "S"}:
        return "bioes"
    if "B" not in letters:
        return "io"
    return "iob1" if begun_by_i > letters["B"] else "bio"


def is_in_scheme(tag: str, scheme: str) -> bool:
    """Whether a scheme knows a tag.

    >>> [is_in_scheme(tag, "bio") for tag in ("O", "B-LOC", "E-LOC", "LOC", "B-")]
    [True, True, False, False, False]
    """
    if tag == "O" or scheme == "none":
        return True
    match = _TAG.fullmatch(tag)
    return match is not None and match[1] in LETTERS[scheme]


def misplaced(tags: Sequence[str], scheme: str) -> list[int]:
    """Places of tags that cannot follow the tag before them, or be the last.

    >>> misplaced(["O", "I-LOC", "I-LOC"], "bio"), misplaced(["B-LOC", "O"], "bioes")
    ([1], [0])
    """
    if scheme == "bio":
        return [
            place
            for place, tag in enumerate(tags)
            if tag[0] == "I" and (place == 0 or tags[place - 1][0] == "O" or tags[place - 1][1:] != tag[1:])
        ]
    if scheme not in ("bioes", "bilou"):
        return []
    found = []
    last = "ELSU"
    for place, tag in enumerate(tags):
        before = tags[place - 1] if place else "O"
        after = tags[place + 1] if place + 1 < len(tags) else "O"
        goes_on = tag[0] in "BI" and not (after[0] in "IEL" and after[1:] == tag[1:])
        from_nowhere = tag[0] in "IEL" and not (before[0] not in last and before[1:] == tag[1:])
        if goes_on or from_nowhere:
            found.append(place)
    return found
