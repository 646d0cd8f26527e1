"""Views: ways of looking inside a model, one file each, all called alike.

A view is a function registered as `view`, `view(subject, config) -> ViewResult`; `show_view` finds it by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from torch import Tensor, nn

from lamina.core.errors import UsageError
from lamina.core.registry import entries, lookup
from lamina.data.augmentation import Augmentation
from lamina.data.columns import Columns, DataSpec
from lamina.data.preprocessing import Preprocessing
from lamina.tasks.base import Task

__all__ = [
    "Inputs",
    "Subject",
    "Sweep",
    "ViewResult",
    "example_inputs",
    "refusal",
    "show_view",
    "titled",
    "views_that_read",
]

Inputs = Tensor | Sequence[Tensor] | Mapping[str, Tensor]


class Sweep(Protocol):
    """Losses of a training whose learning rate was raised step by step; what `train/learning_rate.py` gives."""

    @property
    def rates(self) -> Sequence[float]:
        """The rate of each step."""

    @property
    def losses(self) -> Sequence[float]:
        """The loss after each step, smoothed."""

    @property
    def suggestion(self) -> float:
        """The rate where the loss falls fastest."""

    @property
    def diverged_at(self) -> float | None:
        """The rate at which the loss exploded, or None."""


@dataclass
class Subject:
    """What is looked into.

    Attributes:
        model: Any module.
        name: What the user called it, for titles.
        spec: What the model reads, after preprocessing (`preprocessing.spec`).
        preprocessing: What stands before the model.
        inputs: What the model is called with: a preprocessed batch, several positional tensors, or tensors by name.
        own_examples: `inputs` are a bundle's own examples, because nothing else was given: they are looked at by views that
            need some, and say nothing about how large a batch is meant.
        run: The run folder.
        raw: The pictures (B, C, H, W) that `inputs` were made from, before preprocessing; only drawn.
        input_names: Name of each row of `inputs`.
        task: What the outputs mean; without it, logits of numbered classes.
        columns: Labelled raw rows, in the model's own order of classes, for views that judge.
        split: Which split the columns are.
        augmentation: What the recipe does to the columns' images while training.
        unaugmented: The stages of the training that leave the augmentation out, in words; empty where none does.
        sweep: Tries learning rates, (lowest, highest, num_steps) -> Sweep, where the subject is a training.
    """

    model: nn.Module
    name: str = ""
    spec: DataSpec | None = None
    preprocessing: Preprocessing | None = None
    inputs: Inputs | None = None
    run: Path | None = None
    own_examples: bool = False
    raw: Tensor | None = field(default=None, repr=False)
    input_names: Sequence[str] = ()
    task: Task | None = None
    columns: Columns | None = field(default=None, repr=False)
    split: str = ""
    augmentation: Augmentation | None = None
    unaugmented: str = ""
    sweep: Callable[[float, float, int], Sweep] | None = field(default=None, repr=False)

    @property
    def title(self) -> str:
        """The user's name for it, or the class."""
        return self.name or type(self.model).__name__


class ViewResult:
    """What a view shows.

    Args:
        document: JSON-ready; what `--json` prints.
        renderable: For a terminal.
        figure: A PNG file, or what draws one: drawing takes longer than looking, and many ask for the numbers only.
        arrays: What the figure is drawn from, by name.
        page: What writes the same as a piece of HTML, where words say it better than a picture.
    """

    def __init__(
        self,
        document: dict[str, Any],
        renderable: RenderableType,
        figure: bytes | Callable[[], bytes] | None = None,
        arrays: Mapping[str, NDArray[Any]] | None = None,
        *,
        page: Callable[[], str] | None = None,
    ) -> None:
        self.document = document
        self.renderable = renderable
        self.arrays = dict(arrays or {})
        self.page = page
        self._figure = figure

    def __repr__(self) -> str:
        return f"ViewResult({self.document!r})"

    @property
    def draws(self) -> bool:
        """Whether there is a figure."""
        return self._figure is not None

    @property
    def figure(self) -> bytes | None:
        """The PNG file, drawn when it is first asked for; None where the view draws nothing."""
        if callable(self._figure):
            self._figure = self._figure()
        return self._figure


def titled(title: str, table: Table) -> RenderableType:
    """A table under a title that may be wider than the table."""
    return Group(Text(title, style="italic"), table)


def views_that_read(*kinds: str) -> list[str]:
    """Names of the views that read what is named: `model`, `input`, `rows` or `training`."""
    return [entry.name for entry in entries("view") if entry.capabilities.get("reads", "model") in kinds]


def refusal(view: str, what: str, *, mend: str, usable: Sequence[str] = ()) -> UsageError:
    """The error of a view that makes no sense for a subject; it names the views that can be used.

    Args:
        view: Name of the view that refuses.
        what: Why, one sentence.
        mend: What to do instead.
        usable: Views that work for such a subject; default: those that read the model alone.
    """
    others = [name for name in (usable or views_that_read("model")) if name != view]
    return UsageError(what, where=f"view {view}", accepts=f"for this model the views {', '.join(others)}", mend=mend)


def show_view(name: str, subject: Subject, **options: Any) -> ViewResult:
    """Show a subject in the view called `name`.

    Raises:
        UnknownNameError: No view has this name.
        ConfigError: It has no such option.
        UsageError: The view cannot show this subject.
    """
    entry = lookup("view", name, where="name of a view")
    assert entry.config is not None
    result: ViewResult = entry.target(subject, entry.config.from_values(options, where=f"view {name}"))
    return result


def example_inputs(subject: Subject) -> Inputs:
    """What the model can be called with: the subject's own inputs, or one row of zeros of the right shape on meta.

    The shape comes from the spec; else from the model, which says it by `example_inputs()`, or by `in_channels` and
    `image_size`, or by `in_features`.

    Raises:
        UsageError: Nothing says what the model reads.
    """
    model, spec = subject.model, subject.spec
    if subject.inputs is not None and not subject.own_examples:
        return subject.inputs
    column = None if spec is None else spec.model_input
    if column is not None and all(size > 0 for size in column.shape):
        return torch.empty(1, *column.shape, device="meta")
    own = getattr(model, "example_inputs", None)
    if callable(own):
        made: Inputs = own()
        return made
    channels, size, features = (getattr(model, name, None) for name in ("in_channels", "image_size", "in_features"))
    if isinstance(channels, int) and isinstance(size, tuple):
        return torch.empty(1, channels, *size, device="meta")
    if isinstance(features, int):
        return torch.empty(1, features, device="meta")
    raise UsageError(
        f"Nothing says what {type(model).__name__} reads.",
        where="view of a model",
        accepts="a model built by create_model, a bundle, or an input",
        mend="give an input with --input FILE",
    )
