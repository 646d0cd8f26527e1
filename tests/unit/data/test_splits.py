"""Splits: names, fractions, folds, groups, limits, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from lamina.core.errors import ConfigError, DataError, UnknownNameError
from lamina.data.columns import Columns, Data, DataSpec, column_spec
from lamina.data.config import DataConfig
from lamina.data.decoded_ahead import LoadedColumns, RowLoader
from lamina.data.splits import normalise_split_name, restore_split, split_data


def make(labels: Tensor, *, splits: dict[str, int] | None = None, **extra: Tensor) -> Data:
    """Data whose `number` column holds the row number; divided into consecutive splits when sizes are given."""
    number = torch.arange(len(labels), dtype=torch.float32).unsqueeze(1)
    tensors = {"number": number, "label": labels, **extra}
    classes = tuple(f"c{i}" for i in range(int(labels.max()) + 1))
    specs = {"number": column_spec("number", number), "label": column_spec("label", labels, classes=classes)}
    specs |= {name: column_spec("target" if name == "target" else "group", t) for name, t in extra.items()}
    found, start = {}, 0
    for name, size in (splits or {"all": len(labels)}).items():
        found[name] = Columns(
            {k: t[start : start + size] for k, t in tensors.items()}, origin=[f"f:{start + i}" for i in range(size)]
        )
        start += size
    return Data(splits=found, spec=DataSpec(columns=specs, num_rows={k: c.num_rows for k, c in found.items()}))


def row_numbers(data: Data) -> dict[str, list[int]]:
    return {name: [int(v) for v in columns["number"][:, 0]] for name, columns in data.splits.items()}


LABELS = torch.arange(100) % 4


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("Train", "train"),
        ("val", "valid"),
        ("dev", "valid"),
        ("trial", "valid"),
        ("t10k", "test"),
        ("all", "all"),
        ("x", "x"),
    ],
)
def test_usual_names_are_known(name: str, wanted: str) -> None:
    assert normalise_split_name(name) == wanted


def test_a_fifth_is_held_out_and_rows_say_which() -> None:
    data = split_data(make(LABELS), DataConfig(), seed=3)
    assert data.spec.num_rows == {"train": 80, "valid": 20}
    assert row_numbers(data) == {name: rows.tolist() for name, rows in data.rows.items()}
    assert torch.bincount(data.splits["valid"]["label"]).tolist() == [5, 5, 5, 5]
    assert data.splits["valid"].origin is not None
    assert data.splits["valid"].origin[0] == f"f:{data.rows['valid'][0]}"


def test_the_seed_decides() -> None:
    first, again, other = (split_data(make(LABELS), DataConfig(), seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.rows["valid"], again.rows["valid"])
    assert not torch.equal(first.rows["valid"], other.rows["valid"])


def test_the_split_is_the_same_for_all_time() -> None:
    """A change of these numbers would silently change every run's validation split."""
    data = split_data(make(LABELS), DataConfig(valid_fraction=0.05), seed=0)
    assert data.rows["valid"].tolist() == [8, 63, 75, 86, 89]


def test_given_splits_stay() -> None:
    given = make(LABELS, splits={"train": 60, "dev": 20, "test": 20})
    data = split_data(given, DataConfig(test_fraction=0.3), seed=0)
    assert data.spec.num_rows == {"train": 60, "valid": 20, "test": 20}
    assert data.splits["train"] is given.splits["train"], "whole splits are not copied"
    assert data.rows["test"].tolist() == list(range(80, 100))


def test_given_means_that_nothing_is_drawn() -> None:
    data = split_data(make(LABELS, splits={"train": 80, "test": 20}), DataConfig(split="given"), seed=0)
    assert set(data.splits) == {"train", "test"}
    with pytest.raises(DataError, match="no training split is given"):
        split_data(make(LABELS), DataConfig(split="given"), seed=0)


def test_a_missing_test_is_drawn_before_the_validation_split() -> None:
    data = split_data(make(LABELS), DataConfig(test_fraction=0.2, valid_fraction=0.25), seed=0)
    assert data.spec.num_rows == {"train": 60, "valid": 20, "test": 20}
    assert list(data.splits) == ["train", "valid", "test"]


