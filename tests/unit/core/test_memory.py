"""Freed memory is kept between steps and handed back at the end."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from lamina.core import memory

_PROGRAM = """
import resource, sys
import torch
from lamina.core.memory import keep_freed_memory, return_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
torch.set_num_threads(1)
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(16_000_000)  # 64 MB, beyond what glibc ever keeps by itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
return_freed_memory()
print(faults())
"""


@pytest.mark.skipif(memory._library() is None, reason="the C library has no such settings")
def test_a_step_finds_the_memory_of_the_step_before() -> None:
    plain, kept = (_faults(word) for word in ("plain", "keep"))
    assert kept[0] < plain[0] / 10, "pages were cleared anew in each step"
    assert kept[1] > kept[0], "what lay free was not handed back"


def test_settings_made_by_hand_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "100000")
    memory.keep_freed_memory.cache_clear()
    try:
        assert memory.keep_freed_memory() is False
    finally:
        memory.keep_freed_memory.cache_clear()


def test_without_the_library_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_library", lambda: None)
    memory.keep_freed_memory.cache_clear()
    try:
        assert memory.keep_freed_memory() is False
        memory.return_freed_memory()
    finally:
        memory.keep_freed_memory.cache_clear()


def _faults(word: str) -> list[int]:
    settings = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, word], env=settings, capture_output=True, text=True, check=True
    )
    return [int(line) for line in done.stdout.split()]
