"""Preprocessing: restored chains are the same function; a row's result does not depend on its batch."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

from lamina.data.columns import Columns, DataSpec, FieldSpec, column_spec
from lamina.data.preprocessing import Preprocessing

image_steps = st.lists(
    st.sampled_from(
        [
            {"name": "scale"},
            {"name": "scale", "low": -1.0, "high": 1.0},
            {"name": "centre"},
            {"name": "centre", "per": "feature"},
            {"name": "standardise", "epsilon": 0.1},
            {"name": "standardise", "per": "feature"},
            {"name": "zca", "epsilon": 0.1},
        ]
    ),
    min_size=1,
    max_size=4,
)
endings = st.sampled_from([[], [{"name": "flatten"}], [{"name": "pca", "num_components": 3}, {"name": "standardise"}]])
table_steps = st.permutations([{"name": "impute"}, {"name": "one-hot"}, {"name": "standardise"}, {"name": "scale"}])


def images(seed: int) -> tuple[Columns, DataSpec]:
    generator = torch.Generator().manual_seed(seed)
    tensor = torch.randint(0, 256, (40, 2, 3, 3), generator=generator, dtype=torch.uint8)
    return Columns({"image": tensor}), DataSpec(columns={"image": column_spec("image", tensor)}, num_rows={})


def table(seed: int) -> tuple[Columns, DataSpec]:
    generator = torch.Generator().manual_seed(seed)
    number = torch.randn(30, 3, generator=generator) * 100
    number[torch.rand(30, 3, generator=generator) < 0.2] = float("nan")
    category = torch.randint(-1, 3, (30, 2), generator=generator)
    fields = tuple(FieldSpec(name=f"k{i}", classes=("a", "b", "c")) for i in range(2))
    specs = {
        "number": column_spec("number", number, fields=tuple(FieldSpec(name=f"n{i}") for i in range(3))),
        "category": column_spec("category", category, fields=fields),
    }
    return Columns({"number": number, "category": category}), DataSpec(columns=specs, num_rows={})


def check(columns: Columns, spec: DataSpec, steps: list[dict[str, Any]]) -> None:
    made = Preprocessing.fit(steps, columns, spec)
    again = Preprocessing.restore(made.describe(), made.tensors(), spec)
    whole = made(dict(columns))
    (name,) = whole
    assert torch.equal(whole[name], again(dict(columns))[name])
    assert tuple(whole[name].shape[1:]) == made.spec.columns[name].shape
    assert whole[name].dtype == torch.float32
    assert bool(torch.isfinite(whole[name]).all())
    alone = torch.cat([made(columns.take(torch.tensor([row])))[name] for row in range(5)])
    torch.testing.assert_close(alone, whole[name][:5], rtol=1e-4, atol=1e-4)


@given(steps=image_steps, ending=endings, seed=st.integers(0, 5))
def test_chains_of_images(steps: list[dict[str, Any]], ending: list[dict[str, Any]], seed: int) -> None:
    check(*images(seed), [*steps, *ending])


@given(steps=table_steps, seed=st.integers(0, 5))
def test_chains_of_tables(steps: list[dict[str, Any]], seed: int) -> None:
    check(*table(seed), steps)
