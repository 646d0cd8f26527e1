"""Recipes: descriptions of a whole training, resolved from layers and checked before anything heavy is loaded.

A recipe names data, preprocessing, augmentation, model, task, loss, optimizer, schedule and training by registered names
and values; it is never a program. `resolve` lays recipe, file and command line over each other, fills in defaults from
the registry's index, refuses what cannot work, and says where each value came from. Imports no torch.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lamina.core import registry
from lamina.core.config import Config, Field, check_values, flatten, merge, parse_assignments, read_yaml
from lamina.core.errors import ConfigError, LaminaError, UsageError, nearest
from lamina.data.config import DataConfig
from lamina.tasks.stage_config import StageConfig
from lamina.train.config import TrainingConfig

__all__ = [
    "Recipe",
    "Resolved",
    "check_partial",
    "command_line_values",
    "declare",
    "known_values",
    "resolve",
    "resolve_layers",
]


class Recipe(Config):
    """A whole training as values."""

    name: str = Field(
        "custom", description="Name of the recipe; runs are called after it.", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
    )
    summary: str = Field("", description="What it trains, on one line.")
    needs: str = Field("", description="What the user's data must be, where the recipe brings none.")
    needs_weights: str = Field("", description="What weights it begins from, where it cannot do without.")
    seed: int = Field(0, description="Keys every random draw.", ge=0, lt=2**63)
    task: dict[str, Any] = Field(description="What a batch means: `name` of a task, and its options.")
    data: DataConfig = Field(DataConfig(), description="What to read and how to divide it.")
    preprocess: tuple[dict[str, Any], ...] = Field(
        (), description="Steps fitted on the training split, in order, each with `name`."
    )
    augment: tuple[dict[str, Any], ...] = Field(
        (), description="Random changes of training images, in order, each with `name`."
    )
    model: dict[str, Any] = Field(
        description="`kind` of a model, and its options; the data fills in what is left open."
    )
    weights: str | None = Field(
        None,
        description="What to start from: a bundle, a run, a file of weights (safetensors, .pth, .th, NPZ …), TABLE:FILE, or a model of the hub (timm/NAME, hf:OWNER/NAME).",
    )
    new_head: bool = Field(
        False,
        description="Leave the head of `weights` out and begin a new one; a first stage that trains the head alone does.",
    )
    adapt_channels: bool = Field(
        False, description="Adapt the first layer of `weights` where the images have another number of channels."
    )
    loss: dict[str, Any] | None = Field(
        None, description="`name` of a loss, and its options; the task's own by default."
    )
    penalties: tuple[dict[str, Any], ...] = Field((), description="Penalties on parameters, each with its options.")
    optimizer: dict[str, Any] = Field({"name": "adam"}, description="`name` of an optimizer, and its options.")
    schedule: dict[str, Any] = Field(
        {"name": "constant"}, description="`name` of a learning-rate schedule, and its options."
    )
    training: TrainingConfig = Field(TrainingConfig(), description="How long, in what batches, with what arithmetic.")
    stages: dict[str, StageConfig] = Field(
        {}, description="Training in stretches, by name and in order; all in one where there are none."
    )


# Section -> (kind in the registry, key that names the thing).
CHOICES: Final = {
    "task": ("task", "name"),
    "model": ("model", "kind"),
    "loss": ("loss", "name"),
    "optimizer": ("optimizer", "name"),
    "schedule": ("schedule", "name"),
}
STEPS: Final = {"preprocess": "preprocessing", "augment": "augmentation"}
# Fields of models that the data decides where nobody states them; a resolved recipe leaves them open.
FROM_DATA: Final = frozenset(
    {
        *("in_features", "in_channels", "image_size", "length", "volume_size", "num_classes", "regression"),
        *("out_channels", "past_length", "horizon", "season", "vocab_size", "char_vocab_size"),
    }
)
_KEY: Final = re.compile(r"key `([^`]*)`$")
_ORDER: Final = tuple(Recipe.model_fields)


@dataclass(frozen=True)
class Resolved:
    """Checked values with where each came from.

    Attributes:
        values: Nested plain values, sections in the Recipe's order.
        origins: Dotted key -> `default`, `recipe`, `file` or `command line`.
    """

    values: dict[str, Any]
    origins: dict[str, str]

    @property
    def name(self) -> str:
        """Name of the recipe."""
        return str(self.values["name"])

    def recipe(self) -> Recipe:
        """The values as a Recipe."""
        return Recipe.from_values(self.values)

    def given(self, section: str) -> dict[str, Any]:
        """The values of a section that somebody gave: no defaults."""
        values = self.values.get(section) or {}
        return {key: value for key, value in values.items() if self._is_given(f"{section}.{key}")}

    def _is_given(self, path: str) -> bool:
        found = [origin for key, origin in self.origins.items() if key == path or key.startswith(f"{path}.")]
        return any(origin != "default" for origin in found)


class Description:
    """What a recipe file registers: nothing but a name and values."""

    def __init__(self, name: str, values: Mapping[str, Any], *, module: str) -> None:
        self.__module__ = module
        self.__qualname__ = name
        self.values = values


def declare(module: str, name: str, summary: str, *, source: str = "", example: str = "", **values: Any) -> None:
    """Register a recipe.

    Args:
        module: `__name__` of the file.
        name: Of the recipe.
        summary: What it trains, on one line.
        source: The text or paper whose experiment this is.
        example: A command; default: training it.
        values: Sections of the Recipe; `extends="other"` builds on another recipe.
    """
    inherited = known_values(values["extends"]) if "extends" in values else {}
    has_data = {**inherited.get("data", {}), **values.get("data", {})}.get("path") is not None
    command = f"lamina train {name}" if has_data else f"lamina train {name} --data PATH"
    registry.register("recipe", name, summary=summary, source=source, example=example or command, values=values)(
        Description(name, values, module=module)
    )


def known_values(name: str, *, where: str = "recipe") -> dict[str, Any]:
    """The values of a registered recipe, what it extends included, without defaults.

    Raises:
        UnknownNameError: There is no such recipe.
    """
    layers: list[tuple[str, Mapping[str, Any]]] = []
    current: str | None = name
    while current is not None:
        if len(layers) > 16:
            raise AssertionError(f"recipe {name!r} extends itself")
        entry = registry.describe("recipe", current, where=where)
        values = dict(entry.capabilities["values"])
        following = values.pop("extends", None)
        layers.append((current, {"name": current, "summary": entry.summary, **values}))
        current = following
    merged, _ = merge(layers[::-1], choices=CHOICES)
    return merged


def resolve(
    recipe: str | None,
    *,
    data: str | None = None,
    weights: str | None = None,
    assignments: Sequence[str] = (),
) -> Resolved:
    """Resolve a recipe from its layers: recipe, then file, then command line.

    Args:
        recipe: A registered name or the path of a YAML file.
        data: The value of `--data`.
        weights: The value of `--weights`.
        assignments: `section.key=value` words.

    Raises:
        ConfigError, UnknownNameError: A key or name that does not exist, a value that is refused; names where it came from.
        UsageError: Nothing says what to train.
    """
    layers = [*recipe_layers(recipe), ("command line", command_line_values(assignments, data=data, weights=weights))]
    return resolve_layers(layers, file=recipe)


def command_line_values(
    assignments: Sequence[str], *, data: str | None = None, weights: str | None = None
) -> dict[str, Any]:
    """The command line's layer: `section.key=value` words, `--data` and `--weights`.

    Raises:
        ConfigError: A word is not of that form, or something is given twice.
    """
    values = parse_assignments(assignments)
    for option, section, key, value in (("--data", "data", "path", data), ("--weights", None, "weights", weights)):
        if value is None:
            continue
        level = values.setdefault(section, {}) if section is not None else values
        if not isinstance(level, dict) or key in level:
            name = f"{section}.{key}" if section is not None else key
            raise ConfigError(
                f"{option} and {name}=… are both given.",
                where="command line",
                accepts="one of the two",
                mend=f"leave {name}=… out",
            )
        level[key] = value
    return values


def resolve_layers(layers: Sequence[tuple[str, Mapping[str, Any]]], *, file: str | None = None) -> Resolved:
    """Lay (origin, values) over each other, check everything and fill in defaults.

    Args:
        layers: From the weakest to the strongest; origins as in `Resolved.origins`.
        file: Path of the file that the `file` layer came from, for messages.

    Raises:
        ConfigError, UnknownNameError: See `resolve`.
    """
    defaults: dict[str, Any] = Recipe.default_values()
    base = {section: defaults[section] for section in CHOICES if defaults.get(section)}
    normal = [(origin, _normal(values, origin=origin, file=file)) for origin, values in layers]
    _check_stage_names(normal)
    merged, origins = merge([("default", base), *normal], choices=CHOICES)
    place = _Places(origins, file)
    for section in ("task", "model"):
        if not merged.get(section):
            kind, key = CHOICES[section]
            raise ConfigError(
                f"The recipe has no {section}.",
                where=place.of(section),
                accepts=f"{section}.{key}: one of {', '.join(registry.names(kind))}",
                mend=f"give {section}.{key}=…, or begin the file with `extends: RECIPE`",
            )
    schema = Recipe.json_schema()
    with place.named():
        check_values(merged, schema, where="")
    for section, (kind, key) in CHOICES.items():
        values = merged.get(section)
        if values:
            entry = _chosen(section, kind, key, values, place)
            defaults[section] = {key: entry.name, **_fill(entry)}
    for section, kind in STEPS.items():
        if merged.get(section):
            merged[section] = [_step(section, kind, step, place) for step in merged[section]]
    for name, stage in (merged.get("stages") or {}).items():
        _check_stage(name, stage, merged, place)
        _lay_defaults(stage, StageConfig.default_values(), origins, f"stages.{name}.")
    _lay_defaults(merged, defaults, origins, "")
    ordered = {key: _ordered(merged[key], defaults.get(key)) for key in _ORDER if key in merged}
    _check_whole(ordered, place)
    return Resolved(ordered, {key: origins[key] for key in flatten(ordered) if key in origins})


# --- layers ---------------------------------------------------------------------------------------------------------


def recipe_layers(recipe: str | None) -> list[tuple[str, Mapping[str, Any]]]:
    if recipe is None:
        return []
    if recipe in registry.names("recipe"):
        return [("recipe", known_values(recipe))]
    path = Path(recipe)
    if path.is_dir():
        run = (path / "recipe.yaml").is_file()
        raise UsageError(
            f"{recipe} is a folder, not a recipe.",
            where="command line, RECIPE",
            accepts="the name of a recipe or a YAML file",
            mend=f"`lamina train --resume {recipe}` continues that run; `lamina train {path / 'recipe.yaml'}` repeats it"
            if run
            else f"`lamina train --data {recipe}` trains on what is in it",
        )
    if path.is_file():
        return _file_layers(path)
    if path.suffix.lower() in (".yaml", ".yml") or os.sep in recipe:
        near = nearest(path.name, [found.name for found in _yaml_files(path.parent)])
        raise ConfigError(
            f"There is no file {recipe}.",
            where="command line, RECIPE",
            accepts="the path of a YAML file, or the name of a recipe",
            mend=f"did you mean {path.parent / near[0]}?"
            if near
            else "check the path; `lamina list recipes` names the recipes",
        )
    return [("recipe", known_values(recipe, where="command line, RECIPE"))]


def _yaml_files(folder: Path) -> list[Path]:
    return list(folder.glob("*.y*ml")) if folder.is_dir() else []


def _file_layers(path: Path) -> list[tuple[str, Mapping[str, Any]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"The file is not UTF-8 text: byte {error.start} cannot be read.",
            where=str(path),
            accepts="a recipe in YAML, UTF-8",
            mend=f"`lamina train --data {path}` trains on a data file; save a recipe as UTF-8",
        ) from None
    values = read_yaml(text, where=str(path))
    base = values.pop("extends", None)
    layers: list[tuple[str, Mapping[str, Any]]] = []
    if base is not None:
        if not isinstance(base, str):
            raise ConfigError(
                f"extends got {base!r}.",
                where=f"{path}, key `extends`",
                accepts="the name of a recipe",
                mend="name one recipe",
            )
        layers.append(("recipe", known_values(base, where=f"{path}, key `extends`")))
    values.setdefault("name", _file_name(path))
    section = values.get("data")
    if isinstance(section, dict) and isinstance(section.get("path"), str):
        section["path"] = _beside(section["path"], path)
    return [*layers, ("file", values)]


def _file_name(path: Path) -> str:
    plain = "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "-" for letter in path.stem
    )
    return plain.lstrip("._-") or "custom"


def _beside(data: str, file: Path) -> str:
    """A relative data path in a file counts from the working folder, and where nothing is there, from the file."""
    if Path(data).exists() or data in registry.names("dataset"):
        return data
    beside = file.parent / data
    return str(beside) if beside.exists() else data


def _normal(values: Mapping[str, Any], *, origin: str, file: str | None) -> dict[str, Any]:
    """The shorthands `model: mlp` and `preprocess: [scale]` written out; sections that must be mappings are mappings."""
    normal: dict[str, Any] = {}
    for section, value in values.items():
        if section in CHOICES and isinstance(value, str):
            normal[section] = {CHOICES[section][1]: value}
        elif section in STEPS and isinstance(value, (list, tuple)):
            normal[section] = [{"name": step} if isinstance(step, str) else step for step in value]
        elif section == "stages" and isinstance(value, (list, tuple)):
            normal[section] = _named_stages(value, where=file if origin == "file" and file is not None else origin)
        elif section in ("data", "training", "stages") and value is None:
            continue
        elif section in ("data", "training", "task", "model", "optimizer", "schedule", "stages") and not isinstance(
            value, Mapping
        ):
            where = file if origin == "file" and file is not None else origin
            raise ConfigError(
                f"{section} got {value!r}.",
                where=f"{where}, key `{section}`",
                accepts="a mapping of named values",
                mend=f"give {section}.KEY=VALUE"
                if origin == "command line"
                else f"write the values below `{section}:`",
            )
        else:
            normal[section] = value
    return normal


# --- checks ---------------------------------------------------------------------------------------------------------


class _Places:
    """Says in an error's `where` which layer a key came from."""

    def __init__(self, origins: Mapping[str, str], file: str | None) -> None:
        self.origins = origins
        self.file = file

    def of(self, key: str) -> str:
        """`recipe.yaml, key `training.epochs``."""
        found = self.origins.get(key) or next(
            (
                origin
                for path, origin in self.origins.items()
                if path.startswith(f"{key}.") or key.startswith(f"{path}.")
            ),
            None,
        )
        if found is None:  # of nobody: missing where somebody should have said it
            found = "file" if self.file is not None and "file" in self.origins.values() else "recipe"
        layer = self.file if found == "file" and self.file is not None else found
        return f"{layer}, key `{key}`"

    def named(self) -> _Named:
        """A context in which errors about a key say where the key came from."""
        return _Named(self)


