"""A sample gets the same augmentation whatever batch it stands in: every registered step, and drawn compositions of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lamina.core import draws, registry
from lamina.data.augmentation import Augmentation
from lamina.data.columns import Columns, DataSpec, column_spec

NUM_ROWS = 24
CLASSES = ("a", "b", "c")


def some_bytes(*shape: int) -> torch.Tensor:
    count = int(torch.Size(shape).numel())
    return (draws.random_bits(3, torch.arange(count, dtype=torch.int32)) & 255).to(torch.uint8).reshape(shape)


IMAGES = some_bytes(NUM_ROWS, 3, 7, 9)
# Large enough for the native warp.
LARGE = some_bytes(6, 3, 64, 65)
LABELS = torch.arange(NUM_ROWS) % 3
POLICIES = ("sometimes", "one_of", "sequence", "randaugment")
PLAIN = tuple(name for name in registry.names("augmentation") if name not in POLICIES)


def options(name: str) -> dict[str, Any]:
    """One fill for all, as one warp wants it."""
    schema = registry.describe("augmentation", name).schema
    assert schema is not None
    return {"name": name, "fill": "reflect"} if "fill" in schema["properties"] else {"name": name}


def nested(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    several = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        st.builds(lambda steps, prob: {"name": "sometimes", "prob": prob, "steps": steps}, several, st.floats(0, 1)),
        st.builds(lambda steps: {"name": "one_of", "steps": steps}, several),
        st.builds(lambda steps: {"name": "sequence", "steps": steps}, several),
    )


LEAVES = st.sampled_from([*PLAIN, "randaugment"]).map(options)
STEPS = st.lists(st.recursive(LEAVES, nested, max_leaves=4), min_size=1, max_size=4)


def augmentation(steps: list[dict[str, Any]], images: torch.Tensor) -> Augmentation:
    labels = LABELS[: len(images)]
    spec = DataSpec(
        columns={
            "image": column_spec("image", images),
            "label": column_spec("label", labels, classes=CLASSES),
        },
        num_rows={"all": len(images)},
    )
    return Augmentation(steps, spec, columns=Columns({"image": images, "label": labels}))


def check(steps: list[dict[str, Any]], images: torch.Tensor, rows: list[int], key: int) -> None:
    augment = augmentation(steps, images)
    chosen = torch.tensor(rows)

    def run(which: torch.Tensor) -> dict[str, torch.Tensor]:
        return augment({"image": images[which], "label": LABELS[which], "row": which}, key)

    together = run(chosen)
    for place, row in enumerate(rows):
        alone = run(torch.tensor([row]))
        # Means over images are summed in another order when the batch has another size; equalize's levels are whole
        # numbers, and may then differ by one step of the cumulated histogram.
        rounded = (
            "equalize" in str(steps) or "posterize" in str(steps) or "solarize" in str(steps) or "randaug" in str(steps)
        )
        difference = (together["image"][place] - alone["image"][0]).abs()
        if rounded:
            assert float((difference > 0.05).float().mean()) < 0.05
        else:
            torch.testing.assert_close(together["image"][place], alone["image"][0], atol=2e-3, rtol=1e-5)
        for name in ("label", "label_other", "mix"):
            if name in together:
                assert torch.equal(together[name][place], alone[name][0])


@settings(max_examples=60, deadline=None)
@given(
    steps=STEPS,
    rows=st.lists(st.integers(0, NUM_ROWS - 1), min_size=1, max_size=8),
    seed=st.integers(0, 2**31),
    epoch=st.integers(0, 1000),
)
def test_grouping_changes_nothing(steps: list[dict[str, Any]], rows: list[int], seed: int, epoch: int) -> None:
    check(steps, IMAGES, rows, draws.stream_key(seed, "augment", epoch))


@pytest.mark.parametrize("name", registry.names("augmentation"))
def test_grouping_changes_nothing_step_by_step(name: str) -> None:
    inner: dict[str, Any] = {"steps": [options("rotate"), options("noise")]} if name in POLICIES[:3] else {}
    check([{**options(name), **inner}], IMAGES, [3, 0, 17, 3, 8], draws.stream_key(1, "augment", 2))


@settings(max_examples=8, deadline=None)
@given(
    names=st.lists(st.sampled_from(["rotate", "zoom", "shift", "shear", "flip_horizontal"]), min_size=1, unique=True),
    fill=st.sampled_from(["edge", "reflect", "zero"]),
    seed=st.integers(0, 2**31),
)
def test_grouping_changes_nothing_in_the_native_warp(names: list[str], fill: str, seed: int) -> None:
    steps = [{**options(name), **({"fill": fill} if name != "flip_horizontal" else {})} for name in names]
    augment = augmentation(steps, LARGE)
    key = draws.stream_key(seed, "augment", 0)
    rows = torch.arange(len(LARGE))
    together = augment({"image": LARGE, "row": rows}, key)["image"]
    for row in rows.split(1):
        alone = augment({"image": LARGE[row], "row": row}, key)["image"]
        torch.testing.assert_close(alone, together[row], atol=2e-3, rtol=0)
