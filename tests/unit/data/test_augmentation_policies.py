"""Policies and mixing: who gets which step, with which partner, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lamina.core import draws
from lamina.core.errors import ConfigError, LaminaError, UnknownNameError
from lamina.core.run import RunFolder
from lamina.data.augment.policy import RandAugment, unfold
from lamina.data.augmentation import Augmentation
from lamina.data.columns import Columns, ColumnSpec, DataSpec, column_spec
from lamina.recipes.recipe import resolve
from lamina.recipes.session import train_run
from lamina.tasks.classification import ClassificationConfig
from lamina.tasks.image_classification import ImageClassification

KEY = draws.stream_key(0, "augment", 0)


def spec_of(images: Tensor, *, classes: tuple[str, ...] = ("a", "b", "c")) -> DataSpec:
    label = column_spec("label", torch.zeros(len(images), dtype=torch.int64), classes=classes)
    return DataSpec(columns={"image": column_spec("image", images), "label": label}, num_rows={"all": len(images)})


def flat_images(count: int, *, channels: int = 1, side: int = 4) -> Tensor:
    """Image n is n everywhere."""
    return torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(count, channels, side, side).contiguous()


def batch_of(images: Tensor) -> dict[str, Tensor]:
    rows = torch.arange(len(images))
    return {"image": images, "row": rows, "label": rows % 3}


def run(steps: list[Any], images: Tensor, *, columns: Columns | None = None, key: int = KEY) -> dict[str, Tensor]:
    return Augmentation(steps, spec_of(images), columns=columns)(batch_of(images), key)


def share(changed: Tensor) -> float:
    return float(changed.flatten(1).any(dim=1).float().mean())


def test_sometimes_does_all_of_its_steps_or_none() -> None:
    images = torch.full((3000, 1, 4, 4), 100, dtype=torch.uint8)
    images[:, :, :, 0] = 200
    inner = [{"name": "flip_horizontal", "prob": 1}, {"name": "solarize", "threshold": 0}]
    steps = [{"name": "sometimes", "prob": 0.3, "steps": inner}]
    moved = run(steps, images)["image"]
    both = (moved[:, 0, 0, 3] == 55) & (moved[:, 0, 0, 0] == 155)
    kept = (moved == images.float()).flatten(1).all(1)
    assert bool((both ^ kept).all())
    assert 0.27 < float(both.float().mean()) < 0.33


def test_one_of_does_one_with_the_stated_weights() -> None:
    images = torch.full((4000, 1, 4, 4), 100, dtype=torch.uint8)
    steps = [
        {
            "name": "one_of",
            "steps": [{"name": "solarize", "threshold": 0}, {"name": "posterize", "bits": 1}, "sequence"],
            "weights": [1, 2, 5],
        }
    ]
    values = run(steps, images)["image"][:, 0, 0, 0]
    for value, weight in ((155.0, 1 / 8), (0.0, 2 / 8), (100.0, 5 / 8)):
        assert abs(float((values == value).float().mean()) - weight) < 0.03


def test_gates_do_not_depend_on_the_steps_behind_them_and_nest() -> None:
    images = torch.full((2000, 1, 4, 4), 100, dtype=torch.uint8)
    inner = {"name": "sometimes", "prob": 0.5, "steps": [{"name": "solarize", "threshold": 0}]}
    values = run([{"name": "sometimes", "prob": 0.5, "steps": [inner]}], images)["image"][:, 0, 0, 0]
    assert abs(float((values == 155).float().mean()) - 0.25) < 0.03


def test_geometric_steps_inside_policies_share_the_one_warp() -> None:
    images = torch.arange(36, dtype=torch.uint8).view(1, 1, 6, 6).expand(400, 1, 6, 6).contiguous()
    both = [{"name": "sometimes", "prob": 0.5, "steps": [{"name": "crop", "padding": 1}, {"name": "flip_vertical"}]}]
    moved = run(both, images)["image"]
    assert moved.frac().abs().max() == 0  # whole pixels were moved, nothing was interpolated
    assert 0.4 < float((moved == images).flatten(1).all(1).float().mean()) < 0.65


def test_recipes_without_policies_keep_the_draws_they_had() -> None:
    """The draws of plain lists are laid out as in the first release: geometric steps, then photometric ones, in order."""
    images = torch.full((5, 1, 4, 4), 100, dtype=torch.uint8)
    moved = run([{"name": "brightness", "amount": 0.5}, {"name": "rotate"}], images)["image"]
    uniform = draws.uniform(KEY, draws.counters(torch.arange(5), 2))
    torch.testing.assert_close(moved[:, 0, 2, 2], 100 * (1 + (uniform[:, 1] * 2 - 1) * 0.5))


def test_randaugment_is_two_of_fourteen_at_full_swing() -> None:
    plan = unfold([{"name": "randaugment", "num_ops": 2, "magnitude": 30}], num_channels=3)
    assert plan.num_slots == 2
    assert len(plan.leaves) == 2 * 13  # the fourteenth does nothing
    assert len(unfold(["randaugment"], num_channels=1).leaves) == 2 * 12  # grey images have no colour to change
    assert all(leaf.signs_only for leaf in plan.leaves)
    step = RandAugment(magnitude=15.0)
    table = {entry[0]["name"]: entry[0] for entry in step.operations(3) if entry}
    assert table["rotate"]["degrees"] == 15
    assert table["posterize"]["bits"] == 6
    assert table["solarize"]["threshold"] == 0.5
    images = torch.full((2000, 3, 8, 8), 100, dtype=torch.uint8)
    images[..., ::2] = 60
    moved = Augmentation([{"name": "randaugment"}], spec_of(images))(batch_of(images), KEY)["image"]
    assert 0.7 < share(moved != images.float()) < 0.99


def test_nothing_at_magnitude_zero_but_tones_that_know_no_magnitude() -> None:
    table = RandAugment(magnitude=0.0).operations(3)
    numbers = [
        value for entry in table for key, value in (entry[0].items() if entry else ()) if isinstance(value, float)
    ]
    assert set(numbers) <= {0.0, 1.0}


# --- mixing ---


def test_mixup_averages_images_and_says_the_share() -> None:
    images = flat_images(60)
    columns = Columns({"image": images, "label": torch.arange(60) % 3})
    found = run([{"name": "mixup", "alpha": 1.0}], images, columns=columns)
    mix, values = found["mix"], found["image"][:, 0, 0, 0]
    own = torch.arange(60.0)
    partner = (values - mix * own) / (1 - mix)
    sure = mix < 0.9
    torch.testing.assert_close(partner[sure], partner[sure].round(), atol=0.02, rtol=0)
    assert torch.equal(found["label_other"][sure], partner[sure].round().long() % 3)
    assert found["label_other"].dtype == torch.int64
    assert mix.dtype == torch.float32


def test_cutmix_pastes_a_rectangle_whose_area_is_the_share() -> None:
    images = flat_images(200, side=10)
    found = run([{"name": "cutmix", "partner": "batch", "prob": 0.5}], images)
    own = torch.arange(200.0).view(-1, 1, 1)
    kept = (found["image"][:, 0] == own).float().mean((1, 2))
    torch.testing.assert_close(kept, found["mix"], atol=1e-6, rtol=0)
    assert 0.45 < float((found["mix"] == 1).float().mean()) < 0.75
    # The partner is one other row of the batch, each row the partner of one.
    values = [set(image.unique().tolist()) for image in found["image"]]
    assert all(len(value) <= 2 for value in values)


def test_partners_in_the_batch_are_a_cycle_that_does_not_depend_on_the_order() -> None:
    images = flat_images(12)
    augment = Augmentation([{"name": "mixup", "partner": "batch"}], spec_of(images))
    batch = batch_of(images)
    order = torch.tensor([5, 0, 11, 3, 4, 7, 1, 2, 10, 9, 8, 6])
    shuffled = {name: value[order] for name, value in batch.items()}
    one, other = augment(batch, KEY), augment(shuffled, KEY)
    torch.testing.assert_close(one["image"][order], other["image"])
    assert torch.equal(one["label_other"][order], other["label_other"])


def test_partners_are_augmented_by_their_own_draws() -> None:
    images = flat_images(40) + 50
    columns = Columns({"image": images, "label": torch.arange(40) % 3})
    steps = [{"name": "brightness", "amount": 0.5}]
    alone = run(steps, images)["image"][:, 0, 0, 0]
    mixed = run([*steps, {"name": "cutmix", "alpha": 0.01}], images, columns=columns)
    for number in range(40):
        for value in mixed["image"][number].unique().tolist():
            assert float((alone - value).abs().min()) < 1e-3


def test_mixing_needs_labels_one_partner_and_a_task_that_knows_it() -> None:
    images = flat_images(6)
    bare = DataSpec(columns={"image": column_spec("image", images)}, num_rows={"all": 6})
    with pytest.raises(ConfigError, match="mixes their labels"):
        Augmentation(["mixup"], bare)
    with pytest.raises(ConfigError, match="different partners"):
        Augmentation([{"name": "mixup"}, {"name": "cutmix", "partner": "batch"}], spec_of(images))
    spec = spec_of(images)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    plain = ImageClassification(ClassificationConfig(), spec)
    assert plain.refuse_mixed(model) is None
    by_row = ImageClassification(ClassificationConfig(), spec, loss=lambda out, y: out.logsumexp(1) - out[:, 0])
    assert by_row.refuse_mixed(model) is None
    mean = ImageClassification(ClassificationConfig(), spec, loss=lambda out, y: nn.functional.cross_entropy(out, y))
    assert "cannot be weighed" in str(mean.refuse_mixed(model))


@pytest.mark.parametrize(
    ("steps", "error", "says"),
    [
        ([{"name": "sometimes", "steps": [{"name": "rotat"}]}], UnknownNameError, "rotate"),
        ([{"name": "sometimes", "steps": []}], ConfigError, "augment[0].steps"),
        (
            [{"name": "one_of", "steps": [{"name": "rotate", "degrees": 999}]}],
            ConfigError,
            "augment[0].steps[0].degrees",
        ),
        ([{"name": "one_of", "steps": ["blur", "noise"], "weights": [1]}], ConfigError, "weights"),
        ([{"name": "one_of", "steps": ["blur", "noise"], "weights": [0, 0]}], ConfigError, "not all 0"),
        ([{"name": "saturation"}], ConfigError, "1 channel"),
        ([{"name": "sometimes", "steps": ["hue"]}], ConfigError, "three channels"),
        ([{"name": "crop"}, {"name": "rotate"}], ConfigError, "fill"),
        ([{"name": "randaugment", "num_ops": 99}], ConfigError, "num_ops"),
    ],
)
def test_wrong_policies_are_refused(steps: list[Any], error: type[LaminaError], says: str) -> None:
    with pytest.raises(error) as caught:
        Augmentation(steps, spec_of(flat_images(2)))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("augment=[{name: sometimes, steps: [{name: rotat}]}]", "'rotate'"),
        ("augment=[{name: one_of, steps: [{name: sequence, steps: [{name: blur, sigmo: 1}]}]}]", "sigma"),
        ("augment=[{name: sometimes, steps: [5]}]", "steps"),
    ],
)
def test_steps_inside_policies_are_checked_with_the_recipe(words: str, says: str) -> None:
    with pytest.raises(LaminaError) as caught:
        resolve("digits", assignments=[words])
    assert says in str(caught.value)
    resolve("digits", assignments=["augment=[{name: sometimes, steps: [blur, {name: noise}]}]"])


def test_steps_that_need_a_range_say_so() -> None:
    spec = DataSpec(columns={"image": ColumnSpec(role="image", dtype="float32", shape=(1, 4, 4))}, num_rows={"all": 2})
    with pytest.raises(ConfigError, match="largest value"):
        Augmentation(["gamma"], spec)


def test_crop_and_flip_agree_about_what_lies_outside() -> None:
    moved = run([{"name": "crop", "padding": 2}, {"name": "flip_horizontal"}], flat_images(64) + 9)["image"]
    assert float(moved.min()) == 0
    assert share(moved == 0) > 0.5


@pytest.mark.parametrize("recipe", ["mnist-linear", "mnist-svm"])
def test_networks_learn_from_mixed_rows(recipe: str, tmp_path: Path) -> None:
    words = ["augment=[{name: one_of, steps: [mixup, cutmix]}]", "training.epochs=12", "optimizer.lr=0.02"]
    resolved = resolve(recipe, data="digits", assignments=[*words, "data.limit=300"])
    run = RunFolder.create(tmp_path / "run", name="mixed", values=resolved.values, origins=resolved.origins)
    result = train_run(run)
    losses = [row["loss"] for row in run.metrics() if "loss" in row]
    assert losses[-1] < losses[0]
    assert result.metrics["valid/accuracy"] > 0.7  # without mixing 0.92


def test_a_model_that_learns_by_its_own_rule_refuses_mixed_rows(tmp_path: Path) -> None:
    resolved = resolve("mnist-knn", data="digits", assignments=["augment=[mixup]"])
    run = RunFolder.create(tmp_path / "run", name="mixed", values=resolved.values, origins=resolved.origins)
    with pytest.raises(ConfigError, match="cannot learn from mixed samples"):
        train_run(run)
