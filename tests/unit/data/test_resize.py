"""The step `resize`: the same size for every network input, in training and from a bundle."""

import numpy as np
import pytest
import torch
from PIL import Image

from lamina.core.errors import LaminaError
from lamina.data.loading import load_data
from lamina.data.preprocessing import Preprocessing

STEPS = [{"name": "scale"}, {"name": "resize", "size": [28, 20]}]


def test_images_get_the_size_and_keep_their_range() -> None:
    data = load_data("digits")
    columns = data.splits["all"]
    chain = Preprocessing.fit(STEPS, columns, data.spec)
    image = chain(columns.batch(torch.arange(5)))["image"]
    assert image.shape == (5, 1, 28, 20)
    assert image.dtype == torch.float32
    assert 0.0 <= float(image.min()) <= float(image.max()) <= 1.0
    assert chain.spec.columns["image"].shape == (1, 28, 20)
    assert chain.input_spec.columns["image"].shape == (1, 8, 8)


def test_a_restored_chain_gives_the_same_bits() -> None:
    data = load_data("digits")
    columns = data.splits["all"]
    chain = Preprocessing.fit([*STEPS, {"name": "standardise"}], columns, data.spec)
    again = Preprocessing.restore(chain.describe(), chain.tensors(), data.spec)
    batch = columns.batch(torch.arange(7))
    assert torch.equal(chain(batch)["image"], again(batch)["image"])


@pytest.mark.parametrize("size", [(5, 5), (8, 8), (13, 21)])
def test_equals_pillow(size: tuple[int, int]) -> None:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (3, 11, 9), dtype=np.uint8)
    data = load_data((images, np.arange(3)))
    columns = data.splits["all"]
    chain = Preprocessing.fit([{"name": "resize", "size": list(size)}], columns, data.spec)
    ours = chain(columns.batch(torch.arange(3)))["image"][:, 0].numpy()
    height, width = size
    for own, image in zip(ours, images, strict=True):
        wanted = Image.fromarray(image.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
        assert np.allclose(own, np.asarray(wanted), atol=1e-2)  # of 255; Pillow rounds its coefficients


def test_the_present_size_changes_nothing() -> None:
    data = load_data("digits")
    columns = data.splits["all"]
    chain = Preprocessing.fit([{"name": "resize", "size": [8, 8]}], columns, data.spec)
    batch = columns.batch(torch.arange(4))
    assert torch.equal(chain(batch)["image"], batch["image"].float())


@pytest.mark.parametrize(
    ("source", "steps", "what"),
    [
        ("iris", [{"name": "resize", "size": [8, 8]}], "Rows of features have no size."),
        ("digits", [{"name": "flatten"}, {"name": "resize", "size": [8, 8]}], "Rows of features have no size."),
        ("digits", [{"name": "resize", "size": [0, 8]}], "Images cannot be 0x8."),
        ("digits", [{"name": "resize", "size": [8]}], "size"),
        ("digits", [{"name": "resize"}], "size is missing"),
    ],
)
def test_refusals(source: str, steps: list[dict[str, object]], what: str) -> None:
    data = load_data(source)
    with pytest.raises(LaminaError) as caught:
        Preprocessing.fit(steps, data.splits["all"], data.spec)
    assert what in caught.value.what
    assert caught.value.exit_status == 2
