"""The engine: exact resume, accumulation, what stands still, non-finite values, stopping."""

from __future__ import annotations

import json
import os
import signal

import pytest
import torch
from torch import nn

from lamina.core.errors import CheckpointError, ConfigError, InterruptedRunError, NonFiniteError
from lamina.train.callbacks import Callback, Stop, events
from lamina.train.checkpoints import list_checkpoints, read_checkpoint, step_of
from lamina.train.verify import verify_resume
from unit.train.engine_case import Net, make_data, make_trainer


def weights(trainer):
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


SETTINGS = {
    "plain": {},
    "ema": {"ema_decay": 0.9},
    "accumulated": {"accumulation": 3},
    "clipped": {"clip_norm": 0.5, "clip_value": 0.2},
    "patience": {"patience": 1, "epochs": 5},
    "sparse-judging": {"evaluate_every": 2, "epochs": 5},
    "steps": {"steps": 10},
    "short-batches": {"batch_size": 7},
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("schedule", ["cosine", "reduce-on-plateau"])
def test_stopped_at_any_step_and_resumed_equals_never_having_stopped(tmp_path, setting, schedule):
    options = {"schedule": {"name": schedule}, **SETTINGS[setting]}
    whole = make_trainer(tmp_path / "whole", **options)
    expected = whole.fit()
    for stop in (1, 3, 6, 7, 8, 9):
        folder = tmp_path / f"stopped-{stop}"
        if stop > expected.steps:
            continue
        with pytest.raises(InterruptedRunError):
            make_trainer(folder, **options).fit(until=stop)
        again = make_trainer(folder, **options)
        result = again.fit(resume=True)
        assert result.metrics == expected.metrics
        assert result.steps == expected.steps
        assert_same(weights(whole), weights(again))
        assert (folder / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw", "lars", "ftrl"])
def test_every_optimizer_resumes_exactly(tmp_path, name):
    options = {"optimizer": {"name": name, "lr": 0.01}}
    whole = make_trainer(**options)
    whole.fit()
    with pytest.raises(InterruptedRunError):
        make_trainer(tmp_path, **options).fit(until=8)
    again = make_trainer(tmp_path, **options)
    again.fit(resume=True)
    assert_same(weights(whole), weights(again))


@pytest.mark.parametrize("parts", [2, 3, 8])
def test_accumulation_equals_the_big_batch_whatever_the_weights(parts):
    data = make_data(dtype=torch.float64)
    trained = {}
    for accumulation in (1, parts):
        model = Net(norm=False, dropout=0.0).double()
        trainer = make_trainer(model=model, data=data, accumulation=accumulation, epochs=2)
        result = trainer.fit()
        trained[accumulation] = (weights(trainer), result.metrics)
    for name, value in trained[1][0].items():
        torch.testing.assert_close(trained[parts][0][name], value, rtol=1e-12, atol=1e-12)
    assert trained[parts][1]["train/mse"] == pytest.approx(trained[1][1]["train/mse"], rel=1e-6)


def test_dropout_masks_do_not_depend_on_accumulation():
    trained = []
    for accumulation in (1, 2):
        trainer = make_trainer(
            model=Net(norm=False, dropout=0.5).double(), data=make_data(dtype=torch.float64), accumulation=accumulation
        )
        trainer.fit()
        trained.append(weights(trainer))
    for name, value in trained[0].items():
        torch.testing.assert_close(trained[1][name], value, rtol=1e-10, atol=1e-12)


def test_first_step_equals_plain_torch():
    data = make_data(dtype=torch.float64)
    model, mine = Net(norm=False, dropout=0.0).double(), Net(norm=False, dropout=0.0).double()
    trainer = make_trainer(
        model=mine, data=data, optimizer={"name": "sgd", "lr": 0.1}, schedule={"name": "constant"}, steps=1, penalty=0.0
    )
    trainer.fit()
    from lamina.core import draws

    rows = draws.permutation(7, "order", 0, num_rows=48)[:8]
    x, y = data.splits["train"]["features"][rows], data.splits["train"]["target"][rows]
    w = 1.0 + (x[:, :1] > 0).double()
    loss = (w * (model(x) - y).square()).sum() / w.sum()
    loss.backward()
    for (name, p), q in zip(model.named_parameters(), mine.parameters(), strict=True):
        torch.testing.assert_close(q.detach(), p.detach() - 0.1 * p.grad, rtol=1e-12, atol=1e-14, msg=name)


def test_nan_names_step_batch_and_layer(tmp_path):
    class Breaking(Net):
        def forward(self, x):
            hidden = torch.relu(self.norm(self.first(x)))
            if self.training and self.calls >= 5:
                hidden = hidden / 0.0 * 0.0
            self.calls += int(self.training)
            return self.last(self.drop(hidden))

    model = Breaking()
    model.calls = 0
    trainer = make_trainer(tmp_path, model=model, checkpoint_every=2)
    with pytest.raises(NonFiniteError) as caught:
        trainer.fit()
    text = str(caught.value)
    assert "step 5" in text
    assert "batch 5" in text
    assert "rows [" in text
    assert "layer 'drop'" in text or "layer 'last'" in text
    assert step_of(list_checkpoints(tmp_path / "checkpoints")[-1]) == 4
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_nan_in_the_data_is_named():
    data = make_data()
    data.splits["train"]["features"][11, 2] = float("nan")
    with pytest.raises(NonFiniteError, match="the input 'features' holds nan"):
        make_trainer(data=data).fit()


def test_exploding_weights_are_never_saved(tmp_path):
    with pytest.raises(NonFiniteError, match="not finite"):
        make_trainer(
            tmp_path, optimizer={"name": "sgd", "lr": 1e30}, schedule={"name": "constant"}, checkpoint_every=1
        ).fit()
    for path in list_checkpoints(tmp_path / "checkpoints"):
        assert all(torch.isfinite(value).all() for value in read_checkpoint(path).tensors["model"].values())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_checkpoints_and_says_how_to_go_on(tmp_path, number):
    class Kill(Callback):
        def on_steps(self, trainer, num_steps, losses):
            if trainer.cursor.step >= 6:
                os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with pytest.raises(InterruptedRunError) as caught:
        make_trainer(tmp_path, callbacks=[Kill()]).fit()
    assert caught.value.exit_status == 130
    assert "--resume" in str(caught.value)
    assert list_checkpoints(tmp_path / "checkpoints")
    assert signal.getsignal(number) is before
    again = make_trainer(tmp_path)
    again.fit(resume=True)
    whole = make_trainer()
    whole.fit()
    assert_same(weights(whole), weights(again))


def test_best_weights_are_restored_and_patience_ends():
    trainer = make_trainer(epochs=40, patience=2, optimizer={"name": "adam", "lr": 0.3}, schedule={"name": "constant"})
    result = trainer.fit()
    lines = [line for line in trainer._journal.lines if line["split"] == "valid"]
    best = min(lines, key=lambda line: line["mse"])
    assert result.best_step == best["step"]
    assert result.metrics["valid/mse"] == pytest.approx(best["mse"], rel=1e-6)
    assert result.stopped_early
    assert len(lines) < 40


def test_a_callback_can_stop_and_the_table_names_it():
    class Enough(Callback):
        def on_evaluated(self, trainer, split, values):
            return Stop.NOW

    trainer = make_trainer(callbacks=[Enough()])
    result = trainer.fit()
    assert result.epochs == 1
    assert result.stopped_early
    table = trainer.callbacks.table()
    assert "Enough" in table
    assert all(name in table for name, _ in events())


def test_verify_replays_byte_for_byte_and_sees_tampering(tmp_path):
    make_trainer(tmp_path, checkpoint_every=5).fit()
    replay = verify_resume(tmp_path, lambda folder: make_trainer(folder, checkpoint_every=5))
    assert replay.exact, replay
    assert 0 < replay.from_step < replay.to_step
    other = verify_resume(tmp_path, lambda folder: make_trainer(folder, checkpoint_every=5, seed=8))
    assert not other.exact
    assert "model.safetensors" in other.differing


def test_a_single_checkpoint_is_replayed_from_the_beginning(tmp_path):
    make_trainer(tmp_path, epochs=1).fit()
    replay = verify_resume(tmp_path, lambda folder: make_trainer(folder, epochs=1))
    assert replay.exact, replay
    assert replay.from_step == 0


def test_damaged_checkpoint_is_refused_with_the_mend(tmp_path):
    make_trainer(tmp_path).fit()
    path = list_checkpoints(tmp_path / "checkpoints")[-1] / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match=r"checksum of model\.safetensors"):
        make_trainer(tmp_path).fit(resume=True)


def test_a_run_with_checkpoints_is_not_overwritten(tmp_path):
    make_trainer(tmp_path).fit()
    with pytest.raises(CheckpointError, match="checkpoints already"):
        make_trainer(tmp_path).fit()


def test_unknown_monitor_lists_the_metrics():
    with pytest.raises((ConfigError, ValueError), match="accuracyy"):
        make_trainer(monitor="accuracyy").fit()


def test_metrics_lines_keep_nan(tmp_path):
    from lamina.train.journal import Journal

    journal = Journal(tmp_path, tensorboard=False)
    journal.open(offset=0, step=0)
    journal.write(step=1, epoch=0, split="train", values={"loss": float("nan")})
    journal.close()
    line = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert line["loss"] != line["loss"]


def test_batch_norm_of_the_other_network_stands_still():
    from lamina.data.batching import IndexFeed
    from lamina.data.columns import Columns
    from lamina.tasks.base import GradientUpdate, Losses
    from lamina.train.eager import EagerExecutor, Segment, StepTools

    both = nn.ModuleDict(
        {"a": nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)), "b": nn.Sequential(nn.Linear(3, 1), nn.BatchNorm1d(1))}
    )

    def loss(batch, ctx, state):
        losses = Losses()
        losses.add("l", (both["b"](both["a"](batch["x"])) - 1).square().sum(), len(batch["x"]))
        return losses, state

    update = GradientUpdate("b", both["b"], loss)
    other = GradientUpdate("a", both["a"], loss)
    optimizers = {name: torch.optim.SGD(both[name].parameters(), lr=0.1) for name in ("a", "b")}
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    feed = IndexFeed(Columns({"x": torch.randn(8, 2)}), batch_size=8)
    tools = StepTools(
        model=both,
        updates=(update,),
        optimizers=optimizers,
        feed=feed,
        prepare=lambda b, c: b,
        seed=0,
        device=torch.device("cpu"),
    )
    before = {name: value.clone() for name, value in both.state_dict().items()}
    both.train()
    EagerExecutor(tools).run(Segment(epoch=0, first_batch=0, first_step=0, num_steps=1, factors=[1.0]))
    after = both.state_dict()
    for name in before:
        assert torch.equal(before[name], after[name]) == name.startswith("a."), name
    assert other.named_parameters()
