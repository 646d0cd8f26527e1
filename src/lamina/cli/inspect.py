"""`lamina inspect`: look inside a model, a recipe's model, or a trained bundle."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lamina.cli.output import Output
from lamina.cli.parser import Parser
from lamina.cli.subjects import open_bundle, run_of, use_threads
from lamina.core.errors import UnknownNameError, UsageError, nearest
from lamina.core.registry import describe, names

if TYPE_CHECKING:
    from lamina.explain.views import Subject

SUMMARY = "look inside a model, recipe or bundle: layers, kernels, …"
EXAMPLES = (
    "lamina inspect lenet5",
    "lamina inspect mlp model.hidden_sizes=[128,64] --json",
    "lamina inspect runs/digits-1 kernels --output kernels.png",
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
    parser.add_argument("--weights", metavar="W", help="weights of a MODEL: a bundle, run or safetensors file")
    parser.add_argument("--data", metavar="PATH", help="data of a RECIPE, which decides the sizes left open")
    parser.add_argument("--input", metavar="FILE", help="what the model is shown, for views that need an input")
    parser.add_argument("--output", metavar="FILE", help="write the view's picture (.png) or document (.json)")


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
    view = describe("view", views[0] if views else "layers", where="command line of lamina inspect, VIEW").name
    values = _sections([word for word in options.words if "=" in word])
    use_threads(options.threads)
    subject = _subject(options, values.get("model", {}))
    from lamina.explain.views import show_view

    shown = show_view(view, subject, **values.get("view", {}))
    if options.output is not None:
        _write(Path(options.output), shown.document, shown.figure)
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


def _subject(options: argparse.Namespace, values: dict[str, Any]) -> Subject:
    """What is looked into: a model first, then a recipe, then a path."""
    word = options.subject
    kind, colon, name = word.partition(":")
    if colon and kind in ("model", "recipe"):
        describe(kind, name, where="command line of lamina inspect")
        return _of_model(name, options, values) if kind == "model" else _of_recipe(name, options, values)
    if word in names("model"):
        return _of_model(word, options, values)
    if word in names("recipe") or Path(word).suffix in (".yaml", ".yml"):
        return _of_recipe(word, options, values)
    if Path(word).exists():
        return _of_bundle(word, options, values)
    near = nearest(word, [*names("model"), *names("recipe")])
    raise UnknownNameError(
        f"There is no model, recipe or bundle called {word!r}.",
        where="command line of lamina inspect",
        accepts="the name of a model or recipe, or the path of a bundle or run",
        mend=f"did you mean {' or '.join(map(repr, near))}?" if near else "`lamina list models` names the models",
    )


def _of_model(name: str, options: argparse.Namespace, values: dict[str, Any]) -> Subject:
    from lamina.explain.views import Subject
    from lamina.models.factory import create_model
    from lamina.recipes.build import initial_weights

    weights = initial_weights(options.weights) if options.weights is not None else None
    model = create_model(name, seed=0, weights=weights, **values)
    return _with_input(Subject(model, name=name), options)


def _of_recipe(name: str, options: argparse.Namespace, values: dict[str, Any]) -> Subject:
    """With data of its own or from --data, the model that training would build; otherwise its Config's sizes."""
    from lamina.explain.views import Subject
    from lamina.recipes.recipe import check_data_path, recipe_layers, resolve_layers

    given: dict[str, Any] = {"model": values} if values else {}
    if options.data is not None:
        given["data"] = {"path": options.data}
    resolved = resolve_layers([*recipe_layers(name), ("command line", given)], file=name)
    if resolved.values["data"]["path"] is None:
        model = {key: value for key, value in resolved.values["model"].items() if key != "kind"}
        from lamina.models.factory import create_model

        built = create_model(resolved.values["model"]["kind"], seed=resolved.values["seed"], **model)
        return _with_input(Subject(built, name=name), options)
    resolved.values["data"]["path"] = check_data_path(resolved.values)
    from lamina.recipes.build import build, read_data

    recipe = resolved.recipe()
    job = build(recipe, read_data(recipe))
    return _with_input(
        Subject(job.model, name=name, spec=job.preprocessing.spec, preprocessing=job.preprocessing), options
    )


def _of_bundle(word: str, options: argparse.Namespace, values: dict[str, Any]) -> Subject:
    if values:
        raise UsageError(
            "A trained bundle's model cannot be changed.",
            where=f"command line of lamina inspect, model.{next(iter(values))}",
            accepts="model.KEY=VALUE with the name of a model or recipe",
            mend="leave it out",
        )
    from lamina.explain.views import Subject

    bundle = open_bundle(word, command="inspect", device=options.device)
    folder = run_of(word)
    pipeline = bundle.pipeline
    subject = Subject(
        bundle.model,
        name=word,
        spec=pipeline.preprocessing.spec,
        preprocessing=pipeline.preprocessing,
        run=folder.path if folder is not None else None,
    )
    return _with_input(subject, options)


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

    columns, _ = read_inputs(Path(options.input), subject.preprocessing.input_spec)
    batch = subject.preprocessing(next(iter(columns.chunks(64))))
    subject.inputs = batch["image"] if "image" in batch else batch["features"]
    return subject


def _write(path: Path, document: dict[str, Any], figure: bytes | None) -> None:
    from lamina.cli.output import SCHEMA, render_json
    from lamina.core.files import write_atomic

    if path.suffix == ".png":
        if figure is None:
            raise UsageError(
                "This view draws no picture.",
                where="command line of lamina inspect, --output",
                accepts="a file name that ends in .json",
                mend=f"--output {path.with_suffix('.json')}",
            )
        write_atomic(path, figure)
    elif path.suffix == ".json":
        write_atomic(path, (render_json({"schema": SCHEMA, **document}) + "\n").encode())
    else:
        raise UsageError(
            f"--output got {str(path)!r}.",
            where="command line of lamina inspect, --output",
            accepts="a file name that ends in .png or .json",
            mend=f"--output {path.with_suffix('.png' if figure is not None else '.json')}",
        )
