"""JSON from files that nobody vouches for: bounded, without duplicates, NaN or hidden infinities.

The standard parser accepts `NaN`, overflows `1e999` to infinity, keeps the last of two equal keys and can exhaust the
stack on deep nesting. Here each of these is a four-part error that names the file. Imports no torch.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final

from lamina.core.errors import BundleError, LaminaError

MAX_DEPTH: Final = 32
_TOKEN: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)


def parse_json(
    data: bytes,
    *,
    where: str,
    mend: str,
    max_bytes: int,
    max_depth: int = MAX_DEPTH,
    finite_only: bool = True,
    error: type[LaminaError] = BundleError,
) -> dict[str, Any]:
    """Parse a JSON object.

    Args:
        data: The file's bytes: UTF-8 without a byte order mark.
        where: The file, for messages.
        mend: What the user should do about a fault.
        max_bytes: Refuse longer texts before parsing.
        max_depth: Refuse deeper nesting of objects and arrays before parsing.
        finite_only: False takes NaN and infinities, as Python writes them, for numbers.
        error: Class of the errors.

    Raises:
        LaminaError: Of class `error`: too long, too deep, not UTF-8, not JSON, a duplicate key, NaN, an infinity, a
            number beyond float64, or not an object at the top.
    """

    def fault(what: str) -> LaminaError:
        return error(
            what,
            where=where,
            accepts=f"a JSON object in UTF-8 of at most {max_bytes} bytes and {max_depth} levels{', finite numbers only' if finite_only else ''}",
            mend=mend,
        )

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            raise fault(f"The key {next(k for k in keys if keys.count(k) > 1)!r} stands twice in one object.")
        return found

    def constant(text: str) -> float:
        if not finite_only:
            return float(text)
        raise fault(f"It holds the number {text}.")

    def finite(text: str) -> float:
        value = float(text)
        if not math.isfinite(value):
            raise fault(f"It holds the number {text}, beyond what 64 bits hold.")
        return value

    if len(data) > max_bytes:
        raise fault(f"It has {len(data)} bytes.")
    depth = _depth(data)
    if depth > max_depth:
        raise fault(f"It is nested {depth} levels deep.")
    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=unique, parse_constant=constant, parse_float=finite, parse_int=_int
        )
    except UnicodeDecodeError as problem:
        raise fault(f"It is not UTF-8: byte {problem.start} is {data[problem.start]:#04x}.") from None
    except json.JSONDecodeError as problem:
        raise fault(f"It is not JSON: {problem.msg} at line {problem.lineno}, column {problem.colno}.") from None
    except ValueError as problem:  # `finite` and `_int` raise through the parser
        if isinstance(problem, LaminaError):
            raise
        raise fault(f"It holds a number that cannot be read: {problem}.") from None
    if not isinstance(value, dict):
        raise fault(f"It holds a {type(value).__name__} where an object should be.")
    return value


def dump_json(values: Mapping[str, Any]) -> bytes:
    """UTF-8 JSON for people and `parse_json`: indented, keys in the given order, NaN and infinities refused (ValueError)."""
    return (json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")


def canonical_sha256(values: Mapping[str, Any]) -> str:
    """sha256 of what a JSON object says, whatever its layout and order of keys; hexadecimal."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _int(text: str) -> int:
    if len(text) > 20:  # beyond 64 bits; Python would go on for megabytes of digits
        raise ValueError(f"a whole number of {len(text)} digits")
    return int(text)


def _depth(data: bytes) -> int:
    """Deepest nesting of brackets outside strings; texts that are not JSON may give any number, the parser refuses them."""
    depth = deepest = 0
    for token in _TOKEN.finditer(data):
        first = token.group()[:1]
        if first in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif first in b"]}":
            depth -= 1
    return deepest
