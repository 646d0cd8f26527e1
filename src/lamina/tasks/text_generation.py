"""Language modelling: predict each token of a text from those before it, and write on.

The training split is one long text, cut into as many contiguous streams as a batch has rows. A step takes the next
`task.length` tokens of every stream; the hidden state is carried on from step to step and gradients end at the border
(truncated backpropagation through time). The state is the engine's to keep: a checkpoint holds it, so that a run resumes exactly in the
middle of a stream. A judged split is one stream in order, its state carried from its first token to its last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from lamina.core.config import Config, Field
from lamina.core.errors import DataError, ShapeError
from lamina.core.registry import register
from lamina.data.batching import Feed, StreamFeed
from lamina.data.columns import Columns, DataSpec
from lamina.data.preprocessing import Preprocessing
from lamina.data.ragged import Ragged, RaggedColumns
from lamina.nn.meta import without_values
from lamina.nn.output_layer import head_cross_entropy
from lamina.tasks.base import (
    AnyConfig,
    Batch,
    Context,
    GradientUpdate,
    Losses,
    Outputs,
    Prediction,
    State,
    Task,
    Update,
)
from lamina.tasks.generation import generate
from lamina.tasks.language_metrics import LanguageMetrics, perplexity
from lamina.tasks.metrics import Metrics
from lamina.tasks.pipeline import judging, model_device
from lamina.tasks.sampling import SamplingConfig

__all__ = ["LanguageModel", "TextGeneration", "TextGenerationConfig"]


@runtime_checkable
class LanguageModel(Protocol):
    """A model that reads a text piece by piece."""

    head: nn.Module

    def scan(self, input_ids: Tensor, state: Mapping[str, Tensor]) -> tuple[Tensor, State]:
        """Tokens int64 (B, T) and the state before them -> hidden states (B, T, H), of which `head` makes logits, and the state after them."""

    def initial_state(self, batch_size: int) -> State:
        """The state at the beginning of a text: tensors whose first axis is the batch."""


class TextGenerationConfig(Config):
    """Through how much text gradients flow, and what is minimised."""

    length: int = Field(
        35, description="Tokens of a stream in one step, through which gradients flow back.", ge=1, le=100_000
    )
    sum_over_time: bool = Field(
        False,
        description="Minimise the sum over the tokens of a stretch instead of their mean, as Zaremba et al. (2014) do: the "
        "gradient is `length` times as large, which counts where it is clipped.",
    )
    judged_length: int = Field(
        512, description="Tokens judged at a time; the state is carried on, so that results do not depend on it.", ge=1
    )


class _JudgedStream(StreamFeed):
    """A split as one stream; batches say how many characters a token has on average."""

    def __init__(self, columns: Columns, *, length: int) -> None:
        super().__init__(columns, batch_size=1, length=length)
        self._characters = _characters_per_token(columns)

    def batch(self, epoch: int, number: int) -> dict[str, Tensor]:
        """The next tokens."""
        batch = super().batch(epoch, number)
        if self._characters is not None:
            batch["characters_per_token"] = torch.full((1,), self._characters, dtype=torch.float64)
        return batch


@register(
    "task",
    "text-generation",
    config=TextGenerationConfig,
    source="Mikolov, Karafiát, Burget, Černocký, Khudanpur (2010), doi:10.21437/Interspeech.2010-343; truncated "
    "backpropagation: Williams, Peng (1990), doi:10.1162/neco.1990.2.4.490",
    example="lamina train stdlib-lstm",
    input="text",
)
class TextGeneration(Task):
    """Predict the next token of a text, word by word or character by character, and write texts.

    Args:
        config: A TextGenerationConfig.
        spec: The preprocessed data's spec; its column `input_ids` says how many tokens there are.

    Raises:
        DataError: The data has no tokens.
    """

    Config = TextGenerationConfig
    name = "text-generation"
    config: TextGenerationConfig

    def __init__(self, config: AnyConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        column = spec.columns.get("input_ids")
        if column is None or column.vocab_size is None:
            raise DataError(
                f"The data has no tokens; it has {', '.join(spec.columns) or 'nothing'}.",
                where="text-generation",
                accepts="text, one row per line, and the preprocessing step tokenize",
                mend="give a text file (data.reader=corpus reads any as running text)",
            )
        self.vocab_size: int = column.vocab_size

    # --- checks ---

    def check(self, spec: DataSpec, model: nn.Module) -> None:
        """Refuse a model that cannot read piece by piece, or knows another number of tokens; one pass on meta tensors."""
        reads = all(hasattr(model, name) for name in ("scan", "initial_state", "head"))
        if not reads:
            raise ShapeError(
                f"{type(model).__name__} cannot read a text piece by piece.",
                where=self.name,
                accepts="a model with scan(input_ids, state), initial_state(batch_size) and head, such as lstm, gru and rnn",
                mend="model.kind=lstm",
            )
        reader = cast(LanguageModel, model)
        with judging(model), without_values(model):
            state = {name: value.to("meta") for name, value in reader.initial_state(2).items()}
            hidden, _ = reader.scan(torch.zeros(2, 3, dtype=torch.int64, device="meta"), state)
            width = tuple(reader.head(hidden).shape)
        if width != (2, 3, self.vocab_size):
            raise ShapeError(
                f"{type(model).__name__} gives outputs shaped {width} for 2 rows of 3 tokens; the vocabulary has "
                f"{self.vocab_size} tokens.",
                where=f"{self.name}, model and column 'input_ids'",
                accepts=f"(2, 3, {self.vocab_size})",
                mend="leave model.num_classes and model.vocab_size out to have them filled in from the data, with readout=each",
            )

    def check_columns(self, columns: Columns) -> None:
        """Refuse tokens outside the vocabulary; one scan. Raw text has none yet."""
        tokens = _tokens_of(columns)
        if tokens is None or len(tokens.values) == 0:
            return
        largest = int(tokens.values.max())
        if largest >= self.vocab_size or int(tokens.values.min()) < 0:
            raise DataError(
                f"There is a token {largest if largest >= self.vocab_size else int(tokens.values.min())}.",
                where="column 'tokens'",
                accepts=f"0 to {self.vocab_size - 1}",
                mend="tokenize the text with the preprocessing that the vocabulary is of",
            )

    # --- what a batch means ---

    def initial_state(self, model: nn.Module, batch_size: int) -> State:
        """The model's own, for each stream."""
        return cast(LanguageModel, model).initial_state(batch_size)

    def feed(self, columns: Columns, *, batch_size: int, seed: int, training: bool, **options: Any) -> Feed:
        """Contiguous streams; a judged split is one."""
        if not training:
            return _JudgedStream(columns, length=self.config.judged_length)
        drop_last = bool(options.get("drop_last", False))
        return StreamFeed(columns, batch_size=batch_size, length=self.config.length, drop_last=drop_last)

    def forward(self, model: nn.Module, batch: Batch, ctx: Context) -> Outputs:
        """The cost of tokens.

        Of a stream, whose batches come one after another: `nats` (B, T) of the `targets`, the state carried on in `ctx`.
        Of rows by themselves: `nats` (B,), the sum over the tokens of each row but its first, and `num_tokens` (B,).
        """
        reader = cast(LanguageModel, model)
        tokens = batch["input_ids"]
        if "targets" in batch:
            state = _kept(ctx.carried or reader.initial_state(len(tokens)), batch["start"])
            hidden, ctx.carried = reader.scan(tokens, state)
            return {"nats": _nats(reader.head, hidden, batch["targets"])}
        given, targets = tokens[:, :-1], tokens[:, 1:]
        real = batch["attention_mask"][:, 1:]
        if targets.shape[1] == 0:
            nats = torch.zeros(targets.shape, device=tokens.device)
        else:
            hidden, _ = reader.scan(given, reader.initial_state(len(tokens)))
            nats = _nats(reader.head, hidden, targets)
        return {"nats": torch.where(real, nats, 0.0).sum(dim=1), "num_tokens": real.sum(dim=1)}

    def updates(self, model: nn.Module) -> Sequence[Update]:
        """One: cross-entropy per token, the state carried over."""
        reader = cast(LanguageModel, model)

        def loss(batch: Batch, ctx: Context, state: State) -> tuple[Losses, State]:
            hidden, after = reader.scan(batch["input_ids"], _kept(state, batch["start"]))
            targets = batch["targets"]
            losses = Losses()
            factor = float(targets.shape[1]) if self.config.sum_over_time else 1.0
            nats = head_cross_entropy(reader.head, hidden.flatten(0, 1), targets.flatten())
            losses.add("cross_entropy", nats.sum(), targets.numel(), factor=factor)
            # bf16 layers give bf16 states; they are kept as they began, so that a checkpoint fits.
            return losses, {name: value.to(state[name].dtype) for name, value in after.items()}

        return (GradientUpdate("train", model, loss, compilable=False),)

    def refuse_mixed(self, model: nn.Module) -> str | None:
        """Texts cannot be mixed."""
        return "tokens cannot be mixed"

    # --- judging ---

    def metrics(self) -> Metrics:
        """Cross-entropy and perplexity per token, bits per character."""
        return LanguageMetrics()

    def judge(self, outputs: Outputs, batch: Batch, metrics: Metrics) -> None:
        """Record the cost of every token of the stream."""
        assert isinstance(metrics, LanguageMetrics)
        characters = batch.get("characters_per_token")
        metrics.update(
            outputs["nats"].flatten(), characters_per_token=None if characters is None else characters[0].cpu()
        )

    def decode(self, outputs: Outputs) -> list[Prediction]:
        """How likely each text is by itself: `perplexity`, `cross_entropy` per token in nats, `num_tokens` after the first."""
        predictions: list[Prediction] = []
        for nats, count in zip(outputs["nats"].tolist(), outputs["num_tokens"].tolist(), strict=True):
            mean = nats / count if count else None
            predictions.append(
                {
                    "perplexity": None if mean is None else perplexity(mean),
                    "cross_entropy": mean,
                    "num_tokens": count,
                }
            )
        return predictions

    def input_columns(self) -> Iterable[str]:
        """The text."""
        return ("text",)

    # --- writing ---

    def generate(
        self,
        model: nn.Module,
        preprocessing: Preprocessing,
        *,
        num: int = 1,
        prompt: str | None = None,
        **options: Any,
    ) -> list[Prediction]:
        """Write texts; see `lamina.tasks.generation.generate`. `options` are fields of SamplingConfig."""
        chosen = SamplingConfig.from_values(options, where="generate")
        preprocessing.to(model_device(model))
        return generate(cast(LanguageModel, model), preprocessing, num=num, prompt=prompt or "", options=chosen)


