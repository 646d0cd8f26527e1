"""Features computed once: a split derived from a split by the frozen part of a network.

Where only the head learns and nothing random stands before it, every epoch would compute the same numbers again. Here
they are computed once and kept in memory: the columns of the split with `features` in place of the images. A derived
split is keyed by what it depends on, the weights and buffers of the body, the preprocessing and the arithmetic; whoever
asks with the same key gets the same tensors, bit for bit what computing them again would give.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

import torch
from torch import Tensor, nn

from lamina.core.devices import Choice
from lamina.data.columns import MODEL_INPUTS, Columns, DataSpec, batch_to, column_spec
from lamina.data.preprocessing import Preprocessing
from lamina.tasks.base import DirectLearner, Stage, Task
from lamina.tasks.inputs import model_input
from lamina.tasks.pipeline import judging, model_device
from lamina.tasks.transfer import HEAD, body_names, model_stages

__all__ = [
    "MOST_BYTES",
    "FeatureHead",
    "FeatureStore",
    "View",
    "as_they_are",
    "body_key",
    "choose_features",
    "compute_features",
    "derived_spec",
    "view_on_features",
]

MOST_BYTES: Final = 1 << 30  # of features kept; beyond, they are computed each time
# Images at a time: larger batches gain nothing and a body's first layers take much memory per image.
BATCH_PIXELS: Final = 32 * 224 * 224 * 3
_LARGEST_BATCH: Final = 256
_INPUTS: Final = (*MODEL_INPUTS, "number", "category")
_TRIED: Final = 2  # rows on which forward and head(features) are compared


class FeatureHead(nn.Module):
    """The head of a model as a network of its own, which reads features. It shares the model's parameters and their names.

    Args:
        model: Has an attribute `head`.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.head = cast(nn.Module, model.head)

    def forward(self, features: Tensor) -> Tensor:
        """(B, F) -> what the model's head gives, (B, num_classes)."""
        return self.head(features)  # type: ignore[no-any-return]


def compute_features(
    model: nn.Module,
    preprocessing: Preprocessing,
    columns: Columns,
    *,
    autocast: bool = False,
    channels_last: bool = False,
) -> Tensor:
    """What stands before the head for every row, computed in evaluation mode.

    Args:
        model: Has `features`.
        preprocessing: As fitted; on the model's device.
        columns: Raw rows.
        autocast: In bf16, as the training does; the values are kept in float32, which holds them exactly.
        channels_last: Memory layout of the images, as in training.

    Returns:
        float32 (N, F), on the CPU.
    """
    device = model_device(model)
    pieces: list[Tensor] = []
    with judging(model):
        for raw in columns.chunks(batch_rows(preprocessing.spec)):
            batch = preprocessing(batch_to(raw, device))
            inputs = model_input(batch)
            if channels_last and inputs.ndim == 4:
                inputs = inputs.contiguous(memory_format=torch.channels_last)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=autocast):
                found = cast(Tensor, model.features(inputs))  # type: ignore[operator]
            pieces.append(found.float().cpu())
    return torch.cat(pieces)  # outside of inference mode: a tensor that gradients may pass


