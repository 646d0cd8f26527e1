"""Freed memory kept for the next step, where the C library would hand it back to the system after each.

A step allocates and frees the same activations as the one before. glibc gives large blocks back to the system at once and
asks for them again, and every page of them is cleared anew: a fifth to a third of the time of a small convolutional network's step
(`benchmarks/layers.py`). Two settings of its allocator end that.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys

__all__ = ["keep_freed_memory", "return_freed_memory"]

# From <malloc.h>.
_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3
_KEPT_BYTES = 2**31 - 1  # a C int: what may lie free at the heap's end
_BIG_BYTES = (2**28, 2**25)  # blocks from here on are the system's; older versions accept 32 MiB at most


@functools.cache
def keep_freed_memory() -> bool:
    """Ask the C library to keep freed memory for this process; True where it can (glibc) and nobody set it by hand.

    Called when training or judging on the processor begins. It holds for the process; what lies free at the end of training
    is handed back by `return_freed_memory`.
    """
    library = _library()
    if library is None or _set_by_hand():
        return False
    if not library.mallopt(_TRIM_THRESHOLD, _KEPT_BYTES):
        return False
    return any(library.mallopt(_MMAP_THRESHOLD, size) for size in _BIG_BYTES)


def return_freed_memory() -> None:
    """Hand what lies free back to the system."""
    library = _library()
    if library is not None:
        library.malloc_trim(0)


def _set_by_hand() -> bool:
    return "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "") or any(
        name in os.environ for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")
    )


@functools.cache
def _library() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None  # musl has neither
