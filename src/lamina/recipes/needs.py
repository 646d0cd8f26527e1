"""What a recipe needs of the user, looked for before anything heavy is loaded: data and weights. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lamina.core import registry
from lamina.core.errors import ConfigError, nearest
from lamina.models.weights.words import weights_at

__all__ = ["check_body_weights", "check_data_path", "check_weights_path"]


def check_data_path(values: Mapping[str, Any], *, places: str = "--data") -> str:
    """The data's path, absolute where it is one, or the name of an embedded dataset.

    Raises:
        ConfigError: No data is named, or there is nothing at the path.
    """
    path = values["data"].get("path")
    name = values["name"]
    if path is None:
        needs = values.get("needs") or "a file, a folder or the name of an embedded dataset"
        raise ConfigError(
            f"The recipe {name} needs data of yours.",
            where=places,
            accepts=needs,
            mend=f"lamina train {name} --data PATH",
        )
    if path in registry.names("dataset"):
        return str(path)
    if not Path(path).exists():
        near = list(_near_paths(str(path)))
        raise ConfigError(
            f"There is nothing at {path}.",
            where="data.path",
            accepts=f"a file, a folder, or one of the embedded datasets: {', '.join(registry.names('dataset'))}",
            mend=f"did you mean {near[0]}?" if near else "check the path",
        )
    return str(Path(path).resolve())


def check_weights_path(values: Mapping[str, Any]) -> str | None:
    """The initial weights: an absolute path, perhaps with a table before it, or a name of the hub; None where there are none.

    Raises:
        ConfigError: There is nothing at the path.
    """
    path = values.get("weights")
    if path is None:
        check_body_weights(values)
        return None
    near = [found for found in _near_paths(str(path)) if Path(found).exists()]
    return weights_at(str(path), where=f"{path}, key `weights`", near=near).text


def check_body_weights(values: Mapping[str, Any]) -> None:
    """Refuse to freeze a body that has learned nothing.

    Raises:
        ConfigError: The recipe says that it needs weights, or its first stage freezes some of the model, and there are none.
    """
    stages: Mapping[str, Mapping[str, Any]] = values.get("stages") or {}
    nothing: Mapping[str, Any] = {}
    first, stage = next(iter(stages.items()), ("", nothing))
    freezes = stage.get("trainable") is not None
    if values.get("weights") is not None or not (freezes or values.get("needs_weights")):
        return
    name, kind = values["name"], values["model"]["kind"]
    raise ConfigError(
        f"The recipe {name} has no weights to begin from"
        + (f", and its stage {first!r} trains only {', '.join(stage['trainable'])} of {kind}." if freezes else "."),
        where="--weights",
        accepts=values.get("needs_weights")
        or f"weights of {kind} that were trained elsewhere: a bundle, a run or a file",
        mend=f"lamina train {name} --data PATH --weights FILE; without any, `lamina train sports-cnn --data PATH` learns "
        "from the photographs alone"
        if values.get("needs_weights")
        else f"give --weights FILE, or leave stages.{first}.trainable out",
    )


def _near_paths(path: str) -> Iterator[str]:
    yield from nearest(path, registry.names("dataset"))
    folder = Path(path).parent
    if folder.is_dir():
        yield from (str(folder / name) for name in nearest(Path(path).name, [found.name for found in folder.iterdir()]))
