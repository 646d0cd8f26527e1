"""Recurrent layers over whole sequences: stacked, in both directions, with masks and with dropout that is kept over time.

`Recurrent` takes batches (B, T, I). Its layers are the cells of `recurrent_cells.py` with a fast way through whole sequences
(`recurrent_scans.py`); `Recurrent.trace` goes the readable way, step by step, and keeps every gate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal, cast

import torch
from torch import Tensor, nn

from lamina.core.config import Config, Field
from lamina.core.errors import DtypeError, ShapeError, unknown_name
from lamina.core.registry import register
from lamina.nn.dropout import Dropout
from lamina.nn.recurrent_cells import Cell, ElmanCell, GRUCell, LSTMCell
from lamina.nn.recurrent_scans import elman_scan, gru_scan, lstm_kernel, lstm_scan

__all__ = ["Kind", "LayerTrace", "Recurrent", "RecurrentLayerConfig"]

Kind = Literal["elman", "lstm", "gru"]
State = dict[str, Tensor]


class RecurrentLayerConfig(Config):
    """Options of a recurrent layer."""

    kind: Kind = Field("lstm", description="elman (1990), lstm (1997, with forget gate) or gru (2014).")
    input_size: int = Field(description="Numbers per step.", ge=1)
    hidden_size: int = Field(description="Numbers remembered, in each layer and direction.", ge=1)
    num_layers: int = Field(1, description="Layers, each reading what the one below gives.", ge=1)
    bidirectional: bool = Field(False, description="A second layer beside each, which reads from the end.")
    dropout: float = Field(
        0.0, description="Dropped between layers, anew at each step (Zaremba, Sutskever, Vinyals 2014).", ge=0, lt=1
    )
    variational_dropout: float = Field(
        0.0,
        description="Dropped from inputs, outputs and what is carried on, the same at all steps of a sequence (Gal, Ghahramani 2016).",
        ge=0,
        lt=1,
    )
    forget_bias: float = Field(1.0, description="What the bias of an LSTM's forget gate begins with.")
    memory_length: int | None = Field(
        None,
        description="Begin with an LSTM's or GRU's gates keeping for up to so many steps (Tallec, Ollivier 2018).",
        ge=2,
    )
    activation: Literal["tanh", "relu"] = Field("tanh", description="Of the elman cell.")


class ElmanLayer(ElmanCell):
    """The cell over whole sequences."""

    def forward(self, inputs: Tensor, state: State, mask: Tensor | None = None) -> tuple[Tensor, ...]:  # type: ignore[override]
        """(B, T, I) -> hidden states (B, T, H)."""
        hidden = elman_scan(
            inputs.transpose(0, 1),
            state["hidden"],
            self.weight_input,
            self.weight_recurrent,
            self.bias,
            mask,
            relu=self.activation == "relu",
        )
        return (hidden.transpose(0, 1),)


class LSTMLayer(LSTMCell):
    """The cell over whole sequences."""

    def forward(  # type: ignore[override]
        self, inputs: Tensor, state: State, mask: Tensor | None = None, *, every_cell: bool = False
    ) -> tuple[Tensor, ...]:
        """(B, T, I) -> hidden states (B, T, H), and the cell states after all steps (B, T, H) or after the last (B, 1, H)."""
        weights = (self.weight_input, self.weight_recurrent, self.bias)
        before = (state["hidden"], state["cell"])
        if mask is None and not every_cell:
            hidden, last = lstm_kernel(inputs.transpose(0, 1), *before, *weights)
            return hidden.transpose(0, 1), last.unsqueeze(1)
        hidden, cell = lstm_scan(inputs.transpose(0, 1), *before, *weights, mask)
        return hidden.transpose(0, 1), cell.transpose(0, 1)


class GRULayer(GRUCell):
    """The cell over whole sequences."""

    def forward(self, inputs: Tensor, state: State, mask: Tensor | None = None) -> tuple[Tensor, ...]:  # type: ignore[override]
        """(B, T, I) -> hidden states (B, T, H)."""
        weights = (self.weight_input, self.weight_recurrent, self.bias, self.bias_recurrent)
        return (gru_scan(inputs.transpose(0, 1), state["hidden"], *weights, mask).transpose(0, 1),)


_LAYERS: Final[dict[str, type[Cell]]] = {"elman": ElmanLayer, "lstm": LSTMLayer, "gru": GRULayer}


@dataclass(frozen=True)
class LayerTrace:
    """One layer in one direction, step by step.

    Attributes:
        layer: From 0, nearest the input.
        reverse: Whether it reads from the end.
        gates: Name of the gate -> (B, T, H), where in the sequence it happened.
        states: `hidden`, and `cell` of an LSTM -> (B, T, H), after the step at that place.
        steps: The state after each step in the order in which they ran, T times, (B, H) each, with the graph, so that a loss can
            be differentiated by each. With a mask the real steps of a row run first.
    """

    layer: int
    reverse: bool
    gates: dict[str, Tensor]
    states: dict[str, Tensor]
    steps: tuple[State, ...]


@dataclass(frozen=True)
class _Order:
    """Where the real steps of each row are; all in int64 row numbers of (B * T) so that a gather is a copy of rows.

    Attributes:
        lengths: Real steps of each row (B,).
        first: Real steps in front, padding behind.
        back: From there to where they were.
        turned: From there to the last real step first; its own inverse.
    """

    lengths: Tensor
    first: Tensor
    back: Tensor
    turned: Tensor

    @classmethod
    def of(cls, mask: Tensor) -> _Order:
        num_rows, num_steps = mask.shape
        place = torch.arange(num_steps, device=mask.device)
        base = torch.arange(num_rows, device=mask.device).unsqueeze(1) * num_steps
        lengths = mask.sum(dim=1)
        first = torch.argsort((~mask).to(torch.uint8), dim=1, stable=True)
        back = torch.argsort(first, dim=1)
        turned = torch.where(place < lengths.unsqueeze(1), lengths.unsqueeze(1) - 1 - place, place)
        return cls(lengths, first + base, back + base, turned + base)


def _gather(rows: Tensor, places: Tensor) -> Tensor:
    """Steps (B, T, F) in another order within their rows."""
    return rows.flatten(0, 1).index_select(0, places.flatten()).view(rows.shape)


@register(
    "layer",
    "recurrent",
    config=RecurrentLayerConfig,
    source="Elman (1990), doi:10.1207/s15516709cog1402_1; Hochreiter, Schmidhuber (1997), doi:10.1162/neco.1997.9.8.1735; "
    "Cho et al. (2014), arXiv:1406.1078",
    example='Recurrent("lstm", input_size=50, hidden_size=200, num_layers=2)',
)
class Recurrent(nn.Module):
    """Recurrent layers over sequences (B, T, I), with the state going in and out.

    Args:
        kind: `elman`, `lstm` or `gru`.
        dropout: Between layers; each step draws anew.
        variational_dropout: Of the inputs, of each layer's output and of the hidden state that is carried on; one mask per
            sequence, whatever its length (Gal, Ghahramani 2016, arXiv:1512.05287, with one mask for all gates).

    Attributes:
        output_size: Numbers per step that come out: H, or 2 H in both directions.
        layers: The cells, layer by layer; in both directions the forward one first.

    A mask (B, T) says which steps are real. Padding changes no real step's result, wherever it stands: real steps are run as
    if they stood together, the backward direction begins at the last real one, the state that comes out is that after
    the last real one (of a row without any, the state that went in), and hidden states at padding are zero.

    Example:
        >>> lstm = Recurrent("lstm", input_size=3, hidden_size=5, num_layers=2)
        >>> hidden, state = lstm(torch.zeros(4, 7, 3))
        >>> hidden.shape, state["cell"].shape
        (torch.Size([4, 7, 5]), torch.Size([4, 2, 5]))
        >>> both = torch.cat([lstm(torch.ones(4, 2, 3))[0], lstm(torch.ones(4, 5, 3), lstm(torch.ones(4, 2, 3))[1])[0]], dim=1)
        >>> torch.allclose(both, lstm(torch.ones(4, 7, 3))[0], atol=1e-6)
        True
    """

    def __init__(
        self,
        kind: Kind,
        *,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        variational_dropout: float = 0.0,
        forget_bias: float = 1.0,
        memory_length: int | None = None,
        activation: Literal["tanh", "relu"] = "tanh",
    ) -> None:
        super().__init__()
        if kind not in _LAYERS:
            raise unknown_name("recurrent cell", kind, _LAYERS, where="Recurrent, argument `kind`")
        self.kind = kind
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.num_directions = 2 if bidirectional else 1
        self.output_size = hidden_size * self.num_directions
        options: dict[str, Any] = {"hidden_size": hidden_size}
        own = (
            {"activation": activation}
            if kind == "elman"
            else {"forget_bias": forget_bias, "memory_length": memory_length}
        )
        options |= own
        sizes = [input_size] + [self.output_size] * (num_layers - 1)
        cells = [_LAYERS[kind](input_size=size, **options) for size in sizes for _ in range(self.num_directions)]
        self.layers = nn.ModuleList(cells)
        self.state_names = cells[0].state_names
        # One module per place, because a layer that is called twice in a step gives the same mask both times.
        self.between = nn.ModuleList(Dropout(dropout) for _ in range(num_layers - 1 if dropout > 0 else 0))
        kept = variational_dropout > 0
        self.of_inputs = nn.ModuleList(Dropout(variational_dropout) for _ in range(num_layers + 1 if kept else 0))
        self.of_carried = nn.ModuleList(Dropout(variational_dropout) for _ in range(len(cells) if kept else 0))

    def initial_state(self, batch_size: int) -> State:
        """Zeros (B, layers * directions, H) for each part of the state, batch first."""
        weight = cast(Cell, self.layers[0]).weight_recurrent
        return {name: weight.new_zeros(batch_size, len(self.layers), self.hidden_size) for name in self.state_names}

    def forward(
        self,
        inputs: Tensor,
        state: Mapping[str, Tensor] | None = None,
        *,
        mask: Tensor | None = None,
        need_state: bool = True,
    ) -> tuple[Tensor, State]:
        """Run whole sequences.

        Args:
            inputs: Float (B, T, I).
            state: Before the first step, as it came out of an earlier stretch; zeros by default.
            mask: bool (B, T), which steps are real; None: all.
            need_state: Give the state after the last step; without it an LSTM with a mask is faster.

        Returns:
            Hidden states (B, T, output_size), and the state after, empty where it is not needed.

        Raises:
            ShapeError: Inputs, state or mask of another shape.
            DtypeError: Inputs that are whole numbers, or a mask that is not of truth values.
        """
        every_cell = need_state and mask is not None and self.kind == "lstm"
        return self._run(inputs, state, mask, partial(self._by_scan, every_cell=every_cell), need_state=need_state)

    def trace(
        self, inputs: Tensor, state: Mapping[str, Tensor] | None = None, *, mask: Tensor | None = None
    ) -> tuple[Tensor, State, list[LayerTrace]]:
        """The same, step by step by the cells' own equations, with every gate kept; slow, for looking inside.

        Returns:
            Hidden states (B, T, output_size), the state after, and one trace per layer and direction.
        """
        traces: list[LayerTrace] = []

        def run(
            place: int, x: Tensor, before: State, carried: Tensor | None, order: _Order | None
        ) -> tuple[Tensor, ...]:
            return self._by_steps(place, x, before, carried, order, traces)

        hidden, after = self._run(inputs, state, mask, run, need_state=True)
        return hidden, after, traces

    def extra_repr(self) -> str:
        """Kind and sizes, for printing."""
        both = ", bidirectional" if self.num_directions == 2 else ""
        return f"{self.kind}, {self.input_size}, {self.hidden_size}, num_layers={self.num_layers}{both}"

    def _run(
        self,
        inputs: Tensor,
        state: Mapping[str, Tensor] | None,
        mask: Tensor | None,
        run: Callable[[int, Tensor, State, Tensor | None, _Order | None], tuple[Tensor, ...]],
        *,
        need_state: bool,
    ) -> tuple[Tensor, State]:
        self._check(inputs, state, mask)
        before = self.initial_state(len(inputs)) if state is None else state
        order = None if mask is None else _Order.of(mask)
        x = inputs if order is None else _gather(inputs, order.first)
        after: dict[str, list[Tensor]] = {name: [] for name in self.state_names}
        for layer in range(self.num_layers):
            x = self._same_over_time(self.of_inputs, layer, x)
            if layer and self.between:
                x = self.between[layer - 1](x)
            outputs = []
            for direction in range(self.num_directions):
                place = layer * self.num_directions + direction
                own = {name: before[name][:, place] for name in self.state_names}
                turned = direction == 1
                found = run(place, _turn(x, order) if turned else x, own, self._carried_mask(place, x), order)
                for name, value in zip(self.state_names, found, strict=True):
                    if need_state:
                        after[name].append(_last(value, own[name], order))
                outputs.append(_turn(found[0], order) if turned else found[0])
            x = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)
        x = self._same_over_time(self.of_inputs, self.num_layers, x)
        if order is not None and mask is not None:
            x = _gather(x, order.back).masked_fill(~mask.unsqueeze(2), 0.0)
        return x, {name: torch.stack(values, dim=1) for name, values in after.items() if values}

    def _by_scan(
        self, place: int, x: Tensor, before: State, carried: Tensor | None, order: _Order | None, *, every_cell: bool
    ) -> tuple[Tensor, ...]:
        del order  # padding stands behind what is real: it changes nothing before it
        more = {"every_cell": True} if every_cell else {}
        return self.layers[place](x, before, carried, **more)  # type: ignore[no-any-return]

    def _by_steps(
        self,
        place: int,
        x: Tensor,
        before: State,
        carried: Tensor | None,
        order: _Order | None,
        traces: list[LayerTrace],
    ) -> tuple[Tensor, ...]:
        cell = cast(Cell, self.layers[place])
        state, states, gates = dict(before), list[State](), list[State]()
        for step in x.unbind(1):
            seen = state if carried is None else {**state, "hidden": state["hidden"] * carried}
            gates.append(cell.gates(step, seen))
            state = cell.after(gates[-1], state)
            states.append(state)
        found = {name: torch.stack([state[name] for state in states], dim=1) for name in self.state_names}
        layer, direction = divmod(place, self.num_directions)

        def placed(values: Tensor) -> Tensor:
            values = _turn(values, order) if direction else values
            return values if order is None else _gather(values, order.back)

        named = {name: torch.stack([step[name] for step in gates], dim=1) for name in gates[0]}
        traces.append(
            LayerTrace(
                layer,
                direction == 1,
                {name: placed(values) for name, values in named.items()},
                {name: placed(values) for name, values in found.items()},
                tuple(states),
            )
        )
        return tuple(found[name] for name in self.state_names)

    def _same_over_time(self, masks: nn.ModuleList, place: int, x: Tensor) -> Tensor:
        if not masks or not self.training:
            return x
        mask: Tensor = masks[place](x.new_ones(x.shape[0], x.shape[2]))
        return x * mask.unsqueeze(1)

    def _carried_mask(self, place: int, x: Tensor) -> Tensor | None:
        if not self.of_carried or not self.training:
            return None
        mask: Tensor = self.of_carried[place](x.new_ones(x.shape[0], self.hidden_size))
        return mask

    def _check(self, inputs: Tensor, state: Mapping[str, Tensor] | None, mask: Tensor | None) -> None:
        if inputs.ndim != 3 or inputs.shape[2] != self.input_size or inputs.shape[1] < 1:
            raise ShapeError(
                f"Recurrent ({self.kind}) got inputs shaped {tuple(inputs.shape)}.",
                where="Recurrent.forward, argument `inputs`",
                accepts=f"float tensor (batch, steps, {self.input_size}) of at least one step",
                mend="inputs.unsqueeze(0) makes a batch of one sequence; build with input_size for other widths",
            )
        if not inputs.is_floating_point():
            raise DtypeError(
                f"Recurrent ({self.kind}) got inputs of {str(inputs.dtype).removeprefix('torch.')}.",
                where="Recurrent.forward, argument `inputs`",
                accepts="floating-point numbers",
                mend="give embedded tokens, or inputs.float()",
            )
        wanted = (inputs.shape[0], len(self.layers), self.hidden_size)
        for name in self.state_names if state is not None else ():
            got = tuple(state[name].shape) if state is not None and name in state else None
            if got != wanted:
                raise ShapeError(
                    f"The state {name!r} is {f'shaped {got}' if got else 'missing'}.",
                    where="Recurrent.forward, argument `state`",
                    accepts=f"{' and '.join(self.state_names)}, each {wanted}: rows, layers * directions, hidden_size",
                    mend="begin with initial_state(batch_size), and go on with the state that came out",
                )
        if mask is not None and (tuple(mask.shape) != tuple(inputs.shape[:2]) or mask.dtype != torch.bool):
            raise ShapeError(
                f"The mask is {str(mask.dtype).removeprefix('torch.')} shaped {tuple(mask.shape)}.",
                where="Recurrent.forward, argument `mask`",
                accepts=f"bool {tuple(inputs.shape[:2])}: whether each step is real",
                mend="mask.bool() makes truth values of ones and zeros",
            )


def _turn(x: Tensor, order: _Order | None) -> Tensor:
    """The steps from the last real one back to the first."""
    return x.flip(1) if order is None else _gather(x, order.turned)


def _last(values: Tensor, before: Tensor, order: _Order | None) -> Tensor:
    """Of (B, T, H) what stands after the last real step, in the dtype of the state before."""
    if order is None:
        return values[:, -1].to(before.dtype)
    place = (order.lengths - 1).clamp(min=0).view(-1, 1, 1).expand(-1, 1, values.shape[2])
    found = values.gather(1, place).squeeze(1).to(before.dtype)
    return torch.where((order.lengths > 0).unsqueeze(1), found, before)