def test_random_pools_what_was_given() -> None:
    given = make(LABELS, splits={"train": 50, "test": 50})
    data = split_data(given, DataConfig(split="random", test_fraction=0.1, valid_fraction=0.0), seed=0)
    assert data.spec.num_rows == {"train": 90, "test": 10}
    rows = row_numbers(data)
    assert sorted(rows["train"] + rows["test"]) == list(range(100))
    assert min(rows["test"]) < 50 <= max(rows["test"])


def test_a_test_without_labels_is_not_pooled_and_does_not_hinder() -> None:
    data = make(LABELS, splits={"train": 80, "test": 20})
    data.splits["test"] = Columns({"number": data.splits["test"]["number"]})
    for mode in ("auto", "random", "kfold"):
        made = split_data(data, DataConfig(split=mode), seed=0)
        assert made.spec.num_rows == {"train": 64, "valid": 16, "test": 20}
        assert torch.bincount(made.splits["valid"]["label"]).tolist() == [4, 4, 4, 4]


def test_folds_cover_everything_once() -> None:
    seen: list[int] = []
    for fold in range(3):
        data = split_data(make(LABELS), DataConfig(split="kfold", folds=3, fold=fold), seed=5)
        seen += data.rows["valid"].tolist()
        counts = torch.bincount(data.splits["valid"]["label"])
        assert counts.min() >= 8
        assert counts.max() <= 9
    assert sorted(seen) == list(range(100))


def test_a_fold_beyond_the_last_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.fold is 5") as error:
        split_data(make(LABELS), DataConfig(split="kfold", fold=5), seed=0)
    assert "data.fold=4" in error.value.mend


@pytest.mark.parametrize("mode", ["auto", "group", "random"])
def test_groups_are_never_divided(mode: str) -> None:
    person = torch.arange(100) // 7
    config = DataConfig(split=mode, group="person", folds=4, fold=1, test_fraction=0.2)
    data = split_data(make(LABELS, person=person), config, seed=2)
    sides = [set(columns["person"].tolist()) for columns in data.splits.values()]
    assert len(sides) == 3
    assert len(sides[0] | sides[1] | sides[2]) == sum(map(len, sides))
    assert sum(data.spec.num_rows.values()) == 100
    assert abs(data.spec.num_rows["test"] - 20) <= 7


def test_a_share_of_groups_is_neither_none_nor_all() -> None:
    person = torch.arange(100) // 50
    for fraction in (0.01, 0.99):
        data = split_data(make(LABELS, person=person), DataConfig(group="person", valid_fraction=fraction), seed=0)
        assert data.spec.num_rows == {"train": 50, "valid": 50}


def test_group_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match="needs to know the groups"):
        split_data(make(LABELS), DataConfig(split="group"), seed=0)
    with pytest.raises(ConfigError, match="would divide the groups"):
        split_data(make(LABELS), DataConfig(split="kfold", group="person"), seed=0)
    with pytest.raises(UnknownNameError, match="no column called 'persn'") as error:
        split_data(make(LABELS, person=LABELS), DataConfig(group="persn"), seed=0)
    assert "'person'" in error.value.mend
    with pytest.raises(DataError, match="one group"):
        split_data(make(LABELS, person=torch.zeros(100, dtype=torch.int64)), DataConfig(group="person"), seed=0)
    with pytest.raises(DataError, match="4 groups of 'person' cannot make 5 folds"):
        split_data(make(LABELS, person=LABELS), DataConfig(split="group", group="person"), seed=0)


def test_limits_are_nested_and_do_not_move_the_validation_split() -> None:
    unlimited = split_data(make(LABELS), DataConfig(), seed=1)
    chosen = [split_data(make(LABELS), DataConfig(limit=limit), seed=1) for limit in (4, 10, 37)]
    for data, limit in zip(chosen, (4, 10, 37), strict=True):
        assert data.spec.num_rows == {"train": limit, "valid": 20}
        assert torch.equal(data.rows["valid"], unlimited.rows["valid"])
        assert any(f"{limit} of 80 rows" in note for note in data.notes)
        counts = torch.bincount(data.splits["train"]["label"], minlength=4)
        assert (counts - limit / 4).abs().max() < 1
    sets = [set(data.rows["train"].tolist()) for data in (*chosen, unlimited)]
    assert sets[0] < sets[1] < sets[2] < sets[3]


def test_a_limit_beyond_the_rows_changes_nothing() -> None:
    assert split_data(make(LABELS), DataConfig(limit=1000), seed=1).spec.num_rows["train"] == 80


