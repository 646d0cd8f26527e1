"""The compiled executor: a whole segment of steps in one native function.

A tiny network's step is a few microseconds of arithmetic under hundreds of microseconds of Python. Here gathering by row
number, preprocessing, forward and backward pass, clipping, the optimizer's rule and the weight average are traced once
and become a native program (`lamina.train.native`) that runs any number of steps: the trip count is an argument, so a
segment may begin and end anywhere, and cutting one changes no bit.

Weights, buffers, optimizer state and averages are updated where they lie. Should a loss become NaN or infinite, the
program puts them back as they were at the segment's start and the eager executor finds step and layer by replay.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lamina.data.batching import Feed
from lamina.data.columns import Columns
from lamina.nn.recurrent_cells import Cell
from lamina.optim.clipping import clipped_by_norm, clipped_by_value
from lamina.optim.rules import Rule, create_rules
from lamina.tasks.base import Context, GradientUpdate, Losses, State
from lamina.train.eager import Segment, StepTools, dropout_step
from lamina.train.native.nodes import NotNativeError, Stored
from lamina.train.native.operations import lower
from lamina.train.native.program import Builder, Program
from lamina.train.native.source import arena_bytes, write_program
from lamina.train.native.toolchain import build
from lamina.train.native.tracing import trace

__all__ = ["CompiledExecutor", "refuse"]

_ALIGN = 64
_REHEARSAL = 3  # steps
_CLOSE = 1e-3  # of float32 losses after so many steps


class _TracedContext(Context):
    """A context whose epoch must not be baked into a program that serves all epochs."""

    def __getattribute__(self, name: str) -> Any:
        if name == "epoch":
            raise NotNativeError("the loss, preprocessing or augmentation depends on the epoch")
        return super().__getattribute__(name)


class _LossModule(nn.Module):
    """The update's loss as a module, so that `functional_call` can put other tensors in the model's place."""

    def __init__(self, model: nn.Module, update: GradientUpdate) -> None:
        super().__init__()
        self.model = model
        self._update = update

    def forward(self, batch: dict[str, Tensor], ctx: Context, state: State) -> tuple[Losses, State]:
        return self._update.loss(batch, ctx, state)


def refuse(tools: StepTools) -> str | None:
    """Why these steps cannot be compiled, as a clause; None when nothing is known to speak against it. Cheap."""
    if len(tools.updates) != 1:
        return f"a step has {len(tools.updates)} updates"
    update = tools.updates[0]
    if not isinstance(update, GradientUpdate):
        return "the update learns without gradients"
    if update.double_backward or not update.compilable:
        return f"the update {update.name!r} asks for plain kernels"
    if update.repeats != 1 or tools.batches_per_step != 1:
        return "a step takes several batches"
    if tools.device.type != "cpu":
        return f"the device is {tools.device.type}"
    if tools.autocast:
        return "the precision is bf16"
    if tools.accumulation != 1:
        return "gradients are accumulated"
    norms = [module for module in tools.model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if any(isinstance(module, Cell) for module in tools.model.modules()):
        return (
            "recurrent layers run one step after the other"  # found out otherwise after tracing them, which takes long
        )
    if any(p is not None and not p.requires_grad for norm in norms for p in (norm.weight, norm.bias)):
        return "a batch norm is frozen"  # its statistics stand still, which the step is not traced with
    if type(tools.feed).batch is not Feed.batch or type(tools.feed.columns).batch is not Columns.batch:
        return "batches are not gathered by row from memory"
    if tools.feed.batch_size > tools.feed.columns.num_rows:
        return "there is no full batch"
    return _shared_module(tools.model)


def _shared_module(model: nn.Module) -> str | None:
    """Why `functional_call` cannot be used: it leaves the traced tensors in a module that the model knows under two names."""
    names: dict[nn.Module, str] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        first = names.setdefault(module, name)
        if first != name and (next(module.parameters(), None) is not None or next(module.buffers(), None) is not None):
            return f"the module {first!r} is also {name!r}"
    return None


@dataclass
class _Slot:
    """One carried tensor: where it is found before each segment."""

    group: str  # parameter, state (of the optimizer), buffer, average or carried (the task's state)
    name: str
    key: str = ""


class CompiledExecutor:
    """Runs segments of full batches natively.

    Args:
        tools: Model, updates, optimizers, feed. The step is traced with the model in training mode.
        optimizer_values: The optimizer section of the one update.

    Raises:
        NotNativeError: The step cannot be made native, with the reason. Internal: the rule in `compiled_rule.py` turns
            it into a choice.
    """

    name = "compiled"

    def __init__(self, tools: StepTools, *, optimizer_values: Mapping[str, Any]) -> None:
        reason = refuse(tools)
        if reason is not None:
            raise NotNativeError(reason)
        update = tools.updates[0]
        assert isinstance(update, GradientUpdate)
        self.tools = tools
        self._update = update
        self._optimizer = tools.optimizers[update.name]
        self._parameters = _full_names(tools.model, update)
        relative = dict(zip([name for name, _ in update.named_parameters()], self._parameters, strict=True))
        rules = create_rules(optimizer_values, update.named_parameters())
        self._rules: dict[str, Rule] = {relative[name]: rule for name, rule in rules.items()}
        self._private: dict[tuple[str, str], Tensor] = {}  # state that the optimizer has no place for
        self._own_state: dict[str, Tensor] = {}
        self._slots = self._find_slots()
        columns = tools.feed.columns
        self._columns = {name: columns[name] for name in columns}
        fixed = {name: p for name, p in tools.model.named_parameters() if name not in self._parameters}
        self._fixed = {name: p.detach() for name, p in fixed.items()}
        self._output_names: list[str] = []
        self._constants: list[Tensor] = []
        self._checked_rows: Tensor | None = None
        modes = {module: module.training for module in tools.model.modules()}
        tools.model.train()
        try:
            self._program, source = self._lower()
            self._outputs = [(name, buffer.dtype) for name, buffer in self._program.outputs.items()]
            self._arena = torch.empty(arena_bytes(self._program)[2] + _ALIGN, dtype=torch.uint8)
            self._arena_at = -(-self._arena.data_ptr() // _ALIGN) * _ALIGN
            self._function = build(source)
            self._rehearse()
        finally:
            for module, mode in modes.items():
                module.training = mode
        self._bound: list[Tensor] = []
        self._table: Any = None

    # --- running ---

    def run(self, segment: Segment) -> dict[str, Tensor] | None:
        """Run the segment's steps, all of full batches.

        Returns:
            The logged losses by name, each with one value per step; None when a loss was not finite: then weights and
            all other state are as they were before.
        """
        tools, num_steps = self.tools, segment.num_steps
        size = tools.feed.batch_size
        all_rows = self._rows(segment.epoch)
        first = segment.first_batch * size
        rows = all_rows[first : first + num_steps * size]
        assert len(rows) == num_steps * size, "a segment of the compiled executor has full batches only"
        per_step: list[Tensor] = [
            rows,
            torch.arange(segment.first_step, segment.first_step + num_steps),
            torch.tensor(segment.factors, dtype=torch.float64),
        ]
        if tools.average is not None:
            per_step.append(torch.tensor(_averaging_weights(tools.average, num_steps), dtype=torch.float64))
        outputs = {name: torch.empty(num_steps, dtype=dtype) for name, dtype in self._outputs}
        carried = self._bind()
        changing = [tensor.data_ptr() for tensor in (*per_step, *outputs.values())]
        begin = len(carried) + len(self._fixed) + len(self._columns)
        table = self._table
        table[begin : begin + len(per_step)] = changing[: len(per_step)]
        table[-len(outputs) :] = changing[len(per_step) :]
        fault = ctypes.c_int64(0)
        done = self._function(table, self._arena_at, num_steps, ctypes.byref(fault))
        if done < num_steps:
            return None
        if tools.average is not None:
            tools.average.num_updates += num_steps
        return outputs

    def _rows(self, epoch: int) -> Tensor:
        """The epoch's rows, checked: the program trusts them."""
        rows = self.tools.feed.rows(epoch)
        if rows is not self._checked_rows:
            low, high = rows.aminmax()
            assert low >= 0, "row numbers begin at 0"
            assert high < self.tools.feed.columns.num_rows, "row numbers end before the number of rows"
            self._checked_rows = rows.contiguous()
            if self._checked_rows is not rows:
                return self._checked_rows
        return rows

    def _bind(self) -> list[Tensor]:
        """The carried tensors as they are now; the pointer table follows when one was replaced (a checkpoint was loaded)."""
        tensors = self._current()
        if len(tensors) != len(self._bound) or any(a is not b for a, b in zip(tensors, self._bound, strict=True)):
            for name, key in self._private if self._bound else ():  # other state was loaded: it follows from that
                value = self._rules[name].read_state(self._optimizer, self._parameters[name])[key]
                self._private[name, key].copy_(value)
            self._bound = tensors
            for tensor in tensors:
                assert tensor.is_contiguous(), "carried tensors are contiguous"
            fixed = [*self._fixed.values(), *self._columns.values()]
            num_steps_inputs = 3 + (self.tools.average is not None)
            count = len(tensors) + len(fixed) + num_steps_inputs + len(self._constants) + len(self._outputs)
            self._table = (ctypes.c_void_p * count)()
            pointers = [tensor.data_ptr() for tensor in (*tensors, *fixed)]
            self._table[: len(pointers)] = pointers
            at = len(pointers) + num_steps_inputs
            self._table[at : at + len(self._constants)] = [tensor.data_ptr() for tensor in self._constants]
        return tensors

    def _current(self) -> list[Tensor]:
        found: list[Tensor] = []
        for slot, owner in self._slots:
            if slot.group == "state":
                found.append(self._state_tensor(slot.name, slot.key, owner))
            elif slot.group == "carried":
                found.append(self._carried_tensor(slot.name))
            else:
                found.append(owner)
        return found

    def _carried_tensor(self, name: str) -> Tensor:
        """The task's state as a tensor of our own, which is updated in place."""
        held = self.tools.state[name]
        if held is not self._own_state.get(name):
            held = held.detach().contiguous().clone()
            self._own_state[name] = held
            self.tools.state = {**self.tools.state, name: held}
        return held

    def _state_tensor(self, name: str, key: str, parameter: Tensor) -> Tensor:
        if (name, key) in self._private:
            return self._private[name, key]
        held = self._optimizer.state.get(parameter, {}).get(key)
        if held is None:
            self._make_state(name, parameter)
            return self._state_tensor(name, key, parameter)
        assert isinstance(held, Tensor)
        return held

    def _make_state(self, name: str, parameter: Tensor) -> None:
        """Give the optimizer its first state, so that it can be updated in place; the rest is kept here."""
        rule = self._rules[name]
        values = rule.read_state(self._optimizer, parameter)
        rule.write_state(self._optimizer, parameter, values)
        held = self._optimizer.state[parameter]
        for key, value in values.items():
            if held.get(key) is None:
                self._private[name, key] = value.detach().clone()

    def _find_slots(self) -> list[tuple[_Slot, Tensor]]:
        slots: list[tuple[_Slot, Tensor]] = [(_Slot("parameter", n), p) for n, p in self._parameters.items()]
        for name, parameter in self._parameters.items():
            slots += [(_Slot("state", name, key), parameter) for key in self._rules[name].init(parameter)]
        keyed = set(self.tools.dropout.values(torch.zeros((), dtype=torch.int64))) if self.tools.dropout else set()
        slots += [(_Slot("buffer", n), b) for n, b in self.tools.model.named_buffers() if n not in keyed]
        if self.tools.average is not None:
            slots += [(_Slot("average", n), a) for n, a in self.tools.average.averages.items()]
        return slots + [(_Slot("carried", n), value) for n, value in self.tools.state.items()]

    def _rehearse(self) -> None:
        """Run some steps natively and as plain torch, on copies: a compiler's fault must not become a network's.

        The losses are compared, not the weights: a gradient of pure rounding noise, which an optimizer may blow up to a
        full step, moves no loss.
        """
        size, num_rows = self.tools.feed.batch_size, self.tools.feed.columns.num_rows
        fixed = [*self._fixed.values(), *self._columns.values()]
        per_step = [
            torch.arange(_REHEARSAL * size) % num_rows,
            torch.arange(_REHEARSAL),
            torch.full((_REHEARSAL,), 0.1, dtype=torch.float64),
        ]
        if self.tools.average is not None:
            per_step.append(torch.full((_REHEARSAL,), 0.5, dtype=torch.float64))
        mine = [tensor.detach().contiguous().clone() for tensor in self._starting()]
        theirs = [tensor.clone() for tensor in mine]
        logged = [torch.empty(_REHEARSAL, dtype=dtype) for _, dtype in self._outputs]
        pointers = [tensor.data_ptr() for tensor in (*mine, *fixed, *per_step, *self._constants, *logged)]
        fault = ctypes.c_int64(0)
        table = (ctypes.c_void_p * len(pointers))(*pointers)
        done = self._function(table, self._arena_at, _REHEARSAL, ctypes.byref(fault))
        for step in range(done):
            now = [
                tensor[step * size : (step + 1) * size] if at == 0 else tensor[step]
                for at, tensor in enumerate(per_step)
            ]
            results = self._step(*theirs, *fixed, *now)
            theirs, expected = results[: len(mine)], results[len(mine) :]
            for values, value in zip(logged, expected, strict=True):
                near = torch.isclose(values[step].double(), value.double(), rtol=_CLOSE, atol=_CLOSE, equal_nan=True)
                if not bool(near):
                    raise NotNativeError(
                        f"the compiled step gave {float(values[step])} where torch gave {float(value)}"
                    )

    # --- tracing and lowering ---

    def _starting(self) -> list[Tensor]:
        """The carried tensors as an optimizer that has not stepped has them."""
        return [
            self._rules[slot.name].init(owner)[slot.key] if slot.group == "state" else owner.detach()
            for slot, owner in self._slots
        ]

    def _lower(self) -> tuple[Program, str]:
        carried = [
            tensor.contiguous() if slot.group == "carried" else tensor
            for tensor, (slot, _) in zip(self._starting(), self._slots, strict=True)
        ]
        feed = self.tools.feed
        fixed = [*self._fixed.values(), *self._columns.values()]
        per_step = [
            torch.arange(feed.batch_size),
            torch.zeros((), dtype=torch.int64),
            torch.ones((), dtype=torch.float64),
        ]
        if self.tools.average is not None:
            per_step.append(torch.full((), 0.5, dtype=torch.float64))
        for tensor in (*carried, *fixed):
            if not tensor.is_contiguous():
                raise NotNativeError("a weight or column is not contiguous in memory")
        graph = trace(self._step, [*carried, *fixed, *per_step])
        builder = Builder()
        nodes: list[Stored] = []
        for kind, tensors in (("carried", carried), ("input", fixed), ("step", per_step)):
            nodes += [builder.add_input(tensor.shape, tensor.dtype, kind=kind) for tensor in tensors]

        def constant(tensor: Tensor) -> Stored:
            kept = tensor.detach().contiguous()
            self._constants.append(kept)
            return builder.add_input(kept.shape, kept.dtype, kind="input")

        results = lower(graph, builder, nodes, constant=constant)
        ends = results[: len(carried)]
        outputs = dict(zip(self._output_names, results[len(carried) :], strict=True))
        program = builder.finish(list(zip(nodes[: len(carried)], ends, strict=True)), outputs)
        rows = nodes[len(carried) + len(fixed)].buffer
        return program, write_program(program, loss="loss", prefetch=rows)

    def _step(self, *tensors: Tensor) -> list[Tensor]:
        """One step as a pure function: carried, fixed and per-step tensors -> new carried tensors and logged losses."""
        tools = self.tools
        given = iter(tensors)
        before = [(slot, next(given)) for slot, _ in self._slots]
        fixed = {name: next(given) for name in self._fixed}
        columns = {name: next(given) for name in self._columns}
        rows, step, factor = next(given), next(given), next(given)
        blend = next(given, None)

        batch = {name: column.index_select(0, rows) for name, column in columns.items()}
        batch["row"] = rows
        ctx = _TracedContext(seed=tools.seed, step=step, update=self._update.name, stage=tools.stage, training=True)
        buffers = {slot.name: tensor.clone() for slot, tensor in before if slot.group == "buffer"}
        if tools.dropout is not None:
            buffers.update(tools.dropout.values(dropout_step(ctx), 0))
        weights = {slot.name: tensor for slot, tensor in before if slot.group == "parameter"}
        carried = {slot.name: tensor for slot, tensor in before if slot.group == "carried"}
        with torch.no_grad():
            batch = tools.prepare(batch, ctx)
        with torch.enable_grad():
            learned = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
            inside = {f"model.{name}": tensor for name, tensor in {**fixed, **buffers, **learned}.items()}
            module = _LossModule(tools.model, self._update)
            losses, state = torch.func.functional_call(module, inside, (batch, ctx, carried))
            total = losses.total()
            if total.ndim:
                raise NotNativeError("the loss is not a scalar")
            gradients = torch.autograd.grad(total, list(learned.values()), allow_unused=True)
        with torch.no_grad():
            logged = {"loss": total.detach(), **{name: mean.detach() for name, mean in losses.means().items()}}
            used = {name: g for name, g in zip(learned, gradients, strict=True) if g is not None}
            if tools.clip_value is not None:
                used = dict(zip(used, clipped_by_value(list(used.values()), tools.clip_value), strict=True))
            if tools.clip_norm is not None:
                clipped, norm = clipped_by_norm(list(used.values()), tools.clip_norm)
                used = dict(zip(used, clipped, strict=True))
                logged["gradient_norm"] = norm
            after = self._stepped(before, weights, used, factor)
            if blend is not None:
                for slot, tensor in before:
                    if slot.group == "average":
                        weight = after.get(("parameter", slot.name, ""), fixed.get(slot.name))
                        assert weight is not None
                        after["average", slot.name, ""] = torch.lerp(tensor, weight, blend.to(tensor.dtype))
            for name, tensor in buffers.items():
                after["buffer", name, ""] = tensor.detach()
            if {n: (t.shape, t.dtype) for n, t in state.items()} != {n: (t.shape, t.dtype) for n, t in carried.items()}:
                raise NotNativeError("the task's state changes its shape")
            for name, tensor in state.items():
                after["carried", name, ""] = tensor.detach()
        self._output_names = list(logged)
        ends = [after.get((slot.group, slot.name, slot.key), tensor) for slot, tensor in before]
        return [*ends, *(_as_tensor(value, total) for value in logged.values())]

    def _stepped(
        self,
        before: list[tuple[_Slot, Tensor]],
        weights: dict[str, Tensor],
        gradients: dict[str, Tensor],
        factor: Tensor,
    ) -> dict[tuple[str, str, str], Tensor]:
        """The optimizer's rule for every parameter that has a gradient."""
        after: dict[tuple[str, str, str], Tensor] = {}
        states: dict[str, dict[str, Tensor]] = {name: {} for name in weights}
        for slot, tensor in before:
            if slot.group == "state":
                states[slot.name][slot.key] = tensor
        for name, gradient in gradients.items():
            rule = self._rules[name]
            new, state = rule.update(weights[name], gradient, states[name], lr=factor * rule.lr)
            after["parameter", name, ""] = new
            after.update({("state", name, key): value for key, value in state.items()})
        for name in weights:
            after.setdefault(("parameter", name, ""), weights[name])
        return after


def _full_names(model: nn.Module, update: GradientUpdate) -> dict[str, nn.Parameter]:
    """Names in the model of what an update trains, in the update's order."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found: dict[str, nn.Parameter] = {}
    for name, parameter in update.named_parameters():
        if id(parameter) not in names:
            raise NotNativeError(f"the parameter {name} is not the model's")
        found[names[id(parameter)]] = parameter
    return found


def _averaging_weights(average: Any, num_steps: int) -> list[float]:
    """1 - decay of the next steps, as `WeightAverage.update` has it."""
    return [1 - average.decay_at(average.num_updates + 1 + n) for n in range(num_steps)]


def _as_tensor(value: Any, like: Tensor) -> Tensor:
    return value if isinstance(value, Tensor) else torch.as_tensor(value, dtype=like.dtype)
