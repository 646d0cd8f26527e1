"""Writing texts with a language model: token by token, from what was written so far.

The prompt is read as if it stood at the beginning of a line. Samples run side by side as the rows of a batch; each has draws of
its own, so that a sample does not depend on how many there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lamina.core.errors import UsageError
from lamina.data.preprocessing import Preprocessing
from lamina.data.text.tokenizer import END, PAD, UNKNOWN, Tokenizer
from lamina.tasks.pipeline import judging, model_device
from lamina.tasks.sampling import SamplingConfig, choose, sampling_probs

__all__ = ["generate"]

_ROWS = 64  # samples side by side


class Reader(Protocol):
    """See `lamina.tasks.text_generation.LanguageModel`."""

    head: nn.Module

    def scan(self, input_ids: Tensor, state: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Tokens (B, T) and the state before them -> hidden states (B, T, H) and the state after them."""

    def initial_state(self, batch_size: int) -> dict[str, Tensor]:
        """The state at the beginning of a text."""


def generate(
    model: Reader, preprocessing: Preprocessing, *, num: int, prompt: str, options: SamplingConfig
) -> list[dict[str, Any]]:
    """Write texts.

    Args:
        model: A language model.
        preprocessing: Its own; holds the tokenizer.
        num: Samples, >= 1.
        prompt: What they begin with; may be empty where the model knows line ends.
        options: How tokens are chosen.

    Returns:
        Per sample `prompt`, `text` (the prompt and what was written on), `num_tokens` (written) and `unknown` (tokens of the prompt
        that the model does not know).

    Raises:
        UsageError: There is no tokenizer, no prompt where one is needed, or fewer than one sample is asked for.
        NonFiniteError: The model gave NaN.
    """
    if preprocessing.text is None:
        raise UsageError(
            "The model has no tokenizer, so that what it writes could not be read.",
            where="generate",
            accepts="a model whose preprocessing has the step tokenize",
            mend="train it from text",
        )
    if num < 1:
        raise UsageError(f"{num} samples were asked for.", where="generate, --num", accepts="1 or more", mend="--num 1")
    words = _Words(preprocessing.text.tokenizer)
    begin, given = words.begin(prompt)
    module = model
    assert isinstance(module, nn.Module)
    samples: list[dict[str, Any]] = []
    with judging(module):
        for first in range(0, num, _ROWS):
            numbers = torch.arange(first, min(first + _ROWS, num))
            for row in _write(model, begin, numbers, words.excluded, options, model_device(module)):
                text = words.joined(prompt, given, row)
                unknown = given.count(UNKNOWN)
                samples.append({"prompt": prompt, "text": text, "num_tokens": len(row), "unknown": unknown})
    return samples


def _write(
    model: Reader,
    begin: list[int],
    numbers: Tensor,
    excluded: list[int],
    options: SamplingConfig,
    device: torch.device,
) -> list[list[int]]:
    """The tokens that follow `begin`, for each sample."""
    numbers = numbers.to(device)
    tokens = torch.tensor([begin], dtype=torch.int64, device=device).expand(len(numbers), -1)
    state = model.initial_state(len(numbers))
    written: list[Tensor] = []
    for place in range(options.max_length):
        hidden, state = model.scan(tokens, state)
        logits = model.head(hidden[:, -1]).double()
        logits[:, excluded] = -torch.inf
        probs = sampling_probs(logits, temperature=options.temperature, top_k=options.top_k, top_p=options.top_p)
        tokens = choose(probs, seed=options.seed, samples=numbers, place=place).unsqueeze(1)
        written.append(tokens)
    return [list(row) for row in torch.cat(written, dim=1).tolist()]


class _Words:
    """Text to tokens and back, where texts go on instead of ending.

    Attributes:
        excluded: Tokens that are never written: padding, unknown words, and the end of a row where the model was not taught it.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._own = tokenizer
        config = tokenizer.config
        # The same vocabulary, but nothing is put behind a text and nothing cut off.
        plain = config.model_copy(update={"end": False, "ending": "", "max_length": None})
        self._plain = Tokenizer.restore(plain, tokenizer.document())
        self._ends = config.end
        self._ending = config.ending
        self.excluded = [PAD, UNKNOWN] if config.end else [PAD, UNKNOWN, END]

    def begin(self, prompt: str) -> tuple[list[int], list[int]]:
        """What the model reads first, and the tokens of the prompt at its end."""
        line_end = [END] if self._ends else self._plain.encode([self._ending])[0] if self._ending else []
        lines = prompt.split("\n") if self._ends else [prompt]
        rows = self._plain.encode(lines)
        given = list(rows[0])
        for row in rows[1:]:
            given += [END, *row]
        begin = [*line_end, *given]
        if not begin:
            raise UsageError(
                "There is nothing to begin with: the model was taught no line ends, and the prompt is empty.",
                where="generate, --prompt",
                accepts="a text of at least one token",
                mend='--prompt "The"',
            )
        return begin, given

    def joined(self, prompt: str, given: list[int], tokens: list[int]) -> str:
        """The prompt, whose tokens are `given`, and the written tokens as one text."""
        whole, before = self._text([*given, *tokens]), self._text(given)
        # A byte-level token may end inside a character; then what was written is shown by itself.
        written = whole[len(before) :] if whole.startswith(before) else self._text(tokens)
        return f"{prompt}{written.removeprefix(' ') if prompt[-1:] in ('', ' ', chr(10)) else written}"

    def _text(self, tokens: list[int]) -> str:
        """Ends of rows as line ends, and what is between them decoded."""
        lines: list[list[int]] = [[]]
        for token in tokens:
            if token == END:
                lines.append([])
            else:
                lines[-1].append(token)
        return "\n".join(self._own.decode(line) for line in lines)
