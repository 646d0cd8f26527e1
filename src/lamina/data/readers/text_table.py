"""Tables of texts in TSV, CSV and JSONL: a text or a pair of texts per row, with a class or a score."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from lamina.core.errors import DataError
from lamina.core.registry import register
from lamina.data.columns import Data, Fault
from lamina.data.config import DataConfig
from lamina.data.readers.base import FaultList, Guess, Reader, split_of_file
from lamina.data.readers.sources import Source, SourceFile
from lamina.data.readers.text_data import TextCollector, TextSplit
from lamina.data.readers.text_roles import LANGUAGES, TextRoles, find_roles, is_missing_label, normal_name
from lamina.data.readers.text_rows import TextLayout, read_objects, read_rows, understand_rows
from lamina.data.readers.text_source import shorten, text_candidates

ENDINGS: Final = (".tsv", ".csv", ".tab", ".txt", ".jsonl", ".ndjson", ".json", "")
# A table of so many columns of numbers beside one of texts is a table with a remark, unless a column is called text.
_MANY_NUMBERS: Final = 3


@register(
    "reader",
    "text-table",
    summary="Texts or pairs of texts with a class or score: TSV, CSV, JSONL",
    source="Made for Lamina",
    example="lamina data reviews.tsv data.label=stars",
)
class TextTableReader(Reader):
    """A text or a pair of texts per row, with a class or a score; one file, or a folder with one per split."""

    name = "text-table"
    makes = ("text",)

    def sniff(self, source: Source) -> Guess:
        """Sure when columns or keys have usual names of texts; rather sure when one column holds prose and another few values."""
        best = Guess(0.0, "there is no table with a column of texts")
        for file in text_candidates(source, ENDINGS)[:4]:
            layout = understand_rows(file)
            roles = None if layout is None else _roles(file, layout, DataConfig())
            if layout is not None and roles is not None:
                best = max(best, Guess(_confidence(layout, roles), f"{file.name}: {_what(layout, roles)}"))
        return best

    def read(self, source: Source, config: DataConfig) -> Data:
        """Read all tables; file and folder names tell the splits, each file's own columns their roles.

        Raises:
            DataError: There is no table, or none with texts.
            UnknownNameError: `data.text`, `data.label`, … name no column.
        """
        faults = FaultList()
        notes = list(source.notes)
        tables = list(_tables(source, config, faults, notes))
        if not tables:
            raise DataError(
                "There is no table with a column of texts.",
                where=str(source),
                accepts=f"files ending in {', '.join(ending for ending in ENDINGS if ending)}, also compressed",
                mend="name the column with data.text=…; `lamina list readers` says what else is read",
            )
        pairs = {roles.pair is not None for _, _, roles in tables}
        if len(pairs) > 1:
            raise DataError(
                "Some files hold pairs of texts and others single ones.",
                where=str(source),
                accepts="files of the same columns, one per split",
                mend="give one of the files, or name the columns with data.text=… and data.text_pair=…",
            )
        collector = TextCollector(
            self.name,
            str(source),
            columns=("text", "text_pair") if pairs == {True} else ("text",),
            groups=[config.group] if config.group is not None else [],
            max_bytes=config.max_memory_mb << 20,
        )
        # What the answers are is decided once: by the training table.
        order = sorted(tables, key=lambda table: {"train": 0, "all": 1}.get(split_of_file(table[0], source), 2))
        kind = order[0][2].kind
        score = next((layout.names[roles.label] for _, layout, roles in order if roles.label is not None), "target")
        for file, layout, roles in tables:
            split = collector.split(split_of_file(file, source))
            rows = len(split)
            _collect(file, layout, roles, split, faults, kind=kind, config=config)
            notes.append(f"{file.name}: {len(split) - rows} rows, {_what(layout, roles)}.")
            notes += _remarks(file, layout, roles, kind)
        return collector.finish(faults=faults, notes=list(dict.fromkeys(notes)), target_name=score)


def _tables(
    source: Source, config: DataConfig, faults: FaultList, notes: list[str]
) -> Iterator[tuple[SourceFile, TextLayout, TextRoles]]:
    for file in text_candidates(source, ENDINGS):
        layout = understand_rows(file, header=config.header, encoding=config.encoding)
        roles = None if layout is None else _roles(file, layout, config)
        if layout is None:
            faults.add(Fault(file.where, "the file holds no rows of cells"))
        elif roles is None:
            names = ", ".join(layout.names[:8])
            faults.add(Fault(file.where, f"no column holds texts; the columns are {names} (data.text=… names one)"))
        else:
            yield file, layout, roles


def _roles(file: SourceFile, layout: TextLayout, config: DataConfig) -> TextRoles | None:
    return find_roles(layout.names, layout.sample, has_header=layout.has_header, config=config, where=file.where)


def _confidence(layout: TextLayout, roles: TextRoles) -> float:
    numbers = sum(_holds_numbers(layout, number) for number in roles.others)
    headers = [normal_name(name) for name in layout.names]
    if layout.has_header and sum(name in LANGUAGES for name in headers) >= 2:
        return 0.3  # two languages side by side are parallel text
    if layout.form != "cells":
        return 0.95 if roles.named else 0.6
    if numbers > _MANY_NUMBERS and not (roles.named and headers[roles.text] in ("text", "sentence", "review")):
        return 0.45
    if not roles.named:
        return 0.7 if roles.label is not None else 0.35
    return 0.95 if roles.label is not None or roles.pair is not None else 0.8


def _holds_numbers(layout: TextLayout, number: int) -> bool:
    cells = [row[number] for row in layout.sample[:100] if row[number].strip()]
    return bool(cells) and all(_number(cell) is not None for cell in cells)


def _number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in cell else None


def _what(layout: TextLayout, roles: TextRoles) -> str:
    texts = repr(layout.names[roles.text])
    if roles.pair is not None:
        texts += f" and {layout.names[roles.pair]!r}"
    answer = "" if roles.label is None else f", the {roles.kind} in {layout.names[roles.label]!r}"
    return f"{layout.what}; the text is in {texts}{answer}"


def _remarks(file: SourceFile, layout: TextLayout, roles: TextRoles, kind: str) -> Iterator[str]:
    yield f"The text of {file.name} is {layout.names[roles.text]!r}: {roles.why[0]}."
    if roles.label is not None:
        yield f"The answer of {file.name} is {layout.names[roles.label]!r}, read as a {kind}: {roles.why[1]}."
    else:
        yield f"{file.name} has no answers: {roles.why[1]}."
    if layout.quote_note:
        yield f"{file.name}: {layout.quote_note}"
    if roles.others:
        others = ", ".join(layout.names[number] for number in roles.others[:6])
        yield f"Columns of {file.name} that are not used: {others}."


def _collect(
    file: SourceFile,
    layout: TextLayout,
    roles: TextRoles,
    split: TextSplit,
    faults: FaultList,
    *,
    kind: str,
    config: DataConfig,
) -> None:
    """Add the rows of a file to a split; a row that lacks something is a fault and left out."""
    split.origin.begin(file.where)
    text_name, pair_name = layout.names[roles.text], "" if roles.pair is None else layout.names[roles.pair]
    label_name = "" if roles.label is None else layout.names[roles.label]
    texts, pairs = split.texts["text"], split.texts.get("text_pair")
    for number, text, pair, label, group in _wanted(file, layout, roles, faults, config):
        empty = (
            text_name if not text or text.isspace() else pair_name if pairs and (not pair or pair.isspace()) else None
        )
        if empty is not None:
            faults.add(Fault(file.where, "the text is empty", row=number, column=empty, value=""))
            continue
        label = label.strip()
        value: float | None = None
        if roles.label is not None:
            if is_missing_label(label):
                faults.add(Fault(file.where, "the label is missing", row=number, column=label_name, value=label))
                continue
            if kind == "number" and (value := _number(label)) is None:
                message = "the score is not a finite number (data.target=class reads it as a class)"
                faults.add(Fault(file.where, message, row=number, column=label_name, value=shorten(label)))
                continue
        half = next(
            (name for name, cell in ((text_name, text), (pair_name, pair)) if _has_half_a_character(cell)), None
        )
        if half is not None:
            message = "the text holds half of a surrogate pair, which is no character"
            faults.add(Fault(file.where, message, row=number, column=half, value=shorten(text)))
            continue
        texts.add(text)
        if pairs is not None:
            pairs.add(pair)
        if value is not None:
            split.targets.append(value)
        elif roles.label is not None:
            split.labels.add(label)
        if config.group is not None:
            split.groups[config.group].add(group.strip() or "(missing)")
        split.origin.add(number)


def _has_half_a_character(text: str) -> bool:
    if text.isascii():
        return False
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def _wanted(
    file: SourceFile, layout: TextLayout, roles: TextRoles, faults: FaultList, config: DataConfig
) -> Iterator[tuple[int, str, str, str, str]]:
    """(line, text, second text, label, group) of every row; nothing where there is no such column."""
    places = (roles.text, roles.pair, roles.label, roles.group)
    if layout.form == "cells":
        for number, row in read_rows(file, layout, faults=faults, encoding=config.encoding):
            text, pair, label, group = ("" if place is None else row[place] for place in places)
            yield number, text, pair, label, group
        return
    names = ["" if place is None else layout.names[place] for place in places]
    wanted = {name: place in (roles.text, roles.pair) for name, place in zip(names, places, strict=True) if name}
    for number, cells in read_objects(file, layout, wanted=wanted, faults=faults, encoding=config.encoding):
        text, pair, label, group = (cells.get(name, "") for name in names)
        yield number, text, pair, label, group
