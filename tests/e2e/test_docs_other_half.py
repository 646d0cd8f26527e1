"""The other half of the pages whose blocks are run: files are what workers share out among themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import zygote
from pages import RUN, name_of, run_blocks


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with zygote.start(tmp_path_factory.mktemp("zygote")) as folder:
        yield folder


@pytest.mark.parametrize("page", RUN[1::2], ids=name_of)
def test_marked_blocks_run(page: Path, tmp_path: Path, programs: Path) -> None:
    # The front page is run as its readers run it; the others without importing everything at each command.
    run_blocks(page, tmp_path, programs=None if page.name == "README.md" else programs)
