"""How the benchmark and its contenders talk: one JSON document per line over stdin and stdout of a long-lived process.

    -> {"op": "setup", "work": {...}}      <- {"ready": true, "notes": "...", "setup_s": 1.2}
    -> {"op": "run"}                       <- {"samples": 48000, "seconds": 0.51}
    -> {"op": "quit"}

A contender prints nothing else on stdout (`serve` points stdout at stderr meanwhile). This file uses the standard library
alone, because every contender runs it in an environment of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

Setup = Callable[[dict[str, Any]], tuple[Callable[[], int], str]]


class Contender:
    """A contender's process, as the benchmark sees it."""

    def __init__(self, name: str, command: list[str], *, env: dict[str, str] | None = None, log: Path) -> None:
        self.name = name
        self._log = log.open("w", encoding="utf-8")
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, **(env or {})},
        )

    def ask(self, **message: Any) -> dict[str, Any]:
        """Send one line, wait for one line.

        Raises:
            RuntimeError: The process ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._process.wait()
            tail = Path(self._log.name).read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
            raise RuntimeError(f"{self.name} ended with status {self._process.returncode}: {' | '.join(tail)}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        if self._process.poll() is None:
            assert self._process.stdin is not None
            try:
                self._process.stdin.write('{"op": "quit"}\n')
                self._process.stdin.close()
                self._process.wait(timeout=20)
            except (OSError, subprocess.TimeoutExpired):
                self._process.kill()
                self._process.wait()
        self._log.close()


def take_stdout() -> TextIO:
    """The real stdout; everybody else's prints go to stderr from now on."""
    real = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return real


def answer(to: TextIO, **message: Any) -> None:
    """One line."""
    to.write(json.dumps(message) + "\n")
    to.flush()


def serve(setup: Setup) -> None:
    """A contender's main loop.

    Args:
        setup: Work -> (function that trains one round and returns its number of samples, notes). It also warms up.
    """
    to = take_stdout()
    run: Callable[[], int] | None = None
    for line in sys.stdin:
        message = json.loads(line)
        if message["op"] == "setup":
            begin = time.perf_counter()
            run, notes = setup(message["work"])
            answer(to, ready=True, notes=notes, setup_s=round(time.perf_counter() - begin, 2))
        elif message["op"] == "run":
            assert run is not None
            begin = time.perf_counter()
            samples = run()
            answer(to, samples=samples, seconds=time.perf_counter() - begin)
        else:
            return
