"""Which words an output hangs on: the methods of the view `saliency` for models of tokens.

Tokens are numbers without a neighbourhood, their vectors are not: a text is looked at as a signal (B, embedding_size, T), with
the word vectors as channels and the words as positions, so that the functions of `attributions.py` serve it as they are. What a
word is worth is the sum over its vector: gradient times vector (the first-order guess of what the word adds), integrated gradients
from a text of empty vectors, or the fall of the output when the word's vector is emptied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any, Final

import torch
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from torch import Tensor, nn

from lamina.explain.activations import evaluating
from lamina.explain.attributions import gradient, integrated_gradients, occlusion, scores_of
from lamina.explain.drawing import draw
from lamina.explain.explained import Explained, Quantity, describe_explained, explain_output
from lamina.explain.views import Subject, ViewResult, refusal, titled
from lamina.tasks.inputs import TOKENS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["OfVectors", "is_text", "text_saliency", "word_vectors"]

_LINE: Final = 92  # letters in a line of the picture
_MOST_WORDS: Final = 160  # of a text, in the picture and in the terminal; page and arrays have them all
_RED, _BLUE = (178, 24, 43), (33, 102, 172)


@dataclass(frozen=True)
class _Shown:
    title: str
    source: str
    words: str


_SHOWN: Final[dict[str, _Shown]] = {
    "gradient": _Shown("gradient x word vector", "arXiv:1312.6034", "gradient times vector, summed over the vector"),
    "integrated-gradients": _Shown("integrated gradients", "arXiv:1703.01365", "sum over the vector"),
    "occlusion": _Shown("occlusion", "arXiv:1311.2901", "fall when the word's vector is emptied"),
}
_LEFT_OUT: Final = {
    "smoothgrad": "there are no texts between words that noise could reach",
    "grad-cam": "it weights the maps of images",
}


def is_text(subject: Subject) -> bool:
    """Whether a subject's inputs are tokens."""
    return isinstance(subject.inputs, Mapping) and TOKENS in subject.inputs


