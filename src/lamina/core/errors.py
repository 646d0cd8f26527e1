"""Errors in four parts: what is wrong, where, what is accepted, how to mend it.

Every error that a user can cause is one of the classes below. Each is also one of Python's own classes, so that
`except ValueError` keeps working in code that does not know Lamina. This module imports no torch.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LaminaError(Exception):
    """Base of all errors that Lamina raises on purpose.

    Args:
        what: What is wrong, with the value that was received; one sentence.
        where: File, row, column, argument or config key.
        accepts: What would have been right.
        mend: What to type or change.
    """

    exit_status = 2

    def __init__(self, what: str, *, where: str, accepts: str, mend: str) -> None:
        self.what = what
        self.where = where
        self.accepts = accepts
        self.mend = mend
        super().__init__(what)

    def __str__(self) -> str:
        rows = (("where", self.where), ("accepts", self.accepts), ("mend", self.mend))
        indent = "\n" + " " * 11
        return "\n".join([self.what, *(f"  {key:<8} {text.replace(chr(10), indent)}" for key, text in rows)])

    def render(self) -> str:
        """The text for a terminal: class name, then the four parts."""
        return f"{type(self).__name__}: {self}"


class ConfigError(LaminaError, ValueError):
    """A recipe, option or config value is unknown, of the wrong type or out of bounds."""


class UnknownNameError(LaminaError, ValueError):
    """No registered thing has this name."""


class UsageError(LaminaError, ValueError):
    """A command was called in a way that cannot work."""


class DataError(LaminaError, ValueError):
    """A data file or array holds something that cannot be used; names file, row, column and value."""


class ShapeError(LaminaError, ValueError):
    """A tensor's shape does not fit."""


class DtypeError(LaminaError, TypeError):
    """A tensor's or array's element type does not fit."""


class BundleError(LaminaError, ValueError):
    """A bundle folder or zip is damaged, tampered with or not a bundle."""


class RunError(LaminaError, ValueError):
    """A run folder cannot be used for what was asked."""


class CheckpointError(RunError):
    """A checkpoint is incomplete or does not belong to this run."""


class WeightsError(LaminaError, ValueError):
    """Weights from elsewhere do not fit the model; every key left over on either side is listed."""


class DeviceError(LaminaError, ValueError):
    """The wanted device or precision does not exist here."""


class MissingExtraError(LaminaError, ImportError):
    """An optional dependency is needed."""


class StorageError(LaminaError, OSError):
    """The disk is full or a path cannot be written."""

    exit_status = 1


class TrainingError(LaminaError, RuntimeError):
    """Training began and could not go on."""

    exit_status = 1


class NonFiniteError(TrainingError, FloatingPointError):
    """A loss, activation or gradient became NaN or infinite; names step, layer and batch."""


class InterruptedRunError(LaminaError, RuntimeError):
    """Training was stopped by Ctrl-C or SIGTERM, after a checkpoint."""

    exit_status = 130


def nearest(name: str, known: Iterable[str], *, limit: int = 3) -> list[str]:
    """The known names most like `name`, best first; empty when none is near.

    >>> nearest("lenet", ["lenet5", "linear", "mlp"])
    ['lenet5']
    """
    folded = {candidate.casefold(): candidate for candidate in known}
    hits = difflib.get_close_matches(name.casefold(), folded, n=limit, cutoff=0.6)
    starts = [key for key in folded if key.startswith(name.casefold()) and len(name) > 2]
    return [folded[key] for key in dict.fromkeys([*hits, *starts])][:limit]


def unknown_name(kind: str, name: str, known: Iterable[str], *, where: str) -> UnknownNameError:
    """The error for a name that nothing is registered under, with the nearest names."""
    names = sorted(known)
    near = nearest(name, names)
    shown = ", ".join(names) if len(names) <= 24 else f"{', '.join(names[:24])}, … ({len(names)} in all)"
    plural = {"loss": "losses", "preprocessing": "preprocessing", "weights": "weights"}.get(kind, f"{kind}s")
    mend = f"did you mean {' or '.join(repr(n) for n in near)}?" if near else f"`lamina list {plural}` names them all"
    return UnknownNameError(f"There is no {kind} called {name!r}.", where=where, accepts=shown or "nothing", mend=mend)
