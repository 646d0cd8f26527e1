"""Imports point one way; a package knows nothing of what stands on it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import ROOT

PACKAGE = ROOT / "src" / "lamina"

# Package -> what it may import besides itself.
ALLOWED: dict[str, set[str]] = {
    "core": set(),
    "nn": {"core"},
    "models": {"core", "nn"},
    "optim": {"core"},
    "data": {"core"},
    "tasks": {"core", "nn", "models", "data", "optim"},
    "train": {"core", "nn", "models", "data", "optim", "tasks"},
    "recipes": {"core", "nn", "models", "data", "optim", "tasks", "train"},
    "explain": {"core", "nn", "models", "data", "tasks"},
    "deploy": {"core", "nn", "models", "data", "tasks"},
    "studio": {"core", "nn", "models", "data", "optim", "tasks", "train", "recipes", "explain", "deploy"},
    "cli": {"core", "nn", "models", "data", "optim", "tasks", "train", "recipes", "explain", "deploy", "studio"},
}
# `lamina/__init__.py` re-exports lazily from everywhere, `lamina/__main__.py` calls the command line.
FACADES = ("__init__.py", "__main__.py")
# Names of the package itself that are not re-exports: importing them ties nothing to anything.
FACTS = {"__version__"}


def imported_packages(source: str, *, module: str, is_package: bool = False) -> Iterator[tuple[int, str]]:
    """(line, `lamina` subpackage) for every import statement at any depth: in functions and under TYPE_CHECKING too."""
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                up = node.level - 1 if is_package else node.level
                parents = module.split(".")[: len(module.split(".")) - up]
                base = ".".join([*parents, *([base] if base else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "lamina":
                yield node.lineno, parts[1] if len(parts) > 1 else ""


def violations(path: Path) -> list[str]:
    relative = path.relative_to(PACKAGE)
    package = relative.parts[0]
    module = ".".join(["lamina", *relative.with_suffix("").parts]).removesuffix(".__init__")
    found = []
    for line, imported in imported_packages(
        path.read_text(encoding="utf-8"), module=module, is_package=path.name == "__init__.py"
    ):
        if imported not in {package, *ALLOWED[package], *FACTS}:
            found.append(f"{relative}:{line} imports {imported or 'the whole package'}")
    return found


def test_every_package_has_its_place() -> None:
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert packages == set(ALLOWED)
    assert {path.name for path in PACKAGE.glob("*.py")} <= set(FACADES)


def test_no_arrow_points_back() -> None:
    files = [path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE]
    assert len(files) > 50, "the walk found too little to mean anything"
    found = [violation for path in files for violation in violations(path)]
    assert not found, "\n".join(found)


def test_the_rules_have_no_circle() -> None:
    order: list[str] = []
    while len(order) < len(ALLOWED):
        ready = [name for name, below in ALLOWED.items() if name not in order and below <= set(order)]
        assert ready, f"a circle among {set(ALLOWED) - set(order)}"
        order += ready


@pytest.mark.parametrize(
    ("source", "package"),
    [
        ("from lamina.train.trainer import Trainer", "train"),
        ("import lamina.train.trainer as t", "train"),
        ("from lamina import train", "train"),
        ("from lamina import load_data", "load_data"),
        ("import lamina", ""),
        ("def f():\n    from lamina.cli import main", "cli"),
        ("if TYPE_CHECKING:\n    from lamina.recipes.recipe import Recipe", "recipes"),
        ("from ..train import trainer", "train"),
        ("from .. import train", "train"),
        ("from . import charts", "explain"),
    ],
)
def test_every_form_of_import_is_seen(source: str, package: str) -> None:
    assert [found for _, found in imported_packages(source, module="lamina.explain.report")] == [package]


def test_an_arrow_that_points_back_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = tmp_path / "data" / "wrong.py"
    wrong.parent.mkdir()
    wrong.write_text("def f() -> None:\n    import lamina.tasks.base\n", encoding="utf-8")
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    assert violations(wrong) == ["data/wrong.py:2 imports tasks"]
