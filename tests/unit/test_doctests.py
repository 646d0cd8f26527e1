"""The examples in docstrings hold."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import lamina

MODULES = [
    found.name for found in pkgutil.walk_packages(lamina.__path__, "lamina.") if not found.name.endswith("__main__")
]


def test_the_walk_found_the_package() -> None:
    assert len(MODULES) > 50


@pytest.mark.parametrize("name", MODULES)
def test_examples_hold(name: str) -> None:
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert not failed
