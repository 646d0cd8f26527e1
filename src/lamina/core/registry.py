"""The registry: one namespace per kind, filled by decorators, listed without importing what is registered.

A thing registers itself where it is defined::

    @register("model", "mlp", config=MLPConfig, source="Rumelhart, Hinton, Williams (1986)")
    class MLP(nn.Module): ...

`lookup` and `names` read `index.json`, generated from those decorators by `python -m lamina.core.registry` and held
current by a test, so that listings, help texts and the checking of recipes import neither torch nor pydantic.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from lamina.core.errors import unknown_name

if TYPE_CHECKING:
    from lamina.core.config import Config

KINDS: Final = (
    "model",
    "recipe",
    "task",
    "dataset",
    "reader",
    "preprocessing",
    "augmentation",
    "optimizer",
    "schedule",
    "loss",
    "metric",
    "layer",
    "activation",
    "initialiser",
    "view",
    "weights",
)
# Packages that hold registered things; walked only to (re)generate the index and for names the index does not know.
PACKAGES: Final = ("nn", "optim", "models", "data", "tasks", "train", "explain", "recipes")
INDEX_FILE: Final = Path(__file__).with_name("index.json")

T = TypeVar("T")


@dataclass(frozen=True)
class Entry:
    """A registered thing. `target` and `config` are None when the entry was read from the index."""

    kind: str
    name: str
    summary: str
    module: str
    qualname: str
    source: str = ""
    fidelity: str = ""
    example: str = ""
    capabilities: dict[str, Any] = field(default_factory=dict)
    schema: dict[str, Any] | None = None
    defaults: dict[str, Any] | None = None
    target: Any = field(default=None, compare=False, repr=False)
    config: type[Config] | None = field(default=None, compare=False, repr=False)

    def describe(self) -> dict[str, Any]:
        """The JSON form: what the index stores and `lamina show --json` prints."""
        return {
            "kind": self.kind,
            "name": self.name,
            "summary": self.summary,
            "module": self.module,
            "qualname": self.qualname,
            "source": self.source,
            "fidelity": self.fidelity,
            "example": self.example,
            "capabilities": self.capabilities,
            "schema": self.schema,
            "defaults": self.defaults,
        }


_registered: dict[str, dict[str, Entry]] = {kind: {} for kind in KINDS}


def register(
    kind: str,
    name: str,
    *,
    config: type[Config] | None = None,
    summary: str = "",
    source: str = "",
    fidelity: str = "",
    example: str = "",
    **capabilities: Any,
) -> Callable[[T], T]:
    """Register the decorated class or function under `name` in the namespace `kind`.

    Args:
        config: The Config that the thing is built from: `target(config)` for tasks, `target(**fields)` otherwise.
        summary: One line; default: the first line of the docstring.
        source: The paper or text that defines the thing.
        fidelity: How ours differs from the source; default: the "Differs from the paper" line of the module's docstring.
        example: A command or expression that uses it.
        capabilities: Flags that contract tests and commands read (`has_gradients=False`, `mixes_rows=True`, …).
    """
    if kind not in KINDS:
        raise AssertionError(f"unknown kind {kind!r}")

    def decorate(target: T) -> T:
        doc = inspect.getdoc(target) or ""
        qualname = getattr(target, "__qualname__", name)
        module = getattr(target, "__module__", "")
        known = _registered[kind].get(name)
        if known is not None and (known.module, known.qualname) != (module, qualname):
            raise AssertionError(f"{kind} {name!r} is registered by {known.module} and by {module}")
        _registered[kind][name] = Entry(
            kind=kind,
            name=name,
            summary=summary or doc.split("\n", 1)[0],
            module=module,
            qualname=qualname,
            source=source,
            fidelity=fidelity or _fidelity(module),
            example=example,
            capabilities=capabilities,
            schema=config.json_schema() if config is not None else None,
            defaults=config.default_values() if config is not None else None,
            target=target,
            config=config,
        )
        return target

    return decorate


def _fidelity(module: str) -> str:
    doc = inspect.getdoc(importlib.import_module(module)) if module != "__main__" else ""
    for paragraph in (doc or "").split("\n"):
        if paragraph.startswith("Differs from the paper:"):
            return paragraph.removeprefix("Differs from the paper:").strip()
    return ""


@functools.cache
def index() -> dict[str, dict[str, Entry]]:
    """Kind -> name -> entry as the generated index has them; imports nothing."""
    if not INDEX_FILE.exists():
        return {kind: {} for kind in KINDS}
    document = json.loads(INDEX_FILE.read_text(encoding="utf-8"))
    return {kind: {row["name"]: Entry(**row) for row in document.get(kind, [])} for kind in KINDS}


def names(kind: str) -> list[str]:
    """All names of a kind, sorted, without importing anything."""
    return sorted({*index()[kind], *_registered[kind]})


def entries(kind: str) -> list[Entry]:
    """All entries of a kind, sorted by name, without importing anything."""
    return [_registered[kind].get(name) or index()[kind][name] for name in names(kind)]


def describe(kind: str, name: str, *, where: str = "") -> Entry:
    """The entry of a name without importing it: summary, source, schema and defaults.

    Raises:
        UnknownNameError: Nothing of that kind has this name; the nearest are suggested.
    """
    found = _registered[kind].get(name) or index()[kind].get(name)
    return found if found is not None else lookup(kind, name, where=where)


def lookup(kind: str, name: str, *, where: str = "") -> Entry:
    """The entry of a name with its `target` and `config`, importing the module that defines it.

    Raises:
        UnknownNameError: Nothing of that kind has this name; the nearest are suggested.
    """
    if name not in _registered[kind]:
        indexed = index()[kind].get(name)
        if indexed is not None:
            importlib.import_module(indexed.module)
        else:
            discover()  # a module newer than the index
    if name not in _registered[kind]:
        raise unknown_name(kind, name, names(kind), where=where or f"name of a {kind}")
    return _registered[kind][name]


def discover() -> None:
    """Import every module of the packages that register things."""
    for package in PACKAGES:
        root = importlib.import_module(f"lamina.{package}")
        for found in pkgutil.walk_packages(root.__path__, f"lamina.{package}."):
            importlib.import_module(found.name)


def generate_index() -> str:
    """The text that `index.json` must have: every registered thing of the package itself."""
    discover()
    rows = {
        kind: [entry.describe() for _, entry in sorted(_registered[kind].items()) if entry.module.startswith("lamina.")]
        for kind in KINDS
    }
    return json.dumps(rows, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    # `python -m` makes this file a second module called __main__; the decorators filled the one under its real name.
    registry = importlib.import_module("lamina.core.registry")
    INDEX_FILE.write_text(registry.generate_index(), encoding="utf-8")
    print(f"wrote {INDEX_FILE}")
