"""Lamina: every classic network, from the perceptron on, trained from your own files, open to look inside, yours to take away.

Names are loaded when they are first used, so that `import lamina` imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lamina.data.loading import load_data as load_data
    from lamina.models.factory import create_model as create_model
    from lamina.recipes.api import fit as fit
    from lamina.tasks.bundle import Bundle as Bundle
    from lamina.tasks.bundle import load_bundle as load_bundle

__version__ = "0.1.0"

_HOMES = {
    "load_data": "lamina.data.loading",
    "create_model": "lamina.models.factory",
    "fit": "lamina.recipes.api",
    "Bundle": "lamina.tasks.bundle",
    "load_bundle": "lamina.tasks.bundle",
}
__all__ = ["Bundle", "create_model", "fit", "load_bundle", "load_data"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lamina' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