class _Named:
    def __init__(self, places: _Places) -> None:
        self.places = places

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, LaminaError):
            key = _KEY.search(error.where)
            error.where = self.places.of(key.group(1) if key is not None else error.where)


def _chosen(section: str, kind: str, key: str, values: Mapping[str, Any], place: _Places) -> registry.Entry:
    name = values.get(key)
    if not isinstance(name, str):
        what = f"{section}.{key} is missing." if name is None else f"{section}.{key} got {name!r}."
        raise ConfigError(
            what,
            where=place.of(f"{section}.{key}"),
            accepts=f"one of {', '.join(registry.names(kind))}",
            mend=f"give {section}.{key}=…",
        )
    entry = registry.describe(kind, name, where=place.of(f"{section}.{key}"))
    rest = {k: v for k, v in values.items() if k != key}
    with place.named():
        check_values(rest, entry.schema or _NOTHING, where=section)
    return entry


_NOTHING: Final[dict[str, Any]] = {"properties": {}, "additionalProperties": False}


def _named_stages(listed: Sequence[Any], *, where: str) -> dict[str, Any]:
    """A list of stages, each with its `name`, as the mapping by name that it stands for."""
    stages: dict[str, Any] = {}
    for number, stage in enumerate(listed):
        name = stage.get("name") if isinstance(stage, Mapping) else None
        if not isinstance(name, str) or name in stages:
            raise ConfigError(
                f"Stage {number} has {'no name' if not isinstance(name, str) else f'the name {name!r} of another'}.",
                where=f"{where}, key `stages`",
                accepts="stages by name, or a list of them, each with a `name` of its own",
                mend="write {name: head, trainable: [head]}",
            )
        stages[name] = {key: value for key, value in stage.items() if key != "name"}
    return stages