def _kept(state: Mapping[str, Tensor], start: Tensor) -> State:
    """The state of each stream, zero where the stream begins."""
    goes_on = ~start
    return {name: value * goes_on.view(-1, *[1] * (value.ndim - 1)) for name, value in state.items()}


def _nats(head: nn.Module, hidden: Tensor, targets: Tensor) -> Tensor:
    nats = head_cross_entropy(head, hidden.flatten(0, 1), targets.flatten())
    return nats.view(targets.shape)


def _tokens_of(columns: Columns) -> Ragged | None:
    return columns.ragged.get("tokens") if isinstance(columns, RaggedColumns) else None


def _characters_per_token(columns: Columns) -> float | None:
    """Characters of the text by its tokens; None where the text is not known.

    A line end counts where the tokens have one, that is where all rows that are not empty end with the same token.
    """
    tokens, raw = _tokens_of(columns), columns.raw
    text = raw.ragged.get("text") if isinstance(raw, RaggedColumns) else None
    if tokens is None or text is None or len(tokens.values) == 0:
        return None
    characters = int(((text.values & 0xC0) != 0x80).sum())  # the first bytes of UTF-8 characters
    full = tokens.lengths > 0
    last = tokens.values[tokens.offsets[1:][full] - 1]
    if bool((last == last[0]).all()):
        characters += int(full.sum())
    return characters / len(tokens.values) if characters else None
