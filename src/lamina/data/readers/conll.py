"""Words in columns, a word per line, sentences parted by blank lines, as the shared tasks of CoNLL have them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from lamina.core.errors import DataError
from lamina.core.registry import register
from lamina.data.columns import Data, Fault
from lamina.data.config import DataConfig
from lamina.data.readers.base import FaultList, Guess, Reader, split_of_file
from lamina.data.readers.sources import Source, SourceFile
from lamina.data.readers.tag_schemes import NAMES, is_in_scheme, misplaced, see_scheme
from lamina.data.readers.text_data import TextCollector, TextSplit
from lamina.data.readers.text_source import head_lines, read_lines, shorten, text_candidates
from lamina.data.tables import is_number, unknown_column

ENDINGS: Final = (".conll", ".txt", ".tsv", ".iob", ".iob2", ".bio", ".bioes", ".tags", ".pos", "")
# What the columns are called where their number tells; they can also be given by number.
COLUMN_NAMES: Final = {2: ("word", "tag"), 3: ("word", "pos", "chunk"), 4: ("word", "pos", "chunk", "ner")}
HEAD_BYTES: Final = 1 << 18
_MOST_TAGS: Final = 200
_MOST_WORDS: Final = 400


@dataclass(frozen=True)
class WordLayout:
    """How a file of words is written.

    Attributes:
        by_tab: Whether tabs part the columns; otherwise any white space.
        width: Columns.
        word: Number of the words' column.
        sentences: The first sentences, a list of rows each.
    """

    by_tab: bool
    width: int
    word: int
    sentences: tuple[tuple[tuple[str, ...], ...], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names, or their numbers."""
        return COLUMN_NAMES.get(self.width, tuple(str(number) for number in range(self.width)))

    def tags(self, column: int) -> list[list[str]]:
        """A column of the first sentences."""
        return [[row[column] for row in sentence] for sentence in self.sentences]


@register(
    "reader",
    "conll",
    summary="Tagged words in columns, sentences parted by blank lines: CoNLL",
    source="Tjong Kim Sang and Buchholz (2000), CoNLL-2000 shared task",
    example="lamina data conll2000/train.txt.gz data.label=pos",
)
class ConllReader(Reader):
    """Tagged words in columns. The word stands first, the tag last; `data.label` names another column of tags."""

    name = "conll"
    makes = ("text", "tags")

    def sniff(self, source: Source) -> Guess:
        """Sure when lines have one number of columns, blank lines between them, and the last column holds tags of spans."""
        best = Guess(0.0, "no file holds words in columns")
        for file in text_candidates(source, ENDINGS)[:4]:
            layout = understand_words(head_lines(file, num_bytes=HEAD_BYTES))
            if layout is None:
                continue
            tags = layout.tags(-1)
            scheme = see_scheme(tags)
            columns = f"{file.name}: sentences of words in {layout.width} columns"
            if scheme != "none":
                return Guess(0.96, f"{columns}, the last with tags in {NAMES[scheme]}")
            if _look_like_tags(layout, tags):
                best = max(best, Guess(0.75, f"{columns}, the last with {len({t for s in tags for t in s})} tags"))
        return best

    def read(self, source: Source, config: DataConfig) -> Data:
        """Read all files; file and folder names tell the splits.

        Raises:
            DataError: No file holds words in columns, or files differ in their number.
            UnknownNameError: `data.label` or `data.text` name no column.
        """
        faults = FaultList()
        notes = list(source.notes)
        layouts: list[tuple[SourceFile, WordLayout]] = []
        for file in text_candidates(source, ENDINGS):
            layout = understand_words(head_lines(file, encoding=config.encoding, num_bytes=HEAD_BYTES), least=0.5)
            if layout is None:
                faults.add(Fault(file.where, "the file holds no words in columns"))
            else:
                layouts.append((file, layout))
        if not layouts:
            raise DataError(
                "No file holds words in columns.",
                where=str(source),
                accepts="a word and its tags per line, parted by tabs or spaces; a blank line behind each sentence",
                mend="check the path; `lamina list readers` says what else is read",
            )
        layouts.sort(key=lambda pair: {"train": 0, "all": 1}.get(split_of_file(pair[0], source), 2))
        first = layouts[0][1]
        word, column = chosen_columns(first, config, where=layouts[0][0].where)
        scheme = see_scheme(first.tags(column)) if config.scheme == "auto" else config.scheme
        tagging = Tagging(scheme, strict=config.scheme != "auto", column=first.names[column], faults=faults)
        collector = TextCollector(self.name, str(source), max_bytes=config.max_memory_mb << 20)
        for file, layout in layouts:
            _refuse_other_width(file, layout, layouts[0][0], first)
            split = collector.split(split_of_file(file, source))
            split.origin.begin(file.where)
            before = len(split)
            num_documents = _collect(file, layout, word, column, split, tagging, config)
            marks = f", {num_documents} lines -DOCSTART- passed over" if num_documents else ""
            notes.append(f"{file.name}: {len(split) - before} sentences of {layout.width} columns{marks}.")
        notes += tagging.notes()
        return collector.finish(faults=faults, notes=notes, words=True, tags_name=first.names[column])


