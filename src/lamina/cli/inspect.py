"""`lamina inspect`: look inside a model, a recipe's model, or a trained bundle."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lamina.cli.output import Output
from lamina.cli.parser import Parser
from lamina.cli.subjects import open_bundle, run_of, use_threads
from lamina.core.errors import UnknownNameError, UsageError, nearest
from lamina.core.registry import describe, names

if TYPE_CHECKING:
    from lamina.core.run import RunFolder
    from lamina.explain.views import Subject
    from lamina.recipes.build import Job
    from lamina.tasks.bundle import Bundle
    from lamina.tasks.stage_config import StageConfig

SUMMARY = "look inside a model, recipe or bundle: layers, kernels, saliency, mistakes, …"
EXAMPLES = (
    "lamina inspect lenet5",
    "lamina inspect mlp model.hidden_sizes=[128,64] --json",
    "lamina inspect runs/digits-1 kernels --output kernels.png",
    "lamina inspect runs/digits-1 saliency --input photo.png --output saliency.png view.method=grad-cam",
    "lamina inspect runs/digits-1 mistakes --output mistakes.html",
)


def add_arguments(parser: Parser) -> None:
    """The words of the command."""
    parser.add_argument("subject", metavar="MODEL|RECIPE|BUNDLE", help="a name, or the path of a bundle or run")
    parser.add_argument(
        "words",
        nargs="*",
        metavar="VIEW|KEY=VALUE",
        help="the view (layers by default), model.KEY=VALUE of a MODEL or RECIPE, view.KEY=VALUE of the view",
    )
    parser.add_argument(
        "--weights",
        metavar="W",
        help="weights of a MODEL or RECIPE: a bundle, run, file, TABLE:FILE, timm/NAME or hf:OWNER/NAME",
    )
    parser.add_argument(
        "--data",
        metavar="PATH",
        help="data of a RECIPE, which decides the sizes left open; labelled rows for a BUNDLE or a MODEL with --weights, of a "
        "run its own by default",
    )
    parser.add_argument(
        "--split", metavar="S", help="the split of the rows; by default test, else valid, else all rows"
    )
    parser.add_argument("--input", metavar="FILE", help="what the model is shown, for views that need an input")
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="write the picture (.png), a page (.html), the document (.json) or arrays (.npz)",
    )


def run(options: argparse.Namespace, output: Output) -> int:
    """Show a view."""
    views = [word for word in options.words if "=" not in word]
    if len(views) > 1:
        raise UsageError(
            f"{views[1]!r} is a second view.",
            where="command line of lamina inspect",
            accepts="one VIEW",
            mend=f"leave {views[1]!r} out",
        )
    entry = describe("view", views[0] if views else "layers", where="command line of lamina inspect, VIEW")
    values = _sections([word for word in options.words if "=" in word])
    use_threads(options.threads)
    reads = str(entry.capabilities.get("reads", "model"))
    if options.split is not None and reads != "rows" and options.data is None:
        raise UsageError(
            f"The view {entry.name} looks at no split.",
            where="command line of lamina inspect, --split",
            accepts="a view of labelled rows (embedding, mistakes, invariance, robustness), or --data PATH beside it",
            mend="leave --split out",
        )
    subject = _subject(options, values.get("model", {}), reads=reads)
    _tell_weights(subject, output)
    from lamina.explain.views import show_view

    shown = show_view(entry.name, subject, **values.get("view", {}))
    if options.output is not None:
        from lamina.cli.view_files import write_view

        write_view(Path(options.output), shown, title=f"{subject.title}: {entry.name}", summary=entry.summary)
        output.note(f"written: {options.output}")
    output.document(shown.document)
    if not output.json_wanted:
        from rich.console import Console

        # A file or pipe has no width; a narrow table would break its words.
        Console(width=None if sys.stdout.isatty() else 160).print(shown.renderable)
    return 0


def _sections(words: list[str]) -> dict[str, Any]:
    from lamina.core.config import parse_assignments, unknown_key

    values = parse_assignments(words)
    for section, value in values.items():
        if section not in ("model", "view") or not isinstance(value, dict):
            raise unknown_key(section, ["model", "view"], where="command line of lamina inspect")
    return values


def _subject(options: argparse.Namespace, values: dict[str, Any], *, reads: str) -> Subject:
    """What is looked into: a model first, then a recipe, then a path. `reads` is what the view needs of it."""
    word = options.subject
    kind, colon, name = word.partition(":")
    if colon and kind in ("model", "recipe"):
        describe(kind, name, where="command line of lamina inspect")
        return _of_model(name, options, values) if kind == "model" else _of_recipe(name, options, values, reads=reads)
    # A view of a training means the recipe where a model has the same name.
    if word in names("model") and not (reads == "training" and word in names("recipe")):
        return _of_model(word, options, values)
    if word in names("recipe") or Path(word).suffix in (".yaml", ".yml"):
        return _of_recipe(word, options, values, reads=reads)
    if Path(word).exists():
        return _of_bundle(word, options, values, reads=reads)
    near = nearest(word, [*names("model"), *names("recipe")])
    raise UnknownNameError(
        f"There is no model, recipe or bundle called {word!r}.",
        where="command line of lamina inspect",
        accepts="the name of a model or recipe, or the path of a bundle or run",
        mend=f"did you mean {' or '.join(map(repr, near))}?" if near else "`lamina list models` names the models",
    )


def _of_model(name: str, options: argparse.Namespace, values: dict[str, Any]) -> Subject:
    from lamina.explain.views import Subject
    from lamina.models.factory import create_model, model_values, weights_origin
    from lamina.recipes.build import initial_weights

    if options.data is not None:
        return _of_model_with_rows(name, options, values)
    weights = initial_weights(options.weights) if options.weights is not None else None
    model = create_model(name, seed=0, weights=weights, **values)
    origin = weights_origin(model)
    if origin is None:
        return _with_input(Subject(model, name=name), options)
    if origin.preparation is None:
        return _with_input(Subject(model, name=name), options)
    from lamina.tasks.pretrained import source_preprocessing

    # The source of the weights says how images are prepared, so that views can be shown some.
    described = model_values(model)
    assert described is not None
    preprocessing = source_preprocessing(origin, described[1])
    return _with_input(Subject(model, name=name, spec=preprocessing.spec, preprocessing=preprocessing), options)


def _of_model_with_rows(name: str, options: argparse.Namespace, values: dict[str, Any]) -> Subject:
    """Weights from elsewhere, judged on labelled rows as `lamina evaluate` judges them."""
    if options.weights is None:
        raise UsageError(
            f"{name} has no weights yet, so that rows say nothing about it.",
            where="command line of lamina inspect, --data",
            accepts="--data with a recipe, a bundle or a run, or with a model and --weights",
            mend=f"lamina inspect recipe:{name} … --data PATH means the recipe of that name"
            if name in names("recipe")
            else "give --weights FILE, or leave --data out",
        )
    from lamina.explain.subjects import subject_of
    from lamina.recipes.build import initial_weights
    from lamina.tasks.pretrained import bundle_from_weights

    bundle = bundle_from_weights(name, initial_weights(options.weights), **values)
    subject = subject_of(bundle.pipeline, name=name)
    _give_rows(subject, bundle, None, options)
    return _with_input(subject, options)


def _tell_weights(subject: Subject, output: Output) -> None:
    """What was done with weights from elsewhere."""
    from lamina.models.factory import weights_origin

    origin = weights_origin(subject.model)
    for note in origin.notes if origin is not None else ():
        output.note(note)


def _of_recipe(name: str, options: argparse.Namespace, values: dict[str, Any], *, reads: str) -> Subject:
    """With data of its own or from --data, the model that training would build; otherwise its Config's sizes."""
    from lamina.explain.views import Subject
    from lamina.recipes.needs import check_data_path
    from lamina.recipes.recipe import recipe_layers, resolve_layers

    given: dict[str, Any] = {"model": values} if values else {}
    if options.data is not None:
        given["data"] = {"path": options.data}
    if options.weights is not None:
        given["weights"] = options.weights
    resolved = resolve_layers([*recipe_layers(name), ("command line", given)], file=name)
    if resolved.values["data"]["path"] is None:
        model = {key: value for key, value in resolved.values["model"].items() if key != "kind"}
        from lamina.models.factory import create_model
        from lamina.recipes.build import initial_weights

        weights = resolved.values["weights"]
        built = create_model(
            resolved.values["model"]["kind"],
            seed=resolved.values["seed"],
            weights=initial_weights(weights) if weights is not None else None,
            **model,
        )
        return _with_input(Subject(built, name=name), options)
    resolved.values["data"]["path"] = check_data_path(resolved.values)
    from lamina.recipes.build import build, read_data

    recipe = resolved.recipe()
    job = build(recipe, read_data(recipe))
    return _of_job(job, options, name=name, reads=reads)


