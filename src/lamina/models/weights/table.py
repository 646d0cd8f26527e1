"""A weight table: how one source names and lays out the weights of our models.

A rule is a pair of templates. `{n}` stands for a whole number, which may be shifted on the other side (`{n-1}`); `<x>`
stands for any text. A key takes the first rule whose left side it matches. Rules are read in both directions, so that one
table serves loading their files and writing ours in their layout.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Literal

from torch import Tensor

from lamina.core.errors import WeightsError
from lamina.core.registry import lookup, names, register

__all__ = ["Preparation", "Renamed", "Rule", "Template", "Transform", "WeightTable", "declare", "get_table", "tables"]

_PIECE: Final = re.compile(r"\{(?P<number>[a-z]\w*)(?P<shift>[+-]\d+)?\}|<(?P<text>[a-z]\w*)>")
_NUMBER: Final = r"(?:0|[1-9]\d{0,8})"


class Template:
    """One side of a rule.

    >>> Template("conv_dw_{n}.<x>").match("conv_dw_12.gamma")
    {'n': '12', 'x': 'gamma'}
    >>> Template("blocks.{n-1}.<x>").fill({"n": "12", "x": "gamma"})
    'blocks.11.gamma'
    >>> Template("blocks.{n-1}.<x>").match("blocks.11.gamma")
    {'n': '12', 'x': 'gamma'}
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._shifts: dict[str, int] = {}
        pattern, end = "", 0
        for piece in _PIECE.finditer(text):
            pattern += re.escape(text[end : piece.start()])
            name = piece["number"] or piece["text"]
            pattern += f"(?P<{name}>{_NUMBER if piece['number'] else '.+'})"
            if piece["number"]:
                self._shifts[name] = int(piece["shift"] or 0)
            end = piece.end()
        self._pattern = re.compile(pattern + re.escape(text[end:]))

    def match(self, key: str) -> dict[str, str] | None:
        """What the places stand for in this key, shifts taken off; None where it does not match."""
        found = self._pattern.fullmatch(key)
        if found is None:
            return None
        values = found.groupdict()
        for name, shift in self._shifts.items():
            number = int(values[name]) - shift
            if number < 0:
                return None
            values[name] = str(number)
        return values

    def fill(self, values: Mapping[str, str]) -> str | None:
        """The key with these values in its places; None where a number would fall below zero."""
        shifted = {name: int(values[name]) + shift for name, shift in self._shifts.items()}
        if any(number < 0 for number in shifted.values()):
            return None
        filled = {**values, **{name: str(number) for name, number in shifted.items()}}
        return _PIECE.sub(lambda piece: filled[piece["number"] or piece["text"]], self.text)


@dataclass(frozen=True)
class Transform:
    """A change of layout that loses nothing.

    Attributes:
        name: What it does, in words: `(in, out) -> (out, in)`.
        forward: Theirs -> ours.
        inverse: Ours -> theirs.
        ndim: Dimensions that theirs must have.
    """

    name: str
    forward: Callable[[Tensor], Tensor]
    inverse: Callable[[Tensor], Tensor]
    ndim: int


@dataclass(frozen=True)
class Rule:
    """`theirs` is called `ours` here; `ours` None: known and ignored; `alias`: another name, which is read but never written."""

    theirs: str
    ours: str | None
    transform: Transform | None = None
    alias: bool = False

    @cached_property
    def left(self) -> Template:
        """The template of their names."""
        return Template(self.theirs)

    @cached_property
    def right(self) -> Template | None:
        """The template of our names."""
        return Template(self.ours) if self.ours is not None else None


@dataclass(frozen=True)
class Preparation:
    """How the source prepares images: what the weights expect to see.

    Attributes:
        size: Height and width that the network reads.
        low, high: What black and white become.
        mean, std: Per channel, subtracted and divided by after scaling; empty: not done.
        crop_fraction: Images of other sizes: how much of the covering middle is kept (224 of a short side of 256: 0.875).
        interpolation: How they are scaled.
    """

    size: tuple[int, int]
    low: float = 0.0
    high: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    crop_fraction: float = 1.0
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"

    def steps(self, *, in_channels: int = 3) -> tuple[dict[str, Any], ...]:
        """As steps of a recipe's `preprocess`; for another channel count the mean over the channels serves each."""
        scale: dict[str, Any] = {"name": "scale"}
        if (self.low, self.high) != (0.0, 1.0):
            scale |= {"low": self.low, "high": self.high}
        if not self.mean:
            return (scale,)
        mean, std = self.mean, self.std
        if in_channels != len(mean):
            mean, std = ((sum(values) / len(values),) * in_channels for values in (mean, std))
        return scale, {"name": "normalise", "mean": list(mean), "std": list(std)}

    def describe(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "size": list(self.size),
            "crop_fraction": self.crop_fraction,
            "interpolation": self.interpolation,
            "steps": list(self.steps()),
        }


