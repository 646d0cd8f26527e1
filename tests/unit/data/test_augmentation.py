"""Augmentation: maps, warps, exactness, ranges and errors."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional

from lamina.core import draws, registry
from lamina.core.errors import ConfigError, UnknownNameError
from lamina.core.toolchain import find_compiler
from lamina.data.augment import warp as warps
from lamina.data.augment.geometric import Rotate, Shear, Shift, Zoom
from lamina.data.augment.maps import Affine
from lamina.data.augment.step import GeometricStep
from lamina.data.augment.warp import warp
from lamina.data.augmentation import Augmentation
from lamina.data.columns import DataSpec, column_spec

KEY = draws.stream_key(0, "augment", 0)
EVERY = (
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
# Options that a step cannot do without, to build every registered one.
NEEDED: dict[str, dict[str, Any]] = {
    "sometimes": {"steps": ["blur"]},
    "one_of": {"steps": ["blur", "noise"]},
    "sequence": {"steps": ["blur", "noise"]},
    "crop": {"fill": "edge"},
}


def spec_of(images: Tensor, **more: Any) -> DataSpec:
    return DataSpec(columns={"image": column_spec("image", images, **more)}, num_rows={"all": len(images)})


def some_images(*shape: int) -> Tensor:
    bits = draws.random_bits(7, torch.arange(math.prod(shape), dtype=torch.int32))
    return (bits & 255).to(torch.uint8).reshape(shape)


def apply(steps: list[dict[str, Any]], images: Tensor, key: int = KEY, **more: Any) -> Tensor:
    batch = {"image": images, "row": torch.arange(len(images))}
    return Augmentation(steps, spec_of(images, **more))(batch, key)["image"]


def test_composition_is_the_product_of_matrices() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (Affine(*torch.randn(6, 5, generator=generator)) for _ in range(2))
    like = torch.zeros(5)

    def full(affine: Affine) -> Tensor:
        return torch.cat([affine.matrix(like), torch.tensor([0.0, 0.0, 1.0]).expand(5, 1, 3)], dim=1)

    torch.testing.assert_close(full(first.of(second)), full(first) @ full(second))
    torch.testing.assert_close(full(first.of(Affine())), full(first))
    torch.testing.assert_close(full(Affine(xx=-1.0).of(second)), full(Affine(xx=-1.0)) @ full(second))


@pytest.mark.parametrize("shape", [(3, 1, 5, 9), (2, 3, 8, 8)])
def test_warp_agrees_with_torchs_affine_grid(shape: tuple[int, ...]) -> None:
    images = some_images(*shape).float()
    generator = torch.Generator().manual_seed(1)
    source = torch.eye(2, 3) + 0.2 * torch.randn(shape[0], 2, 3, generator=generator)
    height, width = shape[-2:]
    # affine_grid maps coordinates from -1 to 1; ours are pixels from the centre.
    to_unit = torch.tensor([[2 / width], [2 / height]])
    from_unit = torch.tensor([width / 2, height / 2, 1.0])
    theta = source * to_unit * from_unit
    grid = functional.affine_grid(theta, list(shape), align_corners=False)
    wanted = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    torch.testing.assert_close(warp(images, source), wanted, atol=1e-2, rtol=1e-4)


def test_identity_changes_nothing() -> None:
    images = some_images(4, 1, 28, 28)
    moved = apply(
        [{"name": "rotate", "degrees": 0}, {"name": "zoom", "fraction": 0}, {"name": "shift", "fraction": 0}], images
    )
    assert moved.dtype == torch.float32
    torch.testing.assert_close(moved, images.float(), atol=0.01, rtol=0)


def test_no_steps_keep_bytes() -> None:
    images = some_images(2, 1, 4, 4)
    assert apply([], images) is images


def test_quarter_turn_is_rot90() -> None:
    images = some_images(1, 2, 7, 7).float()
    angle = torch.tensor([math.pi / 2])
    turned = warp(images, Affine(xx=angle.cos(), xy=-angle.sin(), yx=angle.sin(), yy=angle.cos()).matrix(angle))
    torch.testing.assert_close(turned, torch.rot90(images, 1, (2, 3)), atol=0.01, rtol=0)


def test_rotation_keeps_circles_round_in_oblong_images() -> None:
    height, width = 21, 41
    y, x = torch.meshgrid(torch.arange(height) - 10.0, torch.arange(width) - 20.0, indexing="ij")
    disc = ((x**2 + y**2) < 49).float().expand(1, 1, height, width)
    angle = torch.tensor([0.7])
    turned = warp(disc, Affine(xx=angle.cos(), xy=-angle.sin(), yx=angle.sin(), yy=angle.cos()).matrix(angle))
    assert float((turned - disc).abs().mean()) < 0.02


@pytest.mark.parametrize(
    ("step", "check"),
    [
        (
            Rotate(degrees=10),
            lambda m: m.xy.abs().max() <= math.sin(math.radians(10)) + 1e-6 and m.xy.abs().max() > 0.15,
        ),
        (
            Zoom(fraction=0.1),
            lambda m: 0.9 <= m.xx.min() < 0.91 and 1.09 < m.xx.max() <= 1.1 and not (m.xx == m.yy).any(),
        ),
        (Zoom(fraction=0.1, per_axis=False), lambda m: (m.xx == m.yy).all()),
        (Shift(fraction=0.1), lambda m: 2.7 < m.x0.abs().max() <= 2.8 and 4.9 < m.y0.abs().max() <= 5.0),
        (Shear(degrees=20), lambda m: 0.35 < m.xy.abs().max() <= math.tan(math.radians(20)) + 1e-6),
    ],
)
def test_ranges(step: GeometricStep, check: Any) -> None:
    uniform = draws.uniform(KEY, draws.counters(torch.arange(4000), step.num_draws))
    assert check(step.source(uniform, height=50, width=28))


@pytest.mark.parametrize(("name", "axis"), [("flip_horizontal", -1), ("flip_vertical", -2)])
def test_flips_are_exact_and_as_likely_as_said(name: str, axis: int) -> None:
    images = some_images(2000, 1, 3, 4)
    moved = apply([{"name": name, "prob": 0.3}], images)
    flipped = (moved == images.float().flip(axis)).flatten(1).all(1)
    kept = (moved == images.float()).flatten(1).all(1)
    assert bool((flipped ^ kept).all())
    assert 0.27 < float(flipped.float().mean()) < 0.33


def test_flip_within_a_warp_equals_the_exact_flip() -> None:
    images = some_images(50, 1, 9, 9)
    warped = apply([{"name": "flip_horizontal"}, {"name": "shift", "fraction": 0}], images)
    flipped = (warped - images.float().flip(-1)).abs().flatten(1).amax(1) < 0.01
    kept = (warped - images.float()).abs().flatten(1).amax(1) < 0.01
    assert bool((flipped ^ kept).all())
    assert 10 < int(flipped.sum()) < 40


def test_steps_act_in_their_order() -> None:
    images = torch.zeros(1, 1, 21, 21)
    images[0, 0, 10, 15] = 1.0  # right of the centre
    turn = {"name": "rotate", "degrees": 180}
    uniform = draws.uniform(KEY, draws.counters(torch.arange(1), 3))[0]
    angle = float((uniform[0] * 2 - 1) * math.pi)
    moved = apply([turn, {"name": "shift", "fraction": 0.2}], images)
    place = torch.nonzero(moved[0, 0] == moved.max())[0]
    # Rotate the point counter-clockwise (y points down), then shift it against the source map's direction.
    x, y = 5 * math.cos(angle), -5 * math.sin(angle)
    x -= float((uniform[1] * 2 - 1) * 0.2 * 21)
    y -= float((uniform[2] * 2 - 1) * 0.2 * 21)
    assert abs(float(place[1]) - 10 - x) <= 1
    assert abs(float(place[0]) - 10 - y) <= 1


def test_fill() -> None:
    images = torch.full((64, 1, 8, 8), 200, dtype=torch.uint8)
    for fill, low in (("edge", 199.9), ("reflect", 199.9), ("zero", -0.1)):
        moved = apply([{"name": "shift", "fraction": 0.5, "fill": fill}], images)
        assert float(moved.min()) > low
    assert float(moved.min()) < 1
    with pytest.raises(ConfigError, match="edge, zero") as caught:
        apply([{"name": "shift", "fill": "zero"}, {"name": "zoom"}], images)
    assert "fill" in caught.value.where


def test_brightness_and_contrast_stay_in_range() -> None:
    images = some_images(64, 3, 6, 6)
    for name in ("brightness", "contrast"):
        moved = apply([{"name": name, "amount": 0.9}], images)
        assert float(moved.min()) >= 0
        assert float(moved.max()) <= 255
        assert not torch.equal(moved, images.float())
    unclamped = apply([{"name": "brightness", "amount": 1}], images.float() - 100)
    assert float(unclamped.min()) < -150
    sixteen = apply([{"name": "brightness", "amount": 1}], images.clamp(max=16), maximum=16.0)
    assert float(sixteen.max()) == 16


def test_contrast_keeps_the_mean() -> None:
    images = some_images(16, 1, 8, 8) // 4 + 96
    moved = apply([{"name": "contrast", "amount": 0.5}], images)
    torch.testing.assert_close(moved.mean((1, 2, 3)), images.float().mean((1, 2, 3)), atol=1e-3, rtol=0)


def test_noise_has_the_stated_spread() -> None:
    images = torch.full((200, 1, 16, 16), 127, dtype=torch.uint8)
    noise = apply([{"name": "noise", "std": 0.05}], images) - 127
    assert abs(float(noise.mean())) < 0.3
    assert abs(float(noise.std()) - 0.05 * 255) < 0.3
    assert not torch.equal(noise[0], noise[1])


def test_erase_covers_the_stated_share() -> None:
    images = some_images(500, 1, 32, 32)
    moved = apply([{"name": "erase", "prob": 0.5, "smallest": 0.1, "largest": 0.1, "ratio": 2}], images)
    share = (moved != images.float()).float().mean((1, 2, 3))
    hit = share > 0
    assert 0.42 < float(hit.float().mean()) < 0.58
    assert 0.08 < float(share[hit].mean()) < 0.12
    assert torch.equal(moved[~hit], images[~hit].float())


def test_keys_change_the_draws_and_a_tensor_key_is_the_same() -> None:
    images = some_images(8, 1, 12, 12)
    steps = [{"name": name} for name in EVERY]
    batch = {"image": images, "row": torch.arange(8), "label": torch.arange(8)}
    augment = Augmentation(steps, spec_of(images))
    first = augment(batch, KEY)
    assert torch.equal(first["image"], augment(batch, torch.tensor(KEY, dtype=torch.int32))["image"])
    assert not torch.equal(first["image"], augment(batch, KEY + 1)["image"])
    assert first["label"] is batch["label"]
    assert torch.equal(batch["image"], images)


def test_every_registered_step_changes_images() -> None:
    names = registry.names("augmentation")
    assert len(names) >= 30
    images = some_images(16, 3, 20, 20) // 2 + 30
    for name in names:
        entry = registry.lookup("augmentation", name)
        assert entry.summary
        assert entry.schema
        steps = [{"name": name, **NEEDED.get(name, {})}]
        spec = spec_of(images)
        spec.columns["label"] = column_spec("label", torch.zeros(16, dtype=torch.int64), classes=("a", "b"))
        batch = {"image": images, "row": torch.arange(16), "label": torch.arange(16) % 2}
        changed = Augmentation(steps, spec)(batch, KEY)["image"]
        assert changed.dtype == torch.float32
        assert changed.shape == images.shape
        assert bool(torch.isfinite(changed).all())
        assert float(changed.min()) >= -1e-3
        assert float(changed.max()) <= 255.001
        assert not torch.equal(changed, images.float()), name


def test_without_a_compiler_images_are_warped_by_torch_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    images = some_images(3, 3, 70, 64)
    steps = [{"name": name} for name in AFFINE]
    native = apply(steps, images)
    monkeypatch.setattr(warps, "_loop", lambda channels, fill: None)
    assert not warps.is_native(images)
    torch.testing.assert_close(apply(steps, images), native, atol=0.02, rtol=0)


def test_the_choice_of_a_warp_depends_on_the_images_alone() -> None:
    if find_compiler() is None:
        pytest.skip("there is no C++ compiler here")
    assert warps.is_native(some_images(1, 1, 28, 28))
    assert warps.is_native(some_images(64, 4, 24, 24))
    assert not warps.is_native(some_images(64, 3, 8, 8))
    assert not warps.is_native(some_images(1, 5, 28, 28))
    assert not warps.is_native(some_images(1, 1, 28, 28).float())
    assert not warps.is_native(torch.empty(1, 1, 28, 28, dtype=torch.uint8, device="meta"))


AFFINE = ("rotate", "zoom", "shift", "shear", "flip_horizontal")
ALONE = tuple(name for name in registry.names("augmentation") if name not in ("mixup", "cutmix"))


@pytest.mark.parametrize(("side", "names"), [(12, ALONE), (40, AFFINE)])
def test_it_can_be_traced(side: int, names: tuple[str, ...]) -> None:
    images = some_images(8, 3, side, side)
    augment = Augmentation([{"name": name, **NEEDED.get(name, {})} for name in names], spec_of(images))

    def run(image: Tensor, row: Tensor, key: Tensor) -> Tensor:
        return augment({"image": image, "row": row}, key)["image"]

    inputs = (images, torch.arange(8), torch.tensor(KEY, dtype=torch.int32))
    traced = make_fx(run)(*inputs)
    other = (images.flip(0), torch.arange(8) + 5, torch.tensor(KEY + 1, dtype=torch.int32))
    torch.testing.assert_close(traced(*other), run(*other), atol=1e-2, rtol=1e-4)


@pytest.mark.parametrize(
    ("steps", "error", "says"),
    [
        ([{"name": "rotat"}], UnknownNameError, "rotate"),
        ([{"degrees": 3}], ConfigError, "augment[0]"),
        ([{"name": "rotate", "degrees": 400}], ConfigError, "augment[0].degrees"),
        ([{"name": "rotate", "degres": 4}], ConfigError, "degrees"),
    ],
)
def test_wrong_steps_are_refused(steps: list[dict[str, Any]], error: type[Exception], says: str) -> None:
    with pytest.raises(error) as caught:
        Augmentation(steps, spec_of(some_images(1, 1, 4, 4)))
    assert says in str(caught.value)


def test_tables_cannot_be_augmented() -> None:
    spec = DataSpec(columns={"number": column_spec("number", torch.zeros(3, 2))}, num_rows={"all": 3})
    with pytest.raises(ConfigError, match="no images"):
        Augmentation([{"name": "rotate"}], spec)
    assert len(Augmentation([], spec)) == 0
