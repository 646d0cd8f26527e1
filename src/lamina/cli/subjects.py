"""What the word MODEL, RECIPE or BUNDLE of a command means."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lamina.core.errors import BundleError, UsageError, nearest
from lamina.core.registry import names

if TYPE_CHECKING:
    from lamina.core.run import RunFolder
    from lamina.tasks.bundle import Bundle


def open_bundle(word: str, *, command: str, device: str | None) -> Bundle:
    """The bundle or run folder that a command works on.

    Raises:
        UsageError: The word names a model or recipe, which has no weights, or nothing.
        BundleError: The bundle is damaged.
    """
    path = Path(word)
    kind, colon, name = word.partition(":")
    is_name = word in names("model") or word in names("recipe") or (bool(colon) and name in names(kind))
    if not path.exists() and is_name:
        raise UsageError(
            f"{word} is a description without trained weights.",
            where=f"command line of lamina {command}",
            accepts="a bundle (folder or .zip) or a run folder",
            mend=f"train it first; then `lamina {command} runs/{name or word}-1 …`",
        )
    if not path.exists():
        near = nearest(path.name, [found.name for found in path.parent.iterdir()]) if path.parent.is_dir() else []
        raise BundleError(
            f"There is nothing at {word}.",
            where=f"command line of lamina {command}",
            accepts="a bundle (folder or .zip) or a run folder",
            mend=f"did you mean {path.parent / near[0]}?" if near else "check the path",
        )
    from lamina.core.devices import choose_device
    from lamina.tasks.bundle import load_bundle

    return load_bundle(path, device=choose_device(device)[0])


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