def batch_rows(spec: DataSpec) -> int:
    """Rows that are worked on at a time: fewer, the larger the images are."""
    column = spec.model_input
    size = math.prod(max(n, 1) for n in column.shape) if column is not None else 1
    return max(1, min(_LARGEST_BATCH, BATCH_PIXELS // size))


def body_key(model: nn.Module, preprocessing: Preprocessing, *, autocast: bool, channels_last: bool) -> str:
    """sha256 of all that features depend on besides the rows: the body's tensors, the preprocessing, the arithmetic."""
    digest = hashlib.sha256()
    digest.update(json.dumps(preprocessing.describe(), sort_keys=True, default=str).encode())
    digest.update(f"{type(model).__qualname__} {autocast} {channels_last} {model_device(model)}".encode())
    state = model.state_dict()
    tensors = {**{name: state[name] for name in body_names(model)}, **preprocessing.tensors()}
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {plain.dtype} {tuple(plain.shape)}".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b"")
    return digest.hexdigest()


@dataclass
class _Kept:
    source: Columns  # held, so that its identity is not given to other columns
    key: str
    derived: Columns


class FeatureStore:
    """Derived splits in memory, each made when first asked for.

    Attributes:
        computed: How often features were computed, not found.
    """

    def __init__(self) -> None:
        self.computed = 0
        self._kept: dict[int, _Kept] = {}

    def derive(
        self,
        columns: Columns,
        *,
        model: nn.Module,
        preprocessing: Preprocessing,
        autocast: bool = False,
        channels_last: bool = False,
    ) -> Columns:
        """The columns with `features` in place of what they were computed from; labels, weights and groups stay."""
        key = body_key(model, preprocessing, autocast=autocast, channels_last=channels_last)
        known = self._kept.get(id(columns))
        if known is None or known.key != key:
            features = compute_features(model, preprocessing, columns, autocast=autocast, channels_last=channels_last)
            others = {name: columns[name] for name in columns if name not in _INPUTS}
            known = _Kept(columns, key, Columns({"features": features, **others}, origin=columns.origin))
            self.computed += 1
            self._kept[id(columns)] = known
        return known.derived

    def forget(self) -> None:
        """Give the memory back."""
        self._kept.clear()


@dataclass(frozen=True)
class View:
    """What a stage trains and judges: the whole network on raw rows, or its head on features computed once.

    Attributes:
        network: What the task's updates are made for; shares its parameters and their names with the model.
        splits: `train`, and `valid` where there is one.
        preprocessing: Of these splits.
    """

    network: nn.Module
    splits: Mapping[str, Columns]
    preprocessing: Preprocessing


def view_on_features(
    store: FeatureStore,
    model: nn.Module,
    splits: Mapping[str, Columns],
    preprocessing: Preprocessing,
    *,
    autocast: bool,
    channels_last: bool,
) -> View:
    """The head of a model, and the features of the splits in the place of their rows."""
    derived = {
        name: store.derive(
            splits[name], model=model, preprocessing=preprocessing, autocast=autocast, channels_last=channels_last
        )
        for name in ("train", "valid")
        if name in splits and splits[name].num_rows
    }
    return View(FeatureHead(model), derived, as_they_are(preprocessing.spec, derived["train"]))


def derived_spec(spec: DataSpec, columns: Columns) -> DataSpec:
    """The spec of derived columns, from the spec of the preprocessed ones."""
    others = {name: column for name, column in spec.columns.items() if name not in _INPUTS}
    return spec.model_copy(update={"columns": {"features": column_spec("number", columns["features"]), **others}})


def as_they_are(spec: DataSpec, columns: Columns) -> Preprocessing:
    """The preprocessing of derived columns: none."""
    return Preprocessing((), derived_spec(spec, columns))


def choose_features(
    model: nn.Module, task: Task, stage: Stage, preprocessing: Preprocessing, *, augmented: bool, num_rows: int
) -> Choice:
    """Whether a stage's features are computed `once` or in `each-step`, and why: a rule, never a timing.

    Args:
        stage: What is trainable in it.
        augmented: Whether there is an augmentation.
        num_rows: Of all splits that would be derived.
    """
    reason = _reason_against(model, task, stage, augmented=augmented) or _reason_of_size(
        model, preprocessing, num_rows=num_rows
    )
    if reason is not None:
        return Choice("each-step", reason)
    return Choice("once", "only the head learns, and nothing random stands before it")


def _reason_against(model: nn.Module, task: Task, stage: Stage, *, augmented: bool) -> str | None:
    if not stage.features_once:
        return "the stage does not ask for it"
    stages = model_stages(model)
    if HEAD not in stages or not callable(getattr(model, "features", None)):
        return "the model has no features and head"
    learning = [name for name, _ in model.named_parameters() if stage.trains(name)]
    if any(not name.startswith(stages[HEAD]) for name in learning):
        return "more than the head learns"
    if isinstance(model, DirectLearner):
        return "the model learns by a rule of its own"
    if augmented and stage.augment:
        return "the augmentation draws anew in each epoch"
    if not task.reads_model_input:
        return f"the task {task.name or type(task).__name__} gives the model more than its features"
    return None


def _reason_of_size(model: nn.Module, preprocessing: Preprocessing, *, num_rows: int) -> str | None:
    """Try two rows of zeros: how wide the features are, and whether the model is its head on its features."""
    column = preprocessing.spec.model_input
    if column is None or any(size < 1 for size in column.shape):
        return "the inputs differ in size"
    with judging(model):
        zeros = torch.zeros(_TRIED, *column.shape, device=model_device(model))
        features = cast(Tensor, model.features(zeros))  # type: ignore[operator]
        same = features.ndim == 2 and torch.equal(model(zeros), FeatureHead(model).eval()(features))
    if not same:
        return "the model's forward is not its head on its features"
    num_bytes = num_rows * features.shape[1] * 4
    if num_bytes > MOST_BYTES:
        return f"{num_rows:,} rows of {features.shape[1]:,} features take {num_bytes >> 20} MiB"
    return None
