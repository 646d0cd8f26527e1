"""Augmentation beside independent implementations: scipy's interpolation, Pillow's enhancements, Python's colorsys, numpy."""

from __future__ import annotations

import colorsys
import math
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from scipy import ndimage, stats
from torch import Tensor
from torch.nn import functional

from lamina.core import draws
from lamina.data.augment import warp as warps
from lamina.data.augment.colour import (
    AutoContrast,
    Brightness,
    Contrast,
    Equalize,
    Gamma,
    Hue,
    Posterize,
    Saturation,
    Solarize,
)
from lamina.data.augment.crops import Crop, RandomResizedCrop
from lamina.data.augment.geometric import Elastic, Perspective
from lamina.data.augment.maps import Affine, join
from lamina.data.augment.mixing import beta_quantiles, draw_from
from lamina.data.augment.pixels import Blur, Cutout, Sharpness
from lamina.data.augment.step import PhotometricStep
from lamina.tasks.objective import Objective

SCIPY_MODE = {"edge": "nearest", "reflect": "reflect", "zero": "constant"}


def some_bytes(*shape: int) -> Tensor:
    bits = draws.random_bits(11, torch.arange(math.prod(shape), dtype=torch.int32))
    return (bits & 255).to(torch.uint8).reshape(shape)


def some_maps(count: int, *, shift: float) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    source = torch.eye(2, 3) + 0.3 * torch.randn(count, 2, 3, generator=generator)
    source[:, :, 2] = shift * torch.randn(count, 2, generator=generator)
    return source


def scipy_warp(image: np.ndarray, source: np.ndarray, fill: str) -> np.ndarray:
    """One channel (H, W) in float64."""
    height, width = image.shape
    y, x = np.mgrid[:height, :width].astype(np.float64)
    x, y = x - (width - 1) / 2, y - (height - 1) / 2
    from_x = source[0, 0] * x + source[0, 1] * y + source[0, 2] + (width - 1) / 2
    from_y = source[1, 0] * x + source[1, 1] * y + source[1, 2] + (height - 1) / 2
    if fill == "zero":  # scipy's `constant` does not interpolate towards the zeros outside
        image, from_x, from_y = np.pad(image, 2), from_x + 2, from_y + 2
    return ndimage.map_coordinates(image, [from_y, from_x], order=1, mode=SCIPY_MODE[fill])


@pytest.mark.parametrize("fill", ["edge", "reflect", "zero"])
@pytest.mark.parametrize("shape", [(5, 1, 9, 14), (5, 3, 16, 16)])
def test_warp_is_scipys(fill: Any, shape: tuple[int, ...]) -> None:
    images, source = some_bytes(*shape).double(), some_maps(shape[0], shift=4).double()
    warped = warps.warp(images, source, fill=fill).numpy()
    for number in range(shape[0]):
        for channel in range(shape[1]):
            wanted = scipy_warp(images[number, channel].numpy(), source[number].numpy(), fill)
            np.testing.assert_allclose(warped[number, channel], wanted, atol=1e-8)


