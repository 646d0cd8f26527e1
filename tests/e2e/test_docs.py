"""The documentation does what it says: marked blocks run, doctests hold, links lead somewhere.

A fenced block whose info string has `run` behind the language (```bash run, ```python run) is executed; the blocks of a
page run in order in one temporary folder. `status=N` expects that exit status. `>>>` examples run as doctests.
"""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from helpers import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


COMMENT = re.compile(r"(?m)\s*#.*$")


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


def test_the_chinese_readme_has_the_same_code() -> None:
    """Comments are translated, code is not; what runs in one runs in the other."""
    codes = [
        [COMMENT.sub("", match[3]) for match in FENCE.finditer((ROOT / name).read_text(encoding="utf-8"))]
        for name in ("README.md", "README.zh-CN.md")
    ]
    assert codes[0] == codes[1]


def test_there_is_something_to_run() -> None:
    assert sum(len(blocks(page)) for page in PAGES) >= 10


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: str(page.relative_to(ROOT)))
def test_marked_blocks_run(page: Path, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONWARNINGS": "error",
    }
    for block in blocks(page):
        commands = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}[block.language]
        done = subprocess.run([*commands, block.code], cwd=tmp_path, env=environment, capture_output=True, text=True)
        where = f"{page.relative_to(ROOT)}:{block.line}"
        assert done.returncode == block.status, f"{where}\n{block.code}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if ">>>" in page.read_text(encoding="utf-8")],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_examples_in_pages_hold(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # Fences end a doctest's expected output only where an empty line is before them; take the fences away.
    text = re.sub(r"^```.*$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    test = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    failed, tried = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test)
    assert tried
    assert not failed


def test_the_site_builds_and_its_links_lead_somewhere(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "build_docs.py"), str(tmp_path)], capture_output=True, text=True
    )
    assert built.returncode == 0, built.stdout + built.stderr
    pages = {"-".join(path.relative_to(ROOT / "docs").with_suffix("").parts) for path in (ROOT / "docs").rglob("*.md")}
    assert "models-vgg" in pages
    assert pages < {path.stem for path in tmp_path.glob("*.html")}


@pytest.mark.parametrize("page", [*ROOT.glob("*.md")], ids=lambda page: page.name)
def test_links_of_the_front_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not re.match(r"[a-z]+:|#", target):
            assert (page.parent / target.partition("#")[0]).exists(), target
