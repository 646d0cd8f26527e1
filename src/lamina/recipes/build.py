"""From values to objects: data, preprocessing, augmentation, model, task and Trainer of a recipe.

Building is a function of the values, the files they name and the device; building twice gives equal objects, which is
what `lamina verify` and `--resume` stand on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from lamina.core import registry
from lamina.core.devices import Choice, choose_device, choose_threads, describe_hardware, multiply_adds, use_threads
from lamina.core.errors import ConfigError, DataError, RunError
from lamina.core.files import write_atomic
from lamina.core.run import RunFolder
from lamina.core.run_documents import read_document
from lamina.core.strict_json import dump_json
from lamina.core.tensorfile import pack_tensors
from lamina.data.augmentation import Augmentation
from lamina.data.columns import Columns, Data
from lamina.data.loading import load_data
from lamina.data.preprocess.as_weights import filled
from lamina.data.preprocessing import Preprocessing
from lamina.data.sampling import balanced_weights, class_weights
from lamina.data.splits import restore_split, split_data
from lamina.models.factory import create_model, weights_origin
from lamina.models.weights.opening import Given, open_weights
from lamina.models.weights.words import weights_at
from lamina.recipes.needs import check_body_weights
from lamina.recipes.recipe import Recipe
from lamina.tasks.base import Stage, Task
from lamina.tasks.bundle import bundle_path, load_bundle
from lamina.tasks.derived import FeatureStore
from lamina.tasks.pipeline import Pipeline
from lamina.tasks.transfer import build_stages, check_head_first
from lamina.train.callbacks import Callback
from lamina.train.trainer import Trainer

__all__ = ["Job", "Machine", "build", "choose_machine", "initial_weights", "machine_facts", "read_data", "saved_split"]


@dataclass(frozen=True)
class Machine:
    """Where the work is done.

    Attributes:
        device: For tensors.
        choices: `device` and, once the model is known, `threads`, with reasons.
    """

    device: torch.device
    threads: int | None
    choices: dict[str, Choice]


@dataclass
class Job:
    """Everything that a training needs.

    Attributes:
        recipe: The values.
        data: Divided into splits.
        stages: Of the recipe; empty: the task's own.
        features: Keeps what is computed once for a frozen body.
    """

    recipe: Recipe
    data: Data
    preprocessing: Preprocessing
    augmentation: Augmentation | None
    model: nn.Module
    task: Task
    machine: Machine
    feed_options: dict[str, Any]
    stages: tuple[Stage, ...] = ()
    features: FeatureStore = field(default_factory=FeatureStore)

    def trainer(self, run: Path | None, *, callbacks: Sequence[Callback] = ()) -> Trainer:
        """The Trainer, writing to a run folder, or keeping nothing."""
        return Trainer(
            self.model,
            self.task,
            self.data,
            preprocessing=self.preprocessing,
            augmentation=self.augmentation,
            optimizer=self.recipe.optimizer,
            schedule=self.recipe.schedule,
            config=self.recipe.training,
            seed=self.recipe.seed,
            run_dir=run,
            device=self.machine.device,
            feed_options=self.feed_options,
            callbacks=callbacks,
            stages=self.stages or None,
            features=self.features,
        )

    def pipeline(self) -> Pipeline:
        """Model, task and preprocessing as they are now."""
        return Pipeline(self.model, self.task, self.preprocessing)


def choose_machine(device: str | None = None, threads: int | None = None) -> Machine:
    """The device to work on and the wanted number of threads (None: the rule, once the model is known).

    Raises:
        DeviceError: There is no such device here.
    """
    chosen, why = choose_device(device)
    return Machine(chosen, threads, {"device": why})


def read_data(recipe: Recipe, *, run: RunFolder | None = None, source: Any = None) -> Data:
    """Load a recipe's data and divide it: as the run saved it, or anew.

    Args:
        recipe: Its `data` section and seed.
        run: Where the split is saved; None: nowhere.
        source: What to read instead of `data.path`: arrays, Data, …

    Raises:
        DataError: The data cannot be read or divided.
        RunError: It is not the data that the run began with.
    """
    found = load_data(recipe.data.path if source is None else source, config=recipe.data)
    saved = saved_split(run) if run is not None else None
    if saved is None:
        data = split_data(found, recipe.data, seed=recipe.seed)
        data.fingerprint = found.fingerprint
        if run is not None:
            metadata = {f"rows.{name}": rows for name, rows in data.rows.items()}
            write_atomic(run.split_file, pack_tensors(metadata))
        return data
    known = run.environment().get("data_fingerprint") if run is not None else None
    if known is not None and known != found.fingerprint:
        raise RunError(
            f"The data at {recipe.data.path} has changed since the run began.",
            where=f"{run.path if run is not None else ''}, data.path",
            accepts=f"data with the fingerprint {str(known)[:16]}…; it has {found.fingerprint[:16]}…",
            mend="bring the old data back, or begin a new run",
        )
    data = restore_split(found, saved)
    data.fingerprint = found.fingerprint
    return data


def saved_split(run: RunFolder) -> dict[str, torch.Tensor] | None:
    """Row numbers of each split as a run saved them; None where it has not got so far.

    Raises:
        RunError: The file is damaged.
    """
    if not run.split_file.is_file():
        return None
    try:
        with safe_open(run.split_file, framework="pt") as file:
            found = {name.removeprefix("rows."): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise _no_split(run, f"cannot be read: {error}") from None
    for name, rows in found.items():
        if rows.dtype != torch.int64 or rows.ndim != 1:
            raise _no_split(run, f"holds {name!r} as {rows.dtype} {tuple(rows.shape)}, not as row numbers")
    if "train" not in found:
        raise _no_split(run, f"has no training rows, only {', '.join(found) or 'nothing'}")
    return found


def _no_split(run: RunFolder, why: str) -> RunError:
    return RunError(
        f"The saved split {why}.",
        where=str(run.split_file),
        accepts="the file as the training wrote it",
        mend="begin a new run",
    )


def build(
    recipe: Recipe,
    data: Data,
    *,
    machine: Machine | None = None,
    model: nn.Module | None = None,
    run: RunFolder | None = None,
) -> Job:
    """Build everything from a recipe and its divided data.

    Args:
        run: Where a tokenizer is kept once it is learned; None: nowhere.
        machine: From `choose_machine`; default: the rules of auto.
        model: A module of the user's own instead of the recipe's model.

    Raises:
        LaminaError: Something does not fit: steps, model, task, labels.
    """
    machine = machine or choose_machine()
    train = data.splits.get("train")
    if train is None:
        raise DataError(
            f"There is no training split; there are {', '.join(data.splits) or 'no splits'}.",
            where=data.source or "data",
            accepts="data with a split called train, or one that can be divided",
            mend="name the file or folder of the training rows `train`, or leave data.split out",
        )
    preprocessing = Preprocessing.fit(recipe.preprocess, train, data.spec, tokenizer=_saved_tokenizer(run))
    learned = preprocessing.tokenizer()
    if run is not None and learned is not None and not run.tokenizer_file.is_file():
        write_atomic(run.tokenizer_file, dump_json(learned))
    augmentation = Augmentation(recipe.augment, data.spec, columns=train) if recipe.augment else None
    is_own = model is not None
    if model is None:
        model = make_model(recipe, preprocessing)
    preprocessing = _as_weights(recipe, preprocessing, model, train, data)
    if preprocessing.text is not None:
        data = data.with_splits({name: preprocessing.encode(one) for name, one in data.splits.items()}, data.rows)
    stages = make_stages(recipe, model, is_own=is_own)
    task = make_task(recipe, data, preprocessing)
    if augmentation is not None and augmentation.mixes:
        _check_mixing(task, model)
    batch_size = min(recipe.training.batch_size or train.num_rows, train.num_rows)
    threads = choose_threads(machine.threads, work=_work(model, preprocessing, batch_size), device=machine.device)
    use_threads(int(threads.value))
    feed_options: dict[str, Any] = {}
    if recipe.data.balance == "sample":
        feed_options["weights"] = balanced_weights(_labels(data, "sample"), len(data.spec.classes))
    chosen = Machine(machine.device, int(threads.value), {**machine.choices, "threads": threads})
    return Job(recipe, data, preprocessing, augmentation, model, task, chosen, feed_options, stages)


def _saved_tokenizer(run: RunFolder | None) -> dict[str, Any] | None:
    """The tokenizer that a run learned when it began: learning one again may give another (unigram pieces)."""
    if run is None or not run.tokenizer_file.is_file():
        return None
    return read_document(run.tokenizer_file, fields={}, mend="begin a new run")


def _as_weights(
    recipe: Recipe, preprocessing: Preprocessing, model: nn.Module, train: Columns, data: Data
) -> Preprocessing:
    """The preprocessing with the step `as-weights` filled by what the model's weights say; shapes stay as they are."""
    origin, column = weights_origin(model), preprocessing.spec.columns.get("image")
    if origin is None or origin.preparation is None or column is None:
        return preprocessing
    steps = filled(recipe.preprocess, origin.preparation.steps(in_channels=column.shape[0]))
    return preprocessing if steps is None else Preprocessing.fit(steps, train, data.spec)


