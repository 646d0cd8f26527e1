"""`lamina train`: from a recipe, a data file, or both, to a run; and on again with `--resume`."""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING, Any

from lamina.cli.meant import refuse_bare_keys, refuse_data_as_recipe
from lamina.cli.output import Output
from lamina.cli.parser import Parser
from lamina.core.errors import LaminaError, UsageError
from lamina.core.registry import names

if TYPE_CHECKING:
    from lamina.core.run import RunFolder

SUMMARY = "train from a recipe, a data file, or both"
EXAMPLES = (
    "lamina train digits",
    "lamina train mnist-mlp --data PATH training.epochs=5 optimizer.lr=0.01",
    "lamina train --data PATH            # chooses a recipe and says which",
    "lamina train recipe.yaml --run runs/first",
    "lamina train --resume runs/first",
)


def add_arguments(parser: Parser) -> None:
    """The words of the command."""
    parser.add_argument(
        "words",
        nargs="*",
        metavar="RECIPE|KEY=VALUE",
        help="the name of a recipe or a YAML file, then values: seed=3 training.epochs=5 optimizer.lr=0.01 model.dropout=0.2",
    )
    parser.add_argument("--data", metavar="PATH", help="file, folder or archive, or the name of an embedded dataset")
    parser.add_argument(
        "--weights",
        metavar="W",
        help="start from these weights: a bundle, run, file, TABLE:FILE, timm/NAME or hf:OWNER/NAME",
    )
    parser.add_argument("--run", metavar="DIR", help="where the run goes; by default runs/RECIPE-NUMBER")
    parser.add_argument("--resume", metavar="DIR", help="continue an interrupted run; needs nothing else")


def run(options: argparse.Namespace, output: Output) -> int:
    """Train, and say what came of it."""
    if options.resume is not None:
        _refuse_with_resume(options)
        folder, resume = _open(options.resume), True
        if folder.is_finished:
            output.note(f"The run {folder.path} is finished; there is nothing to resume.")
            return _tell(folder, output)
    else:
        folder, resume = _create(options, output), False
    output.note(f"run: {folder.path}")
    from_here = f"lamina train --resume {shlex.quote(str(folder.path))}"
    try:
        _train(folder, options, output, resume=resume)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"`{from_here}` starts it again.") from None
    except LaminaError as error:
        if error.exit_status == 2 and not resume:
            folder.take_back()
        raise
    return _tell(folder, output)


def _refuse_with_resume(options: argparse.Namespace) -> None:
    given = [
        *options.words,
        *(f"--{name}" for name in ("data", "weights", "run") if getattr(options, name) is not None),
    ]
    if given:
        raise UsageError(
            f"--resume continues a run as it began; {given[0]!r} would change it.",
            where="command line of lamina train",
            accepts="lamina train --resume DIR, with --device, --threads, --json, --quiet or --debug",
            mend=f"leave {given[0]} out, or begin a new run without --resume",
        )


def _open(path: str) -> RunFolder:
    from lamina.core.run import RunFolder

    return RunFolder.open(path)


def _create(options: argparse.Namespace, output: Output) -> RunFolder:
    """The run's folder with its recipe, before data or torch are loaded."""
    from lamina.core.run import RunFolder
    from lamina.recipes.environment import base_environment
    from lamina.recipes.needs import check_data_path, check_weights_path
    from lamina.recipes.recipe import check_partial, command_line_values, resolve

    recipe, assignments = split_words(options.words)
    if recipe is not None and options.data is None:
        refuse_data_as_recipe(recipe, rest=assignments)
    refuse_bare_keys(assignments)
    command = ["lamina", *options.argv]
    if recipe is None:
        if options.data is None and not any(word.startswith("data.path=") for word in assignments):
            raise UsageError(
                "Nothing says what to train.",
                where="command line of lamina train",
                accepts=f"a recipe ({', '.join(names('recipe')[:6])}, …), a YAML file, or --data PATH",
                mend="`lamina train digits` is a good first try; `lamina list recipes` names them all",
            )
        given = command_line_values(assignments, data=options.data, weights=options.weights)
        check_partial(given)
        given["data"]["path"] = check_data_path({"name": "", "data": given["data"]})
        if "weights" in given:
            given["weights"] = check_weights_path(given)
        if options.run is None:
            return _create_chosen(given, command, output)
        # The user named the folder, so it must be there from now on; the recipe is filled in once the data is read.
        origins = dict.fromkeys(_flat(given), "command line")
        folder = RunFolder.create(options.run, name="chosen", values=given, origins=origins, command=command)
        folder.write_environment(base_environment(given, command=command))
        return folder
    resolved = resolve(recipe, data=options.data, weights=options.weights, assignments=assignments)
    resolved.values["data"]["path"] = check_data_path(resolved.values)
    resolved.values["weights"] = check_weights_path(resolved.values)
    folder = RunFolder.create(
        options.run, name=resolved.name, values=resolved.values, origins=resolved.origins, command=command
    )
    folder.write_environment(base_environment(resolved.values, command=command))
    return folder


