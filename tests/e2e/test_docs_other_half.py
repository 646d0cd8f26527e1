"""The other half of the pages whose blocks are run: files are what workers share out among themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from pages import RUN, name_of, run_blocks


@pytest.mark.parametrize("page", RUN[1::2], ids=name_of)
def test_marked_blocks_run(page: Path, tmp_path: Path) -> None:
    run_blocks(page, tmp_path)
