"""Models by name: what the user leaves open is filled from the data's spec."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from lamina.core import draws
from lamina.core.errors import ConfigError, ShapeError, WeightsError
from lamina.core.registry import Entry, entries, lookup
from lamina.models.weights.matching import Fit, Origin, fit_weights, listed, refuse_not_finite, weights_origin
from lamina.models.weights.opening import Given, open_weights
from lamina.nn.initialisers import initialise

__all__ = ["create_model", "load_weights", "model_values", "weights_origin"]


class ColumnLike(Protocol):
    """What is read of a column's spec."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one row."""

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Class names of a label."""

    @property
    def vocab_size(self) -> int | None:
        """Of tokens, how many different ones there are."""


class SpecLike(Protocol):
    """What is read of a `lamina.data.columns.DataSpec`, which models do not import."""

    @property
    def columns(self) -> Mapping[str, ColumnLike]:
        """Column name -> its spec; `image`, `signal`, `volume`, `features`, `label`, `target` matter here."""


def create_model(
    name: str,
    spec: SpecLike | None = None,
    *,
    seed: int | None = None,
    weights: str | Path | Mapping[str, Tensor] | Given | None = None,
    new_head: bool = False,
    adapt_channels: bool = False,
    **config: Any,
) -> nn.Module:
    """Build a registered model.

    Args:
        name: As `lamina list models` prints it.
        spec: What the model will read, after preprocessing; fills `num_classes`, `in_channels`, `image_size`, `length`,
            `volume_size`, `in_features`, `vocab_size`, `char_vocab_size` and `regression` where the model has such fields and `config` does not give them.
        seed: Keys the initial weights, so that they depend on nothing else; None: torch's global generator.
        weights: A file (safetensors, torch's .pt, .pth, .bin, .th, NPZ), a bundle folder, `TABLE:FILE`, a model of the hub
            (`timm/NAME`, `hf:OWNER/NAME`), or tensors by name. Names are ours, or those of a source whose weight table
            serves the model (`lamina list weights`); every key on both sides must be accounted for.
        new_head: Leave the head of `weights` out and begin a new one, for other classes.
        adapt_channels: Adapt the first layer of `weights` where `in_channels` differs.
        config: Fields of the model's Config.

    Returns:
        The model, in training mode. Its attribute `lamina_config` is (name, values of its Config), from which
        `create_model(name, **values)` builds it again; `weights_origin(model)` says where its weights came from.

    Raises:
        UnknownNameError: No model has this name; the nearest are suggested.
        ConfigError: A field is unknown or out of bounds, or the data is not what the model reads.
        ShapeError: Images are too small for the model.
        WeightsError: The weights do not fit; keys left over on either side are listed.

    Example:
        >>> model = create_model("mlp", seed=0, hidden_sizes=(32,), num_classes=3, in_features=4)
        >>> sum(parameter.numel() for parameter in model.parameters())
        259
    """
    entry = lookup("model", name, where="name of a model")
    assert entry.config is not None
    filled = {**(_from_spec(entry, spec, config) if spec is not None else {}), **config}
    given = weights if isinstance(weights, Given) or weights is None else open_weights(weights)
    fit: Fit | None = None
    if given is not None and (given.table is not None or new_head or adapt_channels or _has_table(name)):
        fit = fit_weights(entry, filled, given, new_head=new_head, adapt=adapt_channels)
        filled = fit.values
    values = entry.config.from_values(filled, where="model")
    # Layers draw from torch's generator as they are made; with a seed those draws are replaced, and the generator is left as it was.
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        model = cast(nn.Module, entry.target(**dict(values)))
    if seed is not None and hasattr(values, "initialiser"):
        initialise(model, values.initialiser, seed=seed)
        after_initialise = getattr(model, "after_initialise", None)
        if after_initialise is not None:  # of models whose paper begins with other values somewhere (AlexNet's biases)
            after_initialise()
    elif seed is not None:  # of models without a choice of initialisers (word2vec)
        for path, layer in model.named_modules():
            if hasattr(layer, "draw_own"):
                layer.draw_own(draws.generator(seed, "init", path))
    model.lamina_config = (name, values.values())  # type: ignore[assignment]
    if fit is not None and given is not None:
        _load_fit(model, fit, given)
    elif given is not None:
        load_weights(model, given)
    return model


def _has_table(name: str) -> bool:
    """Whether a weight table serves the model; the index says it without importing any."""
    return any(name in entry.capabilities["models"] for entry in entries("weights"))


def _load_fit(model: nn.Module, fit: Fit, given: Given) -> None:
    """Load what a table made of the weights; what it lacks keeps what the model was built with."""
    model.load_state_dict({**model.state_dict(), **fit.state}, strict=True)
    table = fit.table
    fresh_head = any(key.startswith("head.") for key in fit.fresh)
    model.lamina_weights = Origin(  # type: ignore[assignment]
        where=given.where,
        table=table.name,
        num_tensors=len(fit.state),
        preparation=table.preparation if table.name else None,
        labels=() if fresh_head else table.labels,
        notes=tuple(fit.notes),
        fresh=tuple(fit.fresh),
    )


def model_values(model: nn.Module) -> tuple[str, dict[str, Any]] | None:
    """Name and Config values of a model that `create_model` built; None for any other module."""
    found = getattr(model, "lamina_config", None)
    return cast("tuple[str, dict[str, Any]]", found) if isinstance(found, tuple) else None


def load_weights(
    model: nn.Module, weights: str | Path | Mapping[str, Tensor] | Given, *, where: str | Path = "weights"
) -> None:
    """Load weights under the model's own names, strictly.

    Args:
        weights: A file, a folder with `model.safetensors` (a bundle), or tensors by name. Other names than ours need
            `create_model`, which builds the model as the weights want it.
        where: Where tensors by name come from, for messages.

    Raises:
        WeightsError: The file is missing or damaged, or names or shapes differ from the model's.
        DataError: Stored rows (of knn) that contradict each other.
    """
    given = weights if isinstance(weights, Given) else open_weights(weights, where=where)
    tensors, where = dict(given.tensors), given.where
    own = model.state_dict()
    missing = [key for key in own if key not in tensors]
    surplus = [key for key in tensors if key not in own]
    if missing or surplus:
        parts = [f"missing: {listed(missing)}"] if missing else []
        parts += [f"not known to the model: {listed(surplus)}"] if surplus else []
        raise WeightsError(
            f"The weights do not fit {type(model).__name__}; {'; '.join(parts)}.",
            where=where,
            accepts=f"exactly the {len(own)} tensors of the model",
            mend="build the model with the config that the weights were trained with",
        )
    refuse_not_finite(given)
    try:
        model.load_state_dict(tensors, strict=True)
    except RuntimeError:
        wrong = [
            f"{key} {tuple(tensors[key].shape)} for {tuple(tensor.shape)}"
            for key, tensor in own.items()
            if tensors[key].shape != tensor.shape
        ]
        raise WeightsError(
            f"The weights do not fit {type(model).__name__}; shapes differ: {listed(wrong)}.",
            where=where,
            accepts="tensors shaped like the model's",
            mend="build the model with the config that the weights were trained with",
        ) from None
    check_state = getattr(model, "check_state", None)
    if check_state is not None:  # of models whose state is more than weights of a fixed shape
        check_state()


# --- from the spec -------------------------------------------------------------------------------------------------


def _from_spec(entry: Entry, spec: SpecLike, given: Mapping[str, Any]) -> dict[str, Any]:
    """Values of the fields that the spec decides and the user left open."""
    assert entry.config is not None
    fields = entry.config.model_fields
    found = {**_inputs(entry, spec), **_outputs(entry, spec)}
    return {key: value for key, value in found.items() if key in fields and key not in given}


def _inputs(entry: Entry, spec: SpecLike) -> dict[str, Any]:
    image, features = spec.columns.get("image"), spec.columns.get("features")
    wanted = entry.capabilities.get("input")
    if wanted == "image" and image is None:
        raise ConfigError(
            f"{entry.name} reads images; this data has {', '.join(spec.columns) or 'nothing'}.",
            where="model",
            accepts="data with a column `image`",
            mend="model.kind=mlp reads numbers",
        )
    for kind, mend in (("signal", "data.reader=signal reads series"), ("volume", "data.reader=volume reads volumes")):
        if wanted == kind and kind not in spec.columns:
            raise ConfigError(
                f"{entry.name} reads {kind}s; this data has {', '.join(spec.columns) or 'nothing'}.",
                where="model",
                accepts=f"data with a column `{kind}`",
                mend=f"{mend}; model.kind=mlp reads values of any arrangement",
            )
    if image is not None:
        if any(size < 0 for size in image.shape):
            raise ShapeError(
                "The images differ in size, and a network is built for one size.",
                where=f"model {entry.name}",
                accepts="images of one height and width",
                mend="resize them (preprocess), or give the sizes that the preprocessing makes",
            )
        channels, height, width = image.shape
        return {
            "in_channels": channels,
            "image_size": (height, width),
            "in_features": math.prod(image.shape),
        }
    for name, size in (("signal", "length"), ("volume", "volume_size")):
        column = spec.columns.get(name)
        if column is not None:
            channels, *positions = column.shape
            own = positions[0] if name == "signal" else tuple(positions)
            return {"in_channels": channels, size: own, "in_features": math.prod(column.shape)}
    if features is not None:
        return {"in_features": math.prod(features.shape)}
    past, future = spec.columns.get("past"), spec.columns.get("future")
    if wanted == "past" and past is None:
        raise ConfigError(
            f"{entry.name} forecasts time series; this data has {', '.join(spec.columns) or 'nothing'}.",
            where="model",
            accepts="a time series: one row per time stamp",
            mend="data.reader=series reads a CSV with a column of dates; model.kind=mlp reads tables",
        )
    if past is not None and future is not None:
        (past_length, in_channels), (horizon, out_channels) = past.shape, future.shape
        season = getattr(getattr(past, "timing", None), "season", 1)
        sizes = {"in_channels": in_channels, "out_channels": out_channels, "past_length": past_length}
        return {**sizes, "horizon": horizon, "season": season}
    tokens = spec.columns.get("input_ids")
    if tokens is None:
        return {}
    letters = spec.columns.get("char_ids")
    return {"vocab_size": tokens.vocab_size, "char_vocab_size": letters.vocab_size if letters is not None else None}


def _outputs(entry: Entry, spec: SpecLike) -> dict[str, Any]:
    label, target = spec.columns.get("label"), spec.columns.get("target")
    if label is not None and label.classes:
        return {"num_classes": len(label.classes)}
    tags, tokens = spec.columns.get("tags"), spec.columns.get("input_ids")
    if tags is not None and tags.classes:
        return {"num_classes": len(tags.classes)}
    if target is not None:
        if not entry.capabilities.get("regression"):
            raise ConfigError(
                f"{entry.name} decides between classes; this data has numbers as targets.",
                where="model",
                accepts="data with a column `label`, or a model for regression",
                mend="model.kind=mlp predicts numbers; data.target=class reads the target as classes",
            )
        return {"num_classes": math.prod(target.shape), "regression": True}
    if tokens is not None:  # text alone: a model that says the next token, or the one that is masked
        return {"num_classes": tokens.vocab_size}
    return {}
