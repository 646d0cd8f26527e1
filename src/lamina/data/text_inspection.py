"""What texts are like, and which stand twice: lengths, words, exact duplicates by a hash of the normalised text."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from lamina.data.columns import Columns, ColumnSpec, Data
from lamina.data.ragged import Ragged, RaggedColumns

CHUNK_ROWS: Final = 4096
PERCENTILES: Final = (50, 95, 100)
MAX_WORDS_SHOWN: Final = 10
# Lines of running text that are shorter repeat for good reasons: names, headings, "Yes."
LEAST_WORDS: Final = 6
# Of these columns the first set that is there is what a model is asked; the others are its answers.
_ASKED: Final = (("text", "text_pair"), ("context", "question"))


# --- statistics --------------------------------------------------------------------------------------------------------


def text_statistics(name: str, spec: ColumnSpec, splits: Iterable[Columns]) -> dict[str, Any]:
    """Facts on a ragged column: of texts `characters` and `words` (each total, mean, percentiles), `vocabulary` and the commonest.

    Args:
        splits: Those that have the column; not the ones that are padded.

    Returns:
        Texts: `rows`, `empty`, `characters`, `words`, `vocabulary` {`size`, `once`, `commonest`}: words are what white space parts
        (in columns of words, what line ends part). Tags and tokens: `rows`, `length`, and the counts of tags.
    """
    columns = [part.ragged[name] for part in splits if isinstance(part, RaggedColumns) and name in part.ragged]
    if spec.role in ("text", "id") and spec.dtype == "uint8":
        return _texts(columns, spec) if spec.role == "text" else {"rows": sum(map(len, columns))}
    lengths = torch.cat([torch.zeros(0, dtype=torch.int64), *(rows.lengths for rows in columns)])
    row: dict[str, Any] = {"rows": len(lengths), "length": length_facts(lengths)}
    if spec.classes:
        counts = tag_counts(columns, len(spec.classes))
        row["counts"] = dict(zip(spec.classes, counts.tolist(), strict=True))
    return row


def _texts(columns: Sequence[Ragged], spec: ColumnSpec) -> dict[str, Any]:
    characters: list[int] = []
    words: list[int] = []
    vocabulary: Counter[str] = Counter()
    empty = 0
    for text in (text for rows in columns for text in texts_in_order(rows)):
        parts = text.split("\n") if spec.words else text.split()
        characters.append(len(text))
        words.append(len(parts))
        empty += not parts
        vocabulary.update(parts)
    once = sum(count == 1 for count in vocabulary.values())
    return {
        "rows": len(words),
        "empty": empty,
        "characters": length_facts(torch.tensor(characters, dtype=torch.int64)),
        "words": length_facts(torch.tensor(words, dtype=torch.int64)),
        "vocabulary": {
            "size": len(vocabulary),
            "once": once,
            "commonest": dict(vocabulary.most_common(MAX_WORDS_SHOWN)),
        },
    }


def texts_in_order(rows: Ragged) -> Iterator[str]:
    """All rows as text, decoded a few thousand at a time."""
    for start in range(0, len(rows), CHUNK_ROWS):
        yield from rows.texts(range(start, min(start + CHUNK_ROWS, len(rows))))


def length_facts(lengths: Tensor) -> dict[str, Any]:
    """Total, mean and percentiles (the smallest length that so many in a hundred rows do not exceed) of int64 (N,)."""
    if len(lengths) == 0:
        return {"total": 0, "mean": None, **{f"p{percent}": None for percent in PERCENTILES}}
    ordered = lengths.sort().values
    places = [-(-percent * len(ordered) // 100) - 1 for percent in PERCENTILES]
    found = ordered[torch.tensor(places).clamp(min=0)].tolist()
    total = int(lengths.sum())
    mean = float(f"{total / len(lengths):.7g}")
    return {"total": total, "mean": mean, **{f"p{p}": value for p, value in zip(PERCENTILES, found, strict=True)}}


def tag_counts(columns: Iterable[Ragged], num_classes: int) -> Tensor:
    """How often each tag occurs, int64 (num_classes,)."""
    total = torch.zeros(num_classes, dtype=torch.int64)
    for rows in columns:
        total += torch.bincount(rows.values[rows.values >= 0].long(), minlength=num_classes)[:num_classes]
    return total


# --- duplicates --------------------------------------------------------------------------------------------------------


def asked_columns(names: Sequence[str]) -> list[str]:
    """The text columns that make a row what it is; answers and translations are not compared."""
    for wanted in _ASKED:
        found = [name for name in wanted if name in names]
        if found:
            return found
    return list(names)


def normal_text(text: str) -> str:
    """A text as duplicates compare it: without regard to capitals and to how much white space parts the words.

    >>> normal_text("  Good  film. ") == normal_text("good film.")
    True
    """
    return " ".join(text.casefold().split())


def text_groups(data: Data, names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Rows with equal normalised texts: (members int64 (M,), group number of each), groups in the order of their first rows.

    Of running text (`spec.ordered`) lines of fewer than six words are passed over, and so are lines repeated within a split: only
    what stands in two splits counts, each with its first row in either.
    """
    seen: dict[bytes, int] = {}
    leaders: list[int] = []
    ordered = data.spec.ordered
    for columns in data.splits.values():
        for key in _keys(columns, names, least_words=LEAST_WORDS if ordered else 0):
            row = len(leaders)
            leaders.append(row if key is None else seen.setdefault(key, row))
    if not leaders:
        nothing = torch.zeros(0, dtype=torch.int64)
        return nothing, nothing.clone()
    leader = torch.tensor(leaders, dtype=torch.int64)
    shared = torch.bincount(leader, minlength=len(leader))[leader] > 1
    if ordered:
        shared &= _first_in_splits(leader, [columns.num_rows for columns in data.splits.values()])
    members = torch.nonzero(shared).flatten()
    order = leader[members].argsort(stable=True)
    members = members[order]
    return members, torch.unique_consecutive(leader[members], return_inverse=True)[1]