@pytest.mark.parametrize("fill", ["edge", "reflect", "zero"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_the_native_warp_is_torchs(fill: Any, channels: int) -> None:
    images, source = some_bytes(5, channels, 67, 93), some_maps(5, shift=60)
    if not warps.is_native(images, fill="edge"):
        pytest.skip("there is no C++ compiler here")
    # The step between neighbouring bytes is up to 255; a place is known to about 1e-5 pixels in float32.
    wanted = warps.warp(images.double(), source.double(), fill=fill).float()
    torch.testing.assert_close(warps.warp_bytes(images, source, fill=fill), wanted, atol=0.02, rtol=0)


def test_the_native_warp_leaves_and_mirrors_bytes_exactly() -> None:
    images = some_bytes(4, 3, 65, 80)
    if not warps.is_native(images, fill="edge"):
        pytest.skip("there is no C++ compiler here")
    same = torch.eye(2, 3).expand(4, 2, 3)
    assert torch.equal(warps.warp_bytes(images, same), images.float())
    mirror = torch.tensor([[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]).expand(4, 2, 3)
    assert torch.equal(warps.warp_bytes(images, mirror), images.flip(3).float())
    # Places far away, and places that are no numbers, read nothing outside.
    wild = torch.tensor([[1e30, 0.0, 1e30], [0.0, -1e30, float("inf")]]).expand(4, 2, 3)
    assert warps.warp_bytes(images, wild).shape == images.shape
    assert warps.warp_bytes(images, wild * float("nan"), fill="reflect").shape == images.shape


@pytest.mark.parametrize("fill", ["edge", "reflect", "zero"])
def test_crop_is_padding_and_slicing(fill: Any) -> None:
    images = some_bytes(300, 2, 7, 6)
    step = Crop(padding=3, fill=fill)
    uniform = draws.uniform(3, draws.counters(torch.arange(300), 2))
    source = step.source(uniform, height=7, width=6)
    moved = warps.move(images, source, uniform[:, 0], fill=fill)
    assert moved.dtype == torch.uint8
    mode = {"edge": "edge", "reflect": "symmetric", "zero": "constant"}[fill]
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (3, 3), (3, 3)), mode=mode)
    corners = set()
    for number in range(300):
        left, top = int(source.x0[number]) + 3, int(source.y0[number]) + 3
        corners.add((left, top))
        assert np.array_equal(moved[number].numpy(), padded[number, :, top : top + 7, left : left + 6])
    assert corners == {(x, y) for x in range(7) for y in range(7)}
    after = join([source, Affine(xx=torch.full((300,), -1.0))])
    assert torch.equal(warps.move(images, after[0], uniform[:, 0], fill=fill), moved.flip(3))


def test_random_resized_crop_takes_a_window_inside() -> None:
    step = RandomResizedCrop(smallest=0.25, largest=0.5, ratio=2)
    uniform = draws.uniform(4, draws.counters(torch.arange(2000), 4))
    source = step.source(uniform, height=30, width=20)
    wide, tall = source.xx * 20, source.yy * 30
    area = wide * tall / 600
    assert float(area.min()) < 0.26
    assert 0.49 < float(area.max()) <= 0.5 + 1e-6
    assert float((wide / tall).max()) <= 2 + 1e-5
    for size, length, middle in ((20, wide, source.x0), (30, tall, source.y0)):
        assert float((middle - length / 2).min()) >= -size / 2 - 1e-4
        assert float((middle + length / 2).max()) <= size / 2 + 1e-4


def test_perspective_takes_the_corners_where_they_were_drawn() -> None:
    uniform = draws.uniform(5, draws.counters(torch.arange(6), 8)).double()
    step = Perspective(distortion=0.4)
    source = step.source(uniform, height=30, width=20)
    for number in range(6):
        # Eight equations for eight unknowns, as textbooks write them.
        rows, right = [], []
        for corner, (sx, sy) in enumerate(((-1, -1), (1, -1), (1, 1), (-1, 1))):
            x, y = sx * 10.0, sy * 15.0
            share = (uniform[number, 2 * corner : 2 * corner + 2] * 2 - 1) * 0.4
            u, v = (sx + float(share[0])) * 10, (sy + float(share[1])) * 15
            rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
            right += [u, v]
        wanted = np.linalg.solve(np.array(rows), np.array(right))
        found = [float(entry[number]) for entry in source.entries]
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)


def test_elastic_displaces_smoothly_and_by_no_more_than_bicubic_overshoot() -> None:
    step = Elastic(amount=0.1, points=4)
    assert step.num_draws == 32
    uniform = draws.uniform(6, draws.counters(torch.arange(20), 32))
    source = step.source(uniform, height=40, width=40)
    axis = torch.arange(40) - 19.5
    y, x = (part.expand(20, 40, 40) for part in torch.meshgrid(axis, axis, indexing="ij"))
    moved_x, moved_y = source.move(x, y)
    for moved, place in ((moved_x, x), (moved_y, y)):
        displacement = moved - place
        assert 2 < float(displacement.abs().max()) < 4 * 1.6
        assert float(displacement.diff(dim=2).abs().max()) < 1.5
    # The outermost control points lie on the outermost pixels.
    torch.testing.assert_close((moved_x - x)[:, 0, 0], source.control[:, 0, 0, 0], atol=1e-3, rtol=0)
    torch.testing.assert_close((moved_y - y)[:, 39, 39], source.control[:, 1, 3, 3], atol=1e-3, rtol=0)


