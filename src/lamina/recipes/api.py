"""`lamina.fit`: a training in one call, for whoever works in Python."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from lamina.core.config import unknown_key
from lamina.core.devices import use_threads
from lamina.core.errors import BundleError, ConfigError, DtypeError, LaminaError
from lamina.core.run import RunFolder
from lamina.data.columns import Data
from lamina.data.config import DataConfig
from lamina.data.loading import load_data
from lamina.models.factory import model_values
from lamina.recipes.build import build, choose_machine, machine_facts, read_data
from lamina.recipes.cross_validation import cross_validate_where_due
from lamina.recipes.environment import base_environment
from lamina.recipes.recipe import Recipe, Resolved, resolve_layers
from lamina.tasks.bundle import Bundle
from lamina.train.callbacks import Callback
from lamina.train.progress import LiveProgress
from lamina.train.trainer import TrainResult

__all__ = ["Run", "fit"]

_SECTIONS: Final = tuple(
    name for name in Recipe.model_fields if name not in ("name", "summary", "needs", "seed", "model", "task")
)
# What a module that is not registered is resolved as; only its name and options are replaced afterwards.
_STAND_IN: Final = "linear"
# Task -> how its arrays are read.
_POSITIONS: Final = {
    "time-series-classification": "signal",
    "time-series-regression": "signal",
    "volume-classification": "volume",
}


@dataclass
class Run:
    """A finished training.

    Attributes:
        metrics: `split/name` -> value, of the best weights.
        result: All that the Trainer reports.
        recipe: The resolved values.
        path: The run folder; None where nothing was kept.
    """

    metrics: dict[str, float]
    result: TrainResult = field(repr=False)
    recipe: dict[str, Any] = field(repr=False)
    path: Path | None = None

    @property
    def bundle(self) -> Bundle:
        """What can be taken away: `run.bundle.predict(images)`, `run.bundle.save("digits.zip")`.

        Raises:
            BundleError: The model is not a registered one, so that a bundle could not build it again.
        """
        if self.result.bundle is None:
            raise BundleError(
                "There is no bundle of a model that is not registered.",
                where="run.bundle",
                accepts="a model made by create_model",
                mend="register the class with @register('model', …), or keep model.state_dict() yourself",
            )
        return self.result.bundle


def fit(
    model: nn.Module | str | Mapping[str, Any],
    data: Any,
    /,
    *,
    task: str | Mapping[str, Any] | None = None,
    epochs: int = 10,
    seed: int = 0,
    run: str | PathLike[str] | None = None,
    device: str | None = None,
    threads: int | None = None,
    progress: bool = False,
    callbacks: Sequence[Callback] = (),
    **sections: Any,
) -> Run:
    """Train a model.

    Args:
        model: A module (trained in place), the name of a registered model, or `{"kind": name, …}` with its options.
        data: Data, a path, the name of an embedded dataset, arrays `(X, y)`, a DataFrame or a torch Dataset. Splits that
            it lacks are drawn: a fifth for the test, a fifth of the rest for validation.
        task: Its name, or `{"name": …}` with its options; by default what the data asks for.
        epochs: Passes over the training split.
        seed: Keys every draw.
        run: Folder of a new run to keep; None keeps nothing but what is returned.
        device, threads: Where to compute; by default the rules of `auto`.
        progress: Show live progress on stderr.
        callbacks: Watchers.
        sections: Sections of a recipe: `optimizer={"name": "sgd", "lr": 0.1}`, `training={"batch_size": 64}`, `augment=[…]`,
            `preprocess=[…]`, `loss={…}`, `schedule={…}`, `data={…}`, `weights=…`.

    Returns:
        The Run, with `metrics` and `bundle`.

    Raises:
        LaminaError: Values, data or model do not fit; the training failed.

    Example:
        >>> import lamina
        >>> run = lamina.fit("linear", "digits", epochs=20, optimizer={"name": "adam", "lr": 0.01})
        >>> run.metrics["test/accuracy"] > 0.5
        True
    """
    for key in sections:
        if key not in _SECTIONS:
            raise unknown_key(key, _SECTIONS, where=f"lamina.fit, argument `{key}`")
    section = dict(sections.get("data") or {})
    section.setdefault("test_fraction", 0.2)
    named = task.get("name") if isinstance(task, Mapping) else task
    if named in _POSITIONS:  # arrays of three or four dimensions are images where nobody says otherwise
        section.setdefault("reader", _POSITIONS[named])
    if isinstance(data, str | PathLike):
        section.setdefault("path", str(data))
    found = load_data(data, config=DataConfig.from_values(section, where="data"))
    values = {**sections, "data": section, "task": task if task is not None else _task_of(found)}
    resolved, module = _resolve(model, values, epochs=epochs, seed=seed)
    recipe = resolved.recipe()
    if module is not None and model_values(module) is None:
        recipe = recipe.model_copy(update={"model": {"kind": type(module).__name__}})
    machine = choose_machine(device, threads)
    split = read_data(recipe, source=found)
    if module is not None:
        recipe = _fitting_size(recipe, module, split)
    with _threads_given_back():
        job = build(recipe, split, machine=machine, model=module)
        folder = None
        if run is not None:
            plain = recipe.values()
            folder = RunFolder.create(run, name=recipe.name, values=plain, origins=resolved.origins)
        watchers = [*([LiveProgress()] if progress else []), *callbacks]
        with _kept_if_used(folder):
            if folder is not None:
                folder.write_environment({**base_environment(plain), **machine_facts(job)})
            trainer = job.trainer(folder.path if folder is not None else None, callbacks=watchers)
            cross_validate_where_due(job, trainer, _unheard)
            result = trainer.fit()
    return Run(dict(result.metrics), result, recipe.values(), folder.path if folder is not None else None)


def _unheard(text: str) -> None:
    """A program asks the result, which says it too."""


@contextlib.contextmanager
def _kept_if_used(folder: RunFolder | None) -> Iterator[None]:
    """What is refused before anything was learned leaves no run folder; what failed or was interrupted does."""
    try:
        yield
    except Exception as error:
        refused = not isinstance(error, LaminaError) or error.exit_status == 2
        if folder is not None and refused and folder.is_unused:
            folder.take_back()
        raise


@contextlib.contextmanager
def _threads_given_back() -> Iterator[None]:
    """The number of threads is the process's; a training inside somebody's program leaves it as it was."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        use_threads(before)


