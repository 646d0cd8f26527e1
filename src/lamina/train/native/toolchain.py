"""Finding the C++ compiler, building a program and loading it.

Nothing is kept between runs: a program is compiled into a private folder that is removed once it is loaded (two seconds,
and no cache that could be stale, shared or planted).
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
from typing import Any

from lamina.train.native.nodes import NotNativeError

__all__ = ["build", "find_compiler"]

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


@functools.cache
def find_compiler() -> str | None:
    """The path of a C++ compiler: $CXX, c++, g++ or clang++; None where there is none."""
    for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++"):
        found = shutil.which(name) if name else None
        if found:
            return found
    return None


@functools.lru_cache(maxsize=4)
def build(source: str) -> Any:
    """Compile and load; returns the C function `lamina_run`. The last few programs of this process are remembered.

    Raises:
        NotNativeError: There is no compiler, or it failed.
    """
    compiler = find_compiler()
    if compiler is None:
        raise NotNativeError("there is no C++ compiler here")
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
                raise NotNativeError(
                    f"the compiler {Path(compiler).name} failed: {lines[0] if lines else done.returncode}"
                )
            loaded = ctypes.CDLL(str(library))
    except (OSError, subprocess.SubprocessError) as error:
        raise NotNativeError(f"the compiler {Path(compiler).name} could not be used: {error}") from error
    function = loaded.lamina_run
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p]
    function.restype = ctypes.c_int64
    return function
