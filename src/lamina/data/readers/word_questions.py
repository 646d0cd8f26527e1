"""What word vectors are judged on: pairs of words with a score, and analogies by section.

Pairs: `word TAB word TAB score` on each line (or divided by commas or spaces), with or without a header; as of WordSim-353, MTurk and
their like. Analogies: four words on each line, and before them lines that begin with a colon and name the section; as in
questions-words.txt of Mikolov et al. (2013), arXiv:1301.3781.
"""

from __future__ import annotations

import math
import re
from typing import Final

import torch

from lamina.core.errors import DataError
from lamina.core.registry import register
from lamina.data.columns import ColumnSpec, Data, DataSpec, Fault, FieldSpec
from lamina.data.config import DataConfig
from lamina.data.ragged import Ragged, RaggedColumns
from lamina.data.readers.base import FaultList, Guess, Reader, fault_text
from lamina.data.readers.sources import Source, SourceFile
from lamina.data.readers.text_source import head_lines, read_lines, shorten

_WORDS: Final = 4
_SECTION: Final = re.compile(r":\s*(\S.*?)\s*")
_DIVIDERS: Final = ("\t", ",", ";", None)  # None: white space
_TEXT: Final = ColumnSpec(role="text", dtype="uint8", shape=(-1,))


@register(
    "reader",
    "word-analogies",
    summary="Analogies `a b c d` by section, to judge word vectors on",
    source="Mikolov, Chen, Corrado, Dean (2013), arXiv:1301.3781",
    example="lamina evaluate runs/word2vec-sg-1 --data questions-words.txt",
)
class WordAnalogiesReader(Reader):
    """Analogies: `: section` and then four words per line. The four are the row's `text`, `section` is a group."""

    name = "word-analogies"
    makes = ("text",)

    def sniff(self, source: Source) -> Guess:
        """Sure when the first line begins with a colon and those behind it have four words."""
        file = _only_file(source)
        lines = [line for line in (head_lines(file) or [] if file is not None else []) if line.strip()]
        questions = [line.split() for line in lines if not line.startswith(":")][:100]
        if file is None or not questions or not _SECTION.fullmatch(lines[0]):
            return Guess(0.0, "there are no sections of analogies")
        if all(len(words) == _WORDS for words in questions):
            return Guess(0.98, f"{file.name}: a section that begins with a colon, then four words a line")
        return Guess(0.0, "the lines do not have four words each")

    def read(self, source: Source, config: DataConfig) -> Data:
        """Read one file.

        Raises:
            DataError: There is not one file, or no question in it.
        """
        file, faults = _file(source), FaultList()
        texts: list[str] = []
        sections: list[int] = []
        names: dict[str, int] = {}
        origin: list[str] = []
        current = 0
        for number, line in read_lines(file, faults=faults, encoding=config.encoding):
            if line is None or not line.strip():
                continue
            if line.startswith(":"):
                found = _SECTION.fullmatch(line.strip())
                current = names.setdefault(found[1] if found is not None else "", len(names))
                continue
            words = line.split()
            if len(words) != _WORDS:
                faults.add(Fault(file.where, f"{len(words)} words, not four", row=number, value=shorten(line)))
                continue
            names = names or {"all": 0}
            texts.append(" ".join(words))
            sections.append(current)
            origin.append(f"{file.where}:{number}")
        _require(texts, file, faults, "analogies: four words on each line")
        columns = RaggedColumns(
            {"section": torch.tensor(sections, dtype=torch.int64)},
            ragged={"text": Ragged.of_texts(texts)},
            origin=origin,
        )
        group = ColumnSpec(role="group", dtype="int64", classes=tuple(names))
        note = f"{file.name}: {len(texts):,} analogies in {len(names)} sections."
        return _data(self.name, source, columns, {"text": _TEXT, "section": group}, faults, note)


