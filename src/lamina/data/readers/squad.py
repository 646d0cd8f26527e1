"""Extractive question answering in the JSON of SQuAD, versions 1.1 and 2.0; the place of every answer is checked.

Format: Rajpurkar, Zhang, Lopyrev, Liang (2016), arXiv:1606.05250; unanswerable questions: Rajpurkar, Jia, Liang (2018),
arXiv:1806.03822.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from lamina.core.errors import DataError
from lamina.core.registry import register
from lamina.data.columns import Data, Fault
from lamina.data.config import DataConfig
from lamina.data.readers.base import FaultList, Guess, Reader, split_of_file
from lamina.data.readers.sources import Source, SourceFile
from lamina.data.readers.text_data import TextCollector, TextSplit
from lamina.data.readers.text_source import head_lines, shorten, text_candidates

ENDINGS: Final = (".json", "")
COLUMNS: Final = ("context", "question", "answers", "id")


@register(
    "reader",
    "squad",
    summary="Questions about passages with marked answers: SQuAD JSON",
    source="Rajpurkar et al. (2016), arXiv:1606.05250",
    example="lamina data xquad.en.dev.json",
)
class SquadReader(Reader):
    """Questions about passages; a row per question. `answers` holds a JSON list of {"text", "start"}, empty where there is none."""

    name = "squad"
    makes = ("text",)

    def sniff(self, source: Source) -> Guess:
        """Sure when a file begins as a JSON object and speaks of paragraphs, contexts and questions."""
        for file in text_candidates(source, ENDINGS)[:4]:
            if _looks_like_it(file):
                return Guess(0.97, f"{file.name} is JSON with paragraphs, contexts and questions")
        return Guess(0.0, "no file is JSON in the form of SQuAD")

    def read(self, source: Source, config: DataConfig) -> Data:
        """Read all files; file and folder names tell the splits.

        Raises:
            DataError: Not JSON, or not in this form at all.
        """
        faults = FaultList()
        notes = list(source.notes)
        collector = TextCollector(self.name, str(source), columns=COLUMNS, max_bytes=config.max_memory_mb << 20)
        files = [file for file in text_candidates(source, ENDINGS) if _looks_like_it(file) or not source.is_folder]
        if not files:
            raise DataError(
                "There is no JSON file in the form of SQuAD.",
                where=str(source),
                accepts='{"data": [{"paragraphs": [{"context": …, "qas": […]}]}]}',
                mend="check the path; `lamina list readers` says what else is read",
            )
        for file in files:
            split = collector.split(split_of_file(file, source))
            split.origin.begin(file.where)
            notes.append(_collect(file, split, faults))
        return collector.finish(faults=faults, notes=notes)


def _looks_like_it(file: SourceFile) -> bool:
    lines = head_lines(file) if file.ending in ENDINGS else None
    text = "".join(lines or [])
    return text.lstrip().startswith("{") and '"paragraphs"' in text and ('"context"' in text or '"qas"' in text)


def _collect(file: SourceFile, split: TextSplit, faults: FaultList) -> str:
    articles = _document(file)
    checker = _Checker(file.where, faults)
    num_paragraphs = num_unanswerable = 0
    before = len(split)
    seen: dict[str, int] = {}
    for place, article in checker.objects(articles, "data"):
        for spot, paragraph in checker.objects(article.get("paragraphs"), f"{place}.paragraphs"):
            context = checker.text(paragraph, "context", spot)
            if context is None:
                continue
            num_paragraphs += 1
            for where, question in checker.objects(paragraph.get("qas"), f"{spot}.qas"):
                checker.row += 1
                asked, name = checker.text(question, "question", where), question.get("id")
                answers = checker.answers(question, context, where)
                if asked is None or answers is None:
                    continue
                if not isinstance(name, str) or not name:
                    checker.fault("the question has no id", f"{where}.id", name)
                    continue
                if name in seen:
                    checker.fault(f"the id stands twice, first at question {seen[name]}", f"{where}.id", name)
                    continue
                seen[name] = checker.row
                num_unanswerable += not answers
                marked = json.dumps(answers, ensure_ascii=False)
                for column, text in zip(COLUMNS, (context, asked, marked, name), strict=True):
                    split.texts[column].add(text)
                split.origin.add(checker.row)
    counted = f"{len(split) - before} questions on {num_paragraphs} paragraphs of {len(articles)} articles"
    without = f", {num_unanswerable} of them without an answer" if num_unanswerable else ""
    return f"{file.name}: {counted}{without}; every answer stands where the file says."


def _document(file: SourceFile) -> list[Any]:
    content = file.read()
    accepts = '{"data": [{"paragraphs": [{"context": …, "qas": […]}]}]}'
    try:
        document = json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(
            f"Byte {error.start} is no UTF-8: 0x{content[error.start]:02x}.",
            where=file.where,
            accepts="JSON in UTF-8",
            mend="save the file as UTF-8",
        ) from error
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise DataError(
            f"The file is no JSON: {reason}.",
            where=file.where,
            accepts=accepts,
            mend="look at that place; is the file whole?",
        ) from error
    articles = document.get("data") if isinstance(document, dict) else None
    if not isinstance(articles, list):
        raise DataError(
            "The JSON has no list called 'data'.",
            where=file.where,
            accepts=accepts,
            mend="check that this is SQuAD's own form; flat lists of questions must be nested again",
        )
    return articles


class _Checker:
    """Values of the JSON with faults for those that are not what they should be.

    Attributes:
        row: Number of the question, from 1.
    """

    def __init__(self, where: str, faults: FaultList) -> None:
        self.where, self.faults, self.row = where, faults, 0

    def fault(self, message: str, place: str, value: object = None) -> None:
        shown = None if value is None else shorten(value)
        self.faults.add(Fault(self.where, message, row=self.row or None, column=place, value=shown))

    def objects(self, values: object, place: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """(place, object) of a list of objects."""
        if not isinstance(values, list):
            self.fault("there should be a list", place, values)
            return
        for number, value in enumerate(values):
            if isinstance(value, dict):
                yield f"{place}[{number}]", value
            else:
                self.fault("there should be an object", f"{place}[{number}]", value)

    def text(self, parent: Mapping[str, Any], key: str, place: str) -> str | None:
        """A text that is not empty and can be written as UTF-8."""
        value = parent.get(key)
        if not isinstance(value, str) or not value.strip():
            self.fault("the text is missing or empty", f"{place}.{key}", value)
            return None
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            self.fault("the text holds half of a surrogate pair, which is no character", f"{place}.{key}", value)
            return None
        return value

    def answers(self, question: Mapping[str, Any], context: str, place: str) -> list[dict[str, Any]] | None:
        """The answers, each where it says; None where one is not."""
        found: list[dict[str, Any]] = []
        num_faults = self.faults.num_all
        for where, answer in self.objects(question.get("answers", []), f"{place}.answers"):
            text, start = self.text(answer, "text", where), answer.get("answer_start")
            if text is None:
                continue
            if not isinstance(start, int) or isinstance(start, bool):
                self.fault("the offset is no whole number", f"{where}.answer_start", start)
                continue
            if start < 0 or context[start : start + len(text)] != text:
                self.fault(_elsewhere(context, text, start), f"{where}.answer_start", start)
                continue
            found.append({"text": text, "start": start})
        if self.faults.num_all > num_faults:
            return None
        return [] if question.get("is_impossible") is True else found


def _elsewhere(context: str, text: str, start: int) -> str:
    there = context[start : start + len(text)] if start >= 0 else ""
    places: list[str] = []
    at = context.find(text)
    while at >= 0 and len(places) < 3:
        places.append(str(at))
        at = context.find(text, at + 1)
    really = f"it stands at {', '.join(places)}" if places else "it stands nowhere in the context"
    return f"the answer {shorten(text)!r} is not at this offset, where {shorten(there)!r} stands; {really}"
