"""Which reader takes a file of texts that a model is to judge or to answer: its own where that understands the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch

from lamina.data.columns import Columns, Data, DataSpec
from lamina.data.config import DataConfig
from lamina.data.ragged import Ragged, RaggedColumns
from lamina.data.readers.base import Guess, Reader
from lamina.data.readers.conll import HEAD_BYTES, understand_words
from lamina.data.readers.sources import Source
from lamina.data.readers.text_source import head_lines
from lamina.data.text_inspection import texts_in_order

# Below the first a reader takes what nobody else does; from the second on it knows what it sees.
_LEAST: Final = 0.2
_SURE: Final = 0.5
_JUDGES: Final = ("word-similarity", "word-analogies")
# So many of the last column's values must be tags of the model.
_KNOWN: Final = 0.8


def reader_like(source: Source, spec: DataSpec, guesses: Sequence[tuple[Reader, Guess]]) -> str:
    """Name of the reader: the one of the model's own data where it understands the source, else the surest of texts; what is
    nothing but lines has a text on each (`text-lines`), or is running text for a model of running text.
    """
    if spec.ordered:  # word vectors are learned from running text and judged on lists, which are lines of text too
        judge = next(
            (reader.name for reader, guess in guesses if reader.name in _JUDGES and guess.confidence >= _SURE), None
        )
        if judge is not None:
            return judge
    own = next((guess for reader, guess in guesses if reader.name == spec.reader), None)
    if own is not None and own.confidence >= _LEAST:
        return spec.reader
    if _holds_known_tags(source, spec):
        return "conll"
    best, guess = next(((reader, guess) for reader, guess in guesses if "text" in reader.makes), guesses[0])
    if guess.confidence >= _SURE:
        return best.name
    return "corpus" if spec.ordered else "text-lines"


def _holds_known_tags(source: Source, spec: DataSpec) -> bool:
    """Whether the last of several columns holds tags of the model: few sentences may not look like words in columns."""
    classes = set(spec.columns["tags"].classes or ()) if "tags" in spec.columns else set()
    files = [file for file in source.files if file.size][:1]
    layout = understand_words(head_lines(files[0], num_bytes=HEAD_BYTES)) if files and classes else None
    if layout is None:
        return False
    tags = [tag for sentence in layout.tags(-1) for tag in sentence]
    return sum(tag in classes for tag in tags) >= _KNOWN * len(tags)


def config_like(config: DataConfig, spec: DataSpec) -> dict[str, Any]:
    """Fields of `data` that follow from what a model answers: a score where it gives one, the column of its tags."""
    if config.label is not None:
        return {}
    if "target" in spec.columns and config.target is None:
        return {"target": "number"}
    tags = spec.columns.get("tags")
    return {"label": tags.fields[0].name} if tags is not None and tags.fields else {}


def words_like(data: Data, spec: DataSpec) -> Data:
    """Texts cut at white space where the model reads lists of words and the file had plain texts."""
    text = data.spec.columns.get("text")
    if not spec.columns["text"].words or text is None or text.words:
        return data
    splits = {name: _cut(columns) for name, columns in data.splits.items()}
    columns: Mapping[str, Any] = {**data.spec.columns, "text": text.model_copy(update={"words": True})}
    made = data.with_splits(splits, data.rows)
    made.spec = made.spec.model_copy(update={"columns": dict(columns)})
    made.notes.append("The texts are cut into words at white space.")
    return made


def _cut(columns: Columns) -> Columns:
    assert isinstance(columns, RaggedColumns)
    rows = ["\n".join(text.split()) for text in texts_in_order(columns.ragged["text"])]
    kept = torch.tensor([bool(row) for row in rows])
    cut = Ragged.of_texts(rows)
    replaced = RaggedColumns(columns.fixed, ragged={**columns.ragged, "text": cut}, origin=columns.origin)
    return replaced if bool(kept.all()) else replaced.take(torch.nonzero(kept).flatten())