def _check_stage_names(layers: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    """The command line changes the stages there are: a mistyped name would train another stretch, of the whole network."""
    known = {name for origin, values in layers if origin != "command line" for name in values.get("stages") or {}}
    for origin, values in layers:
        for name in values.get("stages") or {}:
            if origin == "command line" and known and name not in known:
                near = nearest(str(name), sorted(known))
                raise ConfigError(
                    f"The recipe has no stage {name!r}.",
                    where=f"command line, key `stages.{name}`",
                    accepts=", ".join(sorted(known)),
                    mend=f"{f'did you mean {near[0]!r}? ' if near else ''}A YAML file with `extends: RECIPE` adds a stage",
                )


def _check_stage(name: str, stage: Mapping[str, Any], values: Mapping[str, Any], place: _Places) -> None:
    """The stage's optimizer and schedule, as the sections that they change are checked."""
    where = f"stages.{name}"
    base = values.get("optimizer") or {}
    changes = dict(stage.get("optimizer") or {})
    chosen = registry.describe(
        "optimizer", str(changes.pop("name", base.get("name", "adam"))), where=place.of(f"{where}.optimizer")
    )
    with place.named():
        check_values(changes, {**(chosen.schema or _NOTHING), "required": []}, where=f"{where}.optimizer")
    schedule = dict(stage.get("schedule") or {})
    if schedule:
        named = schedule.pop("name", None)
        entry = registry.describe("schedule", str(named), where=place.of(f"{where}.schedule"))
        with place.named():
            check_values(schedule, entry.schema or _NOTHING, where=f"{where}.schedule")


def _step(section: str, kind: str, step: Mapping[str, Any], place: _Places) -> dict[str, Any]:
    values = dict(step)
    _chosen(section, kind, "name", values, place)
    for inner in values.get("steps", ()):  # the steps of a policy
        _step(section, kind, {"name": inner} if isinstance(inner, str) else inner, place)
    return values


def _fill(entry: registry.Entry) -> dict[str, Any]:
    """Defaults of a chosen thing; `lamina.models.factory` fills a model's remaining fields from the data."""
    left_open = FROM_DATA if entry.kind == "model" else frozenset()
    # The recipe's own sections say these, not the task's.
    left_open |= {"loss", "penalties"} if entry.kind == "task" else frozenset()
    return {key: value for key, value in (entry.defaults or {}).items() if key not in left_open}


def _lay_defaults(target: dict[str, Any], defaults: Mapping[str, Any], origins: dict[str, str], prefix: str) -> None:
    for key, value in defaults.items():
        path = f"{prefix}{key}"
        inner = target.get(key)
        if isinstance(value, Mapping) and (inner is None or isinstance(inner, dict)) and prefix == "":
            if inner is None:
                inner = target[key] = {}
                if not value:
                    origins[path] = "default"
            _lay_defaults(inner, value, origins, f"{path}.")
        elif key not in target:
            target[key] = value
            origins[path] = "default"


def _ordered(value: Any, like: Any) -> Any:
    """A section's keys in the order of its declaration."""
    if not isinstance(value, dict) or not isinstance(like, Mapping):
        return value
    return {**{key: value[key] for key in like if key in value}, **value}


def _check_whole(values: Mapping[str, Any], place: _Places) -> None:
    with place.named():
        Recipe.from_values(values)


def check_partial(values: Mapping[str, Any], *, origin: str = "command line") -> None:
    """Check values that do not make a whole recipe yet: keys, types and bounds.

    Raises:
        ConfigError: See `resolve`.
    """
    schema = {**Recipe.json_schema(), "required": []}
    with _Places(dict.fromkeys(flatten(values), origin), None).named():
        check_values(_normal(values, origin=origin, file=None), schema, where="")
