"""Building a generated program; `core/toolchain.py` finds the compiler and loads what it made."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

from lamina.core.toolchain import ToolchainError, compile_library, find_compiler
from lamina.train.native.nodes import NotNativeError

__all__ = ["build", "find_compiler"]


@functools.lru_cache(maxsize=4)
def build(source: str) -> Any:
    """Compile and load; returns the C function `lamina_run`. The last few programs of this process are remembered.

    Raises:
        NotNativeError: There is no compiler, or it failed.
    """
    try:
        function = compile_library(source).lamina_run
    except ToolchainError as error:
        raise NotNativeError(str(error)) from error
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p]
    function.restype = ctypes.c_int64
    return function