class OfVectors(nn.Module):
    """A model of tokens as a function of its word vectors.

    Args:
        model: Has a `torch.nn.Embedding` that it calls with `input_ids`.
        inputs: What the model is called with, by name: `input_ids` int64 (B, T) and what else it takes.
        table: That embedding.

    Shapes: float (B, embedding_size, T) -> what the model gives.
    """

    def __init__(self, model: nn.Module, inputs: Mapping[str, Tensor], table: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.inputs = dict(inputs)
        self.table = table

    def forward(self, vectors: Tensor) -> Tensor:
        """The model's output where the table gives these vectors instead of its own."""
        given = vectors.transpose(1, 2)  # (B, T, E)
        handle = self.table.register_forward_hook(
            lambda module, args, output: given if output.shape == given.shape else output
        )
        try:
            return _call(self.model, self.inputs)
        finally:
            handle.remove()


def word_vectors(model: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[OfVectors, Tensor]:
    """A model as a function of its word vectors, and the vectors of these inputs, (B, embedding_size, T).

    Raises:
        UsageError: No embedding of the model is called with the tokens.
    """
    found: list[tuple[nn.Module, Tensor]] = []

    def keep(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        if args and isinstance(args[0], Tensor) and args[0].shape == inputs[TOKENS].shape:
            found.append((module, output))

    handles = [module.register_forward_hook(keep) for module in model.modules() if isinstance(module, nn.Embedding)]
    try:
        with evaluating(model), torch.no_grad():
            _call(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        raise refusal(
            "saliency",
            f"{type(model).__name__} has no table of word vectors that is called with the tokens.",
            mend="let the model look up its words by a torch.nn.Embedding",
        )
    table, vectors = found[0]
    return OfVectors(model, inputs, table), vectors.detach().transpose(1, 2).contiguous()


def text_saliency(
    subject: Subject,
    *,
    method: str = "all",
    target: str | None = None,
    quantity: Quantity = "logit",
    most: int = 4,
    baseline: float = 0.0,
    steps: int = 64,
) -> ViewResult:
    """The view `saliency` of a model of tokens; arguments as of its Config.

    `arrays` holds one array (B, T) per method, 0 behind the end of a text, and `input_ids`.

    Raises:
        UsageError: No such output or method, or a model without word vectors.
    """
    assert isinstance(subject.inputs, Mapping)
    if method not in ("all", *_SHOWN):
        raise refusal(
            "saliency",
            f"The method {method} says nothing of texts: {_LEFT_OUT[method]}.",
            mend="view.method=integrated-gradients, occlusion or gradient",
        )
    inputs = {name: value[:most] for name, value in subject.inputs.items()}
    of_vectors, vectors = word_vectors(subject.model, inputs)
    seen = replace(subject, model=of_vectors, inputs=vectors)
    explained = explain_output(seen, vectors, target=target, quantity=quantity, view="saliency")
    mask = inputs.get("attention_mask", torch.ones_like(inputs[TOKENS], dtype=torch.bool))
    methods = list(_SHOWN) if method == "all" else [method]
    maps = {name: _worth(name, of_vectors, vectors, explained, baseline, steps) * mask for name in methods}
    words = [_words(subject, row[kept]) for row, kept in zip(inputs[TOKENS], mask, strict=True)]
    rows = [describe_explained(seen, row, explained) for row in range(len(vectors))]
    for name, values in maps.items():
        for row, value, kept in zip(rows, values, mask, strict=True):
            own = value[kept].double()
            row["methods"][name] = {
                "min": float(own.amin()) if len(own) else 0.0,
                "max": float(own.amax()) if len(own) else 0.0,
                "sum": float(own.sum()),
            }
    if "integrated-gradients" in maps:
        start = torch.full_like(vectors, baseline)
        fall = explained.values - scores_of(of_vectors, start, explained.target, read=explained.read)
        for row, total in zip(rows, fall.tolist(), strict=True):
            own = row["methods"]["integrated-gradients"]
            own.update(to_explain=total, completeness_gap=own["sum"] - total)
    for number, (row, own) in enumerate(zip(rows, words, strict=True)):
        worth = {name: values[number][mask[number]].tolist() for name, values in maps.items()}
        row["words"] = [
            {"word": word, **{name: values[place] for name, values in worth.items()}} for place, word in enumerate(own)
        ]
    document = {
        "model": subject.title,
        "shown": explained.in_words(),
        "quantity": explained.quantity,
        "methods": {
            name: {
                "source": _SHOWN[name].source,
                "picture": _SHOWN[name].words,
                "unit": explained.quantity,
            }
            for name in methods
        },
        "left_out": dict(_LEFT_OUT) if method == "all" else {},
        "baseline": baseline,
        "inputs": rows,
        "means": "which words move this network's output, and which way; not why, and not what the text means",
    }
    arrays = {name: value.detach().cpu().numpy() for name, value in maps.items()}
    return ViewResult(
        document,
        _rendered(document),
        partial(_draw, subject, document),
        {TOKENS: inputs[TOKENS].cpu().numpy(), **arrays},
        page=partial(_page, document),
    )


# --- the numbers ---------------------------------------------------------------------------------------------------


def _call(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    others = {name: value for name, value in inputs.items() if name != TOKENS}
    output: Tensor = model(inputs[TOKENS], **others)
    return output


def _worth(method: str, model: OfVectors, vectors: Tensor, explained: Explained, baseline: float, steps: int) -> Tensor:
    """What each word is worth, (B, T)."""
    target, read = explained.target, explained.read
    if method == "gradient":
        return (gradient(model, vectors, target, read=read) * vectors).sum(dim=1)
    if method == "occlusion":
        return occlusion(model, vectors, target, window=1, stride=1, value=baseline, read=read).squeeze(1)
    return integrated_gradients(model, vectors, target, baseline=baseline, steps=steps, read=read).sum(dim=1)


def _words(subject: Subject, numbers: Tensor) -> list[str]:
    """The tokens as text; their numbers where nothing says what they stand for."""
    text = getattr(subject.preprocessing, "text", None)
    return [str(number) for number in numbers.tolist()] if text is None else text.tokenizer.tokens(numbers.tolist())


# --- how it looks --------------------------------------------------------------------------------------------------


def _colours(share: float) -> tuple[str, str]:
    """Background and letters for a share from -1 (blue) over 0 (white) to 1 (red)."""
    strength = min(abs(share), 1.0)
    end = _RED if share > 0 else _BLUE
    mixed = [round(255 + (channel - 255) * strength) for channel in end]
    return "#{:02x}{:02x}{:02x}".format(*mixed), "#ffffff" if strength > 0.6 else "#111111"


def _scales(document: Mapping[str, Any]) -> dict[str, float]:
    """One scale per method, so that texts can be compared: the largest magnitude."""
    return {
        name: max((abs(word[name]) for row in document["inputs"] for word in row["words"]), default=0.0) or 1.0
        for name in document["methods"]
    }


def _headline(row: Mapping[str, Any], quantity: str) -> str:
    predicted = f"predicted {row['predicted']}, " if "predicted" in row else ""
    return f"{row['input']}: {predicted}{quantity} of {row['target']}: {row[quantity]:.3g}"


def _rendered(document: Mapping[str, Any]) -> RenderableType:
    """Coloured text and a table for a terminal."""
    scales, quantity = _scales(document), document["quantity"]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("input", overflow="fold")
    for name in ("target", quantity, "method", "min", "max", "sum"):
        table.add_column(name, justify="left" if name in ("target", "method") else "right")
    parts: list[RenderableType] = []
    for row in document["inputs"]:
        parts.append(Text(_headline(row, quantity), style="bold"))
        for place, (method, values) in enumerate(row["methods"].items()):
            line = Text(f"{_SHOWN[method].title}: ", style="dim")
            for word in row["words"][:_MOST_WORDS]:
                back, front = _colours(word[method] / scales[method])
                line.append(word["word"], style=f"{front} on {back}")
                line.append(" ")
            parts += [line, Text("")]
            first = [row["input"], row["target"], f"{row[quantity]:.4g}"] if place == 0 else ["", "", ""]
            table.add_row(*first, method, *(f"{values[key]:.4g}" for key in ("min", "max", "sum")))
    return Group(*parts, titled(document["shown"], table))


def _page(document: Mapping[str, Any]) -> str:
    """The same as HTML: every word with its colour, and its number to whoever points at it."""
    scales, quantity = _scales(document), document["quantity"]
    parts = []
    for row in document["inputs"]:
        parts.append(f"<h2 style='font-size:1em;margin-bottom:0'>{escape(_headline(row, quantity))}</h2>")
        for method in row["methods"]:
            spans = []
            for word in row["words"]:
                back, front = _colours(word[method] / scales[method])
                spans.append(
                    f"<span style='background:{back};color:{front};padding:0 .15em' title='{word[method]:.4g}'>"
                    f"{escape(word['word'])}</span>"
                )
            title = escape(f"{_SHOWN[method].title} (scale {scales[method]:.3g})")
            parts.append(f"<p><small>{title}</small><br>{' '.join(spans)}</p>")
    return "\n".join(parts)


def _lines(words: list[str]) -> list[list[tuple[int, int]]]:
    """Which word stands where: per line (number of the word, first letter)."""
    lines: list[list[tuple[int, int]]] = [[]]
    column = 0
    for number, word in enumerate(words):
        width = min(len(word), _LINE)
        if column and column + width > _LINE:
            lines.append([])
            column = 0
        lines[-1].append((number, column))
        column += width + 1
    return lines


def _draw(subject: Subject, document: Mapping[str, Any]) -> bytes:
    scales, quantity = _scales(document), document["quantity"]
    blocks: list[tuple[str, list[tuple[str, float]]]] = []
    cut = False
    for row in document["inputs"]:
        for method in row["methods"]:
            words = [(word["word"], word[method] / scales[method]) for word in row["words"][:_MOST_WORDS]]
            cut = cut or len(row["words"]) > _MOST_WORDS
            blocks.append((f"{_headline(row, quantity)} · {_SHOWN[method].title}", words))
    layout = [_lines([word for word, _ in words]) for _, words in blocks]
    height = sum(len(lines) + 2 for lines in layout)

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.set_xlim(0, _LINE + 2)
        axes.set_ylim(height, 0)
        axes.set_axis_off()
        top = 0.0
        for (title, words), lines in zip(blocks, layout, strict=True):
            axes.text(0, top + 0.5, title, va="center", fontsize=7.5, color="#444444")
            for depth, line in enumerate(lines, start=1):
                for number, column in line:
                    _paint_word(axes, *words[number], x=column, y=top + depth)
            top += len(lines) + 2

    note = (
        "Red words raise, blue words lower the output; each method has one scale. It shows what moves this network's output, not "
        "causes in the world."
        + (f" Of longer texts the first {_MOST_WORDS} words are drawn; the page (.html) has all." if cut else "")
    )
    title = f"{subject.title}: {document['shown']}"
    return draw(paint, width=9.0, height=0.19 * height + 0.2, title=title, note=note)


def _paint_word(axes: Any, word: str, share: float, *, x: float, y: float) -> None:
    back, front = _colours(share)
    shown = word if len(word) <= _LINE else f"{word[: _LINE - 1]}…"
    axes.fill_between([x, x + len(shown)], y + 0.05, y + 0.95, color=back, linewidth=0)
    axes.text(
        x + len(shown) / 2, y + 0.5, shown, ha="center", va="center", fontsize=9.5, family="monospace", color=front
    )
