"""Recurrent cells as their papers write them: one step, every gate by its name.

A cell holds the weights; `recurrent_scans.py` runs whole sequences with the same weights, many times as fast, and equal to
the cells to rounding. The cells are what one reads, looks into (`gates`), and compares with.

Weights of all gates lie in one matrix, gate by gate in the order of `gates_in_order`, which is torch's: `weight_input`
(G * H, I), `weight_recurrent` (G * H, H), `bias` (G * H). torch keeps two biases that are only ever added up; here there is one.
"""

from __future__ import annotations

import math
from typing import ClassVar, Final, Literal

import torch
from torch import Tensor, nn

from lamina.core.errors import ShapeError

__all__ = ["CELLS", "Cell", "ElmanCell", "GRUCell", "LSTMCell"]


class Cell(nn.Module):
    """What the cells share: weights, their drawing, and the check of shapes.

    Args:
        input_size: Numbers per step, I.
        hidden_size: Numbers remembered, H.
        forget_bias: What the bias of the forget gate begins with; only the LSTM has one.
        memory_length: Begin with gates that keep for up to so many steps, some units long and some short, instead; of an LSTM
            and a GRU.

    Attributes:
        gates_in_order: Names of the gates, as their weights lie.
        state_names: Names of what is carried from step to step: `hidden`, and `cell` of an LSTM.
    """

    gates_in_order: ClassVar[tuple[str, ...]] = ()
    state_names: ClassVar[tuple[str, ...]] = ("hidden",)

    def __init__(
        self, *, input_size: int, hidden_size: int, forget_bias: float = 1.0, memory_length: int | None = None
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.forget_bias = forget_bias
        self.memory_length = memory_length
        width = len(self.gates_in_order) * hidden_size
        self.weight_input = nn.Parameter(torch.empty(width, input_size))
        self.weight_recurrent = nn.Parameter(torch.empty(width, hidden_size))
        self.bias = nn.Parameter(torch.empty(width))
        self.draw_own(torch.default_generator)

    def draw_own(self, generator: torch.Generator) -> None:
        """Draw the weights anew: input weights by Glorot, recurrent ones orthogonal, gate by gate; biases as `biases` says.

        An orthogonal matrix neither lengthens nor shortens what it carries, so that what is remembered neither explodes nor
        vanishes at the beginning of training.

        Source: Glorot, Bengio (2010); Saxe, McClelland, Ganguli (2014), arXiv:1312.6120.
        """
        for name, parameter in self.named_parameters(recurse=False):
            if parameter.is_meta:  # counted without values
                continue
            # Drawn on the CPU in float32 or wider, so that device and dtype change nothing.
            dtype = torch.float64 if parameter.dtype == torch.float64 else torch.float32
            drawn = torch.zeros(parameter.shape, dtype=dtype)
            if name == "bias":
                drawn = self.biases(generator)
            elif parameter.ndim == 2:
                for gate in drawn.view(len(self.gates_in_order), self.hidden_size, -1).unbind(0):
                    if name == "weight_recurrent":
                        nn.init.orthogonal_(gate, generator=generator)
                    else:
                        bound = math.sqrt(6.0 / (self.input_size + self.hidden_size))
                        gate.uniform_(-bound, bound, generator=generator)
            with torch.no_grad():
                parameter.copy_(drawn)

    def biases(self, generator: torch.Generator) -> Tensor:
        """What the biases begin with (G * H,): zeros, and `forget_bias` in an LSTM's forget gate.

        With `memory_length` T a unit keeps for u steps, u drawn from 1 to T - 1: the gate that keeps has the bias log(u), and
        an LSTM's input gate -log(u), so that it is not filled with noise meanwhile.

        Source: Jozefowicz, Zaremba, Sutskever (2015), "An Empirical Exploration of Recurrent Network Architectures"; Tallec,
        Ollivier (2018), "Can recurrent neural networks warp time?", arXiv:1804.11188.
        """
        begins = torch.zeros(len(self.gates_in_order) * self.hidden_size)
        if "forget" in self.gates_in_order:
            self.gate(begins, "forget").fill_(self.forget_bias)
        if self.memory_length is not None:
            kept = torch.empty(self.hidden_size).uniform_(1.0, max(self.memory_length - 1.0, 1.0), generator=generator)
            if "forget" in self.gates_in_order:
                self.gate(begins, "forget").copy_(kept.log())
                self.gate(begins, "input").copy_(-kept.log())
            elif "update" in self.gates_in_order:
                self.gate(begins, "update").copy_(kept.log())
        return begins

    def gate(self, parameter: Tensor, name: str) -> Tensor:
        """The rows of `weight_input`, `weight_recurrent` or `bias` that belong to a gate."""
        place = self.gates_in_order.index(name) * self.hidden_size
        return parameter[place : place + self.hidden_size]

    def initial_state(self, batch_size: int) -> dict[str, Tensor]:
        """Zeros (B, H) for each part of the state."""
        return {name: self.bias.new_zeros(batch_size, self.hidden_size) for name in self.state_names}

    def gates(self, inputs: Tensor, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The gates of one step by name, each (B, H)."""
        raise NotImplementedError

    def after(self, gates: dict[str, Tensor], state: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the gates make of the state so far; what a step gives is the new `hidden`."""
        raise NotImplementedError

    def forward(self, inputs: Tensor, state: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """One step: inputs (B, I) and the state so far, zeros by default -> the new state, (B, H) each.

        Raises:
            ShapeError: The inputs are no rows of `input_size` numbers.
        """
        if inputs.ndim != 2 or inputs.shape[1] != self.input_size:
            raise ShapeError(
                f"{type(self).__name__} got inputs shaped {tuple(inputs.shape)}.",
                where=f"{type(self).__name__}.forward, argument `inputs`",
                accepts=f"float tensor (batch, {self.input_size}): one step",
                mend="give inputs[:, t] of a batch of sequences (B, T, I), or a whole sequence to a recurrent layer",
            )
        state = state if state is not None else self.initial_state(len(inputs))
        return self.after(self.gates(inputs, state), state)

    def extra_repr(self) -> str:
        """Sizes, for printing."""
        return f"{self.input_size}, {self.hidden_size}"

    def _sums(self, inputs: Tensor, hidden: Tensor) -> dict[str, Tensor]:
        """What goes into each gate: W x + U h + b."""
        sums = inputs @ self.weight_input.T + hidden @ self.weight_recurrent.T + self.bias
        return dict(zip(self.gates_in_order, sums.chunk(len(self.gates_in_order), dim=1), strict=True))


class ElmanCell(Cell):
    """The simple recurrent network: what is remembered is the last activation.

        h' = tanh(W x + U h + b)

    Args:
        activation: `tanh`, or `relu` (Le, Jaitly, Hinton 2015, arXiv:1504.00941).

    Source: Elman (1990), "Finding Structure in Time", doi:10.1207/s15516709cog1402_1.
    """

    gates_in_order: ClassVar[tuple[str, ...]] = ("candidate",)

    def __init__(self, *, input_size: int, hidden_size: int, activation: Literal["tanh", "relu"] = "tanh") -> None:
        super().__init__(input_size=input_size, hidden_size=hidden_size)
        self.activation = activation

    def gates(self, inputs: Tensor, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The candidate, which is the new hidden state."""
        total = self._sums(inputs, state["hidden"])["candidate"]
        return {"candidate": torch.tanh(total) if self.activation == "tanh" else torch.relu(total)}

    def after(self, gates: dict[str, Tensor], state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The candidate is the new hidden state."""
        return {"hidden": gates["candidate"]}


class LSTMCell(Cell):
    """Long short-term memory: a cell state c that gates write to, keep and read from.

        forget     f  = sigmoid(W_f x + U_f h + b_f)
        input      i  = sigmoid(W_i x + U_i h + b_i)
        output     o  = sigmoid(W_o x + U_o h + b_o)
        candidate  g  = tanh(W_g x + U_g h + b_g)
                   c' = f * c + i * g
                   h' = o * tanh(c')

    The derivative of c' by c is f: while the forget gate is open, an error flows back through any number of steps unchanged.

    Source: Hochreiter, Schmidhuber (1997), doi:10.1162/neco.1997.9.8.1735; the forget gate: Gers, Schmidhuber, Cummins
    (2000), doi:10.1162/089976600300015015.
    """

    gates_in_order: ClassVar[tuple[str, ...]] = ("input", "forget", "candidate", "output")
    state_names: ClassVar[tuple[str, ...]] = ("hidden", "cell")

    def gates(self, inputs: Tensor, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """`forget`, `input`, `output` in (0, 1) and `candidate` in (-1, 1), each (B, H)."""
        sums = self._sums(inputs, state["hidden"])
        return {
            "forget": torch.sigmoid(sums["forget"]),
            "input": torch.sigmoid(sums["input"]),
            "candidate": torch.tanh(sums["candidate"]),
            "output": torch.sigmoid(sums["output"]),
        }

    def after(self, gates: dict[str, Tensor], state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The new cell and what the output gate lets out of it, (B, H) each."""
        cell = gates["forget"] * state["cell"] + gates["input"] * gates["candidate"]
        return {"hidden": gates["output"] * torch.tanh(cell), "cell": cell}


class GRUCell(Cell):
    """Gated recurrent unit: one gate says how much of the past is kept, another how much of it the candidate sees.

        reset      r  = sigmoid(W_r x + U_r h + b_r)
        update     z  = sigmoid(W_z x + U_z h + b_z)
        candidate  n  = tanh(W_n x + b_n + r * (U_n h + bias_recurrent))
                   h' = (1 - z) * n + z * h

    The reset gate is applied behind the recurrent product, as in the first version of the paper (arXiv:1406.1078v1), torch
    and cuDNN; the later version has U_n (r * h), which takes two products one after the other. In both z = 1 keeps the past.

    Source: Cho et al. (2014), arXiv:1406.1078.
    """

    gates_in_order: ClassVar[tuple[str, ...]] = ("reset", "update", "candidate")

    def __init__(
        self, *, input_size: int, hidden_size: int, forget_bias: float = 1.0, memory_length: int | None = None
    ) -> None:
        super().__init__(
            input_size=input_size, hidden_size=hidden_size, forget_bias=forget_bias, memory_length=memory_length
        )
        self.bias_recurrent = nn.Parameter(
            torch.zeros(hidden_size)
        )  # inside the reset gate, unlike the rest of the bias

    def gates(self, inputs: Tensor, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """`reset` and `update` in (0, 1) and `candidate` in (-1, 1), each (B, H)."""
        hidden = state["hidden"]
        given = (inputs @ self.weight_input.T + self.bias).chunk(3, dim=1)
        carried = (hidden @ self.weight_recurrent.T).chunk(3, dim=1)
        reset = torch.sigmoid(given[0] + carried[0])
        update = torch.sigmoid(given[1] + carried[1])
        candidate = torch.tanh(given[2] + reset * (carried[2] + self.bias_recurrent))
        return {"reset": reset, "update": update, "candidate": candidate}

    def after(self, gates: dict[str, Tensor], state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Between the candidate and the past, as the update gate says, (B, H)."""
        return {"hidden": (1 - gates["update"]) * gates["candidate"] + gates["update"] * state["hidden"]}


CELLS: Final[dict[str, type[Cell]]] = {"elman": ElmanCell, "lstm": LSTMCell, "gru": GRUCell}
