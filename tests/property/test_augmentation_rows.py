"""A sample gets the same augmentation whatever batch it stands in."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lamina.core import draws
from lamina.data.augmentation import Augmentation
from lamina.data.columns import DataSpec, column_spec

NUM_ROWS = 24
IMAGES = (draws.random_bits(3, torch.arange(NUM_ROWS * 2 * 63, dtype=torch.int32)) & 255).to(torch.uint8)
IMAGES = IMAGES.reshape(NUM_ROWS, 2, 7, 9)
SPEC = DataSpec(columns={"image": column_spec("image", IMAGES)}, num_rows={"all": NUM_ROWS})
STEPS = [
    {"name": name}
    for name in (
        "rotate",
        "zoom",
        "shift",
        "shear",
        "flip_horizontal",
        "flip_vertical",
        "brightness",
        "contrast",
        "noise",
        "erase",
    )
]


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(st.sampled_from(STEPS), min_size=1, max_size=5, unique_by=lambda s: s["name"]),
    rows=st.lists(st.integers(0, NUM_ROWS - 1), min_size=1, max_size=12),
    seed=st.integers(0, 2**31),
    epoch=st.integers(0, 1000),
)
def test_grouping_changes_nothing(steps: list[dict[str, str]], rows: list[int], seed: int, epoch: int) -> None:
    augment = Augmentation(steps, SPEC)
    key = draws.stream_key(seed, "augment", epoch)
    chosen = torch.tensor(rows)
    together = augment({"image": IMAGES[chosen], "row": chosen}, key)["image"]
    for place, row in enumerate(rows):
        alone = augment({"image": IMAGES[row : row + 1], "row": torch.tensor([row])}, key)["image"]
        torch.testing.assert_close(together[place], alone[0], atol=2e-3, rtol=1e-5)