def _resolve(
    model: nn.Module | str | Mapping[str, Any], sections: Mapping[str, Any], *, epochs: int, seed: int
) -> tuple[Resolved, nn.Module | None]:
    module = model if isinstance(model, nn.Module) else None
    given: dict[str, Any] = {key: value for key, value in sections.items() if value is not None}
    if module is not None:
        known = model_values(module)
        given["model"] = {"kind": known[0], **known[1]} if known is not None else {"kind": _STAND_IN}
    elif isinstance(model, str | Mapping):
        given["model"] = model
    else:
        raise DtypeError(
            f"The model is a {type(model).__name__}.",
            where="lamina.fit, argument `model`",
            accepts="a torch module, the name of a model, or a mapping with `kind`",
            mend="`lamina list models` names them",
        )
    training = dict(given.get("training") or {})
    if "epochs" in training:
        raise ConfigError(
            "epochs is given twice.",
            where="lamina.fit, argument `training`",
            accepts="epochs=…",
            mend="drop one of them",
        )
    given.update(training={**training, "epochs": epochs}, seed=seed, name="fit")
    return resolve_layers([("python", given)]), module


def _task_of(data: Data) -> str:
    columns = data.spec.columns
    if "image" in columns:
        return "image-classification"
    if "signal" in columns:
        return "time-series-regression" if "target" in columns else "time-series-classification"
    if "volume" in columns:
        return "volume-classification"
    if "series" in columns or "past" in columns:
        return "time-series-forecasting"
    return "tabular-regression" if "target" in columns else "tabular-classification"


def _fitting_size(recipe: Recipe, module: nn.Module, data: Data) -> Recipe:
    """Where a given network was built for another image size, images are resized to it before anything else."""
    wanted = getattr(module, "image_size", None)
    image = data.spec.columns.get("image")
    if image is None or not isinstance(wanted, tuple) or tuple(image.shape[1:]) == tuple(wanted):
        return recipe
    if any(step.get("name") == "resize" for step in recipe.preprocess):
        return recipe
    data.notes.append(f"Images are resized from {tuple(image.shape[1:])} to {wanted}, for which the network was built.")
    size = {"name": "resize", "size": list(wanted)}
    steps = recipe.preprocess or ({"name": "scale"},)
    return recipe.model_copy(update={"preprocess": (size, *steps)})
