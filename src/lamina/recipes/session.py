"""Training a run: from its folder to the finished result, and on again after an interruption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from lamina.core.config import check_values
from lamina.core.errors import LaminaError, RunError
from lamina.core.files import write_atomic
from lamina.core.run import RunFolder, render_recipe
from lamina.core.strict_json import dump_json
from lamina.data.columns import Data
from lamina.data.config import DataConfig
from lamina.data.inspection import inspect_data
from lamina.data.loading import load_data
from lamina.recipes.build import Job, build, choose_machine, machine_facts, read_data
from lamina.recipes.choose import choose_recipe
from lamina.recipes.recipe import Recipe, Resolved, known_values, resolve_layers
from lamina.train.callbacks import Callback
from lamina.train.trainer import Trainer, TrainResult, latest_step

__all__ = ["Listener", "Silence", "choose_for", "job_of_run", "recipe_of_run", "run_document", "train_run"]


# Looking for near duplicates takes some seconds beyond; exact ones are looked for always, and `lamina data` finds both.
_NEAR_ROWS: Final = 20_000


class Listener(Protocol):
    """Who is told what is going on."""

    def note(self, text: str) -> None:
        """Something of interest."""

    def warn(self, text: str) -> None:
        """Something that should be known."""


class Silence:
    """Tells nobody."""

    def note(self, text: str) -> None:
        """Nothing."""

    def warn(self, text: str) -> None:
        """Nothing."""


@dataclass
class _RecordChoices(Callback):
    """Writes what `auto` chose to `environment.json` before the first step."""

    run: RunFolder

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Before the first step."""
        known = self.run.environment()
        chosen = {name: choice.describe() for name, choice in trainer.choices.items()}
        self.run.write_environment({**known, "choices": {**known.get("choices", {}), **chosen}})


def train_run(
    run: RunFolder,
    *,
    resume: bool = False,
    device: str | None = None,
    threads: int | None = None,
    callbacks: Sequence[Callback] = (),
    listener: Listener | None = None,
) -> TrainResult:
    """Train what a run's `recipe.yaml` describes, to the end.

    Args:
        run: Made by `RunFolder.create`.
        resume: Continue from the latest checkpoint, from the beginning where there is none.
        device, threads: As on the command line; a resumed run keeps its own by default.
        callbacks: Watchers.
        listener: Is told which recipe was chosen, and of leaks and faults in the data.

    Raises:
        LaminaError: Bad data or values (exit status 2), a failed training (1), an interruption (130).
    """
    listener = listener or Silence()
    known = run.environment()
    if resume:
        device = device or known.get("device")
        threads = threads or known.get("threads")
    machine = choose_machine(device, threads)
    recipe = recipe_of_run(run, listener=listener)
    data = read_data(recipe, run=run)
    if not (run.path / "data.json").is_file():
        rows = sum(columns.num_rows for columns in data.splits.values())
        document = inspect_data(data, near=rows <= _NEAR_ROWS)
        write_atomic(run.path / "data.json", dump_json(document))
        _warn_of(document, listener)
    job = build(recipe, data, machine=machine)
    run.write_environment({**known, **machine_facts(job)})
    trainer = job.trainer(run.path, callbacks=[_RecordChoices(run), *callbacks])
    if resume and latest_step(run.path) is None:
        listener.note("There is no checkpoint yet: training starts from the beginning.")
    return trainer.fit(resume=resume)


def recipe_of_run(run: RunFolder, *, listener: Listener | None = None) -> Recipe:
    """The recipe of a run. Where the user gave data alone, one is chosen now and written down.

    Raises:
        ConfigError: `recipe.yaml` was changed into something that is no recipe.
    """
    values, origins = run.recipe()
    if "model" in values or "task" in values:
        try:
            check_values(values, Recipe.json_schema(), where="")
        except LaminaError as error:
            error.where = f"{run.recipe_file}, key `{error.where}`"
            raise
        return Recipe.from_values(values)
    given = {key: value for key, value in values.items() if key != "name"}
    config = DataConfig.from_values(given.get("data", {}), where="data")
    resolved = choose_for(load_data(config.path, config=config), given, listener=listener)
    command = run.environment().get("command", ())
    write_atomic(run.recipe_file, render_recipe(resolved.values, resolved.origins, command=command).encode())
    del origins
    return resolved.recipe()


def choose_for(data: Data, given: Mapping[str, Any], *, listener: Listener | None = None) -> Resolved:
    """Choose a recipe for data, lay what the user gave over it, and say which and why."""
    chosen = choose_recipe(data)
    (listener or Silence()).note(f"recipe: {chosen.name}, because {chosen.reason}")
    layers = [("recipe", known_values(chosen.name)), ("data", chosen.values), ("command line", given)]
    return resolve_layers(layers)


def job_of_run(run: RunFolder, *, device: str | None = None, threads: int | None = None) -> Job:
    """Everything of a run built anew, with its initial weights and its saved split.

    Raises:
        RunError: Its data was never read, or has changed.
    """
    known = run.environment()
    machine = choose_machine(device or known.get("device"), threads or known.get("threads"))
    recipe = recipe_of_run(run)
    if recipe.data.path is None:
        raise RunError(
            "The run was trained on data that was given in Python and is not kept.",
            where=str(run.path),
            accepts="a run whose data has a path",
            mend="train from a file: lamina train RECIPE --data PATH",
        )
    return build(recipe, read_data(recipe, run=run), machine=machine)


def run_document(run: RunFolder) -> dict[str, Any]:
    """The document of `lamina train` for a finished run."""
    values, _ = run.recipe()
    result = run.result() or {}
    return {
        "run": str(run.path),
        "recipe": values.get("name"),
        "task": values.get("task", {}).get("name"),
        **{key: value for key, value in result.items() if key != "schema"},
    }


def _warn_of(document: Mapping[str, Any], listener: Listener) -> None:
    for kind in ("leaks", "faults"):
        found = document.get(kind) or []
        for item in found[:3]:
            listener.warn(str(item.get("message", item)) if isinstance(item, Mapping) else str(item))
        if len(found) > 3:
            listener.warn(f"… and {len(found) - 3} more {kind}; `lamina data` lists them.")
