"""Signals from arrays and tables: what is recognised, what is asked, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lamina.core.errors import DataError, DtypeError, LaminaError, ShapeError
from lamina.data.loading import load_data

RNG = np.random.default_rng(0)
VALUES = RNG.normal(size=(12, 20)).round(3)
LABELS = np.arange(12) % 3


def write_csv(path: Path, names: list[str] | None, rows: np.ndarray, labels: np.ndarray | None) -> Path:
    lines = [] if names is None else [",".join(names)]
    for place, row in enumerate(rows):
        start = [] if labels is None else [str(labels[place])]
        lines.append(",".join([*start, *map(str, row)]))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("stem", ["t", "value", "step_", "T"])
def test_a_header_that_counts_steps(stem: str, tmp_path: Path) -> None:
    names = ["label", *(f"{stem}{i + 1}" for i in range(20))]
    data = load_data(write_csv(tmp_path / "waves.csv", names, VALUES, LABELS))
    assert data.reader == "signal"
    columns = data.splits["all"]
    assert columns["signal"].shape == (12, 1, 20)
    assert columns["signal"].dtype == torch.float32
    np.testing.assert_allclose(columns["signal"][:, 0].numpy(), VALUES, rtol=1e-6)
    assert data.spec.classes == ("0", "1", "2")
    assert columns["label"].tolist() == LABELS.tolist()
    assert columns.origin is not None
    assert columns.origin[3].endswith("waves.csv:5")
    assert data.spec.columns["signal"].role == "series"
    assert any("12 series of 20 steps; the label is the column 'label'" in note for note in data.notes)


def test_other_tables_stay_tables_unless_asked_for(tmp_path: Path) -> None:
    names = ["label", *(f"feature{i}" for i in range(20))]
    path = write_csv(tmp_path / "table.csv", names, VALUES, LABELS)
    assert load_data(path).reader == "table"
    assert load_data(path, reader="signal").splits["all"]["signal"].shape == (12, 1, 20)


def test_labels_may_be_texts_and_stand_anywhere(tmp_path: Path) -> None:
    words = np.array(["rest", "walk", "run"])[LABELS]
    lines = [",".join([*(f"t{i}" for i in range(20)), "Class"])]
    lines += [",".join([*map(str, row), word]) for row, word in zip(VALUES, words, strict=True)]
    path = tmp_path / "moves.csv"
    path.write_text("\n".join(lines))
    data = load_data(path)
    assert (data.reader, data.spec.classes) == ("signal", ("rest", "run", "walk"))


def test_without_a_header_the_column_of_whole_numbers_is_the_label(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "ucr.csv", None, VALUES, LABELS)
    data = load_data(path, reader="signal")
    assert data.splits["all"]["signal"].shape == (12, 1, 20)
    assert any("the label is column 0" in note for note in data.notes)
    whole = write_csv(tmp_path / "whole.csv", None, (VALUES * 1000).astype(int), LABELS)
    with pytest.raises(DataError) as caught:
        load_data(whole, reader="signal")
    assert "No column is called a label" in caught.value.what
    assert "data.label=0" in caught.value.mend
    assert load_data(whole, reader="signal", label="0").spec.classes == ("0", "1", "2")
    assert load_data(whole, reader="signal", label="-1").splits["all"]["signal"].shape == (12, 1, 20)


def test_a_gap_is_a_fault_of_its_row(tmp_path: Path) -> None:
    names = ["label", *(f"t{i}" for i in range(20))]
    path = write_csv(tmp_path / "gaps.csv", names, VALUES, LABELS)
    lines = path.read_text().splitlines()
    lines[4] = lines[4].replace(lines[4].split(",")[7], "")
    path.write_text("\n".join(lines))
    with pytest.raises(DataError) as caught:
        load_data(path)
    assert "gap" in caught.value.what
    assert "row 5, column 't6'" in caught.value.where
    data = load_data(path, on_fault="skip")
    assert data.splits["all"].num_rows == 11
    assert data.faults[0].row == 5


def test_steps_out_of_order_are_refused(tmp_path: Path) -> None:
    names = ["label", "t0", "t2", "t1", *(f"t{i}" for i in range(3, 20))]
    with pytest.raises(DataError) as caught:
        load_data(write_csv(tmp_path / "mixed.csv", names, VALUES, LABELS), reader="signal")
    assert "'t1' stands behind 't2'" in caught.value.what


def test_files_per_split_must_agree_in_length(tmp_path: Path) -> None:
    names = ["label", *(f"t{i}" for i in range(20))]
    write_csv(tmp_path / "train.csv", names, VALUES, LABELS)
    write_csv(tmp_path / "test.csv", names, VALUES[:4], LABELS[:4])
    data = load_data(tmp_path)
    assert {name: split.num_rows for name, split in data.splits.items()} == {"train": 12, "test": 4}
    write_csv(tmp_path / "test.csv", names[:-1], VALUES[:4, :-1], LABELS[:4])
    with pytest.raises(DataError, match="different lengths"):
        load_data(tmp_path)


@pytest.mark.parametrize(
    ("arrays", "shape"),
    [
        ({"signals": VALUES, "labels": LABELS}, (1, 20)),
        ({"train_series": VALUES.reshape(12, 2, 10), "train_y": LABELS}, (2, 10)),
        ({"signal": VALUES.reshape(12, 10, 2), "label": LABELS}, (2, 10)),
    ],
)
def test_arrays_that_are_called_signals(arrays: dict[str, np.ndarray], shape: tuple[int, ...], tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", **arrays)
    data = load_data(tmp_path / "s.npz")
    assert data.reader == "signal"
    found = next(iter(data.splits.values()))
    assert found["signal"].shape == (12, *shape)
    first = next(iter(arrays.values()))
    wanted = first if first.ndim == 3 and first.shape[1] == 2 else first.reshape(12, -1, shape[0]).swapaxes(1, 2)
    np.testing.assert_allclose(found["signal"].numpy(), wanted, rtol=1e-6)
    assert found["label"].tolist() == LABELS.tolist()


def test_x_and_y_are_images_unless_asked_for(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=RNG.normal(size=(6, 9, 40)), y=LABELS[:6])
    assert load_data(tmp_path / "a.npz").reader == "npz"
    data = load_data(tmp_path / "a.npz", reader="signal")
    assert data.splits["all"]["signal"].shape == (6, 9, 40)
    assert any("channels second" in note and "at least 4 times as long" in note for note in data.notes)


def test_channels_are_never_guessed(tmp_path: Path) -> None:
    values = RNG.normal(size=(6, 12, 20))
    np.savez(tmp_path / "a.npz", signals=values, labels=LABELS[:6])
    with pytest.raises(ShapeError) as caught:
        load_data(tmp_path / "a.npz")
    assert "neither the second nor the last axis" in caught.value.what
    assert "data.channels_first=true" in caught.value.mend
    assert load_data(tmp_path / "a.npz", channels_first=True).splits["all"]["signal"].shape == (6, 12, 20)
    last = load_data(tmp_path / "a.npz", channels_first=False).splits["all"]["signal"]
    np.testing.assert_allclose(last.numpy(), values.swapaxes(1, 2), rtol=1e-6)


@pytest.mark.parametrize(
    ("inputs", "labels", "error", "text"),
    [
        (np.full((4, 9), np.nan), LABELS[:4], DataError, "not finite; the first has nan"),
        (np.array([["a"] * 9] * 4), LABELS[:4], DtypeError, "not numbers"),
        (np.zeros((4, 2, 3, 5)), LABELS[:4], ShapeError, "shaped (4, 2, 3, 5)"),
        (np.zeros((4, 9)), LABELS[:3], ShapeError, "labels shaped (3,)"),
        (np.zeros((0, 9)), LABELS[:0], ShapeError, "shaped (0, 9)"),
        (np.zeros((4, 9)), np.array([0.5, 1, 2, 3]), DataError, "no whole number"),
    ],
)
def test_arrays_that_are_refused(
    inputs: np.ndarray, labels: np.ndarray, error: type[LaminaError], text: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "a.npz", signals=inputs, labels=labels)
    with pytest.raises(error) as caught:
        load_data(tmp_path / "a.npz")
    assert text in caught.value.what
    assert caught.value.mend


def test_arrays_in_memory() -> None:
    data = load_data((VALUES, LABELS), reader="signal")
    assert data.splits["all"]["signal"].shape == (12, 1, 20)
    splits = load_data({"train": (VALUES, LABELS), "test": (VALUES[:3], LABELS[:3])}, reader="signal")
    assert set(splits.splits) == {"train", "test"}


def test_notes_call_arrays_as_the_file_does(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", signals=np.zeros((6, 3, 64), np.float32), labels=np.arange(6) % 2)
    notes = load_data(tmp_path / "mine.npz").notes
    assert "signals is read as inputs, labels as labels." in notes
