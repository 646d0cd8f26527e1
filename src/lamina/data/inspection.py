"""What a reader saw, counted and checked: the document of `lamina data`.

Statistics are taken over chunks, in float64; duplicates and leaks are those of `duplicates.py`. Everything is plain JSON.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import torch
from torch import Tensor

from lamina.data.columns import Columns, ColumnSpec, Data
from lamina.data.duplicates import (
    COARSE_COSINE,
    FULL_COSINE,
    SIDE,
    TABLE_TOLERANCE,
    Found,
    Rows,
    answers_agree,
    find_duplicates,
    find_leaks,
    input_columns,
    leaks_of,
)
from lamina.data.preprocess.flow import moments
from lamina.data.ragged import RaggedColumns
from lamina.data.series import as_stretches, describe_step, time_text
from lamina.data.text_inspection import tag_counts, text_statistics

__all__ = ["find_leaks", "inspect_data", "uneven_classes"]

MAX_LISTED: Final = 100
MAX_EXAMPLES: Final = 10
SAMPLE_ROWS: Final = 1024
# A class that is so much rarer than the commonest is worth a word.
UNBALANCED: Final = 10.0
FEW_ROWS: Final = 5


def inspect_data(data: Data, *, near: bool = True) -> dict[str, Any]:
    """Everything that can be said about data before training.

    Args:
        near: Look for near duplicates too (some seconds for 60,000 small images). False is what training can afford: images
            that stay in their files are then judged by a sample, and not compared.

    Returns:
        `reader`, `source`, `fingerprint`, `splits` (rows and rows per class of each), `classes`, `balance`, `statistics` (per
        column), `faults`, `duplicates` (`exact`, `near`, `conflicts`: rows, examples), `leaks` (at most 100, with `splits`,
        `rows`, `origins`, `kind`, `labels_agree`, `message`), `leak_counts`, `notes`, `warnings`.
    """
    data = as_stretches(data)  # the rows of a series, not its windows
    quick = not near and not all(columns.in_memory for columns in data.splits.values())
    found = _not_compared(data) if quick else find_duplicates(data, near=near)
    leaks = leaks_of(found)
    balance = _balance(data)
    sample = {name: _sample(columns) if quick else columns for name, columns in data.splits.items()}
    document = {
        "reader": data.reader,
        "source": data.source,
        "fingerprint": data.fingerprint,
        "splits": {name: _split(columns, data) for name, columns in data.splits.items()},
        "classes": list(data.spec.classes or _tags(data)),
        "balance": balance,
        "statistics": {name: _statistics(name, spec, sample) for name, spec in data.spec.columns.items()},
        "faults": [fault.describe() for fault in data.faults],
        "duplicates": _duplicates(found, data),
        "leaks": leaks[:MAX_LISTED],
        "leak_counts": _leak_counts(leaks),
        "notes": [*data.notes, *found.notes],
        "warnings": [],
    }
    document["warnings"] = list(_warnings(document))
    return document


# --- splits and classes ----------------------------------------------------------------------------------------------


def _split(columns: Columns, data: Data) -> dict[str, Any]:
    row: dict[str, Any] = {"rows": columns.num_rows}
    if "label" in columns and data.spec.classes:
        counts = _label_counts([columns], len(data.spec.classes)).tolist()
        row["classes"] = dict(zip(data.spec.classes, counts, strict=True))
    elif (tags := _tags(data)) and isinstance(columns, RaggedColumns) and "tags" in columns.ragged:
        row["classes"] = dict(zip(tags, tag_counts([columns.ragged["tags"]], len(tags)).tolist(), strict=True))
    return row


def _tags(data: Data) -> tuple[str, ...]:
    """The names of the tags of words; empty where there are none."""
    spec = data.spec.columns.get("tags")
    return spec.classes or () if spec is not None else ()


def _label_counts(splits: Iterable[Columns], num_classes: int) -> Tensor:
    total = torch.zeros(num_classes, dtype=torch.int64)
    for columns in splits:
        if "label" in columns:
            labels = columns["label"].flatten()
            total += torch.bincount(labels[(labels >= 0) & (labels < num_classes)], minlength=num_classes)
    return total


def _balance(data: Data) -> dict[str, Any] | None:
    if not data.spec.classes or "label" not in data.spec.columns:
        return None
    counts = _label_counts(data.splits.values(), len(data.spec.classes))
    present = counts[counts > 0]
    if len(present) == 0:
        return None
    smallest = int(torch.where(counts > 0, counts, counts.max() + 1).argmin())
    largest = int(counts.argmax())
    total = float(counts.sum())
    return {
        "ratio": float(present.max()) / float(present.min()),
        "smallest": {"class": data.spec.classes[smallest], "rows": int(counts[smallest])},
        "largest": {"class": data.spec.classes[largest], "rows": int(counts[largest])},
        "accuracy_of_the_largest": float(counts[largest]) / total,
        "without_rows": [name for name, count in zip(data.spec.classes, counts.tolist(), strict=True) if count == 0],
    }


# --- statistics ------------------------------------------------------------------------------------------------------


def _not_compared(data: Data) -> Found:
    note = (
        f"The images stay in their files: statistics are those of at most {SAMPLE_ROWS} rows per split, and duplicates are not "
        "looked for here; `lamina data` does both."
    )
    return Found(Rows.of(data.splits), notes=[note])


def _sample(columns: Columns) -> Columns:
    if columns.in_memory or columns.num_rows <= SAMPLE_ROWS:
        return columns
    return columns.take(torch.linspace(0, columns.num_rows - 1, SAMPLE_ROWS).long())


def _statistics(name: str, spec: ColumnSpec, given: Mapping[str, Columns]) -> dict[str, Any]:
    row: dict[str, Any] = {"role": spec.role, "dtype": spec.dtype, "shape": list(spec.shape)}
    splits = [columns for columns in given.values() if name in columns and columns.num_rows]
    if not splits:
        return row
    if isinstance(splits[0], RaggedColumns) and name in splits[0].ragged:
        return row | text_statistics(name, spec, splits)
    if spec.role == "image":
        row |= {"channels": spec.shape[0], "height": spec.shape[1], "width": spec.shape[2]}
        if spec.maximum is not None:
            row["declared_maximum"] = spec.maximum
        return row | _range(name, splits, (0, 2, 3), with_total=True)
    if spec.timing is not None:
        row["step"] = describe_step(spec.timing)
        times = [columns["time"] for columns in splits if "time" in columns]
        if times:
            row |= {
                "first": time_text(min(int(t[0]) for t in times)),
                "last": time_text(max(int(t[-1]) for t in times)),
            }
    if spec.role in ("number", "target", "series") and len(spec.shape) == 1 and spec.fields:
        return row | {"fields": _fields(name, spec, splits)}
    if spec.role in ("number", "target") and len(spec.shape) == 1:
        return row | {"fields": _fields(name, spec, splits)}
    if spec.role == "category":
        return row | {"fields": _categories(name, spec, splits)}
    if spec.role in ("label", "group"):
        counts = [_value_counts(columns[name], spec.classes or ()) for columns in splits]
        missing = sum(int((columns[name] < 0).sum()) for columns in splits)
        return row | {"num_values": len({value for count in counts for value in count}), "missing": missing}
    if splits[0][name].ndim >= 1 and spec.role in ("series", "volume", "tokens", "weight", "id"):
        values = [columns[name] for columns in splits]
        row |= {"min": min(_plain(v.min()) for v in values), "max": max(_plain(v.max()) for v in values)}
    return row


def _chunks(name: str, splits: Iterable[Columns], size: int = 4096) -> Iterator[Tensor]:
    for columns in splits:
        if columns.in_memory:
            yield from columns[name].split(size)
        else:
            yield from (batch[name] for batch in columns.chunks(size))


def _range(name: str, splits: list[Columns], dims: tuple[int, ...], *, with_total: bool = False) -> dict[str, Any]:
    nothing = torch.zeros(0)
    found = moments(lambda: ((chunk.to(torch.float64), nothing) for chunk in _chunks(name, splits)), dims)
    row: dict[str, Any] = {
        "mean": _plains(found.mean),
        "std": _plains(found.variance().sqrt()),
    }
    if with_total:
        return {"min": _plain(found.least.min()), "max": _plain(found.most.max()), **row}
    return {"min": _plains(found.least), "max": _plains(found.most), "count": found.count.long().tolist(), **row}


def _fields(name: str, spec: ColumnSpec, splits: list[Columns]) -> list[dict[str, Any]]:
    found = _range(name, splits, (0,))
    total = sum(columns.num_rows for columns in splits)
    names = [field.name for field in spec.fields] or [str(number) for number in range(spec.shape[0])]
    return [
        {"name": label, "min": least, "max": most, "mean": mean, "std": std, "missing": total - count}
        for label, least, most, mean, std, count in zip(
            names, found["min"], found["max"], found["mean"], found["std"], found["count"], strict=True
        )
    ]


def _categories(name: str, spec: ColumnSpec, splits: list[Columns]) -> list[dict[str, Any]]:
    rows = []
    for number, field in enumerate(spec.fields):
        classes = field.classes or ()
        counts = torch.zeros(len(classes), dtype=torch.int64)
        missing = 0
        for columns in splits:
            codes = columns[name][:, number]
            missing += int((codes < 0).sum())
            counts += torch.bincount(codes[codes >= 0], minlength=len(classes))
        order = counts.argsort(descending=True, stable=True)[:20].tolist()
        shown = {classes[i]: int(counts[i]) for i in order}
        rows.append({"name": field.name, "num_values": len(classes), "missing": missing, "counts": shown})
    return rows


def _value_counts(labels: Tensor, classes: tuple[str, ...]) -> dict[int, int]:
    values, counts = torch.unique(labels[labels >= 0], return_counts=True)
    return {v: c for v, c in zip(values.tolist(), counts.tolist(), strict=True) if v < len(classes) or not classes}


def _plain(value: Tensor) -> Any:
    """A JSON number; None for what is none."""
    number = value.item()
    if not isinstance(number, float):
        return number
    # float32 carries seven digits; more of them would be noise.
    return float(f"{number:.7g}") if math.isfinite(number) else None


def _plains(values: Tensor) -> list[Any]:
    return [_plain(value) for value in values.flatten()]


# --- duplicates ------------------------------------------------------------------------------------------------------


def _duplicates(found: Found, data: Data) -> dict[str, Any]:
    rows, answers = found.rows, found.rows.answers()
    split = rows.split_of(found.members)
    # Rows that repeat an earlier row of their own split.
    key = found.group * len(rows.names) + split
    repeats = torch.ones(len(key), dtype=torch.bool)
    repeats[:1] = False
    repeats[1:] = key[1:] == key[:-1]
    near_split = rows.split_of(found.pairs.flatten()).view(-1, 2)
    within = near_split[:, 0] == near_split[:, 1]
    near_rows = torch.unique(found.pairs[within][:, 1]) if len(found.pairs) else found.members[:0]
    document: dict[str, Any] = {
        "exact": {
            "rows": int(repeats.sum()),
            "per_split": _per_split(found, split[repeats]),
            "examples": [_example(found, group.tolist(), answers) for group in found.groups()[:MAX_EXAMPLES]],
        },
        "near": {
            "rows": len(near_rows),
            "pairs": len(found.pairs),
            "per_split": _per_split(found, rows.split_of(near_rows)),
            "meaning": _near_meaning(data),
            "examples": [_example(found, pair, answers) for pair in found.pairs[:MAX_EXAMPLES].tolist()],
        },
        "conflicts": {"rows": 0, "examples": []},
    }
    if answers is not None and found.num_groups:
        differ = torch.zeros(found.num_groups, dtype=torch.bool)
        for column in answers[found.members].T:
            known = ~column.isnan()
            least, most = found.over_groups(torch.where(known, column, column[known].mean() if known.any() else 0.0))
            differ |= (least != most) & ~_has_gap(found, ~known)
        groups = found.groups(differ)
        document["conflicts"] = {
            "rows": sum(len(group) for group in groups),
            "examples": [_example(found, group.tolist(), answers, data=data) for group in groups[:MAX_EXAMPLES]],
        }
    return document


def _has_gap(found: Found, gaps: Tensor) -> Tensor:
    """Groups in which some row has no answer."""
    return found.over_groups(gaps.to(torch.int64))[1] > 0


def _per_split(found: Found, split: Tensor) -> dict[str, int]:
    counts = torch.bincount(split, minlength=len(found.rows.names)).tolist()
    return dict(zip(found.rows.names, counts, strict=True))


def _example(found: Found, rows: list[int], answers: Tensor | None, *, data: Data | None = None) -> dict[str, Any]:
    shown = rows[:6]
    places = [found.rows.place(row) for row in shown]
    example: dict[str, Any] = {
        "splits": [split for split, _ in places],
        "rows": [row for _, row in places],
        "origins": [found.rows.origin(row) for row in shown],
        "num_rows": len(rows),
        "labels_agree": answers_agree(answers, rows),
    }
    if data is not None and answers is not None:
        classes = data.spec.classes
        values = [answers[row].tolist() for row in shown]
        example["labels"] = [classes[int(v[0])] if classes else v[0] for v in values]
    return example


def _near_meaning(data: Data) -> str:
    names = input_columns(data)
    if data.spec.column("text") is not None:
        return "not looked for; exact ones are compared without regard to capitals and white space"
    if "image" in names:
        return (
            f"images whose grey values, without brightness and contrast, have a cosine of at least {COARSE_COSINE} at "
            f"{SIDE} by {SIDE} pixels and {FULL_COSINE} at full size"
        )
    if "number" in names:
        return f"rows of equal categories whose numbers all differ by at most {TABLE_TOLERANCE} standard deviations"
    return "not looked for"


def _leak_counts(leaks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per pair of splits: how many rows of the second stand in the first, exactly or nearly."""
    seen: dict[tuple[str, str], dict[str, set[int]]] = {}
    for leak in leaks:
        kinds = seen.setdefault((leak["splits"][0], leak["splits"][1]), {"exact": set(), "near": set()})
        kinds[leak["kind"]].add(leak["rows"][1])
    return [{"splits": list(pair), **{kind: len(rows) for kind, rows in kinds.items()}} for pair, kinds in seen.items()]


