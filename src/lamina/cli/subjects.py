"""What the word MODEL, RECIPE or BUNDLE of a command means."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lamina.core.errors import BundleError, UsageError, nearest
from lamina.core.registry import names

if TYPE_CHECKING:
    from lamina.cli.output import Output
    from lamina.core.run import RunFolder
    from lamina.tasks.bundle import Bundle


def open_bundle(
    word: str, *, command: str, device: str | None, weights: str | None = None, output: Output | None = None
) -> Bundle:
    """The bundle or run folder that a command works on, or a model with weights from elsewhere.

    Args:
        weights: The value of `--weights`, where there was one: `word` is the name of a model then.
        output: Is told what was done with the weights.

    Raises:
        UsageError: The word names a model or recipe, which has no weights, or nothing.
        BundleError: The bundle is damaged.
        WeightsError: The weights do not fit the model.
    """
    if weights is not None:
        return _with_weights(word, weights, command=command, device=device, output=output)
    path = Path(word)
    kind, colon, name = word.partition(":")
    is_name = word in names("model") or word in names("recipe") or (bool(colon) and name in names(kind))
    if not path.exists() and is_name:
        raise UsageError(
            f"{word} is a description without trained weights.",
            where=f"command line of lamina {command}",
            accepts="a bundle (folder or .zip) or a run folder",
            mend=f"train it first; then `lamina {command} runs/{name or word}-1 …`; or give a model --weights FILE",
        )
    if not path.exists():
        near = nearest(path.name, [found.name for found in path.parent.iterdir()]) if path.parent.is_dir() else []
        raise BundleError(
            f"There is nothing at {word}.",
            where=f"command line of lamina {command}",
            accepts="a bundle (folder or .zip) or a run folder",
            mend=f"did you mean {path.parent / near[0]}?" if near else "check the path",
        )
    _refuse_without_bundle(path, command=command)
    from lamina.core.devices import choose_device
    from lamina.tasks.bundle import load_bundle

    return load_bundle(path, device=choose_device(device)[0])


def _with_weights(word: str, weights: str, *, command: str, device: str | None, output: Output | None) -> Bundle:
    """A model with weights from elsewhere, whose table gives preprocessing and labels."""
    name = word.removeprefix("model:")
    if name not in names("model"):
        is_path = Path(word).exists()
        near = nearest(name, names("model"))
        raise UsageError(
            f"{word} has its own weights." if is_path else f"There is no model called {word!r}.",
            where=f"command line of lamina {command}, --weights",
            accepts="--weights with the name of a model",
            mend="leave --weights out"
            if is_path
            else f"did you mean {near[0]!r}?"
            if near
            else "`lamina list models` names the models",
        )
    from lamina.core.devices import choose_device
    from lamina.models.factory import weights_origin
    from lamina.recipes.build import initial_weights
    from lamina.tasks.pretrained import bundle_from_weights

    bundle = bundle_from_weights(name, initial_weights(weights))
    origin = weights_origin(bundle.model)
    if origin is not None and output is not None:
        for note in origin.notes:
            output.note(note)
        if not origin.labels:
            output.note("The source names no classes; labels are their numbers, from 0.")
    bundle.pipeline.to(choose_device(device)[0])
    return bundle


def _refuse_without_bundle(path: Path, *, command: str) -> None:
    """A finished run without a bundle is one of a module that is not registered."""
    run = run_of(str(path))
    if run is None or run.path != path or not run.is_finished or run.bundle_folder.is_dir():
        return
    kind = run.section("model").get("kind")
    if kind in names("model"):  # it had one, and lost it
        return
    raise BundleError(
        f"The run has no bundle: its model{f', {kind},' if isinstance(kind, str) else ''} is not a registered one, so that "
        "nobody else could build it again.",
        where=str(path),
        accepts=f"for lamina {command}: a run of a registered model, or a bundle",
        mend="register the class with @register('model', …), as examples/own_model.py does, and train again; in Python the "
        "model that was fitted can be used as it is",
    )


def run_of(word: str) -> RunFolder | None:
    """The run that a run folder, or the bundle inside it, belongs to."""
    from lamina.core.run import RunFolder

    path = Path(word)
    for folder in (path, path.resolve().parent if path.name == "bundle" else path):
        if (folder / "recipe.yaml").is_file():
            return RunFolder.open(folder)
    return None


def use_threads(number: int | None) -> None:
    """Set the number of threads where one was given."""
    if number is not None:
        from lamina.core import devices

        devices.use_threads(int(devices.choose_threads(number).value))
