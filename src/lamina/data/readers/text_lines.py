"""Plain text, a row per line: running text (`corpus`), and documents (`text-lines`) with a class from a mark or the file's name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Final

from lamina.core.errors import DataError
from lamina.core.registry import register
from lamina.data.columns import Data, Fault
from lamina.data.config import DataConfig
from lamina.data.readers.base import FaultList, Guess, Reader, split_of, split_of_file
from lamina.data.readers.sources import Source, SourceFile
from lamina.data.readers.text_data import TextCollector
from lamina.data.readers.text_roles import LANGUAGES
from lamina.data.readers.text_rows import parse_json
from lamina.data.readers.text_source import TEXT_ENDINGS, head_lines, is_document, read_lines, shorten

# Endings that say that a file is something else than running text, even where it could be read as lines.
OTHER_ENDINGS: Final = frozenset(
    f".{ending}"
    for ending in (
        "csv", "tsv", "tab", "json", "jsonl", "ndjson", "xml", "html", "data", "dat", "test", "train", "conll", "conllu", "yaml", "yml",
        "toml", "bin", "npz", "npy", "mat", "h5", "hdf5", "parquet", "arrow", "feather", "pkl", "pickle", "pt", "pth", "safetensors",
        "onnx", "png", "jpg", "jpeg", "gif", "bmp", "webp", "tif", "tiff", "wav", "mp3", "mp4", "zip", "tar", "pdf",
    )
)  # fmt: skip
MARK: Final = re.compile(r"((?:__label__\S+\s+)+)(.*)", re.DOTALL)
_CLASS_FILES: Final = (("pos", "neg"), ("positive", "negative"), ("spam", "ham"))


@register(
    "reader",
    "corpus",
    summary="Running text, a row per line, in its order",
    source="Made for Lamina",
    example="lamina data ptb.train.txt.gz",
)
class CorpusReader(Reader):
    """Running text: a row per line, without its end; empty lines are rows. Rows keep their order: splits are stretches."""

    name = "corpus"
    makes = ("text",)

    def sniff(self, source: Source) -> Guess:
        """A last resort: what is text and nothing else in particular."""
        files = _texts(source)
        if not _are_most(files, source):
            return Guess(0.0, "there is no file of running text, or most files are something else")
        for file in [file for file in files if file.size][:4]:
            lines = head_lines(file)
            if lines is None:
                return Guess(0.0, f"{file.name} is no text")
            if _is_structured(lines):
                return Guess(0.0, f"{file.name} is JSON, XML or HTML")
        usual = files[0].ending in TEXT_ENDINGS
        return Guess(
            0.3 if usual else 0.22, f"{files[0].name} is text of no particular format: a row per line, in order"
        )

    def read(self, source: Source, config: DataConfig) -> Data:
        """Read all files; file and folder names tell the splits."""
        faults = FaultList()
        notes = list(source.notes)
        collector = TextCollector(self.name, str(source), max_bytes=config.max_memory_mb << 20)
        for file in _texts(source) or _refuse(source):
            split = collector.split(split_of_file(file, source))
            split.origin.begin(file.where)
            texts, before = split.texts["text"], len(split)
            for number, line in read_lines(file, faults=faults, encoding=config.encoding):
                if line is not None:
                    texts.add(line)
                    split.origin.add(number)
            notes.append(f"{file.name}: {len(split) - before} lines, a row each, kept in their order.")
        return collector.finish(faults=faults, notes=notes, ordered=True)


@register(
    "reader",
    "text-lines",
    summary="A document per line, its class from __label__ marks or the file's name",
    source="Marks: Joulin et al. (2017), arXiv:1607.01759 (fastText)",
    example="lamina data rt-polarity data.reader=text-lines",
)
class TextLinesReader(Reader):
    """A document per line, in no order. Its class is a mark such as `__label__pos` before it, or the name of its file."""

    name = "text-lines"
    makes = ("text",)

    def sniff(self, source: Source) -> Guess:
        """Sure where lines begin with marks; rather sure where files are called pos and neg."""
        files = _texts(source)
        for file in files[:4]:
            lines = [line for line in head_lines(file) or [] if line.strip()]
            marked = sum(MARK.match(line) is not None for line in lines)
            if lines and marked >= 0.9 * len(lines):
                return Guess(0.96, f"{file.name}: lines begin with __label__ and a class")
        names = {_class_of_file(file, files) for file in files}
        if any(set(pair) <= names for pair in _CLASS_FILES) and len(names) < 4:
            shown = ", ".join(sorted(name for name in names if name))
            return Guess(0.8, f"the files are called after classes: {shown}; a document per line")
        head = head_lines(files[0]) if _are_most(files, source) else None
        if head and not _is_structured(head):
            return Guess(0.21, f"{files[0].name} is text, which may be a document per line")
        return Guess(0.0, "there are no lines of text with classes")

    def read(self, source: Source, config: DataConfig) -> Data:
        """Read all files; a file whose name speaks of no split is a class, where there are several."""
        faults = FaultList()
        notes = list(source.notes)
        collector = TextCollector(self.name, str(source), max_bytes=config.max_memory_mb << 20)
        files = _texts(source) or _refuse(source)
        for file in files:
            split = collector.split(split_of_file(file, source))
            split.origin.begin(file.where)
            before = len(split)
            name = _class_of_file(file, files)
            marked = _is_marked(file, config)
            for number, line in read_lines(file, faults=faults, encoding=config.encoding):
                if line is None:
                    continue
                text, label = line, name
                if marked:
                    match = MARK.match(line)
                    marks = match[1].split() if match is not None else []
                    if match is None or len(marks) > 1:
                        message = "the label is missing" if match is None else "the line has several labels"
                        faults.add(Fault(file.where, message, row=number, value=shorten(line)))
                        continue
                    text, label = match[2], marks[0].removeprefix("__label__")
                if not text or text.isspace():
                    faults.add(Fault(file.where, "the text is empty", row=number, value=shorten(line)))
                    continue
                split.texts["text"].add(text)
                if label:
                    split.labels.add(label)
                split.origin.add(number)
            why = "from the mark before each" if marked else f"the file's name, {name!r}" if name else "none"
            notes.append(f"{file.name}: {len(split) - before} documents, one per line; the class is {why}.")
        return collector.finish(faults=faults, notes=notes)


def _texts(source: Source) -> list[SourceFile]:
    """Files that may be running text; empty ones too, so that they can be named. A single file whatever it is called."""
    if not source.is_folder and len(source.files) == 1:
        file = source.files[0]
        return [file] if file.ending not in OTHER_ENDINGS else []
    usual = (*TEXT_ENDINGS, ".pos", ".neg", *(f".{language}" for language in LANGUAGES))
    return [file for file in source.files if file.ending in usual and not is_document(file)]


def _are_most(files: Sequence[SourceFile], source: Source) -> bool:
    """Whether there are files of text, and few others."""
    if not any(file.size for file in files):
        return False
    return 2 * len(files) > sum(not is_document(file) for file in source.files)


def _refuse(source: Source) -> list[SourceFile]:
    raise DataError(
        f"There is no file of plain text, only {', '.join(file.name for file in source.files[:3]) or 'nothing'}.",
        where=str(source),
        accepts=f"files ending in {', '.join(ending for ending in TEXT_ENDINGS if ending)}, or without ending, also compressed",
        mend="rename the file, or choose another reader: `lamina list readers`",
    )


def _is_structured(lines: Sequence[str]) -> bool:
    first = next((line.strip() for line in lines if line.strip()), "")
    if first.startswith(("<?xml", "<!doctype", "<!DOCTYPE", "<html")):
        return True
    whole = parse_json(first) if first.startswith("{") else None
    return isinstance(whole, dict) or (first.startswith(("{", "[")) and '": ' in first[:2000])


def _is_marked(file: SourceFile, config: DataConfig) -> bool:
    lines = [line for line in head_lines(file, encoding=config.encoding) or [] if line.strip()]
    return bool(lines) and sum(MARK.match(line) is not None for line in lines) > 0.5 * len(lines)


def _class_of_file(file: SourceFile, files: Sequence[SourceFile]) -> str:
    """The class that a file's name speaks of: its ending where that is pos or neg, else its stem; empty for splits."""
    if len(files) < 2:
        return ""
    path = PurePosixPath(file.plain_name)
    if file.ending in (".pos", ".neg"):
        return file.ending[1:]
    return path.stem if split_of(path.stem) is None else ""
