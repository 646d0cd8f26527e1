"""Transfer: stages by name, what rests and what learns, rates by layer, features computed once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lamina.core.errors import ConfigError
from lamina.data.columns import Columns, DataSpec, column_spec
from lamina.data.preprocessing import Preprocessing
from lamina.models.factory import create_model
from lamina.nn.dropout import Dropout
from lamina.tasks.base import Stage
from lamina.tasks.derived import (
    FeatureHead,
    FeatureStore,
    as_they_are,
    body_key,
    choose_features,
    compute_features,
    derived_spec,
)
from lamina.tasks.image_classification import ImageClassification
from lamina.tasks.stage_config import StageConfig
from lamina.tasks.transfer import (
    build_stages,
    check_head_first,
    freeze,
    layer_rates,
    model_stages,
    set_modes,
    stage_optimizer,
)

CLASSES = ("a", "b", "c")


class Staged(nn.Module):
    """Two convolutions with batch norms and dropouts, glue without weights, and stages of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(4)
        self.blocks = nn.Sequential(
            nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.BatchNorm2d(6), Dropout(0.5)),
            nn.Sequential(nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8), Dropout(0.5)),
        )
        self.drop = Dropout(0.5)
        self.head = nn.Linear(8, 3)

    @property
    def stages(self) -> dict[str, tuple[str, ...]]:
        return {"stem": ("conv1.", "bn1."), "first": ("blocks.0.",), "second": ("blocks.1.",), "head": ("head.",)}

    def features(self, images: Tensor) -> Tensor:
        return self.drop(self.blocks(torch.relu(self.bn1(self.conv1(images)))).mean((2, 3)))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


def images(rows: int = 40, seed: int = 0) -> tuple[Columns, DataSpec]:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (rows, 1, 8, 8), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 3, (rows,), generator=generator)
    columns = Columns({"image": pixels, "label": labels})
    spec = DataSpec(
        columns={"image": column_spec("image", pixels), "label": column_spec("label", labels, classes=CLASSES)},
        num_rows={"train": rows},
    )
    return columns, spec


def stage_of(model: nn.Module, **values: object) -> Stage:
    return build_stages({"this": StageConfig.from_values(values)}, model)[0]


def learning(model: nn.Module, stage: Stage) -> set[str]:
    freeze(model, stage, initially={})
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


# --- stages by name -------------------------------------------------------------------------------------------------


def test_a_model_says_its_stages_or_is_taken_by_its_children() -> None:
    assert list(model_stages(Staged())) == ["stem", "first", "second", "head"]
    assert model_stages(create_model("cnn")) == {"body": ("body.",), "head": ("head.",)}
    bare = nn.Module()
    bare.head, bare.body = nn.Linear(2, 2), nn.Linear(2, 2)
    bare.token = nn.Parameter(torch.zeros(2))
    assert list(model_stages(bare)) == ["token", "body", "head"]


def test_stages_and_patterns_say_what_learns() -> None:
    model = Staged()
    everything = {name for name, _ in model.named_parameters()}
    assert learning(model, stage_of(model)) == everything
    assert learning(model, stage_of(model, trainable=["head"])) == {"head.weight", "head.bias"}
    assert learning(model, stage_of(model, trainable=["second", "head"])) == {
        name for name in everything if name.startswith(("blocks.1.", "head."))
    }
    assert learning(model, stage_of(model, trainable=["*.bias"])) == {n for n in everything if n.endswith("bias")}
    norms = {"bn1.weight", "bn1.bias", "blocks.0.1.weight", "blocks.0.1.bias", "blocks.1.1.weight", "blocks.1.1.bias"}
    assert learning(model, stage_of(model, freeze_batch_norm=True)) == everything - norms


def test_what_the_user_froze_stays_frozen_where_a_stage_says_nothing() -> None:
    model = Staged()
    freeze(model, Stage(), initially={"conv1.weight": False})
    assert not model.conv1.weight.requires_grad
    assert model.head.weight.requires_grad


def test_a_stage_that_fits_nothing_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError) as caught:
        stage_of(Staged(), trainable=["secnd"])
    assert "stages.this.trainable" in caught.value.where
    assert "stem, first, second, head" in caught.value.accepts
    assert "'second'" in caught.value.mend
    with pytest.raises(ConfigError, match="trains nothing"):
        stage_of(Staged(), trainable=[])
    with pytest.raises(ConfigError, match="no head"):
        stage_of(nn.Sequential(nn.Linear(2, 2)), trainable=["0"])


