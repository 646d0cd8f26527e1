"""Training a run: from its folder to the finished result, and on again after an interruption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from lamina.core.config import check_values
from lamina.core.errors import LaminaError, RunError
from lamina.core.files import write_atomic
from lamina.core.run import RunFolder, render_recipe
from lamina.core.strict_json import dump_json
from lamina.data.augment.meaning import check_flips
from lamina.data.columns import Data
from lamina.data.config import DataConfig
from lamina.data.inspection import MAX_LISTED, inspect_data, uneven_classes
from lamina.data.loading import load_data
from lamina.recipes.build import Job, build, choose_machine, machine_facts, read_data
from lamina.recipes.choose import choose_recipe, refuse_other_kind
from lamina.recipes.cross_validation import cross_validate_where_due
from lamina.recipes.from_weights import tell_weights
from lamina.recipes.recipe import Recipe, Resolved, check_partial, known_values, resolve_layers
from lamina.train.callbacks import Callback
from lamina.train.trainer import Trainer, TrainResult

__all__ = ["Listener", "Silence", "choose_for", "job_of_run", "recipe_of_run", "run_document", "train_run"]


# Looking for near duplicates takes some seconds beyond; exact ones are looked for always, and `lamina data` finds both.
_NEAR_ROWS: Final = 20_000
_SHOWN: Final = 3


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


@dataclass
class _TellStart(Callback):
    """Says where a resumed run continues."""

    listener: Listener
    resume: bool

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Before the first step."""
        cursor = trainer.cursor
        if cursor.step:
            self.listener.note(
                f"Continuing in epoch {min(cursor.epoch + 1, trainer.total_epochs)} of {trainer.total_epochs}, after step "
                f"{cursor.step:,} of {trainer.total_steps:,}."
            )
        elif self.resume:
            self.listener.note("There is no checkpoint yet: training starts from the beginning.")


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
        LaminaError: Bad data or values, or somebody else trains in the folder (exit status 2); a failed training (1); an
            interruption (130).
    """
    with run.locked():
        return _train_run(
            run, resume=resume, device=device, threads=threads, callbacks=callbacks, listener=listener or Silence()
        )


def _train_run(
    run: RunFolder,
    *,
    resume: bool,
    device: str | None,
    threads: int | None,
    callbacks: Sequence[Callback],
    listener: Listener,
) -> TrainResult:
    known = run.environment()
    if resume:
        device = device or known.get("device")
        threads = threads or known.get("threads")
    machine = choose_machine(device, threads)
    recipe = recipe_of_run(run, listener=listener)
    data = read_data(recipe, run=run)
    refuse_other_kind(recipe, data)
    if not (run.path / "data.json").is_file():
        rows = sum(columns.num_rows for columns in data.splits.values())
        document = inspect_data(data, near=rows <= _NEAR_ROWS)
        write_atomic(run.path / "data.json", dump_json(document))
        _warn_of(document, listener, where=run.path / "data.json")
        if rows > _NEAR_ROWS:
            listener.note(
                f"Near duplicates are not looked for in {rows:,} rows; `lamina data` does so within the data's own splits."
            )
    job = build(recipe, data, machine=machine, run=run)
    tell_weights(job.model, job.preprocessing, listener)
    _warn_of_flips(job, listener)
    for caution in job.task.cautions():
        listener.warn(caution)
    run.write_environment({**known, **machine_facts(job)})
    trainer = job.trainer(run.path, callbacks=[_RecordChoices(run), _TellStart(listener, resume), *callbacks])
    cross_validate_where_due(job, trainer, listener.note)
    return trainer.fit(resume=resume)


def recipe_of_run(run: RunFolder, *, listener: Listener | None = None) -> Recipe:
    """The recipe of a run. Where the user gave data alone, one is chosen now and written down.

    Raises:
        ConfigError: `recipe.yaml` was changed into something that is no recipe.
    """
    values, origins = run.recipe()
    if "task" in values:
        try:
            check_values(values, Recipe.json_schema(), where="")
        except LaminaError as error:
            error.where = f"{run.recipe_file}, key `{error.where}`"
            raise
        return Recipe.from_values(values)
    given = {key: value for key, value in values.items() if key != "name"}
    check_partial(given, origin=str(run.recipe_file))
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
    return build(recipe, read_data(recipe, run=run), machine=machine, run=run)


def run_document(run: RunFolder) -> dict[str, Any]:
    """The document of `lamina train` for a finished run."""
    values, _ = run.recipe()
    result = run.result() or {}
    return {
        "run": str(run.path),
        "recipe": values.get("name"),
        "task": run.section("task").get("name"),
        **{key: value for key, value in result.items() if key != "schema"},
    }


def _warn_of_flips(job: Job, listener: Listener) -> None:
    """Say so where a flip among the augmentation's steps turns images into other classes (a six and a nine)."""
    if job.augmentation is None:
        return
    train = job.data.splits["train"]
    # Looking at the images costs nothing where they are in memory; where they must be decoded, the names must do.
    for flip in check_flips(job.augmentation, job.data.spec, train if train.in_memory else None):
        if flip.warns:
            listener.warn(f"{flip.sentence()} The view `augment` of `lamina inspect` shows it.")


def _warn_of(document: Mapping[str, Any], listener: Listener, *, where: Path) -> None:
    """Classes that the splits do not share; leaks and faults, the first of each.

    The rest is in the run's `data.json`, since its splits may be the run's own.
    """
    for sentence in uneven_classes(document):
        listener.warn(sentence)
    for kind in ("leaks", "faults"):
        found = document.get(kind) or []
        for item in found[:_SHOWN]:
            listener.warn(_sentence(item) if isinstance(item, Mapping) else str(item))
        if len(found) > _SHOWN:
            more = f"… and {len(found) - _SHOWN} more" if kind == "faults" else _all_leaks(document)
            listener.warn(f"{more}; {where} lists {'them' if len(found) < MAX_LISTED else f'{MAX_LISTED} of them'}.")


def _all_leaks(document: Mapping[str, Any]) -> str:
    """`in all 12 of the 300 rows of valid stand in train, 3 have a near duplicate there`."""
    parts = []
    for row in document["leak_counts"]:
        first, second = row["splits"]
        rows = document["splits"][second]["rows"]
        parts.append(
            f"{row['exact']} of the {rows} rows of {second} stand in {first}, {row['near']} have a near duplicate there"
        )
    return "In all, " + "; ".join(parts)


def _sentence(item: Mapping[str, Any]) -> str:
    """What is wrong, and for a fault in which file."""
    message = str(item.get("message", item))
    return f"{item['file']}: {message}" if item.get("file") else message
