"""Splits of any data: disjoint, complete, stratified within one row, the same every time."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from lamina.core import draws
from lamina.data.columns import Columns, Data, DataSpec, column_spec
from lamina.data.config import DataConfig
from lamina.data.splits import split_data, stratified_order

label_lists = st.lists(st.integers(0, 5), min_size=2, max_size=200)


def data_of(labels: list[int]) -> Data:
    tensor = torch.tensor(labels)
    classes = tuple(str(i) for i in range(6))
    spec = DataSpec(columns={"label": column_spec("label", tensor, classes=classes)}, num_rows={"all": len(labels)})
    return Data(splits={"all": Columns({"label": tensor})}, spec=spec)


@given(labels=label_lists, seed=st.integers(0, 1000), fraction=st.floats(0.01, 0.9))
def test_carved_splits(labels: list[int], seed: int, fraction: float) -> None:
    config = DataConfig(valid_fraction=fraction)
    data = split_data(data_of(labels), config, seed=seed)
    train, valid = data.rows["train"].tolist(), data.rows["valid"].tolist()
    assert sorted(train + valid) == list(range(len(labels)))
    assert train
    assert valid
    again = split_data(data_of(labels), config, seed=seed)
    assert torch.equal(again.rows["valid"], data.rows["valid"])
    counts = torch.bincount(torch.tensor(labels), minlength=6)
    if int(counts[counts > 0].min()) > 1:
        wanted = min(max(1, round(len(labels) * fraction)), len(labels) - 1)
        ideal = counts.double() * wanted / len(labels)
        got = torch.bincount(torch.tensor(labels)[data.rows["valid"]], minlength=6)
        assert float((got - ideal).abs().max()) <= 1
        assert bool((torch.bincount(torch.tensor(labels)[data.rows["train"]], minlength=6)[counts > 0] > 0).all())


@given(labels=label_lists, seed=st.integers(0, 1000), folds=st.integers(2, 7))
def test_folds(labels: list[int], seed: int, folds: int) -> None:
    if len(labels) < folds:
        return
    valid = []
    counts = torch.bincount(torch.tensor(labels), minlength=6).double()
    for fold in range(folds):
        data = split_data(data_of(labels), DataConfig(split="kfold", folds=folds, fold=fold), seed=seed)
        valid += data.rows["valid"].tolist()
        got = torch.bincount(torch.tensor(labels)[data.rows["valid"]], minlength=6)
        assert float((got - counts / folds).abs().max()) < 1
        assert not set(data.rows["train"].tolist()) & set(data.rows["valid"].tolist())
    assert sorted(valid) == list(range(len(labels)))


@given(labels=label_lists, seed=st.integers(0, 1000))
def test_every_beginning_of_a_stratified_order_is_stratified(labels: list[int], seed: int) -> None:
    tensor = torch.unique(torch.tensor(labels), return_inverse=True)[1]
    order = stratified_order(tensor, draws.stream_key(seed, "split"))
    assert sorted(order.tolist()) == list(range(len(labels)))
    counts = torch.bincount(tensor).double()
    so_far = torch.nn.functional.one_hot(tensor[order]).cumsum(0)
    ideal = torch.arange(1, len(labels) + 1).double().unsqueeze(1) * counts / len(labels)
    assert float((so_far - ideal).abs().max()) < 1


@given(groups=st.lists(st.integers(0, 9), min_size=4, max_size=100), seed=st.integers(0, 100))
def test_groups(groups: list[int], seed: int) -> None:
    if len(set(groups)) < 3:
        return
    tensor = torch.tensor(groups)
    spec = DataSpec(columns={"person": column_spec("group", tensor)}, num_rows={"all": len(groups)})
    data = Data(splits={"all": Columns({"person": tensor})}, spec=spec)
    made = split_data(data, DataConfig(group="person", split="group", folds=3), seed=seed)
    assert not set(made.splits["train"]["person"].tolist()) & set(made.splits["valid"]["person"].tolist())
    assert sum(made.spec.num_rows.values()) == len(groups)
