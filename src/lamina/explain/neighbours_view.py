"""View `neighbours`: the words whose vectors point most nearly the same way.

Cosine tells direction, not length: long vectors belong to words that occur often in few contexts. That two words are near means
that they stand in like company; opposites do (good, bad), and so do members of one class (Monday, Tuesday).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from lamina.core.config import Config, Field
from lamina.core.registry import register
from lamina.explain.drawing import CLASS_COLOURS, draw, shorten
from lamina.explain.views import Subject, ViewResult, titled
from lamina.explain.word_table import WordTable, frequency, word_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["NeighboursConfig", "describe", "neighbours_view"]

_EXAMPLES: Final = (100, 200, 400, 800)  # places in the order of frequency that are shown where no word is asked about


class NeighboursConfig(Config):
    """Options of the view `neighbours`."""

    words: str = Field("", description="Words, divided by spaces; by default some frequent ones.", max_length=10_000)
    most: int = Field(10, description="Neighbours of each.", ge=1, le=1000)


@register(
    "view",
    "neighbours",
    config=NeighboursConfig,
    source="Mikolov, Chen, Corrado, Dean (2013), arXiv:1301.3781, section 5",
    example="lamina inspect runs/word2vec-sg-1 neighbours 'view.words=king paris'",
    reads="model",
)
def neighbours_view(subject: Subject, config: NeighboursConfig) -> ViewResult:
    """The nearest words to some, by the cosine of their vectors.

    `arrays` holds `cosine` (words, most) and `place` of each neighbour in the order of frequency.

    Raises:
        UsageError: The model has no vectors of words, or a word is not in the vocabulary.
    """
    table = word_table(subject, "neighbours")
    places = [table.number(word, view="neighbours") for word in config.words.split()]
    if not places:
        places = [place for place in _EXAMPLES if place < len(table.words)] or [0]
    found = [table.nearest_to(table.vectors[place], most=config.most, without=[place]) for place in places]
    document: dict[str, Any] = {
        "model": subject.title,
        "shown": "words with the largest cosine to each",
        "vocabulary": len(table.words),
        "words": [
            {
                "word": table.words[place],
                **frequency(table, place),
                "neighbours": [describe(table, other, cosine) for other, cosine in near],
            }
            for place, near in zip(places, found, strict=True)
        ],
    }
    arrays: dict[str, NDArray[Any]] = {
        "cosine": np.array([[cosine for _, cosine in near] for near in found]),
        "place": np.array([[other for other, _ in near] for near in found]),
    }
    return ViewResult(document, _table(document), partial(_draw, subject, document), arrays)


def _table(document: dict[str, Any]) -> Any:
    table = Table(box=None, pad_edge=False)
    for row in document["words"]:
        table.add_column(row["word"])
    width = max(len(row["neighbours"]) for row in document["words"])
    for place in range(width):
        cells = [row["neighbours"][place : place + 1] for row in document["words"]]
        table.add_row(*(f"{cell[0]['cosine']:.3f} {cell[0]['word']}" if cell else "" for cell in cells))
    return titled(f"{document['model']}: {document['shown']}", table)


def _draw(subject: Subject, document: dict[str, Any]) -> bytes:
    rows = document["words"][:12]
    most = max(len(row["neighbours"]) for row in rows)

    def paint(figure: Figure) -> None:
        columns = min(len(rows), 4)
        grid = figure.subplots(-(-len(rows) // columns), columns, squeeze=False).flatten()
        for axes in grid[len(rows) :]:
            axes.axis("off")
        for axes, row, colour in zip(grid, rows, CLASS_COLOURS * 2, strict=False):
            near = row["neighbours"][::-1]
            axes.barh(range(len(near)), [one["cosine"] for one in near], color=colour)
            axes.set_yticks(range(len(near)), [shorten(one["word"]) for one in near])
            axes.set_title(shorten(row["word"]), weight="bold")
            axes.set_xlim(min(0.0, *(one["cosine"] for one in near)), 1.0)
            axes.set_xlabel("cosine")

    rows_high = -(-len(rows) // 4)
    return draw(
        paint,
        width=2.3 * min(len(rows), 4),
        height=(0.19 * most + 0.6) * rows_high,
        title=f"{subject.title}: {document['shown']}",
        note="Near means: in like company. Opposites and members of one class are near too.",
    )


def describe(table: WordTable, place: int, cosine: float) -> dict[str, Any]:
    """A word with its cosine and, where it is known, its count."""
    return {"word": table.words[place], "cosine": cosine, **frequency(table, place)}
