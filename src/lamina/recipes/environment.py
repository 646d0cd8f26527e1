"""What a run records about where it was made; knows versions without importing what they belong to."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from lamina import __version__

__all__ = ["base_environment"]

_PACKAGES: Final = ("torch", "numpy", "pydantic", "safetensors", "scikit-learn", "pillow")


def base_environment(values: Mapping[str, Any], *, command: Sequence[str] = ()) -> dict[str, Any]:
    """The part of `environment.json` that is known before torch and the data are loaded.

    Args:
        values: The resolved recipe.
        command: The words of the command line.
    """
    return {
        "schema": 1,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": list(command),
        "seed": values.get("seed", 0),
        "versions": {
            "lamina": __version__,
            "python": platform.python_version(),
            **{name: found for name in _PACKAGES if (found := _version(name)) is not None},
        },
        "platform": platform.platform(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
