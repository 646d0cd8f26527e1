"""The documentation does what it says: marked blocks run, doctests hold, links lead somewhere. `>>>` examples run as doctests."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import zygote
from helpers import ROOT
from pages import FENCE, PAGES, RUN, blocks, name_of, run_blocks

COMMENT = re.compile(r"(?m)\s*#.*$")


def test_the_chinese_readme_has_the_same_code() -> None:
    """Comments are translated, code is not; what runs in one runs in the other."""
    codes = [
        [COMMENT.sub("", match[3]) for match in FENCE.finditer((ROOT / name).read_text(encoding="utf-8"))]
        for name in ("README.md", "README.zh-CN.md")
    ]
    assert codes[0] == codes[1]


def test_there_is_something_to_run() -> None:
    assert sum(len(blocks(page)) for page in PAGES) >= 10


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with zygote.start(tmp_path_factory.mktemp("zygote")) as folder:
        yield folder


@pytest.mark.parametrize("page", RUN[::2], ids=name_of)
def test_marked_blocks_run(page: Path, tmp_path: Path, programs: Path) -> None:
    # The front page is run as its readers run it; the others without importing everything at each command.
    run_blocks(page, tmp_path, programs=None if page.name == "README.md" else programs)


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
