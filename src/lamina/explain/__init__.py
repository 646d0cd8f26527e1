"""Looking inside: views and the report.

Names are loaded when they are first used, so that importing the package imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lamina.explain.attributions import grad_cam as grad_cam
    from lamina.explain.attributions import gradient as gradient
    from lamina.explain.attributions import integrated_gradients as integrated_gradients
    from lamina.explain.attributions import occlusion as occlusion
    from lamina.explain.attributions import smoothgrad as smoothgrad
    from lamina.explain.subjects import subject_of as subject_of
    from lamina.explain.views import Subject as Subject
    from lamina.explain.views import ViewResult as ViewResult
    from lamina.explain.views import show_view as show_view

_HOMES = {
    **dict.fromkeys(
        ("grad_cam", "gradient", "integrated_gradients", "occlusion", "smoothgrad"), "lamina.explain.attributions"
    ),
    "subject_of": "lamina.explain.subjects",
    **dict.fromkeys(("Subject", "ViewResult", "show_view"), "lamina.explain.views"),
}
__all__ = [
    "Subject",
    "ViewResult",
    "grad_cam",
    "gradient",
    "integrated_gradients",
    "occlusion",
    "show_view",
    "smoothgrad",
    "subject_of",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lamina.explain' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
