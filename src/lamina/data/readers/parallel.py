"""Parallel text: files of one language each that agree line by line (`train.de`, `train.en`), or TSV with a column per language."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import PurePosixPath
from typing import Final

from lamina.core.errors import DataError, UnknownNameError, unknown_name
from lamina.core.registry import register
from lamina.data.columns import Data, Fault
from lamina.data.config import DataConfig
from lamina.data.readers.base import FaultList, Guess, Reader, split_of_file
from lamina.data.readers.sources import Source, SourceFile
from lamina.data.readers.text_data import TextCollector, TextSplit
from lamina.data.readers.text_roles import find_roles, is_language
from lamina.data.readers.text_rows import TextLayout, read_rows, understand_rows
from lamina.data.readers.text_source import TEXT_ENDINGS, head_lines, is_document, read_lines, shorten, text_candidates

TABLE_ENDINGS: Final = (".tsv", ".txt", ".csv", ".tab", "")
_DIRECTIONS: Final = (("src", "tgt"), ("src", "trg"), ("source", "target"))


@register(
    "reader",
    "parallel",
    summary="Translations: files of a language each, line by line, or TSV",
    source="Made for Lamina",
    example="lamina data multi30k data.languages=[de,en]",
)
class ParallelReader(Reader):
    """Sentences and their translations: `text` and `target_text`. `data.languages` says from which language to which."""

    name = "parallel"
    makes = ("text",)

    def sniff(self, source: Source) -> Guess:
        """Sure when files differ in the code of a language only, or columns are called after languages."""
        sides = sides_of(source)
        together = [stem for stem, files in sides.items() if len(files) > 1]
        if together:
            pair = list(sides[together[0]].values())[:2]
            if all(head_lines(file, num_bytes=4096) is not None for file in pair):
                names = ", ".join(sides[together[0]])
                return Guess(
                    0.9, f"files of {together[0] or 'one name'} in several languages: {names}; a sentence per line"
                )
        for file in text_candidates(source, TABLE_ENDINGS)[:4]:
            layout = understand_rows(file)
            if layout is not None and (columns := _language_columns(layout)):
                return Guess(0.97, f"{file.name}: columns called after languages: {', '.join(columns)}")
            if layout is not None and _is_headless_pair(layout, file.where):
                return Guess(0.6, f"{file.name}: two columns of texts and no label")
        return Guess(0.0, "there are no files or columns of several languages")

    def read(self, source: Source, config: DataConfig) -> Data:
        """Read all pairs; file and folder names tell the splits.

        Raises:
            DataError: There is no pair.
            UnknownNameError: `data.languages` names a language that is not there.
        """
        faults = FaultList()
        notes = list(source.notes)
        collector = TextCollector(
            self.name, str(source), columns=("text", "target_text"), max_bytes=config.max_memory_mb << 20
        )
        sides = {stem: files for stem, files in sides_of(source).items() if len(files) > 1}
        if sides:
            pair, why = _direction(sides, config, source)
            notes.append(f"The translation is from {pair[0]} to {pair[1]}: {why}.")
            for stem, files in sides.items():
                lacking = [language for language in pair if language not in files]
                if lacking:
                    there = next(iter(files.values()))
                    message = f"the file of the language {lacking[0]!r} that belongs to {stem} is missing"
                    faults.add(Fault(there.where, message))
                    continue
                first, second = files[pair[0]], files[pair[1]]
                split = collector.split(split_of_file(first, source))
                split.origin.begin(first.where)
                before = len(split)
                _collect(first, second, split, faults, config)
                notes.append(f"{first.name} and {second.name}: {len(split) - before} pairs, line by line.")
        else:
            for file in text_candidates(source, TABLE_ENDINGS):
                _collect_table(file, source, collector, faults, notes, config)
        return collector.finish(faults=faults, notes=notes)


# --- finding the pairs -------------------------------------------------------------------------------------------------


def sides_of(source: Source) -> dict[str, dict[str, SourceFile]]:
    """Stem -> language -> file, of files such as `train.de`, `train.en.txt`, `corpus-fr.txt` or `de/train.txt`."""
    found: dict[str, dict[str, SourceFile]] = {}
    for file in source.files:
        # A language is an ending, or stands before the ending of a text.
        if not (file.ending in TEXT_ENDINGS or is_language(file.ending[1:])) or is_document(file):
            continue
        path = PurePosixPath(file.plain_name)
        name = path.name.removesuffix(".txt")
        stem, dot, language = name.rpartition(".")
        if not dot:
            match = re.fullmatch(r"(.*)[-_]([A-Za-z]{2,6})", name)
            stem, language = (match[1], match[2]) if match is not None else ("", name)
        folder, language = path.parent, language.casefold()
        if not is_language(language) and file.ending in TEXT_ENDINGS:
            folder, stem, language = folder.parent, name, folder.name.casefold()
        if is_language(language):
            found.setdefault(str(folder / stem).removeprefix("./"), {})[language] = file
    return found


def _direction(
    sides: Mapping[str, Mapping[str, SourceFile]], config: DataConfig, source: Source
) -> tuple[tuple[str, str], str]:
    known = sorted({language for files in sides.values() for language in files})
    if config.languages is not None:
        return _checked(config.languages, known, str(source)), "data.languages says"
    for pair in _DIRECTIONS:
        if set(pair) <= set(known):
            return pair, "the files' names say"
    # Those that stand together everywhere, by alphabet.
    everywhere = [language for language in known if all(language in files for files in sides.values())]
    first, second = (everywhere if len(everywhere) > 1 else known)[:2]
    return (
        first,
        second,
    ), f"the first two by alphabet of {', '.join(known)} (data.languages=[{second},{first}] turns it around)"


def _checked(wanted: tuple[str, str], known: Sequence[str], where: str) -> tuple[str, str]:
    folded = {name.casefold(): name for name in known}
    for language in wanted:
        if language.casefold() not in folded:
            error = unknown_name("language", language, known, where=f"data.languages, {where}")
            near = (
                error.mend if error.mend.startswith("did you mean") else f"say data.languages=[{known[0]},{known[-1]}]"
            )
            raise UnknownNameError(error.what, where=error.where, accepts=error.accepts, mend=near)
    if wanted[0].casefold() == wanted[1].casefold():
        raise DataError(
            f"Both languages are {wanted[0]!r}.",
            where="data.languages",
            accepts=f"two of {', '.join(known)}",
            mend=f"say data.languages=[{known[0]},{known[-1]}]",
        )
    return folded[wanted[0].casefold()], folded[wanted[1].casefold()]


# --- files line by line ------------------------------------------------------------------------------------------------


def _collect(first: SourceFile, second: SourceFile, split: TextSplit, faults: FaultList, config: DataConfig) -> None:
    left = read_lines(first, faults=faults, encoding=config.encoding)
    right = read_lines(second, faults=faults, encoding=config.encoding)
    end = (0, None)
    ended: dict[SourceFile, int] = {}
    number = 0
    for (a, text), (b, translation) in zip_longest(left, right, fillvalue=end):
        number += 1
        if a == 0 or b == 0:
            ended.setdefault(first if a == 0 else second, number - 1)
            continue
        if text is None or translation is None:
            continue  # named already
        _add(split, number, text, translation, (first.where, second.where), faults)
    for file, count in ended.items():
        longer = second if file is first else first
        message = (
            f"there are {count} lines, but {number} in {longer.where}: the lines do not belong to each other one by one, and from "
            "where on cannot be seen"
        )
        faults.add(Fault(file.where, message, row=count))


def _add(split: TextSplit, number: int, text: str, translation: str, where: tuple[str, str], faults: FaultList) -> None:
    """Add a pair; one with an empty side is a fault."""
    for side, name in ((text, where[0]), (translation, where[1])):
        if not side or side.isspace():
            faults.add(Fault(name, "the sentence is empty", row=number, value=shorten(side)))
            return
    split.texts["text"].add(text)
    split.texts["target_text"].add(translation)
    split.origin.add(number)


# --- a column per language ---------------------------------------------------------------------------------------------


def _language_columns(layout: TextLayout) -> list[str]:
    if not layout.has_header or layout.form != "cells":
        return []
    names = [name for name in layout.names if is_language(name)]
    return names if len(names) > 1 else []


def _is_headless_pair(layout: TextLayout, where: str) -> bool:
    """Two columns of texts and nothing that could be a label; a third may hold remarks on the licence."""
    if layout.form != "cells" or layout.has_header or layout.delimiter != "\t" or layout.width not in (2, 3):
        return False
    letters = [[any(map(str.isalpha, row[column])) for row in layout.sample] for column in (0, 1)]
    distinct = [len({row[column] for row in layout.sample}) for column in (0, 1)]
    spaced = [sum(" " in row[column].strip() for row in layout.sample) for column in (0, 1)]
    count = len(layout.sample)
    texts = all(sum(column) > 0.9 * count for column in letters) and all(n > 0.5 * count for n in distinct)
    roles = find_roles(layout.names, layout.sample, has_header=False, config=DataConfig(), where=where)
    return texts and max(spaced) > 0.5 * count and (roles is None or roles.label is None)


def _collect_table(
    file: SourceFile, source: Source, collector: TextCollector, faults: FaultList, notes: list[str], config: DataConfig
) -> None:
    layout = understand_rows(file, header=config.header, encoding=config.encoding)
    if layout is None or layout.form != "cells" or layout.width < 2:
        faults.add(Fault(file.where, "the file has no two columns of sentences"))
        return
    known = _language_columns(layout) or list(layout.names)
    if config.languages is not None:
        pair, why = _checked(config.languages, known, file.where), "data.languages says"
    else:
        pair = (known[0], known[1])
        why = f"the first two columns (data.languages=[{pair[1]},{pair[0]}] turns it around)"
    places = (layout.names.index(pair[0]), layout.names.index(pair[1]))
    notes.append(f"{file.name}: {layout.what}; the translation is from {pair[0]} to {pair[1]}: {why}.")
    split = collector.split(split_of_file(file, source))
    split.origin.begin(file.where)
    for number, text, translation in _sides(file, layout, places, faults, config):
        _add(split, number, text, translation, (file.where, file.where), faults)


def _sides(
    file: SourceFile, layout: TextLayout, places: tuple[int, int], faults: FaultList, config: DataConfig
) -> Iterator[tuple[int, str, str]]:
    for number, row in read_rows(file, layout, faults=faults, encoding=config.encoding):
        yield number, row[places[0]], row[places[1]]
