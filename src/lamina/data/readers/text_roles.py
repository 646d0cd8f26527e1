"""Which column of a table of texts is what: by its name where it is a usual one, else by what its cells look like.

- Text: `data.text`, else the first column of a usual name (`text`, `sentence`, `content`, `review`, …) that holds text, else the
  column with the most words per cell, at least three on average.
- A pair: `data.text` and `data.text_pair`, else two usual names that go together (`premise` and `hypothesis`), else two columns of
  text whose names differ in 1 and 2, or a and b.
- Answer: `data.label`, else a column of a usual name (`label`, `class`, `sentiment`, `score`, …), else the only other column that
  holds few values. Where several fit, `data.target=class` takes the first that holds classes, `data.target=number` the first of
  numbers; without it the first that holds classes.
- A class unless the cells are numbers with fractions, or of more than 20 values (`data.target` decides otherwise).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from lamina.core.errors import DataError
from lamina.data.config import DataConfig
from lamina.data.tables import is_missing, is_number, unknown_column

TEXT_NAMES: Final = (
    "text", "sentence", "content", "review", "document", "tweet", "comment", "message", "utterance", "article", "body",
    "phrase", "question", "review_text", "reviewtext", "review_body", "sms", "post", "headline", "abstract", "description",
    "statement", "passage", "query", "title", "summary", "input", "sent", "v2",
)  # fmt: skip
PAIR_NAMES: Final = (
    ("premise", "hypothesis"), ("question", "sentence"), ("question", "passage"), ("question", "answer"),
    ("query", "document"), ("query", "passage"), ("context", "response"), ("claim", "evidence"),
)  # fmt: skip
LABEL_NAMES: Final = (
    "label", "labels", "class", "category", "gold_label", "entailment_judgment", "entailment_label", "sentiment", "polarity",
    "quality", "is_duplicate", "target", "intent", "topic", "emotion", "stance", "judgment", "relatedness_score", "similarity",
    "score", "rating", "stars", "overall", "gold", "y", "airline_sentiment", "v1",
)  # fmt: skip
# Columns called so hold classes however many values they have.
CLASS_NAMES: Final = ("label", "labels", "class", "category", "intent", "topic")
# Two letters as ISO 639-1 has them.
LANGUAGES: Final = frozenset(
    re.findall(
        "..",
        "arbgbncacscydadeeleneseteufafifrgaglguhehihrhuhyidisitjakakkkmknkoltlvmkmlmnmrmsmtmynbnenl"
        "nnnopaplpsptrorusiskslsqsrsvswtatethtltrukuruzvizh",
    )
)
# What the two sides of parallel text are called where no language is named.
SIDES: Final = ("src", "tgt", "source", "target", "trg")
MAX_CLASSES: Final = 20
MIN_WORDS: Final = 3.0
_MARK: Final = re.compile(r"(.*?)_?(1|2|a|b)(?:_(.*))?")
_IDENTIFIER: Final = re.compile(r"(?:.*_)?(id|idx|index|no|nr|guid|uuid|key)(?:_.*)?|id_?\d*|\d+_id")


@dataclass(frozen=True)
class TextRoles:
    """The columns of one file, by number.

    Attributes:
        text, pair, label, group: Column numbers; None where there is none.
        kind: What the label's column holds.
        why: Sentences' parts that say how each was found.
        named: Whether the text was found by its name.
        others: Columns that are not used.
    """

    text: int
    pair: int | None
    label: int | None
    kind: Literal["class", "number"]
    group: int | None = None
    named: bool = True
    why: tuple[str, ...] = ()
    others: tuple[int, ...] = field(default=())


def normal_name(name: str) -> str:
    """A header in small letters with everything that is neither letter nor digit as one underscore.

    >>> normal_name("#1 String"), normal_name("sentence_A")
    ('1_string', 'sentence_a')
    """
    return re.sub(r"[\W_]+", "_", name.strip().casefold()).strip("_")


def is_known_name(name: str) -> bool:
    """Whether a cell of a first line is a usual name of a column of texts or labels."""
    normal = normal_name(name)
    known = normal in TEXT_NAMES or normal in LABEL_NAMES or any(normal in pair for pair in PAIR_NAMES)
    return known or bool(normal and _IDENTIFIER.fullmatch(normal)) or is_pair_name(normal)


def is_language(name: str) -> bool:
    """Whether a name is the code of a language (`de`, `pt_br`) or one of the sides of a translation (`src`).

    >>> [name for name in ("de", "pt-BR", "source", "dev", "xx") if is_language(name)]
    ['de', 'pt-BR', 'source']
    """
    code = name.strip().casefold()
    return code in SIDES or (code[:2] in LANGUAGES and re.fullmatch(r"[a-z]{2}(?:[_-][a-z]{2,4})?", code) is not None)


def is_pair_name(normal: str) -> bool:
    """Whether a name says that it is one of two: `sentence1`, `1_string`."""
    match = _MARK.fullmatch(normal)
    stem = "" if match is None else (match[1] or "") + (match[3] or "")
    return stem in ("sentence", "string", "text", "question", "sent", "phrase", "s", "q", "paragraph", "passage")


@dataclass(frozen=True)
class _Look:
    """What the first cells of a column look like."""

    words: float
    letters: float
    distinct: float
    num_values: int
    numeric: float
    fractions: bool

    @staticmethod
    def at(cells: Sequence[str]) -> _Look:
        present = [cell for cell in (cell.strip() for cell in cells) if cell]
        count = max(len(present), 1)
        values = set(present)
        numbers = [cell for cell in present if is_number(cell)]
        return _Look(
            words=sum(len(cell.split()) for cell in present) / count,
            letters=sum(any(map(str.isalpha, cell)) and not is_number(cell) for cell in present) / count,
            distinct=len(values) / count,
            num_values=len(values),
            numeric=len(numbers) / count,
            fractions=any(not float(cell).is_integer() for cell in numbers if float(cell) - float(cell) == 0.0),
        )

    @property
    def is_text(self) -> bool:
        return self.letters >= 0.5 and (self.words >= 1.5 or self.distinct > 0.5)

    @property
    def is_prose(self) -> bool:
        # Chinese, Japanese and Thai have no spaces: there are few words, and long ones.
        return self.letters > 0.7 and self.words >= MIN_WORDS and self.distinct > 0.3

    def kind(self, name: str) -> Literal["class", "number"]:
        if self.numeric < 0.95:
            return "class"
        if self.fractions:
            return "number"
        return "class" if self.num_values <= MAX_CLASSES or normal_name(name) in CLASS_NAMES else "number"


def find_roles(
    names: Sequence[str], rows: Sequence[Sequence[str]], *, has_header: bool, config: DataConfig, where: str
) -> TextRoles | None:
    """The roles of a table's columns; None when no column holds text.

    Args:
        names: The header's, or the columns' numbers.
        rows: The first rows, all as wide as `names`.

    Raises:
        UnknownNameError: `data.text`, `data.text_pair`, `data.label` or `data.group` name no column.
        DataError: One column is asked to be two things.
    """
    looks = [_Look.at([row[number] for row in rows]) for number in range(len(names))]
    normal = [normal_name(name) if has_header else "" for name in names]
    stated = {
        option: _column(names, wanted, f"data.{option}", where)
        for option, wanted in (("text", config.text), ("text_pair", config.text_pair), ("label", config.label), ("group", config.group))
        if wanted is not None
    }  # fmt: skip
    _refuse_twice(stated, names, where)
    taken = set(stated.values())
    text, pair, named, why = _texts(normal, looks, stated, taken)
    if text is None:
        return None
    taken |= {text} if pair is None else {text, pair}
    label, label_why = _label(normal, names, looks, stated, taken, config)
    kind: Literal["class", "number"] = "class"
    if label is not None:
        kind = config.target or looks[label].kind(names[label])
    used = taken | ({label} if label is not None else set())
    return TextRoles(
        text=text,
        pair=pair,
        label=label,
        kind=kind,
        group=stated.get("group"),
        named=named,
        why=(why, label_why),
        others=tuple(number for number in range(len(names)) if number not in used),
    )


def _texts(
    normal: Sequence[str], looks: Sequence[_Look], stated: dict[str, int], taken: set[int]
) -> tuple[int | None, int | None, bool, str]:
    """(text, pair, found by name, why)."""
    if "text" in stated:
        return stated["text"], stated.get("text_pair"), True, "data.text says"
    free = [number for number in range(len(looks)) if number not in taken and looks[number].is_text]
    by_name = {normal[number]: number for number in reversed(free) if normal[number]}
    for first, second in PAIR_NAMES:
        if first in by_name and second in by_name:
            return by_name[first], by_name[second], True, "the columns of those names (data.text=… chooses others)"
    marked: dict[tuple[str, str], dict[str, int]] = {}
    for name, number in by_name.items():
        if (match := _MARK.fullmatch(name)) is not None:
            marked.setdefault((match[1], match[3] or ""), {})[match[2]] = number
    # Of `sentence1` and `sentence1_parse` the shorter name is the text itself.
    for _, marks in sorted(marked.items(), key=lambda item: len(item[0][0] + item[0][1])):
        for one, two in (("1", "2"), ("a", "b")):
            if one in marks and two in marks and looks[marks[one]].words >= 1.5:
                return marks[one], marks[two], True, "two columns of texts whose names go together"
    chosen = next((by_name[name] for name in TEXT_NAMES if name in by_name), None)
    if chosen is not None:
        return chosen, stated.get("text_pair"), True, "the column of that name (data.text=… chooses another)"
    # A column that is called text and holds nothing is one whose every row is a fault.
    empty = {normal[n]: n for n in range(len(looks)) if n not in taken and normal[n] and looks[n].num_values == 0}
    chosen = next((empty[name] for name in TEXT_NAMES if name in empty), None)
    if chosen is not None and not free:
        return chosen, None, True, "the column of that name"
    prose = [number for number in free if looks[number].is_prose]
    if not prose:
        return None, None, False, ""
    longest = max(prose, key=lambda number: (looks[number].words, -number))
    why = "the column with the most words (data.text=… chooses another)"
    return longest, stated.get("text_pair"), False, why


def _label(
    normal: Sequence[str],
    names: Sequence[str],
    looks: Sequence[_Look],
    stated: dict[str, int],
    taken: set[int],
    config: DataConfig,
) -> tuple[int | None, str]:
    if "label" in stated:
        return stated["label"], "data.label says"
    free = [number for number in range(len(names)) if number not in taken and looks[number].num_values > 0]
    order = {name: place for place, name in enumerate(LABEL_NAMES)}
    by_name = sorted((n for n in free if normal[n] in order), key=lambda number: order[normal[number]])
    found, why = by_name, "the column of that name (data.label=… chooses another)"
    if not found:
        few = [
            n for n in free if looks[n].num_values <= MAX_CLASSES and looks[n].distinct <= 0.5 and looks[n].words < 2.5
        ]
        several = [n for n in few if looks[n].num_values > 1]
        whole = [n for n in several if looks[n].numeric == 1.0]
        found = several if len(several) == 1 else whole if len(whole) == 1 and not any(normal) else []
        why = "the only column that holds few values (data.label=… chooses another)"
    if not found:
        return None, "no column looks like a label (data.label=… names one)"
    wanted = config.target or "class"
    fitting = [number for number in found if looks[number].kind(names[number]) == wanted]
    if wanted == "number" and not fitting:
        fitting = [number for number in found if looks[number].numeric >= 0.95]
    chosen = (fitting or found)[0]
    others = [names[number] for number in found if number != chosen]
    if others:
        why += f"; also possible: data.label={others[0]}"
    return chosen, why


def _column(names: Sequence[str], wanted: str, option: str, where: str) -> int:
    """A column by its header, exactly, then without regard to capitals; else by its number from 0 (-1: the last)."""
    if wanted in names:
        return list(names).index(wanted)
    folded = [name.casefold() for name in names]
    if wanted.casefold() in folded:
        return folded.index(wanted.casefold())
    if re.fullmatch(r"-?\d+", wanted) and -len(names) <= int(wanted) < len(names):
        return int(wanted) % len(names)
    raise unknown_column(wanted, names, where=f"{option}, columns of {where}")


def _refuse_twice(stated: dict[str, int], names: Sequence[str], where: str) -> None:
    seen: dict[int, str] = {}
    for option, number in stated.items():
        if number in seen:
            raise DataError(
                f"The column {names[number]!r} is named by data.{seen[number]} and by data.{option}.",
                where=where,
                accepts="a column for each",
                mend=f"name another column with data.{option}=…",
            )
        seen[number] = option


def is_missing_label(cell: str) -> bool:
    """Whether a label's cell holds none: empty, or a usual mark for a missing value (SNLI writes - where judges disagree)."""
    return is_missing(cell)
