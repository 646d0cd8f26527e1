"""The standard library's text: the same for all time, whole files in one split, limited in size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lamina.core.errors import DataError
from lamina.data import stdlib_corpus
from lamina.data.columns import Data
from lamina.data.config import DataConfig
from lamina.data.ragged import RaggedColumns
from lamina.data.stdlib_corpus import StdlibConfig, stdlib

CONFIG = DataConfig()


@pytest.fixture(scope="module")
def data() -> Data:
    return stdlib(CONFIG, StdlibConfig(max_bytes=200_000))


def lines_of(data: Data, split: str) -> list[str]:
    columns = data.splits[split]
    assert isinstance(columns, RaggedColumns)
    return columns.ragged["text"].texts()


def files_of(data: Data, split: str) -> set[str]:
    return {origin.rpartition(":")[0] for origin in data.splits[split].origin or ()}


def test_it_is_running_text_a_row_per_line(data: Data) -> None:
    assert set(data.splits) == {"train", "valid", "test"}
    assert data.spec.ordered
    assert data.spec.columns["text"].role == "text"
    lines = lines_of(data, "train")
    assert any(line.startswith("import ") for line in lines)
    assert not any("\n" in line for line in lines)


def test_files_are_whole_and_in_one_split_each(data: Data) -> None:
    train, valid, test = (files_of(data, split) for split in ("train", "valid", "test"))
    assert not train & valid
    assert not train & test
    assert not valid & test
    origin = data.splits["train"].origin
    assert origin is not None
    first = origin[0].rpartition(":")[0]
    size = sum(place.startswith(f"{first}:") for place in origin)
    assert [place.rpartition(":")[2] for place in origin[:size]] == [str(number) for number in range(1, size + 1)]


def test_the_size_is_limited_and_the_shares_are_kept(data: Data) -> None:
    sizes = {split: sum(len(line.encode()) + 1 for line in lines_of(data, split)) for split in data.splits}
    total = sum(sizes.values())
    assert 200_000 <= total <= 220_000  # the last file is whole, and no file is larger than a tenth
    assert sizes["train"] > 0.85 * total
    assert min(sizes.values()) > 0.02 * total


def test_each_split_has_its_share_and_none_is_empty() -> None:
    sizes = {f"file{number}": size for number, size in enumerate([500, 30, 40, 200, 10, 60, 100, 60])}
    found = stdlib_corpus._divided(sizes, 1000, {"valid": 0.05, "test": 0.05})
    held = {split: sum(sizes[file] for file in files) for split, files in found.items()}
    assert sorted(file for files in found.values() for file in files) == sorted(sizes)
    assert held == {"train": 840, "valid": 100, "test": 60}
    few = stdlib_corpus._divided({"a": 1, "b": 100, "c": 50}, 151, {"valid": 0.05, "test": 0.05})
    assert few == {"train": ["a"], "valid": ["b"], "test": ["c"]}


def test_it_is_the_same_each_time(data: Data) -> None:
    again = stdlib(CONFIG, StdlibConfig(max_bytes=200_000))
    for split, columns in data.splits.items():
        other = again.splits[split]
        assert isinstance(columns, RaggedColumns)
        assert isinstance(other, RaggedColumns)
        assert torch.equal(columns.ragged["text"].values, other.ragged["text"].values)


def test_documentation_strings_alone() -> None:
    data = stdlib(CONFIG, StdlibConfig(part="docstrings", max_bytes=20_000))
    text = "\n".join(lines_of(data, "train"))
    assert "Return" in text
    assert "\nimport " not in text


def test_a_python_without_sources_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(stdlib_corpus.sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    with pytest.raises(DataError, match="without the source files"):
        stdlib(CONFIG)