def _first_in_splits(leader: Tensor, counts: Sequence[int]) -> Tensor:
    """A mask (N,) of rows that are the first of their group in their split, where the group has rows in several splits."""
    split = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    number = torch.unique(leader * len(counts) + split, return_inverse=True)[1]
    rows = torch.arange(len(leader))
    first = torch.full((int(number.max()) + 1,), len(leader)).scatter_reduce_(0, number, rows, "amin")
    several = torch.bincount(leader[first], minlength=len(leader)) > 1
    mask: Tensor = several[leader] & (first[number] == rows)
    return mask


def _keys(columns: Columns, names: Sequence[str], *, least_words: int) -> Iterator[bytes | None]:
    """A hash of 128 bits of every row over some columns; None for rows that are not compared."""
    ragged = [
        (name, columns.ragged[name]) for name in names if isinstance(columns, RaggedColumns) and name in columns.ragged
    ]
    if ragged and all(rows.values.dtype == torch.uint8 for _, rows in ragged):
        for texts in zip(*(texts_in_order(rows) for _, rows in ragged), strict=True):
            normal = [normal_text(text) for text in texts]
            if least_words and normal[0].count(" ") + 1 < least_words:
                yield None
            else:
                yield _digest("\0".join(normal).encode())
        return
    fixed = [columns[name] for name in names if name not in dict(ragged)]
    bounds = [rows.offsets.tolist() for _, rows in ragged]
    for row in range(columns.num_rows):
        pieces = [
            rows.values[start[row] : start[row + 1]].contiguous().view(torch.uint8).numpy().tobytes()
            for (_, rows), start in zip(ragged, bounds, strict=True)
        ]
        pieces += [tensor[row].contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() for tensor in fixed]
        yield _digest(b"".join(len(piece).to_bytes(8, "little") + piece for piece in pieces))


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


# --- lines of a document -----------------------------------------------------------------------------------------------


def text_facts(found: Mapping[str, Any]) -> list[str]:
    """The statistics of a text, of words or of tags as parts of a sentence, for people."""
    facts = []
    for key in ("characters", "words", "length"):
        row = found.get(key)
        if row and row["mean"] is not None:
            percentiles = ", ".join(f"{percent} % up to {row[f'p{percent}']:,}" for percent in PERCENTILES[:-1])
            unit = "values" if key == "length" else key
            facts.append(
                f"{unit} per row: mean {row['mean']:.4g}, {percentiles}, at most {row['p100']:,} ({row['total']:,} in all)"
            )
    vocabulary = found.get("vocabulary")
    if vocabulary:
        facts.append(f"{vocabulary['size']:,} different words, {vocabulary['once']:,} of them once")
    if found.get("empty"):
        facts.append(f"{found['empty']:,} rows without a word")
    return facts
