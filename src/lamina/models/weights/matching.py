"""Which table fits a file and a model: every key on both sides is accounted for before anything is built.

Each table that serves the model, and our own names, are tried on an outline of the model without memory. Exactly one must
fit; otherwise the error says how near each comes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast

import torch
from torch import Tensor, nn

from lamina.core.errors import LaminaError, WeightsError
from lamina.core.registry import Entry, lookup
from lamina.models.weights.adapt import adapt_channels
from lamina.models.weights.opening import Given
from lamina.models.weights.table import Preparation, Renamed, Rule, WeightTable, get_table, matches, tables
from lamina.models.weights.timm import preparation_of

__all__ = ["Fit", "Origin", "fit_weights", "listed", "weights_origin"]

_SHOWN_KEYS: Final = 12
HEAD: Final = "head."
# Our own names: what a safetensors file of ours has.
OWN: Final = WeightTable(
    name="",
    summary="our own names",
    source="",
    models={},
    rules=(Rule("<key>", "<key>"),),
    preparation=Preparation(size=(0, 0)),
    optional=(),
)


@dataclass(frozen=True)
class Origin:
    """Where a model's weights came from; `weights_origin(model)` gives it.

    Attributes:
        where: File or hub name.
        table: The table that fitted; empty: our own names.
        num_tensors: Tensors of the source that the model took.
        preparation: What the images must be; None where the source does not say.
        labels: Class names in the order of the outputs; empty where the source fixes none, or the head is new.
        notes: Sentences that say what was done.
        fresh: Our keys that the source did not give: a new head.
    """

    where: str
    table: str
    num_tensors: int
    preparation: Preparation | None
    labels: tuple[str, ...]
    notes: tuple[str, ...]
    fresh: tuple[str, ...] = ()


@dataclass
class Fit:
    """A table that fits, or how far it does.

    Attributes:
        values: Config values that the model is built with.
        state: Our key -> tensor, all that will be loaded.
        fresh: Our keys that keep what a new model has, and are said.
    """

    table: WeightTable
    values: dict[str, Any]
    state: dict[str, Tensor] = field(default_factory=dict)
    fresh: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    num_wanted: int = 0

    @property
    def fits(self) -> bool:
        """Whether nothing is left over on either side."""
        return self.num_problems == 0

    @property
    def num_problems(self) -> int:
        """How many keys and values do not fit."""
        return len(self.missing) + len(self.strangers) + len(self.wrong) + len(self.faults)

    @property
    def problems(self) -> str:
        """What is left over, in words."""
        parts = [f"missing: {listed(self.missing)}"] if self.missing else []
        parts += [f"not known to the model: {listed(self.strangers)}"] if self.strangers else []
        parts += [f"shapes differ: {listed(self.wrong)}"] if self.wrong else []
        parts += [listed(self.faults)] if self.faults else []
        return "; ".join(parts)

    @property
    def name(self) -> str:
        """Of the table."""
        return self.table.name or self.table.summary

    def near(self) -> str:
        """How near it comes, on one line."""
        num_good = self.num_wanted - len(self.missing) - len(self.wrong)
        return f"{self.name}: {num_good} of {self.num_wanted} tensors fit; {self.problems}"


def weights_origin(model: nn.Module) -> Origin | None:
    """Where `create_model` took a model's weights from; None where it drew them."""
    found = getattr(model, "lamina_weights", None)
    return found if isinstance(found, Origin) else None


def fit_weights(
    entry: Entry,
    filled: Mapping[str, Any],
    given: Given,
    *,
    new_head: bool = False,
    adapt: bool = False,
) -> Fit:
    """The one table by which weights fit a model.

    Args:
        entry: The model, looked up.
        filled: Config values that the user or the data fixed; what is open comes from the table and the file.
        given: From `open_weights`.
        new_head: Leave the file's head out, so that the model keeps a new one for whatever classes.
        adapt: Adapt the first layer where channel counts differ.

    Raises:
        WeightsError: No table fits, or more than one; says how near each comes.
        UnknownNameError: The table that the user named does not exist.
        ConfigError: `filled` is not what the model takes.
    """
    refuse_not_finite(given)
    candidates = _candidates(entry, given)
    tried = [_try(entry, filled, given, table, new_head=new_head, adapt=adapt) for table in candidates]
    fitting = [fit for fit in tried if fit.fits]
    # With the source's own config.json beside, the table that reads it is meant.
    claimed = [fit for fit in fitting if fit.table.needs_config and given.config is not None]
    fitting = claimed or fitting
    if len(fitting) == 1:
        fit = fitting[0]
        fit.notes = [*given.notes, *_said(fit, given), *fit.notes]
        return fit
    if fitting:
        raise WeightsError(
            f"The weights fit {entry.name} by {len(fitting)} tables: {', '.join(fit.name for fit in fitting)}.",
            where=given.where,
            accepts="weights that one table fits",
            mend=f"name the table: {fitting[0].table.name}:{given.where}",
        )
    raise _no_fit(entry, filled, given, tried, new_head=new_head, adapt=adapt)


