"""View `analogy`: a is to b as c is to what.

The answer is the word nearest to b - a + c, the three words of the question left out (3CosAdd). Without leaving them out the answer
would mostly be b or c themselves: `unrestricted` says which word is nearest of all, and how far the arithmetic alone goes.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from lamina.core.config import Config, Field
from lamina.core.errors import UsageError
from lamina.core.registry import register
from lamina.explain.drawing import CLASS_COLOURS, draw, shorten
from lamina.explain.embedding import principal_components
from lamina.explain.neighbours_view import describe
from lamina.explain.views import Subject, ViewResult, titled
from lamina.explain.word_table import word_table
from lamina.tasks.word_evaluation import unit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["AnalogyConfig", "analogy_view"]


class AnalogyConfig(Config):
    """Options of the view `analogy`."""

    question: str = Field("", description="Three words, divided by spaces: a is to b as c is to …", max_length=1000)
    most: int = Field(10, description="Answers that are listed.", ge=1, le=1000)


@register(
    "view",
    "analogy",
    config=AnalogyConfig,
    source="Mikolov, Yih, Zweig (2013), Linguistic Regularities in Continuous Space Word Representations, N13-1090",
    example="lamina inspect runs/word2vec-sg-1 analogy 'view.question=man king woman'",
    reads="model",
)
def analogy_view(subject: Subject, config: AnalogyConfig) -> ViewResult:
    """What is to the third word as the second is to the first.

    `arrays` holds `vectors` (4, D) of a, b, c and the answer, scaled to length 1, and `points` (4, 2), their principal components.

    Raises:
        UsageError: The model has no vectors of words, there are not three words, or one is not in the vocabulary.
    """
    table = word_table(subject, "analogy")
    question = config.question.split()
    if len(question) != 3:
        raise UsageError(
            f"The question has {len(question)} words.",
            where="view analogy, view.question",
            accepts="three words: a is to b as c is to …",
            mend="lamina inspect RUN analogy 'view.question=man king woman'",
        )
    places = [table.number(word, view="analogy") for word in question]
    a, b, c = unit(table.vectors[places])
    wanted = b - a + c
    answers = table.nearest_to(wanted, most=config.most, without=places)
    unrestricted = table.nearest_to(wanted, most=1)[0]
    words = [table.words[place] for place in places]
    document: dict[str, Any] = {
        "model": subject.title,
        "shown": f"{words[0]} is to {words[1]} as {words[2]} is to …",
        "question": words,
        "answers": [describe(table, *answer) for answer in answers],
        "unrestricted": describe(table, *unrestricted),
    }
    vectors = unit(table.vectors[[*places, answers[0][0]]]).double().numpy()
    points, shares = principal_components(vectors)
    document["explained_variance"] = shares.tolist()
    arrays: dict[str, NDArray[Any]] = {"vectors": vectors, "points": points}
    return ViewResult(document, _table(document), partial(_draw, subject, document, points), arrays)


def _table(document: dict[str, Any]) -> Any:
    table = Table(box=None, pad_edge=False)
    table.add_column("answer")
    table.add_column("cosine", justify="right")
    for answer in document["answers"]:
        table.add_row(answer["word"], f"{answer['cosine']:.3f}")
    nearest = document["unrestricted"]
    table.add_row(
        f"of all words, those of the question too: {nearest['word']}", f"{nearest['cosine']:.3f}", style="dim"
    )
    return titled(document["shown"], table)


def _draw(subject: Subject, document: dict[str, Any], points: NDArray[np.float64]) -> bytes:
    names = [*document["question"], document["answers"][0]["word"]]

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for begin, end, colour in ((0, 1, CLASS_COLOURS[0]), (2, 3, CLASS_COLOURS[1])):
            axes.annotate(
                "", xy=tuple(points[end]), xytext=tuple(points[begin]), arrowprops={"arrowstyle": "->", "color": colour}
            )
        axes.scatter(points[:, 0], points[:, 1], s=14, color="#444444")
        for name, (x, y) in zip(names, points, strict=True):
            axes.annotate(shorten(name, 24), (x, y), xytext=(4, 4), textcoords="offset points", fontsize=9)
        axes.margins(0.2)
        shares = [*document["explained_variance"], 0.0][:2]
        axes.set_xlabel(f"first principal component, {shares[0]:.0%} of the variance of these four")
        axes.set_ylabel(f"second, {shares[1]:.0%}")

    return draw(
        paint,
        width=5.0,
        height=3.8,
        title=f"{subject.title}: {document['shown']} {names[3]}",
        note="Parallel arrows of one length would be a perfect analogy. The answer leaves the words of the question out; of all "
        f"words the nearest is {document['unrestricted']['word']}.",
    )