@register(
    "reader",
    "word-similarity",
    summary="Pairs of words with a score, to judge word vectors on",
    source="Finkelstein et al. (2002), doi:10.1145/503104.503110",
    example="lamina evaluate runs/word2vec-sg-1 --data EN-WS-353-ALL.txt",
)
class WordSimilarityReader(Reader):
    """Pairs: two words and a number per line. Both words are the row's `text`, the number its `target`."""

    name = "word-similarity"
    makes = ("text", "target")

    def sniff(self, source: Source) -> Guess:
        """Rather sure when all lines are two different single words and a number, and pairs do not repeat."""
        file = _only_file(source)
        lines = [line for line in (head_lines(file) or [] if file is not None else []) if line.strip()]
        divider = _divider(lines)
        pairs = [_pair(line, divider) for line in lines]
        known = [pair for pair in (pairs[1:] if pairs and pairs[0] is None else pairs) if pair is not None]
        begin = len(pairs) - 1 if pairs and pairs[0] is None else len(pairs)
        if file is None or not known or len(known) < begin:
            return Guess(0.0, "the lines are not two words and a number")
        words = {word for first, second, _ in known for word in (first, second)}
        if not all(re.search(r"[^\W\d_]", word) for word in words):
            return Guess(0.0, "the first two columns are not words")
        # A table of two categories and a number has few of each; lists of pairs have hardly a word twice.
        repeats = len(known) * 2 / len(words)
        if len(known) > 20 and repeats > 8:
            return Guess(0.0, "the first two columns have few values that come again and again: categories")
        return Guess(0.94, f"{file.name}: two words and a number on each line")

    def read(self, source: Source, config: DataConfig) -> Data:
        """Read one file.

        Raises:
            DataError: There is not one file, or no pair in it.
        """
        file, faults = _file(source), FaultList()
        lines = head_lines(file) or []
        divider = _divider([line for line in lines if line.strip()])
        texts: list[str] = []
        scores: list[float] = []
        origin: list[str] = []
        for number, line in read_lines(file, faults=faults, encoding=config.encoding):
            if line is None or not line.strip():
                continue
            pair = _pair(line, divider)
            if pair is None:
                if not texts and number == 1:
                    continue  # a header
                message = "not two words and a finite number"
                faults.add(Fault(file.where, message, row=number, value=shorten(line)))
                continue
            texts.append(f"{pair[0]} {pair[1]}")
            scores.append(pair[2])
            origin.append(f"{file.where}:{number}")
        _require(texts, file, faults, "two words and a number on each line, divided by tabs, commas or spaces")
        target = torch.tensor(scores, dtype=torch.float32).unsqueeze(1)
        columns = RaggedColumns({"target": target}, ragged={"text": Ragged.of_texts(texts)}, origin=origin)
        spec = ColumnSpec(role="target", dtype="float32", shape=(1,), fields=(FieldSpec(name="score"),))
        note = f"{file.name}: {len(texts):,} pairs of words with a score."
        return _data(self.name, source, columns, {"text": _TEXT, "target": spec}, faults, note)


def _only_file(source: Source) -> SourceFile | None:
    return source.files[0] if len(source.files) == 1 else None


def _file(source: Source) -> SourceFile:
    file = _only_file(source)
    if file is None:
        raise DataError(
            f"There are {len(source.files)} files.",
            where=str(source),
            accepts="one file of pairs or analogies at a time",
            mend="give the path of one file",
        )
    return file


def _divider(lines: list[str]) -> str | None:
    """What stands between the columns: what gives three on the last line that is looked at."""
    for divider in _DIVIDERS:
        if lines and _pair(lines[-1], divider) is not None:
            return divider
    return None


def _pair(line: str, divider: str | None) -> tuple[str, str, float] | None:
    cells = [cell.strip() for cell in line.strip().split(divider)]
    if len(cells) != 3 or any(not cell or " " in cell for cell in cells):
        return None
    try:
        score = float(cells[2])
    except ValueError:
        return None
    return (cells[0], cells[1], score) if math.isfinite(score) else None


def _require(texts: list[str], file: SourceFile, faults: FaultList, accepts: str) -> None:
    if not texts:
        first = f" The first fault: {fault_text(faults.faults[0])}." if faults.faults else ""
        raise DataError(
            f"There is no row that can be used.{first}",
            where=file.where,
            accepts=accepts,
            mend="check the file; data.reader names another reader",
        )


def _data(
    reader: str, source: Source, columns: RaggedColumns, specs: dict[str, ColumnSpec], faults: FaultList, note: str
) -> Data:
    spec = DataSpec(columns=specs, num_rows={"all": columns.num_rows}, reader=reader)
    notes = [*source.notes, note, *faults.notes()]
    return Data(
        splits={"all": columns}, spec=spec, reader=reader, source=str(source), faults=faults.faults, notes=notes
    )