def _create_chosen(given: dict[str, Any], command: list[str], output: Output) -> RunFolder:
    """Without a recipe and without a folder the run is called after the recipe that the data chooses."""
    from lamina.core.run import RunFolder
    from lamina.data.config import DataConfig
    from lamina.data.loading import load_data
    from lamina.recipes.environment import base_environment
    from lamina.recipes.session import choose_for

    config = DataConfig.from_values(given["data"], where="data")
    resolved = choose_for(load_data(config.path, config=config), given, listener=output)
    folder = RunFolder.create(
        None, name=resolved.name, values=resolved.values, origins=resolved.origins, command=command
    )
    folder.write_environment(base_environment(resolved.values, command=command))
    return folder


def _train(folder: RunFolder, options: argparse.Namespace, output: Output, *, resume: bool) -> None:
    from lamina.recipes.session import train_run
    from lamina.train.progress import LiveProgress

    train_run(
        folder,
        resume=resume,
        device=options.device,
        threads=options.threads,
        callbacks=() if output.quiet else (LiveProgress(),),
        listener=output,
    )
    try:
        from lamina.explain.report import write_report

        write_report(folder.path)
    except LaminaError as error:  # the training itself is done and kept
        output.warn(f"The report could not be written: {error.what}")


def _tell(folder: RunFolder, output: Output) -> int:
    from lamina.recipes.session import run_document

    document = run_document(folder)
    output.document(document)
    metrics: dict[str, Any] = document.get("metrics", {})
    table_names = list(dict.fromkeys(key.partition("/")[2] for key in metrics))
    splits = list(dict.fromkeys(key.partition("/")[0] for key in metrics))
    shown = [name for name in table_names if any(metrics.get(f"{split}/{name}") is not None for split in splits)]
    output.table([[name, *(metrics.get(f"{s}/{name}") for s in splits)] for name in shown], header=["", *splits])
    crossed = document.get("cross_validation", {})
    for name, found in crossed.get("metrics", {}).items():
        if name in ("accuracy", "cross_entropy"):
            output.text(
                f"cross-validation, {crossed['folds']} folds, {crossed['what']}: {name} {found['mean']:.4f} ± {found['std']:.4f}"
            )
    output.text(f"\nrun     {folder.path}")
    output.text(f"bundle  {folder.bundle_folder}" if folder.bundle_folder.is_dir() else "")
    output.note(f"`lamina report {shlex.quote(str(folder.path))}` makes a page of it.")
    return 0


def split_words(words: list[str]) -> tuple[str | None, list[str]]:
    """RECIPE and the KEY=VALUE words, in whatever order they came.

    Raises:
        UsageError: There are two recipes.
    """
    recipes = [word for word in words if "=" not in word]
    if len(recipes) > 1:
        raise UsageError(
            f"{recipes[1]!r} is a second recipe, or a value without an equals sign.",
            where="command line of lamina train",
            accepts="one RECIPE, then KEY=VALUE words such as training.epochs=5",
            mend=f"write {recipes[1]}=VALUE without spaces" if "." in recipes[1] else f"leave {recipes[1]!r} out",
        )
    return (recipes[0] if recipes else None), [word for word in words if "=" in word]


def _flat(values: dict[str, Any]) -> list[str]:
    from lamina.core.config import flatten

    return list(flatten(values))
