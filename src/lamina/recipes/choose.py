"""Which recipe suits data that is given alone; a rule with a reason, never a trial."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, field
from typing import Any, Final

from lamina.core import registry
from lamina.core.errors import ConfigError, DataError
from lamina.data.columns import Data
from lamina.data.ragged import RaggedColumns
from lamina.recipes.recipe import Recipe, known_values
from lamina.tasks.spans import detect_scheme

__all__ = ["Chosen", "choose_recipe", "refuse_other_kind"]

# LeNet-5 needs no more than this many images to do well without augmentation.
_MANY_IMAGES: Final = 5_000
# Blocks halve the image until about this many positions are left per side.
_SMALL_SIDE: Final = 7
_CHANNELS: Final = (32, 64, 64, 128, 128, 128)
# The networks for signals and volumes halve each axis so often; shorter ones are halved while this much is left.
_HALVINGS: Final = 3
_LEAST_LEFT: Final = 2
# Texts of more bytes on average are read as whole reviews are; few texts are read more often, until so many were seen.
_LONG_TEXT: Final = 500
_TEXTS_SEEN: Final = 50_000
_MOST_EPOCHS: Final = 20
# How a task's name begins -> (the columns of which it needs one, what such data is called).
_NEEDS: Final = {
    "image-": (("image",), "images"),
    "tabular-": (("number", "category"), "a table"),
    "time-series-classification": (("signal",), "signals"),
    "time-series-regression": (("signal",), "signals"),
    "time-series-forecasting": (("series", "past"), "a time series"),
    "volume-": (("volume",), "volumes"),
    "token-classification": (("tags",), "words with a tag each"),
    "text-": (("text",), "texts"),
}


@dataclass(frozen=True)
class Chosen:
    """A recipe for given data.

    Attributes:
        name: Of the recipe.
        reason: A sentence for the user.
        values: What the data changes in it.
    """

    name: str
    reason: str
    values: dict[str, Any] = field(default_factory=dict)


def choose_recipe(data: Data) -> Chosen:
    """Choose a recipe from what the data is.

    Raises:
        DataError: No recipe suits it: there is nothing to predict, or nothing to predict it from.
    """
    own = [name for name in registry.names("recipe") if known_values(name).get("data", {}).get("path") == data.source]
    if data.reader == "embedded" and own:
        return Chosen(own[0], f"it is the recipe for the embedded dataset {data.source}")
    columns = data.spec.columns
    rows = sum(split.num_rows for split in data.splits.values())
    if "image" in columns:
        if not data.spec.classes:
            raise _nothing("images without labels", data)
        return _for_images(data, rows)
    for name, recipe in (("signal", "signal-cnn1d"), ("volume", "volume-cnn3d")):
        if name in columns:
            if not data.spec.classes:
                raise _nothing(f"{name}s without labels", data)
            shape = "x".join(map(str, columns[name].shape[1:]))
            what = f"{rows:,} {name}s of {shape} in {len(data.spec.classes)} classes"
            return Chosen(recipe, f"{what}: a small convolutional network", _fitting_blocks(columns[name].shape[1:]))
    if "tags" in columns:
        tags = columns["tags"].classes or ()
        what = f"{rows:,} sentences of words with {len(tags)} different tags"
        if detect_scheme(tags) is None:
            return Chosen("ud-pos-bilstm", f"{what}: a bidirectional LSTM over words and characters")
        why = "tags that mark entities: a bidirectional LSTM with a conditional random field"
        return Chosen("conll2000-bilstm-crf", f"{what}, {why}")
    if "text" in columns:
        return _for_texts(data, rows)
    if "series" in columns or "past" in columns:
        width = (columns.get("series") or columns["past"]).shape[-1]
        what = f"a time series of {rows:,} rows and {width} column{'s' if width > 1 else ''} of numbers"
        return Chosen("series-dlinear", f"{what}: one linear layer over time, which much larger networks hardly beat")
    if "number" in columns or "category" in columns:
        if data.spec.classes:
            what = f"a table of {rows:,} rows whose target is one of {len(data.spec.classes)} classes"
            return Chosen("tabular-mlp", f"{what}: a small dense network")
        if "target" in columns:
            return Chosen(
                "tabular-regression-mlp", f"a table of {rows:,} rows whose target is a number: a small dense network"
            )
        raise _nothing("a table without a target", data)
    raise _nothing(f"columns {', '.join(columns) or 'of no kind'}", data)


def _for_texts(data: Data, rows: int) -> Chosen:
    """Running text is learned to be written; texts of classes are told apart by convolutions over their words."""
    if data.spec.ordered:
        what = f"running text of {rows:,} lines"
        return Chosen("shakespeare-lstm", f"{what}: an LSTM that learns to write it, character by character")
    if not data.spec.classes:
        raise _nothing("texts without classes", data)
    num_bytes = sum(len(part.ragged["text"].values) for part in data.splits.values() if isinstance(part, RaggedColumns))
    what = f"{rows:,} texts of {num_bytes / max(rows, 1):.0f} bytes on average in {len(data.spec.classes)} classes"
    name = "imdb-cnn" if num_bytes > _LONG_TEXT * rows else "sst2-cnn"
    own = known_values(name)["training"]["epochs"]
    epochs = max(own, min(_MOST_EPOCHS, math.ceil(_TEXTS_SEEN / max(rows, 1))))
    values = {"training": {"epochs": epochs}} if epochs > own else {}
    return Chosen(name, f"{what}: convolutions over words", values)


def _fitting_blocks(size: tuple[int, ...]) -> dict[str, Any]:
    """Changes of the model for signals or volumes that three blocks would halve to nothing along some axis."""
    if min(size) >= 2**_HALVINGS:
        return {}
    channels = (16, 32, 64) if len(size) == 1 else (8, 16, 32)
    blocks = []
    left = list(size)
    for width in channels:
        pool = [2 if n >= 2 * _LEAST_LEFT else 1 for n in left]
        left = [n // p for n, p in zip(left, pool, strict=True)]
        blocks.append({"channels": width, "pool_size": pool if len(size) > 1 else pool[0]})
    return {"model": {"blocks": blocks}}


def refuse_other_kind(recipe: Recipe, data: Data) -> None:
    """Refuse an image recipe on a table, and the reverse, by name.

    Raises:
        ConfigError: The recipe's task and the data are of different kinds; names a recipe that fits.
    """
    task = str(recipe.task.get("name", ""))
    needs = next((found for begin, found in _NEEDS.items() if task.startswith(begin)), None)
    columns = data.spec.columns
    if needs is None or any(name in columns for name in needs[0]):
        return
    holds = next((what for names, what in _NEEDS.values() if any(name in columns for name in names)), None)
    if holds is None:
        return  # of no kind that we know: the task says what it misses
    source = data.source or recipe.data.path or "the data"
    mend = f"lamina train --data {source} chooses a recipe that fits"
    with contextlib.suppress(DataError):
        fitting = choose_recipe(data).name
        mend = f"lamina train {fitting} --data {source}, say"
    raise ConfigError(
        f"The recipe {recipe.name} learns from {needs[1]}; {source} holds {holds}.",
        where="data.path",
        accepts=f"{needs[1]}, for the task {task}",
        mend=mend,
    )


def _for_images(data: Data, rows: int) -> Chosen:
    channels, height, width = data.spec.columns["image"].shape
    colour = {1: "grey", 3: "colour"}.get(channels, f"{channels}-channel")
    what = f"{rows:,} {colour} images of {height}x{width} in {len(data.spec.classes)} classes"
    if (channels, height, width) == (1, 28, 28) and rows >= _MANY_IMAGES:
        return Chosen("mnist-lenet5", f"{what}: LeNet-5 was made for such")
    num_blocks = min(max(round(math.log2(max(min(height, width), 2) / _SMALL_SIDE)), 1), len(_CHANNELS))
    blocks = [{"channels": size, "pool_padding": "same"} for size in _CHANNELS[:num_blocks]]
    plural = "block" if num_blocks == 1 else "blocks"
    return Chosen(
        "image-cnn",
        f"{what}: a small convolutional network of {num_blocks} {plural}",
        {"model": {"blocks": blocks}},
    )


def _nothing(what: str, data: Data) -> DataError:
    return DataError(
        f"No recipe suits {what}.",
        where=data.source or "data",
        accepts="labelled images, or a table with a target column",
        mend="name the column of the labels with data.label=…, or the recipe: lamina train RECIPE --data PATH",
    )
