"""`lamina show`: what a registered thing is. Reads the index and imports no torch."""

from __future__ import annotations

import argparse
from typing import Any

from lamina.cli.output import Output
from lamina.cli.parser import Parser
from lamina.core.errors import UnknownNameError, nearest
from lamina.core.registry import KINDS, Entry, describe, names

SUMMARY = "say what a registered thing is: parameters, source, fidelity, an example"
EXAMPLES = ("lamina show lenet5", "lamina show recipe:sign-cnn", "lamina show optimizer:adam --json")


def add_arguments(parser: Parser) -> None:
    """The words of the command."""
    parser.add_argument("name", metavar="NAME", help="a name, or KIND:NAME; models are looked up first, then recipes")


def run(options: argparse.Namespace, output: Output) -> int:
    """Print the description."""
    entry, others = find(options.name)
    row = description(entry)
    if others:
        row["also"] = [f"{kind}:{entry.name}" for kind in others]
    output.document(row)
    output.text(f"{entry.name} ({entry.kind})\n  {entry.summary}")
    for title in ("source", "fidelity", "example"):
        if row[title]:
            output.text(f"\n{title}\n  {row[title]}")
    if row["parameters"]:
        output.text("\nparameters")
        for parameter in row["parameters"]:
            default = "" if parameter["required"] else f" = {parameter['default']}"
            output.text(f"  {parameter['name']}{default}")
            output.text(f"      {parameter['type']}; {parameter['description']}".rstrip("; "))
    if entry.kind == "weights":
        _show_weights(entry, output)
    if "recipe" in row:
        output.text("\nrecipe")
        output.text("\n".join(f"  {line}" for line in row["recipe_yaml"].splitlines()))
    if others:
        output.note(f"\nThe same name is also {', '.join(row['also'])}.")
    return 0


def _show_weights(entry: Entry, output: Output) -> None:
    """A weight table's models, names, images and classes."""
    facts = entry.capabilities
    output.text(f"\nmodels\n  {', '.join(facts['models'])}")
    output.text("\nnames (theirs -> ours)")
    for rule in facts["rules"]:
        layout = f"   {rule['transform']}" if rule["transform"] else ""
        output.text(f"  {rule['theirs']} -> {rule['ours'] or 'left out'}{layout}")
    images = facts["preparation"]
    steps = "; ".join(" ".join(str(value) for value in step.values()) for step in images["steps"])
    output.text(f"\nimages\n  {'x'.join(map(str, images['size']))}, {images['interpolation']}; {steps}")
    if facts["labels"]:
        output.text(f"\nclasses\n  {', '.join(facts['labels'])}")


def find(word: str) -> tuple[Entry, list[str]]:
    """The entry of `NAME` or `KIND:NAME`, and the other kinds that have the name.

    Raises:
        UnknownNameError: Nothing has this name; the nearest are suggested.
    """
    kind, colon, name = word.partition(":")
    if colon and kind in KINDS:
        return describe(kind, name, where="command line, NAME"), []
    having = [kind for kind in KINDS if word in names(kind)]
    if not having:
        known = {name for kind in KINDS for name in names(kind)}
        near = nearest(word, known)
        raise UnknownNameError(
            f"Nothing is called {word!r}.",
            where="command line, NAME",
            accepts="the name of a model, recipe, task, dataset, …, or KIND:NAME",
            mend=f"did you mean {' or '.join(map(repr, near))}?" if near else "`lamina list` names everything there is",
        )
    return describe(having[0], word), having[1:]


def description(entry: Entry) -> dict[str, Any]:
    """The JSON form of an entry: `parameters` are the fields of its Config."""
    row = entry.describe()
    row["config_schema"] = row.pop("schema")
    row["parameters"] = list(_parameters(entry))
    if entry.kind == "recipe":
        from lamina.core.run import render_recipe
        from lamina.recipes.recipe import resolve

        resolved = resolve(entry.name)
        row["capabilities"] = {}
        row["recipe"] = resolved.values
        row["origins"] = resolved.origins
        row["recipe_yaml"] = render_recipe(resolved.values, resolved.origins)
    return row


def _parameters(entry: Entry) -> list[dict[str, Any]]:
    schema = entry.schema or {}
    if not schema.get("properties"):
        return []
    from lamina.core.config import describe_schema

    return [
        {
            "name": name,
            "type": describe_schema({k: v for k, v in field.items() if k != "description"}, schema),
            "required": name in schema.get("required", ()),
            "default": (entry.defaults or {}).get(name),
            "description": field.get("description", ""),
        }
        for name, field in schema["properties"].items()
    ]
