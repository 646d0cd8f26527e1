"""Configs: declared once, they serve Python, YAML, the command line, JSON Schema and forms.

`Config` is a frozen pydantic model whose faults are four-part errors with the nearest key. `check_values` checks plain
values against the JSON Schema of a Config without importing the module that declares it (and with it torch), so that
a recipe is refused before anything heavy is loaded. `merge` layers values and remembers where each one came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticUndefined

from lamina.core.errors import ConfigError, nearest

__all__ = ["Config", "Field", "check_values", "flatten", "merge", "parse_assignments", "read_yaml", "write_yaml"]


class Config(BaseModel):
    """A frozen, typed, keyword-only description; unknown keys and values out of bounds are refused."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=False,
        validate_default=True,
        protected_namespaces=(),
        allow_inf_nan=False,
        arbitrary_types_allowed=False,
    )

    def __init__(self, /, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _readable(error, type(self)) from None

    @classmethod
    def from_values(cls, values: Mapping[str, Any], *, where: str = "") -> Self:
        """Build from plain values (of YAML, say); `where` prefixes the keys in error messages."""
        # Not model_validate: that calls our own __init__, whose error would arrive wrapped and without `where`.
        built = cls.__new__(cls)
        try:
            cls.__pydantic_validator__.validate_python(dict(values), self_instance=built)
        except ValidationError as error:
            raise _readable(error, cls, where=where) from None
        return built

    def values(self) -> dict[str, Any]:
        """Plain values that YAML and JSON can hold; `from_values` inverts it."""
        return self.model_dump(mode="json")

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """The JSON Schema of the Config: types, bounds, defaults and descriptions."""
        return cls.model_json_schema()

    @classmethod
    def default_values(cls) -> dict[str, Any]:
        """Plain values of the fields that have a default."""
        fields = {
            name: info.get_default(call_default_factory=True)
            for name, info in cls.model_fields.items()
            if not info.is_required()
        }
        built = cls.model_construct(**{k: v for k, v in fields.items() if v is not PydanticUndefined})
        return {k: v for k, v in built.model_dump(mode="json", warnings=False).items() if k in fields}


def _readable(error: ValidationError, cls: type[BaseModel], *, where: str = "") -> ConfigError:
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    key = ".".join([*([where] if where else []), *path]) or (where or cls.__name__)
    inner = first.get("ctx", {}).get("error")
    if isinstance(inner, ConfigError):  # a Config inside this one
        return ConfigError(f"{key}: {inner.what}", where=key, accepts=inner.accepts, mend=inner.mend)
    if first["type"] == "extra_forbidden":
        owner = _owner(cls, path[:-1])
        return unknown_key(path[-1], owner.model_fields if owner else (), where=key)
    if first["type"] == "missing":
        return ConfigError(
            f"{key} is missing.",
            where=f"{cls.__name__}, key `{key}`",
            accepts=_describe_field(cls, path),
            mend=f"give {key}=…",
        )
    return ConfigError(
        f"{key} got {first['input']!r}: {first['msg'][:1].lower()}{first['msg'][1:]}.",
        where=f"{cls.__name__}, key `{key}`",
        accepts=_describe_field(cls, path),
        mend=f"change {key}, or leave it out to use the default",
    )


def _owner(cls: type[BaseModel], path: Sequence[str]) -> type[BaseModel] | None:
    current: Any = cls
    for part in path:
        info = getattr(current, "model_fields", {}).get(part)
        current = getattr(info, "annotation", None)
    return current if isinstance(current, type) and issubclass(current, BaseModel) else None


def _describe_field(cls: type[BaseModel], path: Sequence[str]) -> str:
    owner = _owner(cls, path[:-1]) if path else None
    if owner is None or path[-1] not in owner.model_fields:
        return "see the description of " + cls.__name__
    schema = owner.model_json_schema()
    return describe_schema(schema["properties"][path[-1]], schema)


def unknown_key(key: str, known: Iterable[str], *, where: str) -> ConfigError:
    """The error for a key that does not exist, with the nearest one."""
    names = sorted(known)
    near = nearest(key, names)
    return ConfigError(
        f"There is no key {key!r}.",
        where=where,
        accepts=", ".join(names) or "no keys",
        mend=f"did you mean {near[0]!r}?" if near else "leave it out, or look the keys up with `lamina show`",
    )


# --- JSON Schema, without the classes ------------------------------------------------------------------------------


def describe_schema(schema: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    """One readable line for a field's schema: type, bounds and description."""
    schema = _resolve(schema, root)
    text = _type_text(schema, root)
    description = schema.get("description", "")
    return f"{text}; {description}" if description else text


def _type_text(schema: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    schema = _resolve(schema, root)
    if "enum" in schema:
        return "one of " + ", ".join(str(v) for v in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    if "anyOf" in schema:
        return " or ".join(_type_text(option, root) for option in schema["anyOf"])
    bounds = [
        f"{sign} {schema[key]}"
        for key, sign in (("minimum", ">="), ("exclusiveMinimum", ">"), ("maximum", "<="), ("exclusiveMaximum", "<"))
        if key in schema
    ]
    kind = {"null": "nothing", "array": "a list", "object": "a mapping", "string": "text"}.get(
        schema.get("type", ""), schema.get("type", "a value")
    )
    if schema.get("type") == "array" and isinstance(schema.get("items"), Mapping):
        kind = f"a list of {_type_text(schema['items'], root)}"
    elif schema.get("prefixItems"):
        kind = (
            f"a list of {len(schema['prefixItems'])}: {', '.join(_type_text(s, root) for s in schema['prefixItems'])}"
        )
    return " ".join([kind, *bounds])


def _resolve(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = schema.get("$ref")
    if isinstance(reference, str):
        resolved = root["$defs"][reference.rsplit("/", 1)[-1]]
        return {**resolved, **{k: v for k, v in schema.items() if k != "$ref"}}
    return schema


def check_values(values: Mapping[str, Any], schema: Mapping[str, Any], *, where: str) -> None:
    """Check plain values against a Config's JSON Schema, as the Config itself would.

    Raises:
        ConfigError: An unknown key, a missing one, a wrong type or a bound overstepped.
    """
    _check_object(values, schema, schema, where)


def _check_object(values: Mapping[str, Any], schema: Mapping[str, Any], root: Mapping[str, Any], where: str) -> None:
    properties: Mapping[str, Any] = schema.get("properties", {})
    for key, value in values.items():
        path = f"{where}.{key}" if where else str(key)
        extra = schema.get("additionalProperties", True)
        if key not in properties and not isinstance(extra, Mapping):
            if extra is False:
                raise unknown_key(str(key), properties, where=path)
            continue
        inner = properties.get(key, extra)
        fault = _fault(value, inner, root, path)
        if fault:
            raise ConfigError(
                f"{path} got {value!r}: {fault}.",
                where=f"key `{path}`",
                accepts=describe_schema(inner, root),
                mend=f"change {path}, or leave it out to use the default",
            )
    for key in schema.get("required", ()):
        if key not in values:
            path = f"{where}.{key}" if where else str(key)
            raise ConfigError(
                f"{path} is missing.",
                where=f"key `{path}`",
                accepts=describe_schema(properties[key], root),
                mend=f"give {path}=…",
            )


def _fault(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any], path: str) -> str | None:
    schema = _resolve(schema, root)
    if "anyOf" in schema:
        faults = [_fault(value, option, root, path) for option in schema["anyOf"]]
        return None if None in faults else faults[0]
    if "enum" in schema and value not in schema["enum"]:
        near = nearest(str(value), [str(v) for v in schema["enum"]])
        return "it is not one of the choices" + (f"; did you mean {near[0]!r}?" if near else "")
    if "const" in schema and value != schema["const"]:
        return f"it must be {schema['const']!r}"
    kind = schema.get("type")
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "integer" and not (number and float(value).is_integer()):
        return "it is not a whole number"
    if kind == "number" and not number:
        return "it is not a number"
    if kind == "string" and not isinstance(value, str):
        return "it is not text"
    if kind == "boolean" and not isinstance(value, bool):
        return "it is neither true nor false"
    if kind == "null" and value is not None:
        return "it is not empty"
    if kind == "array":
        if isinstance(value, str) or not isinstance(value, Sequence):
            return "it is not a list"
        if len(value) < schema.get("minItems", 0) or len(value) > schema.get("maxItems", len(value)):
            return "it has the wrong number of items"
        prefix = schema.get("prefixItems", [])
        for position, item in enumerate(value):
            inner = prefix[position] if position < len(prefix) else schema.get("items", {})
            fault = _fault(item, inner, root, path) if isinstance(inner, Mapping) else None
            if fault:
                return f"item {position}: {fault}"
    if kind == "object":
        if not isinstance(value, Mapping):
            return "it is not a mapping"
        _check_object(value, schema, root, path)
    if number and kind in ("integer", "number"):
        return _bound_fault(float(value), schema)
    return None


def _bound_fault(value: float, schema: Mapping[str, Any]) -> str | None:
    if value != value or value in (float("inf"), float("-inf")):
        return "it is not finite"
    if "minimum" in schema and value < schema["minimum"]:
        return f"it is below {schema['minimum']}"
    if "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]:
        return f"it must be above {schema['exclusiveMinimum']}"
    if "maximum" in schema and value > schema["maximum"]:
        return f"it is above {schema['maximum']}"
    if "exclusiveMaximum" in schema and value >= schema["exclusiveMaximum"]:
        return f"it must be below {schema['exclusiveMaximum']}"
    return None


# --- Layers of values and where each came from ---------------------------------------------------------------------


# What the YAML library raises for dates that do not exist, numbers of thousands of digits, or a thousand brackets.
_YAML_FAULTS = (yaml.YAMLError, ValueError, AttributeError, RecursionError)


class _Loader(yaml.SafeLoader):
    """YAML 1.2 floats: `1e-3` is a number, as everybody who types a learning rate expects; duplicate keys are faults."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, (str, int, float, bool)) or key is None:
                if key in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"the key {key!r} stands twice", problem_mark=key_node.start_mark
                    )
                seen.add(key)
        return super().construct_mapping(node, deep=deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:float"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    __import__("re").compile(
        r"^[-+]?(\d[\d_]*\.[\d_]*|\.\d+|\d[\d_]*(?=[eE]))([eE][-+]?\d+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"
    ),
    list("-+0123456789."),
)


def read_yaml(text: str, *, where: str, max_bytes: int = 1 << 20) -> dict[str, Any]:
    """Parse a YAML mapping of plain values; no tags, no code, no duplicate keys, at most `max_bytes`.

    Raises:
        ConfigError: Not YAML, not a mapping, or too large; names line and column.
    """
    accepts = "a YAML mapping of plain values, at most 1 MiB"
    if len(text) > max_bytes:
        raise ConfigError("The file is too large for a recipe.", where=where, accepts=accepts, mend="check the path")
    if "&" in text and any(isinstance(event, yaml.AliasEvent) for event in _events(text, where, accepts)):
        raise ConfigError(
            "YAML aliases are not read.", where=where, accepts=accepts, mend="write the value out in full"
        )
    try:
        document = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader with YAML 1.2 floats
    except _YAML_FAULTS as error:
        raise _yaml_fault(error, where, accepts) from None
    if document is None:
        return {}
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
        raise ConfigError(
            f"The file holds {type(document).__name__}, not a mapping of named values.",
            where=where,
            accepts=accepts,
            mend="write `section:` lines, as `lamina show RECIPE` prints them",
        )
    return document


def _events(text: str, where: str, accepts: str) -> Iterable[Any]:
    try:
        yield from yaml.parse(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise _yaml_fault(error, where, accepts) from None


def _yaml_fault(error: Exception, where: str, accepts: str) -> ConfigError:
    mark = getattr(error, "problem_mark", None)
    place = f"{where}, line {mark.line + 1}, column {mark.column + 1}" if mark is not None else where
    problem = (
        "it is nested too deeply"
        if isinstance(error, RecursionError)
        else getattr(error, "problem", None) or str(error)
    )
    return ConfigError(f"This is not readable YAML: {problem}.", where=place, accepts=accepts, mend="correct that line")


def write_yaml(values: Mapping[str, Any]) -> str:
    """Plain values as YAML in the given order; `read_yaml` inverts it."""
    return yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)


def parse_assignments(words: Iterable[str]) -> dict[str, Any]:
    """`section.key=value` words -> nested values; the right side is read as YAML.

    >>> parse_assignments(["optimizer.lr=1e-2", "model.hidden_sizes=[32, 16]", "seed=3"])
    {'optimizer': {'lr': 0.01}, 'model': {'hidden_sizes': [32, 16]}, 'seed': 3}
    """
    nested: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        parts = key.split(".")
        if not equals or not all(parts):
            raise ConfigError(
                f"{word!r} is not of the form section.key=value.",
                where="command line",
                accepts="words like optimizer.lr=0.01 or training.epochs=5",
                mend="put an equals sign between key and value, without spaces; quote values that have spaces",
            )
        try:
            value = yaml.load(text, Loader=_Loader) if text else ""  # noqa: S506 - a SafeLoader
        except _YAML_FAULTS as error:
            raise _yaml_fault(error, f"command line, {word!r}", "a YAML value") from None
        level = nested
        for part in parts[:-1]:
            inner = level.setdefault(part, {})
            if not isinstance(inner, dict):
                raise ConfigError(
                    f"{key!r} goes inside a value that was given before.",
                    where=f"command line, {word!r}",
                    accepts="each key once",
                    mend=f"drop {part}=… or {word}",
                )
            level = inner
        if isinstance(level.get(parts[-1]), dict) and not isinstance(value, dict):
            raise ConfigError(
                f"{key!r} would drop what was given inside it before.",
                where=f"command line, {word!r}",
                accepts="each section in one way: its options one by one, or as a whole",
                mend=f"name it beside its options: {key}.kind=… (model) or {key}.name=… (the others)",
            )
        level[parts[-1]] = value
    return nested


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings -> dotted keys; lists are values. An empty mapping stays as itself."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{path}."))
        else:
            flat[path] = value
    return flat


def merge(
    layers: Sequence[tuple[str, Mapping[str, Any]]], *, choices: Iterable[str] = ()
) -> tuple[dict[str, Any], dict[str, str]]:
    """Lay nested values over each other, the last winning, and say which layer each leaf came from.

    Args:
        layers: (origin, values) from the weakest to the strongest.
        choices: Top-level sections that name a registered thing by `kind` or `name`. A layer that names another thing
            replaces the section, because the options of the old thing mean nothing to the new one.

    Returns:
        Values, and dotted key -> origin.
    """
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    chosen = set(choices)
    for origin, values in layers:
        for section, value in values.items():
            if section in chosen and isinstance(value, Mapping) and isinstance(merged.get(section), Mapping):
                discriminator = "kind" if "kind" in {**merged[section], **value} else "name"
                if value.get(discriminator, merged[section].get(discriminator)) != merged[section].get(discriminator):
                    merged.pop(section)
                    origins = {k: v for k, v in origins.items() if not k.startswith(f"{section}.")}
        _lay(merged, values, origin, origins, "")
    return merged, origins


def _lay(target: dict[str, Any], values: Mapping[str, Any], origin: str, origins: dict[str, str], prefix: str) -> None:
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            inner = target.get(key)
            if not isinstance(inner, dict):
                inner = target[key] = {}
            _lay(inner, value, origin, origins, f"{path}.")
        else:
            target[key] = list(value) if isinstance(value, tuple) else value
            origins[path] = origin