# --- warnings --------------------------------------------------------------------------------------------------------


def uneven_classes(document: Mapping[str, Any]) -> Iterator[str]:
    """Sentences on classes that the training split lacks, or that only the training split has."""
    splits = {name: split.get("classes", {}) for name, split in document["splits"].items() if split.get("rows")}
    train = splits.pop("train", None)
    if train is None:
        return
    for name, counts in splits.items():
        new = [label for label, rows in counts.items() if rows and not train.get(label)]
        if new:
            yield f"Classes of {name} without a row in train cannot be learned: {', '.join(new[:10])}."
        missing = [label for label, rows in train.items() if rows and not counts.get(label)]
        if missing and counts:
            yield f"Classes of train without a row in {name} are not judged there: {', '.join(missing[:10])}."


def _warnings(document: Mapping[str, Any]) -> Iterator[str]:
    for row in document["leak_counts"]:
        first, second = row["splits"]
        total = document["splits"][second]["rows"]
        for kind, word in (("exact", "also stand"), ("near", "have a near duplicate")):
            if row[kind]:
                yield (
                    f"Rows of {second} that {word} in {first}: {row[kind]} of {total}; the score on {second} says less about "
                    "new data than it seems to."
                )
    conflicts = document["duplicates"]["conflicts"]["rows"]
    if conflicts:
        yield f"Rows with the same inputs as a row of another label: {conflicts}; no model can get all of them right."
    exact = document["duplicates"]["exact"]["rows"]
    if exact:
        yield f"Rows that repeat an earlier row of their split: {exact}."
    balance = document["balance"]
    if balance is not None:
        if balance["ratio"] >= UNBALANCED:
            yield (
                f"The classes are unbalanced: {balance['largest']['class']!r} has {balance['ratio']:.1f} times the rows of "
                f"{balance['smallest']['class']!r}; always answering it gives an accuracy of "
                f"{balance['accuracy_of_the_largest']:.3f}. Look at f1_macro, or use data.balance=sample or weight."
            )
        few = [
            name
            for name in document["classes"]
            if 0 < sum(split.get("classes", {}).get(name, 0) for split in document["splits"].values()) < FEW_ROWS
        ]
        if few:
            yield f"Classes of fewer than {FEW_ROWS} rows can hardly be learned: {', '.join(few[:10])}."
        yield from uneven_classes(document)
        if len(document["classes"]) == 1:
            yield f"There is one class only, {document['classes'][0]!r}: nothing to tell apart."
    for name, column in document["statistics"].items():
        constant = [f["name"] for f in column.get("fields", ()) if "min" in f and f["min"] == f["max"] is not None]
        if constant and column["role"] == "number":
            yield f"Features that never change tell nothing: {', '.join(constant[:10])}."
        if column["role"] == "image" and column.get("min") == column.get("max"):
            yield f"All pixels of {name!r} have the value {column.get('min')}."