def _check_mixing(task: Task, model: nn.Module) -> None:
    """Refuse mixup and CutMix where a row can have one target only."""
    reason = task.refuse_mixed(model)
    if reason is not None:
        raise ConfigError(
            f"The task {task.name or type(task).__name__} cannot learn from mixed samples: {reason}.",
            where="augment",
            accepts="mixup and cutmix with a task and a loss that take two labels per row: image-classification with "
            "cross-entropy, focal, hinge, … and a network",
            mend="leave mixup and cutmix out of augment",
        )


def make_model(recipe: Recipe, preprocessing: Preprocessing) -> nn.Module:
    """The recipe's model for this data, with its initial weights (`weights`, or keyed by the seed)."""
    values = {key: value for key, value in recipe.model.items() if key != "kind"}
    return create_model(
        recipe.model["kind"],
        preprocessing.spec,
        seed=recipe.seed,
        weights=initial_weights(recipe.weights) if recipe.weights is not None else None,
        new_head=recipe.weights is not None and (recipe.new_head or _begins_with_head(recipe)),
        adapt_channels=recipe.weights is not None and recipe.adapt_channels,
        **values,
    )


def make_stages(recipe: Recipe, model: nn.Module, *, is_own: bool) -> tuple[Stage, ...]:
    """The recipe's stages for its model.

    Args:
        is_own: A module of the user's own, which may have learned anything, and whose head counts as new.

    Raises:
        ConfigError: A stage names what the model has not, unfreezes what was learned elsewhere before the head is trained,
            or freezes what has learned nothing.
    """
    if not recipe.stages:
        return ()
    if not is_own:
        check_body_weights(recipe.values())
    origin = weights_origin(model)
    fresh = origin is not None and any(key.startswith("head.") for key in origin.fresh)
    check_head_first(
        recipe.stages,
        model,
        head_is_new=is_own or recipe.new_head or _begins_with_head(recipe) or fresh,
        body_is_trained=is_own or recipe.weights is not None,
    )
    return build_stages(recipe.stages, model)


