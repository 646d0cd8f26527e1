"""`lamina data`: what a reader sees in a file, folder, archive or embedded dataset."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lamina.cli.output import Output
from lamina.cli.parser import Parser
from lamina.core.errors import DataError

if TYPE_CHECKING:
    from lamina.data.columns import Fault

SUMMARY = "say what is in a file, folder or dataset: classes, statistics, faults, duplicates, leaks"
_SHOWN = 10
_COLUMNS = 40
EXAMPLES = ("lamina data digits", "lamina data train.csv", "lamina data photos.zip data.label=kind --json")


def add_arguments(parser: Parser) -> None:
    """The words of the command."""
    parser.add_argument("path", metavar="PATH", help="file, folder or archive, or the name of an embedded dataset")
    parser.add_argument(
        "values", nargs="*", metavar="data.KEY=VALUE", help="how to read it: data.label=kind data.shape=[28,28]"
    )


def run(options: argparse.Namespace, output: Output) -> int:
    """Read everything, list the faults, look for duplicates and leaks."""
    config_values = data_values(options.values)
    from lamina.data.config import DataConfig

    config = DataConfig.from_values({"on_fault": "skip", **config_values}, where="data")
    from lamina.data.inspection import inspect_data
    from lamina.data.loading import load_data

    data = load_data(options.path, config=config)
    document = inspect_data(data)
    _show(document, output)
    stopping = [fault for fault in data.faults if fault.stops]
    if stopping and config_values.get("on_fault") != "skip":
        error = _refusal(stopping)
        output.refuse(error, document)
        return error.exit_status
    output.document(document)
    return 0


def _refusal(faults: Sequence[Fault]) -> DataError:
    first = faults[0]
    place = [
        f"{key} {value!r}" for key, value in (("column", first.column), ("value", first.value)) if value is not None
    ]
    return DataError(
        f"{len(faults)} row{'s have' if len(faults) > 1 else ' has'} faults, the first: {first.message.rstrip('.')}.",
        where=", ".join([first.file, *([f"row {first.row}"] if first.row is not None else []), *place]),
        accepts="files without faults, or data.on_fault=skip",
        mend="correct the file, or leave such rows out with data.on_fault=skip",
    )


def data_values(words: list[str]) -> dict[str, Any]:
    """The `data` section of `data.KEY=VALUE` words.

    Raises:
        ConfigError: A word speaks of another section, or of a key that does not exist.
    """
    from lamina.core.config import check_values, parse_assignments, unknown_key
    from lamina.data.config import DataConfig

    values = parse_assignments(words)
    for section in values:
        if section != "data":
            raise unknown_key(section, ["data"], where="command line")
    found = values.get("data", {})
    check_values(
        values, {"properties": {"data": DataConfig.json_schema()}, **_defs(DataConfig.json_schema())}, where=""
    )
    return dict(found)


def _defs(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"$defs": schema["$defs"]} if "$defs" in schema else {}


def _show(document: Mapping[str, Any], output: Output) -> None:
    output.text(f"reader  {document['reader']}")
    for name, split in document["splits"].items():
        output.text(f"{name:<7} {split['rows']:,} rows")
    classes = [str(name) for name in document["classes"]]
    if classes:
        counts: dict[str, int] = {}
        for split in document["splits"].values():
            for name, count in (split.get("classes") or {}).items():
                counts[name] = counts.get(name, 0) + count
        shown = ", ".join(f"{name} ({counts.get(name, 0):,})" for name in classes[:24])
        output.text(f"classes {len(classes)}: {shown}{' …' if len(classes) > 24 else ''}")
    output.text("\ncolumns")
    for name, found in document["statistics"].items():
        output.text(f"  {name}: {_statistics(found)}")
        _fields(found.get("fields") or (), output)
    duplicates = document["duplicates"]
    counted = [f"{duplicates[kind]['rows']:,} {kind}" for kind in ("exact", "near") if duplicates.get(kind)]
    output.text(f"\nduplicates: {', '.join(counted) or 'none'}")
    for title in ("notes", "warnings", "faults", "leaks"):
        items = document.get(title) or []
        if items:
            output.text(f"\n{title}")
        for item in items[:_SHOWN]:
            output.text(f"  {_sentence(item)}")
        if len(items) > _SHOWN:
            output.text(f"  … and {len(items) - _SHOWN} more; --json lists them")


def _statistics(found: Mapping[str, Any]) -> str:
    shape = "x".join(map(str, found["shape"])) or "one value"
    fields = found.get("fields")
    if fields:
        missing = sum(field.get("missing", 0) for field in fields)
        count = f"{len(fields)} column{'s' if len(fields) > 1 else ''}"
        return f"{found['dtype']}, {count}" + (f"; {missing:,} values missing" if missing else "")
    if -1 in found["shape"]:
        from lamina.data.text_inspection import text_facts

        return "; ".join([found["role"], *text_facts(found)])
    facts = [f"{key} {found[key]}" for key in ("min", "max", "mean", "std", "num_values") if found.get(key) is not None]
    return f"{found['dtype']}, {shape} per row" + (f"; {', '.join(facts)}" if facts else "")


def _fields(fields: Sequence[Mapping[str, Any]], output: Output) -> None:
    """A line per column of a table: the range of numbers, the commonest of categories."""
    numbers = [field for field in fields if "mean" in field]
    if numbers:
        keys = ("min", "max", "mean", "std", "missing")
        rows = [[f"{field['name']}", *(field.get(key) for key in keys)] for field in numbers[:_COLUMNS]]
        output.table(rows, header=["", *keys], indent="    ")
    for field in [field for field in fields if "counts" in field][:_COLUMNS]:
        common = list(field["counts"].items())[:5]
        shown = ", ".join(f"{value} ({count:,})" for value, count in common)
        more = " …" if field["num_values"] > len(common) else ""
        missing = f"; {field['missing']:,} missing" if field.get("missing") else ""
        output.text(f"    {field['name']}: {field['num_values']} values: {shown}{more}{missing}")
    for kind in ("mean", "counts"):
        left = sum(kind in field for field in fields) - _COLUMNS
        if left > 0:
            output.text(f"    … and {left} more; --json lists them")


def _sentence(item: Any) -> str:
    if not isinstance(item, Mapping):
        return str(item)
    place = [f"{key} {item[key]}" for key in ("file", "row", "column", "value") if item.get(key) is not None]
    if "message" in item:
        return f"{', '.join(place)}: {item['message']}" if place else str(item["message"])
    return ", ".join(f"{key} {value}" for key, value in item.items())