@dataclass
class Renamed:
    """Tensors under our names.

    Attributes:
        state: Our key -> tensor in our layout.
        origin: Our key -> their key.
        strangers: Their keys that no rule knows.
        ignored: Their keys that are known and left out.
        faults: What is wrong with single tensors, in words.
    """

    state: dict[str, Tensor] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)
    strangers: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class WeightTable:
    """One source of weights.

    Attributes:
        name: Under which it is registered and named in `--weights NAME:FILE`.
        summary: One line.
        source: Citation with URL.
        models: Model -> Config values that the weights need; others are free.
        rules: Their key -> our key; the first that matches is taken.
        preparation: What the images must be.
        labels: Class names in the order of the outputs; empty where the source only numbers them.
        num_classes: Of the published files.
        optional: Templates of our keys that files may lack; they keep what a new model has (counters).
        missing: Templates of our keys that the source never has; they begin anew, and that is said.
        prefix: What their names begin with; taken off when read (`core/weightfile.py`), put on by `invert`.
        needs_config: Whether the table claims a file only with its source's own `config.json` beside it, because another
            source uses the same keys.
        configure: More Config values, read from a file's tensors under our names (how many blocks there are).
    """

    name: str
    summary: str
    source: str
    models: Mapping[str, Mapping[str, Any]]
    rules: Sequence[Rule]
    preparation: Preparation
    labels: tuple[str, ...] = ()
    num_classes: int = 1000
    optional: tuple[str, ...] = ("<bn>.num_batches_tracked",)
    missing: tuple[str, ...] = ()
    prefix: str = ""
    needs_config: bool = False
    configure: Callable[[Mapping[str, Tensor]], dict[str, Any]] | None = None

    def rename(self, tensors: Mapping[str, Tensor]) -> Renamed:
        """Tensors under our names and in our layout; what does not fit is listed, not raised."""
        result = Renamed()
        for theirs, tensor in tensors.items():
            rule, values = self._rule(theirs)
            if rule is None:
                result.strangers.append(theirs)
                continue
            if rule.right is None:
                result.ignored.append(theirs)
                continue
            ours = rule.right.fill(values)
            # A key that would be written otherwise is not theirs: our own `head.weight` passes no catch-all rule.
            if ours is None or (not rule.alias and self._name(ours)[0] != theirs):
                result.strangers.append(theirs)
            elif ours in result.state:
                result.faults.append(f"{result.origin[ours]} and {theirs} are both {ours}")
            elif rule.transform is not None and tensor.ndim != rule.transform.ndim:
                shape = tuple(tensor.shape)
                result.faults.append(
                    f"{theirs} is shaped {shape}; {rule.transform.name} needs {rule.transform.ndim} axes"
                )
            else:
                result.state[ours] = rule.transform.forward(tensor) if rule.transform is not None else tensor
                result.origin[ours] = theirs
        return result

    def invert(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Our tensors under their names and in their layout, without what their files never have.

        Raises:
            WeightsError: A key of ours has no name there.
        """
        found: dict[str, Tensor] = {}
        strangers = []
        for ours, tensor in state.items():
            theirs, turn = self._name(ours)
            if theirs is not None:
                found[self.prefix + theirs] = turn.inverse(tensor) if turn is not None else tensor
            elif not matches(ours, (*self.missing, *self.optional)):
                strangers.append(ours)
        if strangers:
            raise WeightsError(
                f"The table {self.name} has no name for {', '.join(strangers[:12])}.",
                where=f"weight table {self.name}",
                accepts=f"the weights of {', '.join(self.models)}",
                mend="save the model with safetensors under our own names",
            )
        return found

    def describe(self) -> dict[str, Any]:
        """What `lamina show` prints beside summary and source."""
        return {
            "models": {name: dict(values) for name, values in self.models.items()},
            "rules": [
                {"theirs": r.theirs, "ours": r.ours, "transform": r.transform.name if r.transform else None}
                for r in self.rules
            ],
            "preparation": self.preparation.describe(),
            "labels": list(self.labels),
            "num_classes": self.num_classes,
            "missing": list(self.missing),
        }

    def _name(self, ours: str) -> tuple[str | None, Transform | None]:
        """Their name of a key of ours, by the first rule that gives one and reads it again."""
        for rule in self.rules:
            values = rule.right.match(ours) if rule.right is not None and not rule.alias else None
            theirs = rule.left.fill(values) if values is not None else None
            if theirs is not None and self._rule(theirs)[0] is rule:
                return theirs, rule.transform
        return None, None

    def _rule(self, key: str) -> tuple[Rule | None, dict[str, str]]:
        for rule in self.rules:
            values = rule.left.match(key)
            if values is not None:
                return rule, values
        return None, {}


def matches(key: str, templates: Iterable[str]) -> bool:
    """Whether a key matches one of the templates."""
    return any(Template(text).match(key) is not None for text in templates)


def declare(module: str, table: WeightTable, *, example: str) -> WeightTable:
    """Register a table.

    Args:
        module: `__name__` of the file.
        example: A command that uses it.
    """
    register(
        "weights",
        table.name,
        summary=table.summary,
        source=table.source,
        fidelity="as published; see `missing` for what the files do not have" if table.missing else "as published",
        example=example,
        **table.describe(),
    )(_Registered(table, module))
    return table


class _Registered:
    """What the registry keeps of a table: where it was made, and the table."""

    def __init__(self, table: WeightTable, module: str) -> None:
        self.table = table
        self.__module__ = module
        self.__qualname__ = table.name
        self.__doc__ = table.summary


def get_table(name: str, *, where: str = "name of a weight table") -> WeightTable:
    """The table of this name.

    Raises:
        UnknownNameError: There is none; the nearest are suggested.
    """
    target = lookup("weights", name, where=where).target
    assert isinstance(target, _Registered)
    return target.table


def tables() -> list[WeightTable]:
    """All tables, by name."""
    return [get_table(name) for name in names("weights")]