# --- modes ----------------------------------------------------------------------------------------------------------


def modes(model: nn.Module, stage: Stage) -> dict[str, bool]:
    freeze(model, stage, initially={})
    set_modes(model, stage)
    return {name: module.training for name, module in model.named_modules()}


def test_a_frozen_body_is_in_evaluation_mode_dropout_and_glue_too() -> None:
    model = Staged()
    found = modes(model, stage_of(model, trainable=["head"]))
    assert found.pop("head")
    assert not any(found.values()), found


def test_of_a_partly_frozen_body_only_what_learns_trains() -> None:
    model = Staged()
    found = modes(model, stage_of(model, trainable=["second", "head"]))
    assert {name for name, training in found.items() if training} == {
        "", "blocks", "blocks.1", "blocks.1.0", "blocks.1.1", "blocks.1.2", "drop", "head",
    }  # fmt: skip


def test_frozen_batch_norms_stand_still_and_the_rest_trains() -> None:
    model = Staged()
    found = modes(model, stage_of(model, freeze_batch_norm=True))
    assert {name for name, training in found.items() if not training} == {"bn1", "blocks.0.1", "blocks.1.1"}


def test_without_a_stage_of_its_own_everything_trains() -> None:
    assert all(modes(Staged(), Stage()).values())


# --- rates and optimizers -------------------------------------------------------------------------------------------


def test_rates_fall_from_the_head_to_the_input_whatever_is_frozen() -> None:
    model = Staged()
    names = [name for name, _ in model.named_parameters()]
    rates = layer_rates(model, names, lr=0.1, decay=0.5)
    assert rates == {"conv1.*": 0.0125, "bn1.*": 0.0125, "blocks.0.*": 0.025, "blocks.1.*": 0.05, "head.*": 0.1}
    some = layer_rates(model, [name for name in names if not name.startswith("blocks.1.")], lr=0.1, decay=0.5)
    assert some == {key: rate for key, rate in rates.items() if key != "blocks.1.*"}


def test_another_optimizer_takes_nothing_over() -> None:
    base = {"name": "momentum", "lr": 0.1, "momentum": 0.8}
    assert stage_optimizer(base, Stage(optimizer={"lr": 0.01})) == {"name": "momentum", "lr": 0.01, "momentum": 0.8}
    assert stage_optimizer(base, Stage(optimizer={"name": "adam"})) == {"name": "adam"}


# --- the head first -------------------------------------------------------------------------------------------------


def test_unfreezing_before_the_head_is_trained_is_refused() -> None:
    model = Staged()
    both = {"head": StageConfig(trainable=("head",)), "rest": StageConfig()}
    check_head_first(both, model, head_is_new=True, body_is_trained=True)
    with pytest.raises(ConfigError) as caught:
        check_head_first({"rest": StageConfig()}, model, head_is_new=True, body_is_trained=True)
    assert caught.value.where == "key `stages.rest.trainable`"
    assert "stages.rest.allow_untrained_head=true" in caught.value.mend
    with pytest.raises(ConfigError, match="'body'"):  # training the body alone does not train the head
        check_head_first(
            {"body": StageConfig(trainable=("second",)), **both}, model, head_is_new=True, body_is_trained=True
        )


def test_unfreezing_is_allowed_when_told_or_where_there_is_nothing_to_lose() -> None:
    model = Staged()
    told = {"rest": StageConfig(allow_untrained_head=True)}
    check_head_first(told, model, head_is_new=True, body_is_trained=True)
    rest = {"rest": StageConfig()}
    check_head_first(rest, model, head_is_new=False, body_is_trained=True)
    check_head_first(rest, model, head_is_new=True, body_is_trained=False)


# --- features computed once -----------------------------------------------------------------------------------------


def prepared() -> tuple[Staged, Columns, Preprocessing]:
    torch.manual_seed(1)
    columns, spec = images()
    model = Staged()
    for norm in (model.bn1, model.blocks[0][1], model.blocks[1][1]):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2.0)
    return model, columns, Preprocessing.fit([{"name": "scale"}], columns, spec)