def _begins_with_head(recipe: Recipe) -> bool:
    """Whether the first stage trains the head alone: transfer learning, whose head is for other classes."""
    first = next(iter(recipe.stages.values()), None)
    return first is not None and tuple(first.trainable or ()) == ("head",)


def initial_weights(word: str | Path) -> Given:
    """The weights that `--weights` means: a bundle (folder or .zip), a run, a file, `TABLE:FILE` or a model of the hub.

    Raises:
        ConfigError: There is nothing at the path.
        BundleError: The bundle is damaged, or the run has none yet.
        WeightsError: The file is damaged or of no known format, or the hub cannot be reached.
    """
    found = weights_at(str(word))
    if found.hub is None and found.table is None:
        path = Path(found.path)
        if path.suffix == ".zip":
            return Given(dict(load_bundle(path).model.state_dict()), str(word))
        return open_weights(bundle_path(path) if path.is_dir() else path)
    return open_weights(found.text)


def make_task(recipe: Recipe, data: Data, preprocessing: Preprocessing) -> Task:
    """The recipe's task; the sections `loss` and `penalties` and data.balance=weight become options of it."""
    entry = registry.lookup("task", recipe.task["name"], where="task.name")
    assert entry.config is not None
    fields = entry.config.model_fields
    values = {key: value for key, value in recipe.task.items() if key != "name"}
    sections: dict[str, Any] = {"loss": recipe.loss, "penalties": recipe.penalties or None}
    if recipe.data.balance == "weight":
        weights = class_weights(_labels(data, "weight"), len(data.spec.classes))
        sections["class_weights"] = tuple(weights.tolist())
    for key, value in sections.items():
        if value is None:
            continue
        if key not in fields:
            raise ConfigError(
                f"The task {entry.name} has no {key.replace('_', ' ')}.",
                where={"class_weights": "data.balance"}.get(key, key),
                accepts="nothing, for this task",
                mend={"class_weights": "data.balance=none"}.get(key, f"leave the section {key} out"),
            )
        values[key] = value
    task = entry.target(entry.config.from_values(values, where="task"), preprocessing.spec)
    assert isinstance(task, Task)
    return task


def _work(model: nn.Module, preprocessing: Preprocessing, batch_size: int) -> int | None:
    """Multiply-adds of a step's forward pass."""
    column = preprocessing.spec.model_input
    if column is None or any(size < 1 for size in column.shape):
        return None
    one = multiply_adds(model, torch.empty(1, *column.shape, device="meta"))
    return None if one is None else one * batch_size


def _labels(data: Data, balance: str) -> torch.Tensor:
    train = data.splits["train"]
    if "label" not in train:
        raise ConfigError(
            f"data.balance={balance} needs class labels; the data has {', '.join(train)}.",
            where="data.balance",
            accepts="none, for data without classes",
            mend="data.balance=none",
        )
    return train["label"]


def machine_facts(job: Job) -> dict[str, Any]:
    """The part of `environment.json` that is known once everything is built."""
    return {
        "hardware": describe_hardware(),
        "device": str(job.machine.device),
        "threads": job.machine.threads,
        "data_fingerprint": job.data.fingerprint,
        "data_notes": list(job.data.notes),
        "choices": {name: choice.describe() for name, choice in job.machine.choices.items()},
    }