def _candidates(entry: Entry, given: Given) -> list[WeightTable]:
    if given.table is None:
        serving = [table for table in tables() if entry.name in table.models]
        return [OWN, *(table for table in serving if not table.needs_config or given.config is not None)]
    table = get_table(given.table, where="weights")
    if entry.name not in table.models:
        raise WeightsError(
            f"The table {table.name} has no weights for {entry.name}.",
            where=given.where,
            accepts=", ".join(table.models),
            mend=f"take one of these models, or leave {table.name}: out",
        )
    return [table]


def _try(
    entry: Entry, filled: Mapping[str, Any], given: Given, table: WeightTable, *, new_head: bool, adapt: bool
) -> Fit:
    """Lay a table between file and model."""
    if table.needs_config and given.config is not None:
        preparation, labels = preparation_of(given.config, table.preparation)
        table = replace(table, preparation=preparation, labels=labels)
    renamed = table.rename(given.tensors)
    wanted = dict(table.models.get(entry.name, {}))
    if table.configure is not None:
        wanted |= table.configure(renamed.state)
    fit = Fit(table, {**filled, **wanted}, strangers=list(renamed.strangers), faults=list(renamed.faults))
    defaults = entry.defaults or {}
    for key, value in wanted.items():
        if key in filled and filled[key] != value:
            # A recipe states every default; what is nobody's wish follows the weights.
            if filled[key] == defaults.get(key):
                fit.notes.append(f"model.{key} is {value}, as the weights need.")
            else:
                fit.faults.append(f"model.{key} is {filled[key]}; these weights need {value}")
    if table is not OWN:
        _sizes_of_file(entry, fit, filled, renamed, new_head=new_head)
    try:
        outline = _outline(entry, fit.values)
    except LaminaError as error:
        if table is OWN:
            raise
        fit.faults.append(error.what)
        return fit
    _compare(outline, fit, renamed, new_head=new_head, adapt=adapt)
    return fit


def _sizes_of_file(entry: Entry, fit: Fit, filled: Mapping[str, Any], renamed: Renamed, *, new_head: bool) -> None:
    """What nobody fixed is as the file has it: classes, channels, image size."""
    assert entry.config is not None
    fields = entry.config.model_fields
    head = renamed.state.get(f"{HEAD}weight")
    first = next((t for t in renamed.state.values() if t.ndim >= 3), None)
    found: dict[str, Any] = {"image_size": fit.table.preparation.size}
    if head is not None and head.ndim >= 1 and not new_head:
        found["num_classes"] = head.shape[0]
    if first is not None:
        found["in_channels"] = first.shape[1]
    fit.values = {**{k: v for k, v in found.items() if k in fields and k not in filled}, **fit.values}


def _outline(entry: Entry, values: Mapping[str, Any]) -> nn.Module:
    """The model without memory."""
    assert entry.config is not None
    config = entry.config.from_values(values, where="model")
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return cast(nn.Module, entry.target(**dict(config)))