def _of_job(job: Job, options: argparse.Namespace, *, name: str, reads: str) -> Subject:
    """A training that has not begun: its model with initial weights, its training rows, its sweep of rates."""
    from lamina.explain.views import Subject

    subject = Subject(job.model, name=name, spec=job.preprocessing.spec, preprocessing=job.preprocessing, task=job.task)
    if reads == "training":
        from lamina.train.learning_rate import find_learning_rate

        def sweep(lowest: float, highest: float, num_steps: int) -> Any:
            return find_learning_rate(job.trainer(None), lowest=lowest, highest=highest, num_steps=num_steps)

        subject.sweep = sweep
        subject.columns, subject.split = job.data.splits["train"], "train"
        subject.augmentation = job.augmentation
        subject.unaugmented = _unaugmented(job.recipe.stages)
    return _with_input(subject, options)


def _unaugmented(stages: Mapping[str, StageConfig]) -> str:
    """Stages without augmentation in words; empty where there is none."""
    plain = [name for name, stage in stages.items() if not stage.augment]
    if not plain:
        return ""
    every = "every one of its stages" if len(plain) > 1 else "its only stage"
    return f"{every}, {', '.join(plain)}" if len(plain) == len(stages) else ", ".join(plain)


def _of_bundle(word: str, options: argparse.Namespace, values: dict[str, Any], *, reads: str) -> Subject:
    if values:
        raise UsageError(
            "A trained bundle's model cannot be changed.",
            where=f"command line of lamina inspect, model.{next(iter(values))}",
            accepts="model.KEY=VALUE with the name of a model or recipe",
            mend="leave it out",
        )
    if options.weights is not None:
        raise UsageError(
            f"{word} has its own weights.",
            where="command line of lamina inspect, --weights",
            accepts="--weights with the name of a model or recipe",
            mend="leave --weights out",
        )
    folder = run_of(word)
    if reads == "training" and folder is not None:
        from lamina.recipes.session import job_of_run

        job = job_of_run(folder, device=options.device, threads=options.threads)
        return _of_job(job, options, name=word, reads=reads)
    from lamina.explain.subjects import subject_of

    bundle = open_bundle(word, command="inspect", device=options.device)
    subject = subject_of(bundle, name=word)
    subject.run = folder.path if folder is not None else None
    if reads == "rows" or options.data is not None:
        _give_rows(subject, bundle, folder, options)
    return _with_input(subject, options)