def apply(step: PhotometricStep, image: Tensor, draw: float = 0.0) -> np.ndarray:
    uniform = torch.full((1, max(step.num_draws, 1)), draw, dtype=torch.float64)
    changed = step.apply(image.double(), uniform, keys=torch.zeros(1, dtype=torch.int32), maximum=255.0)
    return changed[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize(
    ("step", "theirs"),
    [
        (Brightness(amount=0.4), lambda image, factor: ImageEnhance.Brightness(image).enhance(factor)),
        (Saturation(amount=0.4), lambda image, factor: ImageEnhance.Color(image).enhance(factor)),
        (Sharpness(amount=0.4), lambda image, factor: ImageEnhance.Sharpness(image).enhance(factor)),
        (Posterize(bits=3), lambda image, factor: ImageOps.posterize(image, 3)),
        (Solarize(threshold=128 / 255), lambda image, factor: ImageOps.solarize(image, 128)),
        (AutoContrast(), lambda image, factor: ImageOps.autocontrast(image)),
        (Equalize(), lambda image, factor: ImageOps.equalize(image)),
    ],
)
@pytest.mark.parametrize("draw", [0.0, 0.75, 1.0])
def test_tones_are_pillows(step: PhotometricStep, theirs: Any, draw: float) -> None:
    image = (some_bytes(1, 3, 24, 30) // 2 + 40).clamp(max=250)
    picture = Image.fromarray(image[0].permute(1, 2, 0).numpy())
    factor = 1 + (draw * 2 - 1) * 0.4
    # Pillow rounds its greys and its results to whole numbers.
    np.testing.assert_allclose(apply(step, image, draw), np.asarray(theirs(picture, factor), np.float64), atol=1.51)


def test_contrast_is_pillows_about_the_mean_of_all_channels() -> None:
    image = some_bytes(1, 1, 20, 20) // 2 + 60
    picture = Image.fromarray(image[0, 0].numpy())
    wanted = np.asarray(ImageEnhance.Contrast(picture).enhance(1.4), np.float64)
    np.testing.assert_allclose(apply(Contrast(amount=0.4), image, 1.0)[:, :, 0], wanted, atol=1.51)


def test_equalize_is_pillows_exactly() -> None:
    for image in (some_bytes(1, 3, 24, 30), (some_bytes(1, 1, 17, 5) // 9), torch.full((1, 1, 4, 4), 7)):
        array = image[0].permute(1, 2, 0).numpy().astype(np.uint8)
        picture = Image.fromarray(array if array.shape[2] == 3 else array[:, :, 0])
        wanted = np.asarray(ImageOps.equalize(picture), np.float64).reshape(array.shape)
        np.testing.assert_array_equal(apply(Equalize(), image), wanted)


def test_hue_turns_colours_about_the_grey_axis() -> None:
    image = (some_bytes(1, 3, 6, 6) // 3 + 80).double()
    turned = apply(Hue(degrees=30), image, 1.0)
    angle = math.radians(30)
    for row in range(6):
        for column in range(6):
            y, i, q = colorsys.rgb_to_yiq(*(float(value) / 255 for value in image[0, :, row, column]))
            i, q = i * math.cos(angle) - q * math.sin(angle), i * math.sin(angle) + q * math.cos(angle)
            wanted = np.array(colorsys.yiq_to_rgb(y, i, q)) * 255  # colorsys rounds its inverse to 7 digits
            np.testing.assert_allclose(turned[row, column], wanted, atol=0.3)


def test_gamma_is_a_power() -> None:
    image = some_bytes(1, 1, 8, 8)
    wanted = (image[0, 0].double() / 255) ** 1.5 * 255
    np.testing.assert_allclose(apply(Gamma(amount=0.5), image, 1.0)[:, :, 0], wanted.numpy(), atol=1e-9)


@pytest.mark.parametrize("sigma", [0.7, 2.0])
def test_blur_is_scipys(sigma: float) -> None:
    image = some_bytes(1, 1, 23, 31)
    reach = math.ceil(3 * sigma)
    wanted = ndimage.gaussian_filter(image[0, 0].double().numpy(), sigma, mode="nearest", radius=reach)
    np.testing.assert_allclose(apply(Blur(sigma=sigma), image, 1.0)[:, :, 0], wanted, atol=1e-9)


def test_cutout_hides_a_square_that_may_hang_over() -> None:
    step = Cutout(size=0.5, value="zero")
    images = torch.full((4000, 1, 10, 12), 9.0)
    uniform = draws.uniform(8, draws.counters(torch.arange(4000), 2))
    covered = step.apply(images, uniform, keys=torch.zeros(4000, dtype=torch.int32), maximum=255.0) == 0
    area = covered.sum(dim=(1, 2, 3))
    assert int(area.max()) == 25
    assert int(area.min()) == 9  # of a side of 5 no more than 2 pixels hang over
    # Each pixel's chance of being covered is that of the centre falling near it: 5 * 5 of 120 places in the middle.
    middle = float(covered[:, 0, 5, 6].float().mean())
    assert abs(middle - 25 / 120) < 0.03


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_are_beta_distributed(alpha: float) -> None:
    uniform = draws.uniform(9, torch.arange(20_000, dtype=torch.int32))
    found = draw_from(beta_quantiles(alpha), uniform).double().numpy()
    assert stats.kstest(found, stats.beta(alpha, alpha).cdf).statistic < 0.015


def test_the_loss_of_mixed_rows_is_that_of_soft_labels() -> None:
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(7, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    labels, others = torch.tensor([0, 1, 2, 3, 4, 0, 1]), torch.tensor([1, 1, 0, 4, 2, 3, 0])
    mix = torch.tensor([1.0, 0.3, 0.5, 0.9, 0.0, 0.25, 0.6], dtype=torch.float64)
    objective = Objective({"name": "cross-entropy"}, kind="label", num_classes=5)
    losses = objective(torch.nn.Linear(1, 1), logits, labels, others=others, mix=mix)
    (ours,) = torch.autograd.grad(losses.total(), logits, retain_graph=True)
    soft = mix[:, None] * functional.one_hot(labels, 5) + (1 - mix)[:, None] * functional.one_hot(others, 5)
    wanted = functional.cross_entropy(logits, soft)
    torch.testing.assert_close(losses.total(), wanted, rtol=1e-12, atol=0)
    torch.testing.assert_close(ours, torch.autograd.grad(wanted, logits)[0], rtol=1e-12, atol=1e-15)