def _compare(outline: nn.Module, fit: Fit, renamed: Renamed, *, new_head: bool, adapt: bool) -> None:
    """Every key of both sides gets its place in the fit."""
    own = outline.state_dict()
    first = next((f"{name}.weight" for name, m in outline.named_modules() if isinstance(m, _CONVOLUTIONS)), None)
    state = dict(renamed.state)
    fit.num_wanted = len(own)
    if new_head:
        head = [key for key in own if key.startswith(HEAD)]
        for key in [key for key in state if key.startswith(HEAD)]:
            del state[key]
        fit.fresh += head
        fit.notes.append("The head is new: " + ", ".join(f"{key} {tuple(own[key].shape)}" for key in head) + ".")
    for key, place in own.items():
        tensor = state.get(key)
        if tensor is None:
            if key in fit.fresh:
                continue
            if matches(key, fit.table.missing):
                fit.fresh.append(key)
            elif not matches(key, fit.table.optional):
                fit.missing.append(key)
            continue
        if adapt and key == first and _only_channels_differ(tensor, place):
            fit.notes.append(
                f"{key} is adapted from {tensor.shape[1]} to {place.shape[1]} channels: "
                + ("the kernels are added." if place.shape[1] == 1 else "the kernels are repeated and rescaled.")
            )
            tensor = adapt_channels(tensor, place.shape[1])
        if tensor.shape != place.shape:
            theirs = renamed.origin[key]
            named = f"{theirs} is {key} and " if theirs != key else f"{key} "
            fit.wrong.append(f"{named}{tuple(tensor.shape)} for {tuple(place.shape)}")
        elif tensor.is_floating_point() != place.is_floating_point() or tensor.is_complex():
            fit.faults.append(f"{renamed.origin[key]} holds {tensor.dtype}, {key} {place.dtype}")
        else:
            fit.state[key] = tensor
    fit.strangers += [renamed.origin[key] for key in state if key not in own]
    if fit.fresh and not new_head:
        fit.notes.append(f"The source has no {listed(fit.fresh)}: begun anew.")


_CONVOLUTIONS: Final = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def _only_channels_differ(tensor: Tensor, place: Tensor) -> bool:
    a, b = list(tensor.shape), list(place.shape)
    return len(a) == len(b) >= 3 and a[1] != b[1] and a[:1] + a[2:] == b[:1] + b[2:]


def _said(fit: Fit, given: Given) -> list[str]:
    if fit.table is OWN:
        return []
    return [f"{len(fit.state)} of the file's {len(given.tensors)} tensors are taken, by the table {fit.table.name}."]


def _no_fit(
    entry: Entry, filled: Mapping[str, Any], given: Given, tried: Sequence[Fit], *, new_head: bool, adapt: bool
) -> WeightsError:
    only = tried[0] if len(tried) == 1 else None
    near = min(tried, key=lambda fit: fit.num_problems)
    options = []
    if near.wrong and near.num_problems == len(near.wrong):
        head = [text for text in near.wrong if HEAD in text]
        if head:
            options.append("new_head=True begins a new head for these classes (in a recipe: new_head: true)")
        if len(near.wrong) > len(head) and not adapt:
            options.append("adapt_channels=True adapts the first layer (in a recipe: adapt_channels: true)")
    else:
        others = _fitting_models(entry, given, tried, new_head=new_head)
        options += [f"these are weights of {' or '.join(others)}"] if others else []
    mend = "; ".join(options) or "build the model with the config that the weights were trained with"
    if only is not None:
        by = f" by the table {only.table.name}" if only.table is not OWN else ""
        return WeightsError(
            f"The weights do not fit {_type_of(entry, filled)}{by}; {only.problems}.",
            where=given.where,
            accepts=f"exactly the {only.num_wanted} tensors of the model",
            mend=mend,
        )
    return WeightsError(
        f"The weights fit {entry.name} neither by our own names nor by a table.",
        where=given.where,
        accepts="weights that one of these fits:\n" + "\n".join(fit.near() for fit in tried),
        mend=mend,
    )


def _fitting_models(entry: Entry, given: Given, tried: Sequence[Fit], *, new_head: bool) -> list[str]:
    """Other models of the tried tables that the weights would fit."""
    found = []
    for table in {fit.table.name: fit.table for fit in tried if fit.table is not OWN}.values():
        for name in table.models:
            if name == entry.name:
                continue
            fit = _try(lookup("model", name), {}, given, table, new_head=new_head, adapt=False)
            if fit.fits:
                found.append(name)
    return list(dict.fromkeys(found))


def _type_of(entry: Entry, filled: Mapping[str, Any]) -> str:
    return type(_outline(entry, dict(filled))).__name__


def refuse_not_finite(given: Given) -> None:
    """Numbers that are none would be judged, or trained on, in silence."""
    for name, tensor in given.tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise WeightsError(
                f"The tensor {name!r} holds NaN or infinity.",
                where=given.where,
                accepts="finite numbers",
                mend="download or copy the file again; an overflowing training has to be repeated",
            )


def listed(items: Sequence[str]) -> str:
    """The first items, and how many there are."""
    shown = ", ".join(items[:_SHOWN_KEYS])
    return f"{shown}, … ({len(items)} in all)" if len(items) > _SHOWN_KEYS else shown