# --- understanding -----------------------------------------------------------------------------------------------------


def understand_words(lines: Sequence[str] | None, *, least: float = 0.95) -> WordLayout | None:
    """How words stand in lines; None where they do not.

    Args:
        least: Share of lines that must have the commonest number of columns.
    """
    present = [line for line in lines or [] if not _is_blank(line)]
    if not lines or not present:
        return None
    by_tab = sum("\t" in line for line in present) > 0.5 * len(present)
    rows = [_cells(line, by_tab) for line in present if not line.startswith("# ")] or [_cells(present[0], by_tab)]
    width, count = Counter(map(len, rows)).most_common(1)[0]
    if width < 2 or width > 60 or count < least * len(rows):
        return None
    sentences = []
    sentence: list[tuple[str, ...]] = []
    for line in [*lines, ""]:
        if _is_blank(line):
            if sentence:
                sentences.append(tuple(sentence))
            sentence = []
        elif len(cells := _cells(line, by_tab)) == width and not line.startswith("-DOCSTART-"):
            sentence.append(tuple(cells))
    if not sentences:
        return None
    # A whole file without a blank line is a table, unless it is short enough for one sentence.
    if max(map(len, sentences)) > _MOST_WORDS and least > 0.5:
        return None
    numbered = width > 2 and all(s[0][0] == "1" and all(r[0] == str(i) for i, r in enumerate(s, 1)) for s in sentences)
    return WordLayout(by_tab, width, 1 if numbered else 0, tuple(sentences))


def _is_blank(line: str) -> bool:
    return not line or line.isspace()


def _cells(line: str, by_tab: bool) -> list[str]:
    return [cell.strip() for cell in line.split("\t")] if by_tab else line.split()


def _look_like_tags(layout: WordLayout, tags: Sequence[Sequence[str]]) -> bool:
    """Whether the last column holds few values that repeat, and the first words: parts of speech, for one."""
    flat = [tag for sentence in tags for tag in sentence]
    words = [row[layout.word] for sentence in layout.sentences for row in sentence]
    several = len(layout.sentences) > 1 and len(flat) > 1.5 * len(layout.sentences)
    numeric = sum(map(is_number, flat)) > 0.1 * len(flat) or sum(map(is_number, words)) > 0.3 * len(words)
    spaced = any(" " in tag for tag in flat) or sum(" " in word for word in words) > 0.1 * len(words)
    distinct = len(set(flat))
    return several and not numeric and not spaced and distinct <= _MOST_TAGS and distinct <= 0.5 * len(flat)


def chosen_columns(layout: WordLayout, config: DataConfig, *, where: str) -> tuple[int, int]:
    """Numbers of the columns of words and of tags."""
    word = layout.word if config.text is None else _column(layout, config.text, "data.text", where)
    column = layout.width - 1 if config.label is None else _column(layout, config.label, "data.label", where)
    if word == column:
        raise DataError(
            f"The column {layout.names[word]!r} would hold both the words and the tags.",
            where=where,
            accepts="two columns",
            mend="name them with data.text=… and data.label=…",
        )
    return word, column


def _column(layout: WordLayout, wanted: str, option: str, where: str) -> int:
    names = layout.names
    if wanted.casefold() in names:
        return names.index(wanted.casefold())
    if re.fullmatch(r"-?\d+", wanted) and -layout.width <= int(wanted) < layout.width:
        return int(wanted) % layout.width
    raise unknown_column(wanted, names, where=f"{option}, columns of {where}")


def _refuse_other_width(file: SourceFile, layout: WordLayout, first_file: SourceFile, first: WordLayout) -> None:
    if layout.width != first.width:
        raise DataError(
            f"{file.where} has {layout.width} columns, {first_file.where} has {first.width}.",
            where=file.where,
            accepts="files of the same columns, one per split",
            mend="give one of the files",
        )


