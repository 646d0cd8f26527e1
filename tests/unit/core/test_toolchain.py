"""The C++ compiler: $CXX is honoured and its failure said, nothing of it outlives the wait, its words may be any bytes."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from lamina.core import toolchain
from lamina.core.toolchain import ToolchainError, compile_library, compiler_fault, find_compiler

ADD = 'extern "C" int add(int a, int b) { return a + b; }'


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.mark.skipif(find_compiler() is None, reason="there is no C++ compiler")
def test_cxx_may_carry_a_launcher_and_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = find_compiler()
    launcher = script(tmp_path / "my launcher", f'echo "$@" > "{tmp_path}/called"\nexec "$@"')
    monkeypatch.setenv("CXX", f"'{launcher}' {real} -DFROM_CXX")
    assert find_compiler() == launcher
    assert compiler_fault() is None
    assert compile_library(f"#ifdef FROM_CXX\n{ADD}\n#endif\n").add(2, 3) == 5
    assert "-DFROM_CXX" in (tmp_path / "called").read_text()


@pytest.mark.parametrize("given", ["no-such-compiler", "'unclosed", "no-such-compiler -O1"])
def test_a_cxx_that_leads_nowhere_is_said(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", given)
    assert find_compiler() is None
    with pytest.raises(ToolchainError, match=r"\$CXX is .* no such compiler"):
        compile_library(ADD)


def test_what_a_compiler_says_may_be_any_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "CXX", script(tmp_path / "mumbling", r"printf 'in file\n\377\376 error: \033[31mno\n' >&2; exit 1")
    )
    with pytest.raises(ToolchainError, match=r"mumbling \(\$CXX\) failed: .*error: ") as caught:
        compile_library(ADD)
    assert "\x1b" not in str(caught.value)


def test_a_compiler_cannot_read_our_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    kept = os.dup(0)
    os.dup2(reading, 0)
    try:
        monkeypatch.setenv("CXX", script(tmp_path / "asking", "cat >/dev/null; echo error: end of input; exit 1"))
        with pytest.raises(ToolchainError, match="end of input"):
            compile_library(ADD)
    finally:
        os.dup2(kept, 0)
        for descriptor in (reading, writing, kept):
            os.close(descriptor)


def test_a_compiler_that_takes_too_long_is_ended_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The driver's child keeps the pipe open: killing the driver alone would leave us waiting for it.
    text = f'sleep 600 &\necho $! > "{tmp_path}/child"\nwait'
    monkeypatch.setenv("CXX", script(tmp_path / "slow", text))
    monkeypatch.setattr(toolchain, "_TIMEOUT_S", 1)
    with pytest.raises(ToolchainError, match="longer than 1 s"):
        compile_library(ADD)
    child = int((tmp_path / "child").read_text())
    for _ in range(500):
        if not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2]:
            break
        time.sleep(0.01)
    else:
        raise AssertionError("the compiler's child lives on")
