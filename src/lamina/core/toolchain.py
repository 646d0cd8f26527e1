"""The machine's C++ compiler: finding it, building a library from a source of our own, loading it.

Nothing is kept between runs: a library is compiled in a private folder that is removed once it is loaded (two seconds, and
no cache that could be stale, shared or planted). Imports no torch.
"""

from __future__ import annotations

import ctypes
import os
import platform
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

__all__ = ["ToolchainError", "compile_library", "compiler_fault", "find_compiler"]

_TIMEOUT_S: Final = 120
_USUAL: Final = ("c++", "g++", "clang++")
_FLAGS: Final = (
    "-std=c++17",
    "-O3",
    "-shared",
    "-fPIC",
    "-fopenmp-simd",
    "-fwrapv",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=off",
    "-fvisibility=default",
    "-w",
)


class ToolchainError(Exception):
    """The compiler is missing or failed; the text is a clause that says why. Internal: whoever compiles has another way."""


def find_compiler() -> str | None:
    """The path of the C++ compiler: what $CXX names, else c++, g++ or clang++; None where there is none.

    A $CXX that leads nowhere is not passed over in silence: then there is none, and `compiler_fault` says so.
    """
    command = _command()
    return command[0] if command else None


def compiler_fault() -> str | None:
    """Why there is no compiler, as a clause; None where there is one."""
    if _command():
        return None
    given = os.environ.get("CXX", "").strip()
    if given:
        return f"$CXX is {given!r}, and there is no such compiler here"
    return f"there is no C++ compiler here ({', '.join(_USUAL[:-1])} or {_USUAL[-1]})"


def _command() -> list[str]:
    """The words that call the compiler: $CXX may carry options or a launcher (`ccache g++`)."""
    given = os.environ.get("CXX", "").strip()
    if given:
        try:
            words = shlex.split(given)
        except ValueError:  # a quote that is not closed
            return []
        found = shutil.which(words[0]) if words else None
        return [found, *words[1:]] if found else []
    return next(([found] for name in _USUAL if (found := shutil.which(name))), [])


def compile_library(source: str, *, compiler: str | None = None) -> ctypes.CDLL:
    """Compile C++17 source of our own for this machine and load it.

    Args:
        compiler: Path of the compiler; by default $CXX with its options, or what `find_compiler` finds.

    Raises:
        ToolchainError: There is no compiler, it failed, or it took longer than two minutes.
    """
    command = [compiler] if compiler is not None else _command()
    if not command:
        raise ToolchainError(compiler_fault() or "there is no C++ compiler here")
    from_environment = compiler is None and os.environ.get("CXX", "").strip()
    name = Path(command[0]).name + (" ($CXX)" if from_environment else "")
    try:
        with tempfile.TemporaryDirectory(prefix="lamina-native-", ignore_cleanup_errors=True) as folder:
            program, library = Path(folder) / "program.cpp", Path(folder) / "program.so"
            program.write_text(source, encoding="utf-8")
            vectors = platform.libc_ver()[0] == "glibc" and platform.machine() == "x86_64"
            files = [str(program), "-o", str(library), *(["-lmvec", "-lm"] if vectors else ["-lm"])]
            for machine in (["-march=native"], []):  # some compilers do not know it
                status, told = _run([*command, *_FLAGS, *machine, *files])
                if status == 0:
                    break
            if status != 0:
                raise ToolchainError(f"the compiler {name} failed: {_first_error(told) or f'exit status {status}'}")
            return ctypes.CDLL(str(library))
    except subprocess.TimeoutExpired:
        raise ToolchainError(f"the compiler {name} took longer than {_TIMEOUT_S} s") from None
    except OSError as error:
        raise ToolchainError(f"the compiler {name} could not be used: {error}") from error


def _run(command: Sequence[str]) -> tuple[int, str]:
    """Exit status and output. Whatever ends the wait, no process of the compiler's stays behind."""
    with subprocess.Popen(  # noqa: S603 - a list of our own and of the user's $CXX, no shell
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # a group of its own: the driver's children can be ended with it
    ) as process:
        try:
            told, _ = process.communicate(timeout=_TIMEOUT_S)
        except BaseException:
            _end(process)
            raise
    return process.returncode, told.decode("utf-8", errors="replace")


def _end(process: subprocess.Popen[bytes]) -> None:
    if hasattr(os, "killpg"):
        try:
            os.killpg(process.pid, signal.SIGKILL)  # its group bears its number
        except ProcessLookupError:
            return
    else:
        process.kill()


def _first_error(told: str) -> str:
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    line = next((line for line in lines if "error" in line.lower()), lines[0] if lines else "")
    return "".join(letter for letter in line if letter.isprintable())[:300]