@pytest.mark.parametrize("autocast", [False, True])
def test_features_computed_once_are_those_computed_each_time(autocast: bool) -> None:
    model, columns, preprocessing = prepared()
    found = compute_features(model, preprocessing, columns, autocast=autocast)
    assert found.dtype == torch.float32
    assert not found.is_inference()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        model.eval()
        batch = preprocessing(columns.batch(torch.arange(40)))
        assert torch.equal(found, model.features(batch["image"]).float())
        logits = model(batch["image"])
        assert torch.equal(logits, FeatureHead(model)(found))


def test_a_store_computes_once_and_anew_for_other_weights_or_preprocessing() -> None:
    model, columns, preprocessing = prepared()
    store = FeatureStore()
    first = store.derive(columns, model=model, preprocessing=preprocessing)
    assert set(first) == {"features", "label"}
    assert torch.equal(first["label"], columns["label"])
    nn.init.zeros_(model.head.weight)  # the head is no part of the key
    assert store.derive(columns, model=model, preprocessing=preprocessing) is first
    assert store.computed == 1
    other = Preprocessing.fit([{"name": "scale", "low": -1.0}], columns, preprocessing.input_spec)
    assert not torch.equal(store.derive(columns, model=model, preprocessing=other)["features"], first["features"])
    assert store.computed == 2


@pytest.mark.parametrize("name", ["conv1.weight", "blocks.1.1.running_var", "bn1.running_mean"])
def test_the_key_depends_on_every_tensor_of_the_body(name: str) -> None:
    model, _, preprocessing = prepared()
    options = {"autocast": False, "channels_last": False}
    before = body_key(model, preprocessing, **options)
    assert body_key(model, preprocessing, autocast=True, channels_last=False) != before
    model.state_dict()[name].view(-1)[0] += 1e-3
    assert body_key(model, preprocessing, **options) != before


def test_derived_columns_have_a_spec_and_need_no_preprocessing() -> None:
    model, columns, preprocessing = prepared()
    derived = FeatureStore().derive(columns, model=model, preprocessing=preprocessing)
    spec = derived_spec(preprocessing.spec, derived)
    assert spec.columns["features"].shape == (8,)
    assert spec.classes == CLASSES
    batch = derived.batch(torch.tensor([3, 1]))
    assert torch.equal(as_they_are(preprocessing.spec, derived)(batch)["features"], derived["features"][[3, 1]])


@pytest.mark.parametrize(
    ("values", "augmented", "reason"),
    [
        ({"trainable": ["head"]}, False, "only the head learns, and nothing random stands before it"),
        ({"trainable": ["head"]}, True, "the augmentation draws anew in each epoch"),
        ({"trainable": ["head"], "augment": False}, True, "only the head learns, and nothing random stands before it"),
        ({"trainable": ["head"], "features": "each-step"}, False, "the stage does not ask for it"),
        ({"trainable": ["second", "head"]}, False, "more than the head learns"),
        ({}, False, "more than the head learns"),
    ],
)
def test_when_features_are_computed_once(values: dict[str, object], augmented: bool, reason: str) -> None:
    model, _, preprocessing = prepared()
    task = ImageClassification(ImageClassification.Config(), preprocessing.spec)
    choice = choose_features(model, task, stage_of(model, **values), preprocessing, augmented=augmented, num_rows=40)
    assert choice.reason == reason
    assert choice.value == ("once" if "only the head" in reason else "each-step")


def test_a_model_that_is_not_its_head_on_its_features_is_found_out() -> None:
    class Odd(Staged):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images) * 2 + 1

    model, preprocessing = Odd(), prepared()[2]
    task = ImageClassification(ImageClassification.Config(), preprocessing.spec)
    stage = stage_of(model, trainable=["head"])
    choice = choose_features(model, task, stage, preprocessing, augmented=False, num_rows=40)
    assert choice.value == "each-step"
    assert choice.reason == "the model's forward is not its head on its features"


def test_too_many_features_are_computed_each_time() -> None:
    model, _, preprocessing = prepared()
    task = ImageClassification(ImageClassification.Config(), preprocessing.spec)
    stage = stage_of(model, trainable=["head"])
    choice = choose_features(model, task, stage, preprocessing, augmented=False, num_rows=1 << 30)
    assert choice.value == "each-step"
    assert "MiB" in choice.reason
