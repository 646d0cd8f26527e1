"""What the word behind `--weights` means: a file, a file with its table, or a model of the hub. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from lamina.core.errors import ConfigError, nearest
from lamina.core.registry import names

__all__ = ["WeightsWord", "parse_weights", "weights_at"]

_HUB_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_REVISION: Final = re.compile(r"[\w.][\w./-]{0,95}")
FORMS: Final = "a file, a bundle, a run, TABLE:FILE, timm/NAME or hf:OWNER/NAME"


@dataclass(frozen=True)
class WeightsWord:
    """A word taken apart.

    Attributes:
        table: Name of the weight table, where it was given.
        path: Of a file or folder; empty for the hub.
        hub: `owner/name` on the hub.
        revision: Branch, tag or commit there.
    """

    table: str | None = None
    path: str = ""
    hub: str | None = None
    revision: str | None = None

    @property
    def text(self) -> str:
        """The word again."""
        where = self.path
        if self.hub is not None:
            where = f"hf:{self.hub}" + (f"@{self.revision}" if self.revision is not None else "")
        return f"{self.table}:{where}" if self.table is not None else where


def parse_weights(word: str) -> WeightsWord:
    """Take a word apart; whether there is anything at a path is not asked.

    Raises:
        ConfigError: A name of the hub is none.

    >>> parse_weights("akamaster-resnet:resnet20.th")
    WeightsWord(table='akamaster-resnet', path='resnet20.th', hub=None, revision=None)
    >>> parse_weights("hf:timm/resnet18.a1_in1k@main").hub
    'timm/resnet18.a1_in1k'
    """
    table = None
    head, colon, rest = word.partition(":")
    if colon and head in names("weights"):
        table, word = head, rest
    if word.startswith("hf:") or (word.startswith("timm/") and not Path(word).exists()):
        name, at, revision = word.removeprefix("hf:").partition("@")
        if not _HUB_NAME.fullmatch(name) or ".." in word or (at and not _REVISION.fullmatch(revision)):
            raise ConfigError(
                f"{word!r} is no name of the hub.",
                where="weights",
                accepts="hf:OWNER/NAME or hf:OWNER/NAME@REVISION",
                mend="copy the name from the model's page, such as hf:timm/resnet18.a1_in1k",
            )
        return WeightsWord(table, hub=name, revision=revision if at else None)
    return WeightsWord(table, path=word)


def weights_at(word: str, *, where: str = "weights", near: Iterable[str] = ()) -> WeightsWord:
    """As `parse_weights`, with the path made absolute.

    Args:
        where: For messages.
        near: What might be meant instead.

    Raises:
        ConfigError: There is nothing at the path, or no such table.
    """
    found = parse_weights(word)
    if found.hub is not None:
        return found
    if Path(found.path).exists() and found.path:
        return replace(found, path=str(Path(found.path).resolve()))
    head, colon, rest = word.partition(":")
    if colon and found.table is None and Path(rest).exists():
        close = nearest(head, names("weights"))
        raise ConfigError(
            f"There is no weight table called {head!r}.",
            where=where,
            accepts=", ".join(names("weights")),
            mend=f"did you mean {close[0]}:{rest}?" if close else f"leave {head}: out, and the table is found",
        )
    mend = "check the path; a safetensors file or a bundle will do"
    path = Path(found.path)
    beside = [str(path.parent / entry.name) for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    close = [*near, *nearest(str(path), beside)]
    if close:
        mend += f"; did you mean {close[0]}?"
    elif _HUB_NAME.fullmatch(found.path) and not Path(found.path).parent.exists():
        mend = f"hf:{found.path} takes it from the hub"
    raise ConfigError(f"There is no file {found.path or word}.", where=where, accepts=FORMS, mend=mend)
