"""Run the commands of README.md and put what they print into its output blocks, and into those of the Chinese README.

A block ```text output follows the command that prints it; `lines=N` cuts it there. Run this after a change of what commands
print; the tests run the same commands, but do not compare outputs, which differ a little between machines.

    python scripts/readme_outputs.py
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def outputs(text: str) -> list[str]:
    """What each output block must hold, in order."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "118"}
    printed, found = "", []
    with tempfile.TemporaryDirectory() as folder:
        for block in FENCE.finditer(text):
            language, words, code = block[1], block[2].split(), block[3]
            if "run" in words:
                command = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}[language]
                done = subprocess.run(
                    [*command, code], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True
                )
                printed = done.stdout
            elif "output" in words:
                most = next((int(word[6:]) for word in words if word.startswith("lines=")), 1000)
                lines = [line.rstrip() for line in printed.rstrip().splitlines()]
                found.append("\n".join([*lines[:most], *(["…"] if len(lines) > most else [])]) + "\n")
    return found


def filled(text: str, blocks: list[str]) -> str:
    """The page with its output blocks replaced."""
    contents = iter(blocks)

    def replace(block: re.Match[str]) -> str:
        is_output = "output" in block[2].split()
        return f"```{block[1]}{block[2]}\n{next(contents) if is_output else block[3]}```"

    return FENCE.sub(replace, text)


def main() -> None:
    """Fill both pages."""
    pages = [ROOT / "README.md", ROOT / "README.zh-CN.md"]
    blocks = outputs(pages[0].read_text(encoding="utf-8"))
    for page in pages:
        page.write_text(filled(page.read_text(encoding="utf-8"), blocks), encoding="utf-8")
    print(f"filled {len(blocks)} output blocks")


if __name__ == "__main__":
    main()