def _give_rows(subject: Subject, bundle: Bundle, folder: RunFolder | None, options: argparse.Namespace) -> None:
    """Labelled rows to judge, of `--data` or of the run's own data; those of `--data` are looked at, too."""
    from lamina.cli.labelled_rows import labelled_rows
    from lamina.explain.subjects import give_inputs

    found = labelled_rows(bundle, folder, path=options.data, split=options.split)
    if found is not None:
        subject.columns, subject.split = found
        if options.data is not None and subject.columns.num_rows:
            called = subject.columns.origin or [f"row {row}" for row in range(min(subject.columns.num_rows, 64))]
            give_inputs(subject, subject.columns, called[:64])


def _with_input(subject: Subject, options: argparse.Namespace) -> Subject:
    """Read `--input` as the bundle's own data is read."""
    if options.input is None:
        return subject
    if subject.preprocessing is None:
        raise UsageError(
            "An input can be read only for a model that knows its data.",
            where="command line of lamina inspect, --input",
            accepts="a bundle, a run, or a recipe with data",
            mend="train first, or name the recipe with --data PATH",
        )
    from lamina.data.inputs import read_inputs
    from lamina.explain.subjects import give_inputs

    spec = subject.preprocessing.input_spec
    # A model of texts is given texts as they stand; whether it is a file is seen where it is read.
    given = options.input if "text" in spec.columns else Path(options.input)
    columns, names = read_inputs(given, spec)
    give_inputs(subject, columns, names)
    return subject
