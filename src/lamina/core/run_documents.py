"""The JSON documents of a run folder, read as if a stranger had written them: a folder may have been copied, edited or cut off.

Imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from lamina.core.errors import RunError
from lamina.core.strict_json import parse_json

__all__ = ["ENVIRONMENT", "RESULT", "Fields", "read_document", "read_line", "read_lines"]

_MAX_BYTES: Final = 64 << 20
_MAX_LINE_BYTES: Final = 1 << 20

# Key -> (whether its value will do, what is accepted); keys that are not named are nobody's concern here.
Fields = Mapping[str, tuple[Callable[[Any], bool], str]]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)


def _is_metrics(value: Any) -> bool:
    return isinstance(value, dict) and all(number is None or _is_number(number) for number in value.values())


def _is_choices(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(row, dict) and set(row) == {"value", "reason"} and all(map(_is_text, row.values()))
        for row in value.values()
    )


_CHOICES: Final = (_is_choices, 'an object of {"value": text, "reason": text}')

ENVIRONMENT: Final[Fields] = {
    "device": (_is_text, "text, such as cpu"),
    "threads": (lambda value: value is None or (_is_count(value) and value > 0), "a whole number above 0, or null"),
    "data_fingerprint": (_is_text, "text"),
    "data_notes": (_is_texts, "a list of texts"),
    "command": (_is_texts, "a list of texts"),
    "choices": _CHOICES,
}
RESULT: Final[Fields] = {
    "metrics": (_is_metrics, "an object of numbers"),
    "epochs": (_is_count, "a whole number"),
    "steps": (_is_count, "a whole number"),
    "best_step": (_is_count, "a whole number"),
    "seconds": (_is_number, "a number"),
    "samples_per_s": (_is_number, "a number"),
    "choices": _CHOICES,
}


def read_document(path: Path, *, fields: Fields, mend: str) -> dict[str, Any]:
    """A JSON object with the known fields checked.

    Raises:
        RunError: It is too large, no strict JSON object, or a field is of another kind.
    """
    content = _read(path, _MAX_BYTES + 1)
    document = parse_json(content, where=str(path), mend=mend, max_bytes=_MAX_BYTES, error=RunError)
    for key, (fits, accepts) in fields.items():
        if key in document and not fits(document[key]):
            raise RunError(
                f"{key} is {_short(document[key])}.", where=f"{path}, key `{key}`", accepts=accepts, mend=mend
            )
    return document


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`. NaN stays NaN. A last line that was cut off by a crash is left out.

    Raises:
        RunError: Another line is not JSON, or is none of training's.
    """
    lines = _read(path, -1).split(b"\n")
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = read_line(line)
        except ValueError as error:
            if number == len(lines):
                break
            raise RunError(
                f"The line is not training's: {error}.",
                where=f"{path}, line {number}",
                accepts="one JSON object per line, as the training writes them",
                mend="delete that line",
            ) from None
        rows.append(row)
    return rows


def read_line(line: bytes | str) -> dict[str, Any]:
    """One line of `metrics.jsonl`; NaN and infinities are numbers here.

    Raises:
        ValueError: It is not JSON, or not an object with step, epoch, split and numbers.
    """
    if len(line) > _MAX_LINE_BYTES:
        raise ValueError(f"it has {len(line)} bytes")
    try:
        row = json.loads(line)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(row, dict):
        raise ValueError(f"it holds {_short(row)}, not an object")
    for key in ("step", "epoch"):
        if not _is_count(row.get(key)):
            raise ValueError(f"its {key} is {_short(row.get(key))}, not a whole number")
    if not isinstance(row.get("split"), str):
        raise ValueError(f"its split is {_short(row.get('split'))}, not text")
    for key, value in row.items():
        if key not in ("step", "epoch", "split") and not _is_number(value):
            raise ValueError(f"its {key} is {_short(value)}, not a number")
    return row


def _read(path: Path, num_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(num_bytes)
    except OSError as error:
        raise RunError(
            f"The file cannot be read: {error.strerror or error}.",
            where=str(path),
            accepts="a file of the run that may be read",
            mend="change its permissions, or those of the run folder",
        ) from None


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 60 else f"{text[:57]}…"
