"""load_data: which reader, which source, what stops it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
import torch

from lamina.core import registry
from lamina.core.errors import ConfigError, DataError, LaminaError, UnknownNameError
from lamina.data.columns import Columns
from lamina.data.config import DataConfig
from lamina.data.loading import fingerprint, load_data, sniff_all
from lamina.data.readers.base import Reader
from lamina.data.readers.sources import Source


def pixel_file(path: Path) -> Path:
    rows = [",".join(["label", *(f"pixel{i}" for i in range(64))])]
    rows += [",".join(map(str, [n % 3, *np.random.default_rng(n).integers(0, 256, 64)])) for n in range(9)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows))
    return path


def test_embedded_names_go_before_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_data("digits").splits["all"].num_rows == 1797
    pixel_file(tmp_path / "digits")
    data = load_data("digits")
    assert data.splits["all"].num_rows == 1797
    assert any("./digits" in note for note in data.notes)
    assert load_data("./digits").splits["all"].num_rows == 9
    assert load_data(Path("digits")).splits["all"].num_rows == 9


def test_missing_paths_suggest_files_and_datasets(tmp_path: Path) -> None:
    pixel_file(tmp_path / "signs.csv")
    with pytest.raises(DataError) as caught:
        load_data(tmp_path / "sign.csv")
    assert "signs.csv" in caught.value.mend
    with pytest.raises(DataError) as caught:
        load_data("digist")
    assert "'digits'" in caught.value.mend


def test_data_passes_through() -> None:
    data = load_data("digits")
    assert load_data(data) is data


def test_fields_change_the_config(tmp_path: Path) -> None:
    path = pixel_file(tmp_path / "a.csv")
    config = DataConfig(shape=(8, 8))
    assert load_data(path, config=config).splits["all"]["image"].shape == (9, 1, 8, 8)
    assert load_data(path, config=config, shape=(4, 16)).splits["all"]["image"].shape == (9, 1, 4, 16)
    with pytest.raises(ConfigError, match="shap"):
        load_data(path, shap=(8, 8))


def test_the_reader_is_said_and_can_be_chosen(tmp_path: Path) -> None:
    path = pixel_file(tmp_path / "a.csv")
    data = load_data(path)
    assert data.reader == data.spec.reader == "pixel-csv"
    assert data.notes[0] == "Read with pixel-csv: a.csv: the header names 64 pixels."
    assert data.source == str(path)
    assert load_data(path, reader="table").reader == "table"
    assert load_data(path, reader="table").notes[0].startswith("Read with table, as said")
    with pytest.raises(UnknownNameError) as caught:
        load_data(path, reader="pixel_csv")
    assert "pixel-csv" in caught.value.mend
    assert caught.value.where == "data.reader"


def test_close_guesses_are_both_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lamina.data.readers.base import Guess
    from lamina.data.readers.table_csv import TableReader

    monkeypatch.setattr(TableReader, "sniff", lambda self, source: Guess(0.9, "it is a table"))
    data = load_data(pixel_file(tmp_path / "a.csv"))
    assert data.reader == "pixel-csv"
    assert any("data.reader=table" in note for note in data.notes)


def test_a_stated_shape_rules_out_tables(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\n".join(",".join(map(str, [n % 2, *range(n, n + 12)])) for n in range(20)))
    assert load_data(path).reader == "table"
    data = load_data(path, shape=(3, 4))
    assert data.reader == "pixel-csv"
    assert data.splits["all"]["image"].shape == (20, 1, 3, 4)


@pytest.mark.parametrize("content", [b"", b"\0\1\2\3" * 99, b"just some words\nand more of them\n" * 9])
def test_what_no_reader_understands(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        load_data(path)
    assert str(path) in caught.value.where
    assert caught.value.mend


def test_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no files"):
        load_data(tmp_path)


def test_every_reader_survives_hostile_content(tmp_path: Path) -> None:
    """Sniffing never raises, and reading raises nothing but our own errors."""
    magics = [
        b"\x93NUMPY\x01\0",
        b"PK\x03\x04",
        b"\x1f\x8b\x08",
        b"\0\0\x08\x03",
        b"\x80\x02}q",
        b"\xff\xd8\xff\xe0",
        b"\xfd7zXZ\0",
        b"(\xb5/\xfd",
        b"BZh9",
    ]
    names = [
        "a.csv",
        "data_batch_1",
        "data_batch_1.bin",
        "x_train.npy",
        "a.npz",
        "a.tar",
        "a.png",
        "train-images-idx3-ubyte",
        "a.csv.gz",
    ]
    random = np.random.default_rng(0)
    known = [reader for reader, _ in sniff_all(Source(pixel_file(tmp_path / "ok.csv")))]
    assert len(known) >= 6
    for place, name in enumerate(names):
        for magic in (b"", magics[place % len(magics)], magics[(place + 1) % len(magics)]):
            path = tmp_path / str(place) / magic.hex() / name
            path.parent.mkdir(parents=True)
            path.write_bytes(magic + random.bytes(500))
            for reader in known:
                with contextlib.suppress(LaminaError):
                    source = Source(path)
                    assert 0 <= reader.sniff(source).confidence <= 1
                    reader.read(source, DataConfig())


def test_readers_are_registered_under_their_names() -> None:
    for name in ("pixel-csv", "idx", "image-folder", "cifar", "npz", "table"):
        entry = registry.lookup("reader", name)
        assert issubclass(entry.target, Reader)
        assert entry.target.name == name
        assert entry.summary
        assert entry.example.startswith("lamina data")


def test_fingerprints_follow_content_only(tmp_path: Path) -> None:
    path = pixel_file(tmp_path / "a.csv")
    first = load_data(path).fingerprint
    assert len(first) == 64
    (tmp_path / "b.csv").write_bytes(path.read_bytes())
    assert load_data(tmp_path / "b.csv").fingerprint == first
    path.write_text(path.read_text()[:-2] + "77")
    assert load_data(path).fingerprint != first


def test_fingerprints_see_names_types_and_order() -> None:
    columns = Columns({"a": torch.arange(6, dtype=torch.int32), "b": torch.zeros(6)})
    base = fingerprint({"train": columns})
    assert base == fingerprint({"train": Columns(dict(reversed(list(columns.items()))))})
    assert base != fingerprint({"test": columns})
    assert base != fingerprint({"train": Columns({"a": columns["a"].float(), "b": columns["b"]})})
    assert base != fingerprint({"train": Columns({"a": columns["a"].flip(0), "b": columns["b"]})})
    assert base != fingerprint({"train": Columns({"a": columns["a"].view(3, 2), "b": torch.zeros(3)})})


def test_faults_stop_unless_they_are_to_be_skipped(tmp_path: Path) -> None:
    path = pixel_file(tmp_path / "a.csv")
    path.write_text(path.read_text().replace("\n1,", "\n1,x", 1))
    with pytest.raises(DataError) as caught:
        load_data(path)
    assert "on_fault=skip" in caught.value.mend
    data = load_data(path, on_fault="skip")
    assert data.splits["all"].num_rows == 8
    assert data.faults[0].row == 3
    assert data.faults[0].describe()["column"] == "pixel0"
