"""Recurrent networks for tokens and for signals: Elman's simple network, LSTM and GRU.

Paper: Elman (1990), "Finding Structure in Time", doi:10.1207/s15516709cog1402_1; Hochreiter, Schmidhuber (1997), "Long Short-Term Memory", doi:10.1162/neco.1997.9.8.1735, with the forget gate of Gers, Schmidhuber, Cummins (2000), doi:10.1162/089976600300015015; Cho et al. (2014), "Learning Phrase Representations using RNN Encoder-Decoder", arXiv:1406.1078.
Reported: Hochreiter and Schmidhuber, adding problem, at most one of 2,560 test sequences wrong by more than 0.04 at lengths of about 100, 500 and 1,000 (table 7); Zaremba, Sutskever, Vinyals (2014), arXiv:1409.2329, Penn Treebank, a non-regularised LSTM of two layers of 200 units: validation perplexity 120.7 (table 1).
Differs from the paper: no peephole connections, gradients flow through all gates (the paper cuts them); the GRU applies its reset gate behind the recurrent product, as the first version of the paper, torch and cuDNN do; Elman's network is trained through time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, cast

import torch
from torch import Tensor, nn

from lamina.core.config import Config, Field
from lamina.core.errors import ConfigError, DtypeError, ShapeError
from lamina.core.registry import register
from lamina.nn.dropout import Dropout
from lamina.nn.embedding import Embedding
from lamina.nn.initialisers import initialise
from lamina.nn.inputs import check_tokens
from lamina.nn.recurrent import Kind, Recurrent

__all__ = ["GRU", "LSTM", "RNN", "GRUConfig", "LSTMConfig", "RNNConfig", "Readout", "RecurrentConfig", "RecurrentModel"]

Readout = Literal["each", "last", "mean", "max"]
_EXAMPLE_LENGTH: Final = 16


class RecurrentConfig(Config):
    """What a recurrent network reads, of which size it is, and what it says."""

    vocab_size: int | None = Field(
        None, description="Different tokens, padding (0) included; nothing: signals of real numbers are read.", ge=1
    )
    in_channels: int = Field(1, description="Channels of the signals: what is measured at each step.", ge=1)
    num_classes: int = Field(10, description="Outputs: classes, numbers to predict, or the tokens of a language.", ge=1)
    embedding_size: int = Field(128, description="Numbers of a token's vector.", ge=1)
    hidden_size: int = Field(128, description="Numbers remembered, in each layer and direction.", ge=1)
    num_layers: int = Field(1, description="Layers, each reading what the one below gives.", ge=1)
    bidirectional: bool = Field(False, description="A second layer beside each, which reads from the end.")
    dropout: float = Field(
        0.0,
        description="Dropped from token vectors, between layers and before the head, anew at each step (Zaremba, Sutskever, Vinyals 2014).",
        ge=0,
        lt=1,
    )
    variational_dropout: float = Field(
        0.0,
        description="Dropped from inputs, outputs and what is carried from step to step, the same at all steps of a sequence (Gal, Ghahramani 2016).",
        ge=0,
        lt=1,
    )
    readout: Readout = Field(
        "last",
        description="What the head reads: each step by itself, the last one (of both directions), the mean or the largest over the steps.",
    )
    tie_weights: bool = Field(
        False,
        description="Let the head share the token vectors' numbers; where the sizes differ, a linear layer without bias stands between (Press, Wolf 2017; Inan, Khosravi, Socher 2017).",
    )
    init_bound: float | None = Field(
        None,
        description="Begin with all numbers, biases too, drawn uniformly between minus and plus this; by default each layer by its own rule.",
        gt=0,
    )
    initialiser: str = Field("xavier-uniform", description="Name of the initialiser of the head; biases are zero.")


class GRUConfig(RecurrentConfig):
    """The same, with what the gates begin with."""

    memory_length: int | None = Field(
        None,
        description="Begin with gates that keep for up to so many steps, some units long and some short: the longest stretch to be remembered (Tallec, Ollivier 2018, arXiv:1804.11188).",
        ge=2,
    )


class LSTMConfig(GRUConfig):
    """The same, with what the forget gate begins with."""

    forget_bias: float = Field(
        1.0,
        description="What the forget gate's bias begins with where memory_length says nothing: 1 begins with remembering (Jozefowicz et al. 2015).",
    )


class RNNConfig(RecurrentConfig):
    """The same, with the activation."""

    activation: Literal["tanh", "relu"] = Field("tanh", description="Of the hidden state.")


class RecurrentModel(nn.Module):
    """Token vectors or signals, recurrent layers, and a head.

    `forward` is `head(pool(features(…)))`, with readout=each `head(features(…))`, and dropout before the head in both. A
    language model is read piece by piece by `scan`, the state being carried on.

    Source: Elman (1990), doi:10.1207/s15516709cog1402_1; Hochreiter, Schmidhuber (1997), doi:10.1162/neco.1997.9.8.1735; Cho et
    al. (2014), arXiv:1406.1078.

    Attributes:
        hidden_size: Numbers per step that `features` gives: of both directions together, and behind the projection of tied
            weights, where there is one.
        recurrent: The layers; `recurrent.trace` runs them step by step and keeps every gate.

    Raises:
        ConfigError: tie_weights for signals, or with another number of outputs than tokens.
    """

    def __init__(
        self,
        *,
        kind: Kind,
        vocab_size: int | None = None,
        in_channels: int = 1,
        num_classes: int = 10,
        embedding_size: int = 128,
        hidden_size: int = 128,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        variational_dropout: float = 0.0,
        readout: Readout = "last",
        tie_weights: bool = False,
        init_bound: float | None = None,
        initialiser: str = "xavier-uniform",
        forget_bias: float = 1.0,
        memory_length: int | None = None,
        activation: Literal["tanh", "relu"] = "tanh",
    ) -> None:
        super().__init__()
        if vocab_size is not None:
            self.vocab_size = vocab_size
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.readout = readout
        self.init_bound = init_bound
        self.embedding = Embedding(vocab_size, embedding_size) if vocab_size is not None else None
        self.dropout_in = Dropout(dropout)
        self.recurrent = Recurrent(
            kind,
            input_size=in_channels if vocab_size is None else embedding_size,
            hidden_size=hidden_size,
            num_layers=num_layers,
            bidirectional=bidirectional,
            dropout=dropout,
            variational_dropout=variational_dropout,
            forget_bias=forget_bias,
            memory_length=memory_length,
            activation=activation,
        )
        self.dropout_out = Dropout(dropout)
        self.hidden_size = self.recurrent.output_size
        self.projection: nn.Linear | None = None
        if tie_weights and self.hidden_size != embedding_size:
            self.projection = nn.Linear(self.hidden_size, embedding_size, bias=False)
            self.hidden_size = embedding_size
        self.head = nn.Linear(self.hidden_size, num_classes)
        if tie_weights:
            self.head.weight = _shared(self.embedding, num_classes)
        initialise(self, initialiser, generator=torch.default_generator)

    def draw_own(self, generator: torch.Generator) -> None:
        """With `init_bound`, draw every number anew, uniformly; what the biases begin with is added to their draws."""
        if self.init_bound is None:
            return
        for name, parameter in sorted(self.named_parameters()):
            if parameter.is_meta:
                continue
            drawn = torch.empty(parameter.shape).uniform_(-self.init_bound, self.init_bound, generator=generator)
            with torch.no_grad():
                owner = self.get_submodule(name.rpartition(".")[0])
                begins = getattr(owner, "biases", None) if name.endswith(".bias") else None
                parameter.copy_(drawn if begins is None else drawn + begins(generator))

    @property
    def stages(self) -> dict[str, tuple[str, ...]]:
        """Stage name -> prefixes of its modules, from the inputs to `head`; together they hold every parameter once."""
        both = self.recurrent.num_directions
        layers = {
            f"layer{layer + 1}": tuple(f"recurrent.layers.{layer * both + place}." for place in range(both))
            for layer in range(self.recurrent.num_layers)
        }
        first = {"embedding": ("embedding.",)} if self.embedding is not None else {}
        last = {"projection": ("projection.",)} if self.projection is not None else {}
        return {**first, **layers, **last, "head": ("head.",)}

    def example_inputs(self) -> Tensor:
        """One text or signal without values; any length will do."""
        if self.embedding is not None:
            return torch.empty(1, _EXAMPLE_LENGTH, dtype=torch.int64, device="meta")
        return torch.empty(1, self.in_channels, _EXAMPLE_LENGTH, device="meta")

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Logits.

        Args:
            input_ids: Tokens int64 (B, T); of a model of signals float (B, in_channels, T). Any length.
            attention_mask: bool (B, T), which steps are real; None: all. Padding changes no result.

        Returns:
            (B, num_classes); with readout=each (B, T, num_classes).

        Raises:
            ShapeError: Another number of dimensions or channels.
            DtypeError: Fractions or bytes for tokens, whole numbers for a signal.
        """
        states = self.features(input_ids, attention_mask)
        if self.readout == "each":
            return self.head(self.dropout_out(states))  # type: ignore[no-any-return]
        return self.head(self.dropout_out(self.pool(states, attention_mask)))  # type: ignore[no-any-return]

    def features(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """Hidden states (B, T, hidden_size), zero at padding; arguments as of `forward`, `token_type_ids` is not read."""
        x = self._steps(input_ids, attention_mask)
        if x.shape[1] == 0:  # a batch of empty texts
            return x.new_zeros(len(x), 0, self.hidden_size)
        states, _ = self.recurrent(x, mask=attention_mask, need_state=False)
        return self._projected(states)

    def pool(self, states: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """What the head reads of hidden states: (B, T, hidden_size) -> (B, hidden_size), zeros for a text without tokens.

        With readout=each the states themselves.
        """
        if self.readout == "each":
            return states
        if states.shape[1] == 0:
            return states.sum(dim=1)
        if attention_mask is None:
            if self.readout == "last":
                return self._ends(states[:, -1], states[:, 0])
            return states.mean(dim=1) if self.readout == "mean" else states.amax(dim=1)
        real = attention_mask.unsqueeze(2)
        if self.readout == "mean":
            return states.where(real, 0.0).sum(dim=1) / real.sum(dim=1).clamp(min=1)
        some = attention_mask.any(dim=1, keepdim=True)
        if self.readout == "max":
            return torch.where(some, states.masked_fill(~real, float("-inf")).amax(dim=1), 0.0)
        place = torch.arange(states.shape[1], device=states.device)
        last = torch.where(attention_mask, place, -1).amax(dim=1).clamp(min=0)
        first = torch.where(attention_mask, place, states.shape[1] - 1).amin(dim=1)
        rows = torch.arange(len(states), device=states.device)
        return torch.where(some, self._ends(states[rows, last], states[rows, first]), 0.0)

    def initial_state(self, batch_size: int) -> dict[str, Tensor]:
        """The state at the beginning: zeros (B, layers * directions, H), `hidden`, and `cell` of an LSTM."""
        return self.recurrent.initial_state(batch_size)

    def scan(self, input_ids: Tensor, state: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Read a piece: tokens (B, T) and the state before them -> what the head reads of each (B, T, hidden_size), state after.

        Raises:
            ConfigError: The model reads in both directions, so that it has to know the end.
        """
        if self.recurrent.num_directions == 2:
            raise ConfigError(
                "A network that reads in both directions cannot read piece by piece.",
                where=f"{type(self).__name__}.scan",
                accepts="bidirectional=False",
                mend="model.bidirectional=false",
            )
        states, after = self.recurrent(self._steps(input_ids, None), state)
        return self.dropout_out(self._projected(states)), after

    def _ends(self, last: Tensor, first: Tensor) -> Tensor:
        """Where each direction ended: the forward one at the last step, the backward one at the first."""
        if self.recurrent.num_directions == 1 or self.projection is not None:
            return last
        half = self.recurrent.hidden_size
        return torch.cat([last[:, :half], first[:, half:]], dim=1)

    def _projected(self, states: Tensor) -> Tensor:
        return states if self.projection is None else self.projection(states)

    def _steps(self, inputs: Tensor, attention_mask: Tensor | None) -> Tensor:
        """What the first layer reads (B, T, I)."""
        if self.embedding is not None:
            check_tokens(self, inputs, attention_mask)
            return self.dropout_in(self.embedding(inputs))  # type: ignore[no-any-return]
        self._check_signals(inputs)
        return inputs.transpose(1, 2)

    def _check_signals(self, signals: Tensor) -> None:
        got, name = tuple(signals.shape), type(self).__name__
        where = f"{name}.forward, argument `input_ids`"
        accepts = f"float tensor (batch, {self.in_channels}, steps) of at least one step"
        if signals.ndim != 3 or got[1] != self.in_channels or got[2] < 1:
            if signals.ndim == 3 and got[2] == self.in_channels:
                mend = "signals.transpose(1, 2) puts channels first"
            elif signals.ndim == 2 and got[0] == self.in_channels:
                mend = "signals.unsqueeze(0) makes a batch of one"
            elif signals.ndim == 2 and self.in_channels == 1:
                mend = "signals.unsqueeze(1) adds the one channel; for tokens build with vocab_size"
            elif signals.ndim == 3:
                mend = f"build with in_channels={got[1]}"
            else:
                mend = "bring the signals into this shape; for tokens build with vocab_size"
            raise ShapeError(f"{name} got signals shaped {got}.", where=where, accepts=accepts, mend=mend)
        if not signals.is_floating_point():
            raise DtypeError(
                f"{name} got signals of {str(signals.dtype).removeprefix('torch.')}.",
                where=where,
                accepts=accepts,
                mend="signals.float() makes floating numbers; for tokens build with vocab_size",
            )


def _shared(embedding: Embedding | None, num_classes: int) -> nn.Parameter:
    """The token vectors' numbers, for the head."""
    if embedding is None or embedding.num_embeddings != num_classes:
        known = "no tokens" if embedding is None else f"{embedding.num_embeddings} tokens"
        raise ConfigError(
            f"tie_weights lets the head share the token vectors; the model has {known} and {num_classes} outputs.",
            where="model.tie_weights",
            accepts="a language model: as many outputs (num_classes) as tokens (vocab_size)",
            mend="tie_weights=false",
        )
    return cast(nn.Parameter, embedding.weight)


@register(
    "model",
    "rnn",
    config=RNNConfig,
    source="Elman (1990), doi:10.1207/s15516709cog1402_1",
    fidelity="trained through time, where the paper feeds back a copy of the last activation without a gradient.",
    example="lamina train adding-rnn",
    regression=True,
    any_length=True,
)
class RNN(RecurrentModel):
    """Elman's simple recurrent network: what is remembered is the last activation.

    Source: Elman (1990), doi:10.1207/s15516709cog1402_1.
    """

    def __init__(self, **fields: Any) -> None:
        super().__init__(kind="elman", **fields)


@register(
    "model",
    "lstm",
    config=LSTMConfig,
    source="Hochreiter, Schmidhuber (1997), doi:10.1162/neco.1997.9.8.1735; Gers, Schmidhuber, Cummins (2000), doi:10.1162/089976600300015015",
    fidelity="no peephole connections; gradients flow through all gates, which the paper cuts.",
    example="lamina train adding-lstm",
    regression=True,
    any_length=True,
)
class LSTM(RecurrentModel):
    """Long short-term memory with a forget gate.

    Source: Hochreiter, Schmidhuber (1997), doi:10.1162/neco.1997.9.8.1735; Gers, Schmidhuber, Cummins (2000).
    """

    def __init__(self, **fields: Any) -> None:
        super().__init__(kind="lstm", **fields)


@register(
    "model",
    "gru",
    config=GRUConfig,
    source="Cho et al. (2014), arXiv:1406.1078",
    fidelity="the reset gate is applied behind the recurrent product, as in the paper's first version, torch and cuDNN.",
    example="lamina train adding-lstm model.kind=gru",
    regression=True,
    any_length=True,
)
class GRU(RecurrentModel):
    """Gated recurrent unit, in the variant of torch and cuDNN.

    Source: Cho et al. (2014), arXiv:1406.1078.
    """

    def __init__(self, **fields: Any) -> None:
        super().__init__(kind="gru", **fields)
