"""Where words go: results to stdout, progress, notes and warnings to stderr, one JSON document with `--json`.

Imports nothing heavy: help texts and listings pass through here.
"""

from __future__ import annotations

import json
import math
import os
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TextIO

from lamina.core.errors import LaminaError

SCHEMA: Final = 1


class Output:
    """One command's way to speak.

    Args:
        json_wanted: stdout carries one JSON document and nothing else.
        quiet: No notes; warnings and errors remain.
    """

    def __init__(self, *, json_wanted: bool = False, quiet: bool = False) -> None:
        self.json_wanted = json_wanted
        self.quiet = quiet

    def document(self, document: Mapping[str, Any]) -> None:
        """The command's JSON document, with `"schema": 1`; printed with `--json` only."""
        if self.json_wanted:
            print(render_json({"schema": SCHEMA, **document}), file=sys.stdout)

    def text(self, text: str = "") -> None:
        """A part of the result for people, on stdout; left out with `--json`."""
        if not self.json_wanted:
            print(text, file=sys.stdout)

    def table(self, rows: Sequence[Sequence[Any]], *, header: Sequence[str], indent: str = "") -> None:
        """A table for people, on stdout."""
        for line in table_lines(rows, header=header):
            self.text(indent + line)

    def note(self, text: str) -> None:
        """What is going on, on stderr; silenced by `--quiet`."""
        if not self.quiet:
            print(text, file=sys.stderr)

    def refuse(self, error: LaminaError, document: Mapping[str, Any]) -> None:
        """An error that comes with a document: the words on stderr, and with `--json` both in one document."""
        self.document({**document, "error": error_document(error)})
        print(error_text(error), file=sys.stderr)

    def warn(self, text: str) -> None:
        """What the user should know even with `--quiet`, on stderr."""
        print(paint("warning: ", "33", sys.stderr) + text, file=sys.stderr)


def error_text(error: LaminaError) -> str:
    """The four parts for stderr, the kind of error in colour where the terminal has colours."""
    kind, _, rest = error.render().partition(":")
    return paint(f"{kind}:", "1;31", sys.stderr) + rest


def error_document(error: LaminaError) -> dict[str, str]:
    """The four parts and the kind of error, for a JSON document."""
    parts = {"what": error.what, "where": error.where, "accepts": error.accepts, "mend": error.mend}
    return {"type": type(error).__name__, **parts}


def render_json(document: Mapping[str, Any]) -> str:
    """Strict JSON: what is not a finite number becomes null, because most readers refuse NaN."""
    encoding = (getattr(sys.stdout, "encoding", None) or "ascii").lower().replace("-", "")
    return json.dumps(_strict(document), indent=1, ensure_ascii=encoding != "utf8", allow_nan=False)


def _strict(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _strict(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(inner) for inner in value]
    return value


def table_lines(rows: Sequence[Sequence[Any]], *, header: Sequence[str]) -> Iterable[str]:
    r"""Lines of a table; columns of numbers stand to the right, and wide letters count twice.

    >>> print("\n".join(table_lines([["mlp", 13002], ["linear", 7850]], header=["model", "parameters"])))
    model   parameters
    mlp          13002
    linear        7850
    """
    cells = [[_cell(value) for value in row] for row in rows]
    numeric = [
        bool(rows) and all(isinstance(row[i], (int, float)) or row[i] is None for row in rows)
        for i in range(len(header))
    ]
    widths = [max(width(text) for text in [header[i], *(row[i] for row in cells)]) for i in range(len(header))]
    for row in [list(header), *cells]:
        parts = [
            " " * (size - width(text)) + text if right else text + " " * (size - width(text))
            for text, size, right in zip(row, widths, numeric, strict=True)
        ]
        yield "  ".join(parts).rstrip()


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4f}" if 1e-3 <= abs(value) < 1e6 or value == 0 else f"{value:.4g}"
    return str(value)


def width(text: str) -> int:
    """Columns that a text takes on a terminal."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def paint(text: str, code: str, stream: TextIO) -> str:
    """The text in a colour where the stream is a terminal that wants colours (https://no-color.org)."""
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and stream.isatty()
    return f"\x1b[{code}m{text}\x1b[0m" if wanted else text
