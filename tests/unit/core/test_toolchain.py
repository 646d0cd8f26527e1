"""The C++ toolchain: a library is built and loaded, faults are reasons, nothing is left behind."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from lamina.core import toolchain
from lamina.core.toolchain import ToolchainError, compile_library, find_compiler

SOURCE = 'extern "C" int twice(int x) { return 2 * x; }'


def test_a_library_is_compiled_and_loaded_and_nothing_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if find_compiler() is None:
        pytest.skip("there is no C++ compiler here")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert compile_library(SOURCE).twice(21) == 42
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_does_not_compile_is_a_reason() -> None:
    if find_compiler() is None:
        pytest.skip("there is no C++ compiler here")
    with pytest.raises(ToolchainError, match="failed"):
        compile_library("this is no program")


def test_a_compiler_that_is_missing_or_gone_is_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ToolchainError, match="could not be used"):
        compile_library(SOURCE, compiler=str(tmp_path / "gone"))
    monkeypatch.setattr(toolchain, "_command", list)
    with pytest.raises(ToolchainError):
        compile_library(SOURCE)
