"""Pages of the documentation and the blocks of code in them that are run.

A fenced block whose info string has `run` behind the language (```bash run, ```python run) is executed; the blocks of a
page run in order in one temporary folder. `status=N` expects that exit status.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from helpers import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    language: str
    words: tuple[str, ...]
    code: str
    line: int

    @property
    def status(self) -> int:
        return next((int(word[7:]) for word in self.words if word.startswith("status=")), 0)


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = [
        Block(match[1], tuple(match[2].split()), match[3], text[: match.start()].count("\n") + 2)
        for match in FENCE.finditer(text)
    ]
    return [block for block in found if "run" in block.words]


RUN = [page for page in PAGES if blocks(page)]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def run_blocks(page: Path, folder: Path, *, programs: Path | None = None) -> None:
    """Run a page's blocks; a warning is an error.

    Args:
        programs: A folder whose `lamina` is run instead of the installed one (`zygote.start`).
    """
    front = [str(programs)] if programs is not None else []
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([*front, str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONWARNINGS": "error",
    }
    for block in blocks(page):
        commands = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}[block.language]
        done = subprocess.run([*commands, block.code], cwd=folder, env=environment, capture_output=True, text=True)
        where = f"{name_of(page)}:{block.line}"
        assert done.returncode == block.status, f"{where}\n{block.code}\n{done.stdout}\n{done.stderr}"