# --- reading -----------------------------------------------------------------------------------------------------------


@dataclass
class Tagging:
    """The scheme of a source's tags, and what was found that does not keep to it.

    Attributes:
        scheme: As `see_scheme` names it; `none` for plain classes.
        strict: Tags that cannot follow each other are faults.
        column: What messages call the column.
    """

    scheme: str
    strict: bool
    column: str
    faults: FaultList
    num_misplaced: int = 0
    example: str = ""
    counts: Counter[str] = field(default_factory=Counter)

    def are_right(self, tags: Sequence[str], lines: Sequence[int], where: str) -> bool:
        """Whether the scheme knows all tags of a sentence (and, if strict, they stand where they may); else they are faults."""
        if self.scheme == "none":
            return True
        right = True
        for tag, line in zip(tags, lines, strict=True):
            if not is_in_scheme(tag, self.scheme):
                message = f"the tag is none of {NAMES[self.scheme]} (data.scheme=none reads tags as plain classes)"
                self.faults.add(Fault(where, message, row=line, column=self.column, value=shorten(tag)))
                right = False
        if not right:
            return False
        for place in misplaced(tags, self.scheme):
            before = tags[place - 1] if place else "the beginning"
            self.num_misplaced += 1
            self.example = self.example or f"{where}:{lines[place]} {tags[place]} after {before}"
            if self.strict:
                message = f"the tag cannot stand here by {NAMES[self.scheme]}: {before} stands before it"
                if tags[place][0] in "BI" and self.scheme != "bio":
                    after = tags[place + 1] if place + 1 < len(tags) else "the end"
                    message += f", {after} behind it"
                self.faults.add(Fault(where, message, row=lines[place], column=self.column, value=tags[place]))
                right = False
        return right

    def notes(self) -> list[str]:
        """Sentences on the scheme."""
        if self.scheme == "none":
            return [
                f"The column {self.column!r} holds plain classes, one per word (data.label=… names another column)."
            ]
        said = [f"The column {self.column!r} holds tags in {NAMES[self.scheme]} (data.label=… names another column)."]
        if self.num_misplaced and not self.strict:
            said.append(
                f"{self.num_misplaced} tags cannot stand where they do by {NAMES[self.scheme]}, such as {self.example}; the scorers "
                f"of the shared tasks begin a span there. data.scheme={self.scheme} makes them faults."
            )
        return said


def _collect(
    file: SourceFile,
    layout: WordLayout,
    word: int,
    column: int,
    split: TextSplit,
    tagging: Tagging,
    config: DataConfig,
) -> int:
    """Add the sentences of a file to a split; returns the number of lines that only mark documents."""
    faults, num_documents = tagging.faults, 0
    words: list[str] = []
    tags: list[str] = []
    lines: list[int] = []
    is_sound = True
    for number, line in _ended(read_lines(file, faults=faults, encoding=config.encoding)):
        if line is not None and _is_blank(line):
            if words and is_sound and tagging.are_right(tags, lines, file.where):
                add_sentence(split, words, tags, lines[0])
            words, tags, lines, is_sound = [], [], [], True
            continue
        if line is None:
            is_sound = False
            continue
        if line.startswith("-DOCSTART-"):
            num_documents += 1
            continue
        cells = _cells(line, layout.by_tab)
        if len(cells) != layout.width:
            if not words and is_sound and line.startswith("#"):
                continue  # a comment before a sentence
            message = f"the row has {len(cells)} column{'s' if len(cells) != 1 else ''}, the others {layout.width}"
            faults.add(Fault(file.where, message, row=number, value=shorten(line)))
            is_sound = False
        elif not cells[word] or not cells[column]:
            which, what = (word, "word") if not cells[word] else (column, "tag")
            faults.add(Fault(file.where, f"the {what} is missing", row=number, column=layout.names[which], value=""))
            is_sound = False
        else:
            words.append(cells[word])
            tags.append(cells[column])
            lines.append(number)
    return num_documents


def _ended(lines: Iterator[tuple[int, str | None]]) -> Iterator[tuple[int, str | None]]:
    """The lines and a blank one, which ends the last sentence."""
    yield from lines
    yield 0, ""


def add_sentence(split: TextSplit, words: Sequence[str], tags: Sequence[str], line: int) -> None:
    """Add a row: the words, divided by line ends, and a tag for each."""
    split.texts["text"].add("\n".join(words))
    for tag in tags:
        split.tags.add(tag)
    split.num_tags.append(len(words))
    split.origin.add(line)
