"""What happens inside recurrent layers while a model reads: every gate of every step, by the cells' own equations.

Any model will do that contains a `lamina.nn.recurrent.Recurrent`: while it is traced, these layers go step by step instead of
through whole sequences, which gives the same to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lamina.core.errors import UsageError
from lamina.explain.activations import evaluating
from lamina.explain.explained import image_inputs
from lamina.explain.views import Subject, refusal
from lamina.nn.recurrent import LayerTrace, Recurrent
from lamina.tasks.inputs import TOKENS

__all__ = ["Read", "read_sequence", "sequence_inputs", "step_names"]


@dataclass(frozen=True)
class Read:
    """A model having read a batch.

    Attributes:
        output: What the model gave.
        kind: `elman`, `lstm` or `gru`.
        traces: Layer by layer, in each direction.
    """

    output: Tensor
    kind: str
    traces: list[LayerTrace]


def sequence_inputs(subject: Subject, view: str) -> dict[str, Tensor]:
    """The subject's input by the names of the model's arguments: `input_ids` (tokens int64 (B, T), or signals float (B, C, T)), and what is beside.

    Raises:
        UsageError: There is none, or it is no sequence.
    """
    inputs = subject.inputs
    if isinstance(inputs, Mapping) and TOKENS in inputs:
        return dict(inputs)
    if isinstance(inputs, Tensor) and not inputs.is_meta and inputs.ndim == 2 and not inputs.is_floating_point():
        return {TOKENS: inputs}
    values = image_inputs(subject, view)
    if values.ndim != 3:
        raise refusal(
            view,
            f"The model reads inputs shaped {tuple(values.shape)}, which are no sequences.",
            mend="look at a model of tokens or signals; of images the view features shows the maps",
        )
    return {TOKENS: values}


def read_sequence(model: nn.Module, inputs: Mapping[str, Tensor], *, view: str) -> Read:
    """Let a model read, step by step, in evaluation mode; whether gradients are recorded is the caller's choice.

    What the recurrent layers are given is cut from what was before them, so that gradients reach them even where the model's
    own numbers are frozen.

    Raises:
        UsageError: The model has no recurrent layers, or none of them reads the sequence.
    """
    others = {name: value for name, value in inputs.items() if name != TOKENS}
    with evaluating(model), _tracing(model) as found:
        output = model(inputs[TOKENS], **others)
    if not found:
        raise refusal(
            view,
            f"{type(model).__name__} has no recurrent layers that read anything.",
            mend="the view layers shows what it has; model.kind=lstm, gru and rnn have recurrent layers",
        )
    # Layers that read something else, such as the characters of each word, have another number of rows.
    rows = len(inputs[TOKENS])
    fitting = [(layers, traces) for layers, traces in found if len(traces[0].steps[0]["hidden"]) == rows]
    layers, traces = (fitting or found)[-1]
    return Read(output, layers.kind, traces)


@contextmanager
def _tracing(model: nn.Module) -> Iterator[list[tuple[Recurrent, list[LayerTrace]]]]:
    """Inside, every `Recurrent` of the model goes step by step, and what it did is kept, in the order in which they ran."""
    found: list[tuple[Recurrent, list[LayerTrace]]] = []
    patched = [module for module in model.modules() if isinstance(module, Recurrent)]

    def instead(module: Recurrent) -> Any:
        def forward(
            inputs: Tensor,
            state: Mapping[str, Tensor] | None = None,
            *,
            mask: Tensor | None = None,
            need_state: bool = True,
        ) -> tuple[Tensor, dict[str, Tensor]]:
            del need_state
            given = inputs.detach()
            if torch.is_grad_enabled():
                given.requires_grad_()
            hidden, after, traces = module.trace(given, state, mask=mask)
            found.append((module, traces))
            return hidden, after

        return forward

    for module in patched:
        module.forward = instead(module)  # type: ignore[method-assign]
    try:
        yield found
    finally:
        for module in patched:
            del module.forward


def step_names(subject: Subject, inputs: Mapping[str, Tensor], row: int) -> list[str]:
    """What the real steps of a row are called: words where there is a tokenizer, else their numbers; nothing for signals."""
    tokens = inputs[TOKENS]
    if tokens.is_floating_point():
        return []
    own = tokens[row]
    mask = inputs.get("attention_mask")
    numbers = (own if mask is None else own[mask[row]]).tolist()
    text = getattr(subject.preprocessing, "text", None)
    return [str(number) for number in numbers] if text is None else list(text.tokenizer.tokens(numbers))


def check_row(row: int, inputs: Mapping[str, Tensor], *, view: str) -> None:
    """Refuse a row that is not there.

    Raises:
        UsageError: There are fewer inputs.
    """
    if row >= len(inputs[TOKENS]):
        raise UsageError(
            f"There is no input {row}; there are {len(inputs[TOKENS])}.",
            where=f"view {view}, view.row",
            accepts=f"0 to {len(inputs[TOKENS]) - 1}",
            mend="view.row=0",
        )
