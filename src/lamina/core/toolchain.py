"""Finding the C++ compiler, building a library and loading it.

Nothing is kept between runs: a program is compiled into a private folder that is removed once it is loaded (a second or
two, and no cache that could be stale, shared or planted). Sources are the package's own; no user's code comes here.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

__all__ = ["ToolchainError", "compile_library", "find_compiler"]

_TIMEOUT_S = 120
_FLAGS = (
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
    """The compiler is missing or failed. Internal: whoever compiles has another way, and says which it took."""


@functools.cache
def find_compiler() -> str | None:
    """The path of a C++ compiler: $CXX, c++, g++ or clang++; None where there is none."""
    for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++"):
        found = shutil.which(name) if name else None
        if found:
            return found
    return None


def compile_library(source: str, *, compiler: str | None = None) -> ctypes.CDLL:
    """Compile C++ source for this machine and load it.

    Args:
        compiler: Path of the compiler; by default what `find_compiler` finds.

    Raises:
        ToolchainError: There is no compiler, or it failed.
    """
    compiler = compiler or find_compiler()
    if compiler is None:
        raise ToolchainError("there is no C++ compiler here")
    try:
        with tempfile.TemporaryDirectory(prefix="lamina-native-", ignore_cleanup_errors=True) as name:
            folder = Path(name)
            (folder / "program.cpp").write_text(source, encoding="utf-8")
            library = folder / "program.so"
            libraries = (
                ["-lm"] if platform.libc_ver()[0] != "glibc" or platform.machine() != "x86_64" else ["-lmvec", "-lm"]
            )
            files = [str(folder / "program.cpp"), "-o", str(library), *libraries]
            for machine in (["-march=native"], []):  # some compilers do not know it
                command = [compiler, *_FLAGS, *machine, *files]
                done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)  # noqa: S603 - a list of our own, no shell
                if done.returncode == 0:
                    break
            if done.returncode != 0:
                lines = (done.stderr or done.stdout).strip().splitlines()
                raise ToolchainError(
                    f"the compiler {Path(compiler).name} failed: {lines[0] if lines else done.returncode}"
                )
            return ctypes.CDLL(str(library))
    except (OSError, subprocess.SubprocessError) as error:
        raise ToolchainError(f"the compiler {Path(compiler).name} could not be used: {error}") from error
