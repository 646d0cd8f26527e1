"""CoNLL-U: sentences of Universal Dependencies, ten columns parted by tabs, comment lines, multiword tokens, empty nodes.

Format: https://universaldependencies.org/format.html
"""

from __future__ import annotations

import re
from typing import Final

from lamina.core.errors import DataError
from lamina.core.registry import register
from lamina.data.columns import Data, Fault
from lamina.data.config import DataConfig
from lamina.data.readers.base import FaultList, Guess, Reader, split_of_file
from lamina.data.readers.conll import add_sentence
from lamina.data.readers.sources import Source, SourceFile
from lamina.data.readers.text_data import TextCollector, TextSplit
from lamina.data.readers.text_source import head_lines, read_lines, shorten, text_candidates
from lamina.data.tables import unknown_column

ENDINGS: Final = (".conllu", ".conll", ".txt", "")
NAMES: Final = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
# Columns in which _ means that nobody said; in the others it means that there is nothing to say.
_NEEDED: Final = (3, 4, 6, 7)
_LINE: Final = re.compile(r"[1-9]\d*(?:-\d+|\.\d+)?\t|0\.\d+\t")
_ID: Final = re.compile(r"(\d{1,9})(?:([-.])(\d{1,9}))?")


@register(
    "reader",
    "conllu",
    summary="Universal Dependencies: ten columns, multiword tokens, empty nodes",
    source="https://universaldependencies.org/format.html",
    example="lamina data en_ewt-ud-train.conllu.gz data.label=xpos",
)
class ConlluReader(Reader):
    """Sentences with a tag per syntactic word: UPOS, or the column that `data.label` names. Multiword tokens and empty nodes are skipped."""

    name = "conllu"
    makes = ("text", "tags")

    def sniff(self, source: Source) -> Guess:
        """Sure when lines have ten columns of which the first is an id."""
        for file in text_candidates(source, ENDINGS)[:4]:
            lines = [line for line in head_lines(file) or [] if line and not line.startswith("#")]
            fitting = sum(line.count("\t") == 9 and _LINE.match(line) is not None for line in lines)
            if lines and fitting >= 0.9 * len(lines):
                return Guess(0.98, f"{file.name}: ten columns parted by tabs, the first numbers the words")
        return Guess(0.0, "no file has the ten columns of CoNLL-U")

    def read(self, source: Source, config: DataConfig) -> Data:
        """Read all files; file and folder names tell the splits.

        Raises:
            UnknownNameError: `data.label` names no column.
            DataError: There is no such file.
        """
        faults = FaultList()
        notes = list(source.notes)
        column = _column(config.label or "upos", "data.label")
        word = _column(config.text or "form", "data.text")
        collector = TextCollector(self.name, str(source), max_bytes=config.max_memory_mb << 20)
        files = text_candidates(source, ENDINGS)
        if not files:
            raise DataError(
                "There is no file of CoNLL-U.",
                where=str(source),
                accepts=f"files ending in {ENDINGS[0]}, also compressed",
                mend="check the path",
            )
        for file in files:
            split = collector.split(split_of_file(file, source))
            split.origin.begin(file.where)
            before = len(split)
            sentences = _Sentences(file, split, faults, word=word, column=column)
            sentences.read(config)
            skipped = f"{sentences.num_multiword} multiword tokens and {sentences.num_empty} empty nodes are skipped"
            notes.append(f"{file.name}: {len(split) - before} sentences; {skipped}.")
        notes.append(f"The tags are those of the column {NAMES[column]!r} (data.label=… names another).")
        return collector.finish(faults=faults, notes=notes, words=True, tags_name=NAMES[column])


def _column(wanted: str, option: str) -> int:
    name = wanted.casefold()
    if name in NAMES:
        return NAMES.index(name)
    if re.fullmatch(r"-?\d+", wanted) and -len(NAMES) <= int(wanted) < len(NAMES):
        return int(wanted) % len(NAMES)
    raise unknown_column(wanted, NAMES, where=f"{option}, columns of CoNLL-U")


class _Sentences:
    """The sentences of one file, checked word by word."""

    def __init__(self, file: SourceFile, split: TextSplit, faults: FaultList, *, word: int, column: int) -> None:
        self.file, self.split, self.faults, self.word, self.column = file, split, faults, word, column
        self.num_multiword = self.num_empty = 0
        self._begin()

    def _begin(self) -> None:
        self.words: list[str] = []
        self.tags: list[str] = []
        self.line = 0
        self.last_id = self.covered = self.last_empty = 0
        self.is_sound = True

    def read(self, config: DataConfig) -> None:
        """Read the whole file."""
        for number, line in read_lines(self.file, faults=self.faults, encoding=config.encoding):
            if line is None:
                self.is_sound = False
                self.line = self.line or number
            elif not line or line.isspace():
                self._end()
            elif line[0] == "#" and self.line == 0:
                continue  # a comment; behind the first word a line that begins with # is none
            else:
                self.line = self.line or number
                self._word(number, line)
        self._end()

    def _fault(self, number: int, message: str, column: int | None, value: str) -> None:
        name = None if column is None else NAMES[column]
        self.faults.add(Fault(self.file.where, message, row=number, column=name, value=shorten(value)))
        self.is_sound = False

    def _word(self, number: int, line: str) -> None:
        cells = line.split("\t")
        if len(cells) != len(NAMES):
            message = (
                f"the row has {len(cells)} column{'s' if len(cells) != 1 else ''}, not {len(NAMES)} parted by tabs"
            )
            self._fault(number, message, None, line)
            return
        match = _ID.fullmatch(cells[0])
        if match is None:
            self._fault(number, "the id is none: a number, a range such as 3-4, or 5.1 for an empty node", 0, cells[0])
            return
        first, mark, second = int(match[1]), match[2], int(match[3] or 0)
        if mark == "-":
            if first != self.last_id + 1 or second <= first or first <= self.covered:
                self._fault(number, f"the range does not begin with {self.last_id + 1} and end beyond it", 0, cells[0])
            self.covered = second
            self.num_multiword += 1
            return
        if mark == ".":
            if first != self.last_id or second != self.last_empty + 1:
                expected = f"{self.last_id}.{self.last_empty + 1}"
                self._fault(number, f"the id of the empty node is out of sequence; {expected} is expected", 0, cells[0])
            self.last_empty += 1
            self.num_empty += 1
            return
        if first != self.last_id + 1:
            self._fault(number, f"the id is out of sequence; {self.last_id + 1} is expected", 0, cells[0])
        self.last_id, self.last_empty = first, 0
        word, tag = cells[self.word], cells[self.column]
        if not word or word.isspace():
            self._fault(number, "the word is missing", self.word, word)
        elif not tag or tag.isspace() or (tag == "_" and word != "_" and self.column in _NEEDED):
            self._fault(number, "the tag is missing", self.column, tag)
        self.words.append(word)
        self.tags.append(tag)

    def _end(self) -> None:
        if self.is_sound and self.covered > self.last_id:
            self._fault(
                self.line, f"a range ends with {self.covered}, the sentence with {self.last_id}", 0, str(self.covered)
            )
        if self.words and self.is_sound:
            add_sentence(self.split, self.words, self.tags, self.line)
        self._begin()