def test_a_class_of_one_row_stays_in_training() -> None:
    labels = torch.tensor([0] * 20 + [1])
    for seed in range(8):
        data = split_data(make(labels), DataConfig(valid_fraction=0.5), seed=seed)
        assert 1 in data.splits["train"]["label"].tolist()
        assert data.spec.num_rows["valid"] in (9, 10)


def test_classes_that_only_others_have_are_noted() -> None:
    given = make(torch.tensor([0, 0, 0, 1, 2, 0]), splits={"train": 4, "valid": 1, "test": 1})
    data = split_data(given, DataConfig(), seed=0)
    assert any("valid split has classes that no training row has" in note and "c2" in note for note in data.notes)


def test_too_few_rows_are_refused() -> None:
    one = make(torch.tensor([0]))
    with pytest.raises(DataError, match="1 rows are too few") as error:
        split_data(one, DataConfig(), seed=0)
    assert "data.valid_fraction=0" in error.value.mend
    assert split_data(one, DataConfig(valid_fraction=0), seed=0).spec.num_rows == {"train": 1}
    with pytest.raises(DataError, match="no rows to train on; there is only test"):
        split_data(make(LABELS, splits={"train": 0, "test": 100}), DataConfig(), seed=0)
    with pytest.raises(DataError, match="3 rows are too few for 5 folds"):
        split_data(make(LABELS[:3]), DataConfig(split="kfold"), seed=0)
    with pytest.raises(DataError, match="The test split has no rows"):
        split_data(make(LABELS, splits={"train": 100, "test": 0}), DataConfig(), seed=0)


def test_two_splits_of_one_meaning_are_refused() -> None:
    with pytest.raises(DataError, match="both understood as 'valid'"):
        split_data(make(LABELS, splits={"train": 50, "val": 25, "dev": 25}), DataConfig(), seed=0)


def test_target_statistics_come_from_training_rows_only() -> None:
    target = torch.arange(100, dtype=torch.float32).unsqueeze(1) ** 2
    data = split_data(make(LABELS, target=target), DataConfig(limit=30), seed=0)
    train = data.splits["train"]["target"].double()
    spec = data.spec.columns["target"]
    assert spec.mean == pytest.approx((float(train.mean()),), rel=1e-12)
    assert spec.std == pytest.approx((float(train.std(correction=0)),), rel=1e-12)


def test_a_constant_target_does_not_divide_by_zero() -> None:
    data = split_data(make(LABELS, target=torch.full((100, 1), 7.0)), DataConfig(), seed=0)
    assert data.spec.columns["target"].std == (1.0,)


def test_a_saved_split_is_made_again() -> None:
    given = make(LABELS, splits={"train": 70, "test": 30})
    data = split_data(given, DataConfig(limit=20), seed=9)
    again = restore_split(given, data.rows)
    assert row_numbers(again) == row_numbers(data)
    assert again.spec == data.spec
    with pytest.raises(DataError, match="has row 100, but the data has 100 rows"):
        restore_split(given, {"train": torch.tensor([3, 100])})


class _Stored(RowLoader):
    """Rows that are not in memory: row i holds i."""

    def __init__(self, start: int, size: int) -> None:
        self.start, self.shape, self.dtype = start, (size, 2), torch.float32

    def load(self, rows: Sequence[int]) -> Tensor:
        return torch.tensor([[float(self.start + row)] * 2 for row in rows])


def test_rows_that_are_loaded_on_demand_are_divided_without_loading() -> None:
    data = make(LABELS, splits={"train": 60, "test": 40})
    start = 0
    for name, columns in data.splits.items():
        tensors = {"label": columns["label"]}
        data.splits[name] = LoadedColumns(
            tensors, loaders={"number": _Stored(start, columns.num_rows)}, origin=columns.origin
        )
        start += columns.num_rows
    made = split_data(data, DataConfig(split="random", test_fraction=0.2, limit=30), seed=0)
    assert not made.splits["train"].in_memory
    assert row_numbers(made) == {name: rows.tolist() for name, rows in made.rows.items()}
    batch = made.splits["train"].batch(torch.tensor([3, 0]))
    assert batch["number"][:, 0].long().tolist() == made.rows["train"][[3, 0]].tolist()
    assert torch.equal(batch["label"], LABELS[made.rows["train"][[3, 0]]])
