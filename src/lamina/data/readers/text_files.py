"""Folders of text files: `split/class/file.txt` or `class/file.txt`, a document each (aclImdb, 20 Newsgroups, …)."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePosixPath
from typing import Final

from lamina.core.errors import DataError
from lamina.core.registry import register
from lamina.data.columns import Data, Fault
from lamina.data.config import DataConfig
from lamina.data.readers.base import FaultList, Guess, Reader, split_of, split_of_source
from lamina.data.readers.sources import Source, SourceFile
from lamina.data.readers.text_data import TextCollector
from lamina.data.readers.text_source import head_lines, is_document, read_lines

ENDINGS: Final = (".txt", ".text", "")
# Folders of documents that nobody has judged.
UNLABELLED: Final = ("unsup", "unsupervised", "unlabeled", "unlabelled")


@register(
    "reader",
    "text-files",
    summary="A document per file in a folder per class: split/class/file.txt",
    source="Layout: Maas et al. (2011), aclImdb",
    example="lamina data aclImdb",
)
class TextFilesReader(Reader):
    """A document per file; the folder that a file lies in is its class, the ones above may be splits."""

    name = "text-files"
    makes = ("text",)

    def sniff(self, source: Source) -> Guess:
        """Rather sure when most files are texts in folders that are no splits."""
        found = _in_classes(source)
        classes = {label for _, label in found}
        if len(classes) < 2 or len(found) <= 0.5 * len(source.files):
            return Guess(0.0, "there are no folders of text files, one per class")
        heads = [head_lines(file, num_bytes=4096) for file, _ in found[:8] if file.size]
        if any(head is None for head in heads):
            return Guess(0.0, f"{found[0][0].name} is no text")
        shown = ", ".join(sorted(classes)[:4])
        return Guess(
            0.85, f"{len(found)} text files in folders called after classes: {shown}{', …' if len(classes) > 4 else ''}"
        )

    def read(self, source: Source, config: DataConfig) -> Data:
        """Read every file; files beside the folders are reported and left out."""
        faults = FaultList()
        notes = [*source.notes, "Every file is a document; the folder that it lies in is its class."]
        found = _in_classes(source)
        if not found:
            raise DataError(
                "There are no folders of text files.",
                where=str(source),
                accepts="class/file.txt or split/class/file.txt",
                mend="put the files of each class into a folder of their own",
            )
        inside = {file.name for file, _ in found}
        skipped: Counter[str] = Counter()
        for file in source.files:
            if file.name not in inside and not is_document(file):
                if _label(file) in UNLABELLED:
                    skipped[_label(file)] += 1
                else:
                    message = "the file lies in no folder of a class, or is no text; it is left out"
                    faults.add(Fault(file.where, message, stops=False))
        notes += [f"The {count} files in {name!r} have no class and are left out." for name, count in skipped.items()]
        collector = TextCollector(self.name, str(source), max_bytes=config.max_memory_mb << 20)
        for file, label in found:
            lines = list(read_lines(file, faults=faults, encoding=config.encoding))
            text = "\n".join(line for _, line in lines if line is not None)
            if any(line is None for _, line in lines) or not lines:
                continue  # named already
            if not text or text.isspace():
                faults.add(Fault(file.where, "the text is empty", value=""))
                continue
            split = collector.split(_split(file, source))
            split.origin.begin(file.where)
            split.origin.add(-1)
            split.texts["text"].add(text)
            split.labels.add(label)
        return collector.finish(faults=faults, notes=notes)


def _label(file: SourceFile) -> str:
    return PurePosixPath(file.name).parent.name


def _in_classes(source: Source) -> list[tuple[SourceFile, str]]:
    """Text files with the folder that they lie in, where it is no split."""
    found = []
    for file in source.files:
        if not _is_text(file):
            continue
        label = _label(file)
        is_split = split_of(label) is not None and label.casefold().isalpha()
        if label and not is_split and label not in UNLABELLED and not is_document(file):
            found.append((file, label))
    return found


def _is_text(file: SourceFile) -> bool:
    """By its ending; of names that are numbers (20 Newsgroups) the part behind a point is none."""
    return file.ending in ENDINGS or file.ending[1:].isdigit()


def _split(file: SourceFile, source: Source) -> str:
    for part in reversed(PurePosixPath(file.name).parts[:-2]):
        found = split_of(part)
        if found is not None:
            return found
    return split_of_source(source)
