"""Views: ways of looking inside a model, one file each, all called alike.

A view is a function registered as `view`, `view(subject, config) -> ViewResult`; `show_view` finds it by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import RenderableType
from torch import Tensor, nn

from lamina.core.errors import UsageError
from lamina.core.registry import lookup
from lamina.data.columns import DataSpec
from lamina.data.preprocessing import Preprocessing

__all__ = ["Inputs", "Subject", "ViewResult", "example_inputs", "show_view"]

Inputs = Tensor | Sequence[Tensor] | Mapping[str, Tensor]


@dataclass
class Subject:
    """What is looked into.

    Attributes:
        model: Any module.
        name: What the user called it, for titles.
        spec: What the model reads, after preprocessing (`preprocessing.spec`).
        preprocessing: What stands before the model.
        inputs: What the model is called with: a preprocessed batch, several positional tensors, or tensors by name.
        run: The run folder.
    """

    model: nn.Module
    name: str = ""
    spec: DataSpec | None = None
    preprocessing: Preprocessing | None = None
    inputs: Inputs | None = None
    run: Path | None = None

    @property
    def title(self) -> str:
        """The user's name for it, or the class."""
        return self.name or type(self.model).__name__


@dataclass
class ViewResult:
    """What a view shows.

    Attributes:
        document: JSON-ready; what `--json` prints.
        renderable: For a terminal.
        figure: A PNG file, where the view draws one.
    """

    document: dict[str, Any]
    renderable: RenderableType
    figure: bytes | None = field(default=None, repr=False)


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
    if subject.inputs is not None:
        return subject.inputs
    column = None if spec is None else spec.columns.get("image") or spec.columns.get("features")
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
