"""Training in stages: what rests, what is computed once, where a stage begins, and that a resume is exact in and between them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lamina.core.errors import ConfigError, InterruptedRunError
from lamina.data.augmentation import Augmentation
from lamina.data.columns import Columns, Data, DataSpec, column_spec
from lamina.data.preprocessing import Preprocessing
from lamina.nn.dropout import Dropout
from lamina.tasks.derived import FeatureStore
from lamina.tasks.image_classification import ImageClassification
from lamina.tasks.stage_config import StageConfig
from lamina.tasks.transfer import build_stages
from lamina.train.callbacks import Callback
from lamina.train.checkpoints import list_checkpoints, read_checkpoint
from lamina.train.config import TrainingConfig
from lamina.train.trainer import Trainer
from lamina.train.verify import verify_resume

HEAD: dict[str, Any] = {"trainable": ["head"], "epochs": 3, "augment": False, "optimizer": {"lr": 0.05}}
TUNE: dict[str, Any] = {
    "trainable": ["second", "head"],
    "epochs": 2,
    "optimizer": {"lr": 0.01},
    "layer_decay": 0.5,
    "warmup": 0.4,
    "schedule": {"name": "constant"},
}
STEPS = 6  # of an epoch: 48 rows, 8 at a time


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), Dropout(0.3))
        self.second = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), Dropout(0.3))
        self.head = nn.Linear(8, 3)
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for parameter in self.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(0, 0.4, generator=generator)
                else:
                    parameter.fill_(0.1)
            for norm in (self.first[1], self.second[1]):
                norm.weight.fill_(1.0)
                norm.running_mean.normal_(0, 0.2, generator=generator)
                norm.running_var.uniform_(0.5, 1.5, generator=generator)

    def features(self, images: Tensor) -> Tensor:
        return self.second(self.first(images)).mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


def make_data() -> Data:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(64) % 3
    pixels = torch.randint(0, 90, (64, 1, 8, 8), dtype=torch.uint8, generator=generator)
    for row, label in enumerate(labels.tolist()):
        pixels[row, 0, label * 2 : label * 2 + 3, 1 : 3 + label] += 130
    spec = DataSpec(
        columns={
            "image": column_spec("image", pixels),
            "label": column_spec("label", labels, classes=("a", "b", "c")),
        },
        num_rows={"train": 48, "valid": 16},
    )
    columns = Columns({"image": pixels, "label": labels})
    splits = {"train": columns.take(torch.arange(48)), "valid": columns.take(torch.arange(48, 64))}
    return Data(splits=splits, spec=spec, source="stages case")


def make(
    run: Path | None = None,
    *,
    stages: dict[str, dict[str, Any]] | None = None,
    augment: tuple[dict[str, Any], ...] = (),
    callbacks: tuple[Callback, ...] = (),
    features: FeatureStore | None = None,
    **training: Any,
) -> Trainer:
    torch.manual_seed(0)
    model, data = Net(), make_data()
    preprocessing = Preprocessing.fit([{"name": "scale"}], data.splits["train"], data.spec)
    configs = {
        name: StageConfig.from_values(values) for name, values in (stages or {"head": HEAD, "tune": TUNE}).items()
    }
    options = {"epochs": 2, "batch_size": 8, "log_every": 4, "tensorboard": False, "precision": "fp32", **training}
    return Trainer(
        model,
        ImageClassification(ImageClassification.Config(), preprocessing.spec),
        data,
        preprocessing=preprocessing,
        augmentation=Augmentation(augment, data.spec) if augment else None,
        optimizer={"name": "adam", "lr": 0.02},
        schedule={"name": "cosine"},
        config=TrainingConfig(**options),
        seed=5,
        run_dir=run,
        callbacks=callbacks,
        stages=build_stages(configs, model),
        features=features,
    )


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}


def body(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if not name.startswith("head.")}


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


class Watch(Callback):
    """Keeps what the model was at each judgement, with its stage, and the rates."""

    def __init__(self) -> None:
        self.judged: list[tuple[int, float, dict[str, Tensor]]] = []
        self.begun: list[tuple[int, dict[str, Tensor]]] = []
        self.modes: dict[int, set[str]] = {}

    def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None:
        if trainer.cursor.stage_epoch == 0:
            self.begun.append((trainer.cursor.stage, weights(trainer)))

    def on_steps(self, trainer: Trainer, num_steps: int, losses: Any) -> None:
        self.modes[trainer.cursor.stage] = {n for n, module in trainer.model.named_modules() if module.training}

    def on_evaluated(self, trainer: Trainer, split: str, values: Any) -> None:
        self.judged.append((trainer.cursor.stage, values["cross_entropy"], weights(trainer)))


# --- what happens ---------------------------------------------------------------------------------------------------


def test_the_body_stands_still_bit_for_bit_while_the_head_learns() -> None:
    watch = Watch()
    trainer = make(stages={"head": HEAD}, callbacks=(watch,))
    before = weights(trainer)
    trainer.fit()
    assert_equal(body(before), body(weights(trainer)))
    assert not torch.equal(before["head.weight"], trainer.model.head.weight)
    assert watch.modes[0] == {"head"}


def test_a_head_on_features_computed_once_is_the_head_trained_on_images() -> None:
    store = FeatureStore()
    once = make(stages={"head": HEAD}, features=store)
    first = once.fit()
    each = make(stages={"head": {**HEAD, "features": "each-step"}})
    second = each.fit()
    assert once.choices["features"].value == "once"
    assert each.choices["features"].value == "each-step"
    assert store.computed == 2  # the training and the validation split
    assert_equal(weights(once), weights(each))
    assert first.metrics == second.metrics


def test_stage_two_begins_from_the_best_of_stage_one_and_moves_what_it_may() -> None:
    watch = Watch()
    # At such a rate the last epoch is not the best.
    trainer = make(
        stages={
            "head": {**HEAD, "epochs": 5, "optimizer": {"lr": 1.0}, "schedule": {"name": "constant"}},
            "tune": TUNE,
        },
        callbacks=(watch,),
    )
    trainer.fit()
    first = [(value, state) for stage, value, state in watch.judged if stage == 0]
    best_value, best = min(first, key=lambda pair: pair[0])
    assert best_value < first[-1][0], "the case shows nothing"
    assert_equal(watch.begun[1][1], best)
    after = watch.judged[-1][2]
    assert_equal(
        {n: t for n, t in best.items() if n.startswith("first.")},
        {n: t for n, t in after.items() if n.startswith("first.")},
    )
    assert not torch.equal(best["second.0.weight"], after["second.0.weight"])
    assert not torch.equal(best["second.1.running_mean"], after["second.1.running_mean"])
    assert watch.modes[1] == {"", "head", "second", "second.0", "second.1", "second.2", "second.3"}


@pytest.mark.parametrize("rate", [0.01, 30.0])
def test_the_best_weights_are_the_best_of_all_stages(rate: float) -> None:
    watch = Watch()
    trainer = make(stages={"head": HEAD, "tune": {**TUNE, "optimizer": {"lr": rate}}}, callbacks=(watch,))
    result = trainer.fit()
    value, state = min(((value, state) for _, value, state in watch.judged), key=lambda pair: pair[0])
    assert result.metrics["valid/cross_entropy"] == pytest.approx(value, rel=1e-6)
    assert_equal(weights(trainer), state)
    if rate > 1:
        assert_equal(body(state), body(watch.begun[0][1]))  # a stage that did harm is not what the run keeps


def test_each_stage_has_its_rates_schedule_and_warm_up() -> None:
    rates: dict[int, list[list[float]]] = {0: [], 1: []}

    class Rates(Callback):
        def on_steps(self, trainer: Trainer, num_steps: int, losses: Any) -> None:
            groups = trainer._tools.optimizers["train"].param_groups
            rates[trainer.cursor.stage].append(sorted({group["lr"] for group in groups}))

    make(callbacks=(Rates(),), log_every=1).fit()
    assert [row[0] for row in rates[0][:2]] == pytest.approx([0.05, 0.05 * 0.5 * (1 + math.cos(math.pi / 18))])
    warm = 5  # of 12 steps, 40 %
    for step, row in enumerate(rates[1]):
        factor = min((step + 1) / warm, 1.0)
        assert row == pytest.approx([0.005 * factor, 0.01 * factor])


def test_patience_ends_a_stage_and_not_the_training() -> None:
    watch = Watch()
    trainer = make(
        stages={"head": {**HEAD, "epochs": 30, "optimizer": {"lr": 3.0}}, "tune": TUNE}, callbacks=(watch,), patience=2
    )
    trainer.fit()
    stages = [stage for stage, _, _ in watch.judged]
    assert stages.count(0) < 30
    assert stages.count(1) == 2


def test_frozen_steps_are_never_compiled() -> None:
    trainer = make(stages={"head": HEAD})
    trainer.fit()
    assert trainer.choices["executor"].reason == "the stage freezes some of the network"
    with pytest.raises(ConfigError, match="the stage freezes some of the network"):
        make(stages={"head": HEAD}, compile="always").fit()


def test_steps_bound_every_stage() -> None:
    result = make(steps=4).fit()
    assert result.steps == 8


def test_augmentation_is_left_to_the_stages_that_want_it() -> None:
    store = FeatureStore()
    flips = ({"name": "flip_horizontal", "prob": 0.5},)
    with_flips = make(augment=flips, features=store)
    with_flips.fit()
    assert store.computed == 2
    assert with_flips.choices["features"].value == "once"
    assert with_flips.choices["features/tune"].value == "each-step"
    without = make()
    without.fit()
    state = weights(without)
    assert any(not torch.equal(tensor, state[name]) for name, tensor in weights(with_flips).items())


def test_an_average_of_weights_goes_on_from_where_the_stage_begins() -> None:
    watch = Watch()
    trainer = make(ema_decay=0.9, callbacks=(watch,))
    before = weights(trainer)
    trainer.fit()
    assert_equal(body(before), body(watch.begun[1][1]))


# --- exactness ------------------------------------------------------------------------------------------------------


def checkpoint(run: Path) -> dict[str, dict[str, Tensor]]:
    return read_checkpoint(list_checkpoints(run / "checkpoints")[-1]).tensors


SETTINGS: list[dict[str, Any]] = [
    {},
    {"ema_decay": 0.8},
    {"augment": ({"name": "flip_horizontal", "prob": 0.5},)},
    # The first stage changes the body that the second takes its features from.
    {"stages": {"all": {**TUNE, "epochs": 1, "trainable": None}, "head": HEAD, "tune": TUNE}},
]


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("stop", [1, 5, 6, 12, 18, 19, 23, 24, 29])
def test_stopped_in_any_stage_and_resumed_equals_never_having_stopped(
    tmp_path: Path, setting: dict[str, Any], stop: int
) -> None:
    whole = make(tmp_path / "whole", **setting)
    expected = whole.fit()
    with pytest.raises(InterruptedRunError):
        make(tmp_path / "stopped", **setting).fit(until=stop)
    again = make(tmp_path / "stopped", **setting)
    result = again.fit(resume=True)
    assert result.metrics == expected.metrics
    assert_equal(weights(again), weights(whole))
    found, wanted = checkpoint(tmp_path / "stopped"), checkpoint(tmp_path / "whole")
    assert found.keys() == wanted.keys()
    for group, tensors in wanted.items():
        assert_equal(tensors, found[group])
    journals = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "stopped")]
    assert journals[0] == journals[1]


def test_verify_holds_across_stages(tmp_path: Path) -> None:
    options: dict[str, Any] = {"checkpoint_every": 7, "keep_checkpoints": 8}
    make(tmp_path, **options).fit()
    replay = verify_resume(tmp_path, lambda folder: make(folder, **options))
    assert replay.exact, replay.differing
    assert replay.from_step <= 3 * STEPS < replay.to_step
