"""`lamina list`: the names of everything that is registered. Reads the index and imports no torch."""

from __future__ import annotations

import argparse
import textwrap
from typing import Any, Final

from lamina.cli.output import Output
from lamina.cli.parser import Parser
from lamina.core.errors import UsageError, nearest
from lamina.core.registry import KINDS, Entry, entries

SUMMARY = "name the models, recipes, tasks, datasets, … there are"
EXAMPLES = ("lamina list", "lamina list recipes", "lamina list models --json")

_ODD: Final = {"loss": "losses", "preprocessing": "preprocessing", "weights": "weights"}
PLURALS: Final = {kind: _ODD.get(kind, f"{kind}s") for kind in KINDS}


def add_arguments(parser: Parser) -> None:
    """The words of the command."""
    parser.add_argument("kind", nargs="?", metavar="KIND", help=f"one of {', '.join(PLURALS.values())}")


def run(options: argparse.Namespace, output: Output) -> int:
    """Print names and summaries."""
    kinds = [_kind(options.kind)] if options.kind is not None else list(KINDS)
    found = {kind: entries(kind) for kind in kinds}
    output.document({PLURALS[kind]: [_row(entry) for entry in rows] for kind, rows in found.items()})
    for position, (kind, rows) in enumerate(found.items()):
        if options.kind is None:
            if not rows:
                continue
            output.text(("\n" if position else "") + PLURALS[kind])
        size = max((len(entry.name) for entry in rows), default=0)
        for entry in rows:
            output.text(f"  {entry.name:<{size}}  {textwrap.shorten(entry.summary, 100, placeholder=' …')}".rstrip())
    if not output.json_wanted:
        output.note("\n`lamina show NAME` says more about each.")
    return 0


def _row(entry: Entry) -> dict[str, Any]:
    row: dict[str, Any] = {"name": entry.name, "summary": entry.summary, "source": entry.source}
    values = entry.capabilities.get("values")
    if entry.kind == "recipe" and isinstance(values, dict):
        row["extends"] = values.get("extends")
        row["task"] = values.get("task", {}).get("name")
        row["model"] = values.get("model", {}).get("kind")
        row["data"] = values.get("data", {}).get("path")
    return row


def _kind(word: str) -> str:
    singular = {plural: kind for kind, plural in PLURALS.items()} | {kind: kind for kind in KINDS}
    if word not in singular:
        near = nearest(word, PLURALS.values())
        raise UsageError(
            f"There is no kind of thing called {word!r}.",
            where="command line of lamina list, KIND",
            accepts=", ".join(PLURALS.values()),
            mend=f"did you mean {near[0]!r}?" if near else "`lamina list` alone lists everything",
        )
    return singular[word]
