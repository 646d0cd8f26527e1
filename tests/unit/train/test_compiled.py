"""The compiled executor against the eager one: same losses, same weights, any cut, nothing lost when a loss is not finite."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lamina.core.errors import ConfigError, NonFiniteError
from lamina.tasks.base import DirectUpdate, Losses
from lamina.train import compiled as compiled_module
from lamina.train import compiled_rule
from lamina.train.compiled import CompiledExecutor
from lamina.train.compiled_rule import choose_executor, shortest_run
from lamina.train.config import TrainingConfig
from lamina.train.eager import EagerExecutor
from lamina.train.native.nodes import NotNativeError
from lamina.train.native.source import write_program
from lamina.train.native.toolchain import build, find_compiler
from unit.train.compiled_case import assert_same_bits, cross_entropy, dense, everything, make_tools, segment

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="there is no C++ compiler")

ADAMW = {"name": "adamw", "lr": 0.01, "weight_decay": 0.05}
FULL: dict[str, Any] = {"norm": True, "dropout": 0.3, "clip_norm": 0.5, "clip_value": 0.1, "ema": 0.99}


def compiled(tools: Any, optimizer: dict[str, Any]) -> CompiledExecutor:
    return CompiledExecutor(tools, optimizer_values=optimizer)


@pytest.mark.parametrize("options", [{}, {"norm": True}, FULL], ids=["plain", "norm", "full"])
def test_fifty_steps_equal_the_eager_executor(options: dict[str, Any]):
    one, other = make_tools(ADAMW, **options), make_tools(ADAMW, **options)
    expected = EagerExecutor(one).run(segment(0, 50))
    losses = compiled(other, ADAMW).run(segment(0, 50))
    assert losses is not None
    assert list(losses) == list(expected)
    for name, values in losses.items():
        assert values.shape == (50,)
        torch.testing.assert_close(values.float(), expected[name].float(), rtol=1e-5, atol=1e-6)
    for name, value in everything(one).items():
        torch.testing.assert_close(
            everything(other)[name], value, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_a_segment_may_be_cut_anywhere():
    whole = make_tools(ADAMW, **FULL)
    logged = compiled(whole, ADAMW).run(segment(0, 40))
    assert logged is not None
    for cuts in ([13], [1], [39], [8, 9, 30]):
        parts = make_tools(ADAMW, **FULL)
        executor = compiled(parts, ADAMW)
        pieces = []
        for first, last in zip([0, *cuts], [*cuts, 40], strict=True):
            pieces.append(executor.run(segment(first, last - first)))
        assert_same_bits(everything(parts), everything(whole))
        for name in logged:
            assert torch.equal(torch.cat([piece[name] for piece in pieces]), logged[name])
        assert parts.average.num_updates == whole.average.num_updates == 40


def test_another_process_continues_with_the_same_bits():
    """A new executor on copied weights and reloaded optimizer state goes on as if nothing had been."""
    whole = make_tools(ADAMW, **FULL)
    compiled(whole, ADAMW).run(segment(0, 30))
    first, second = make_tools(ADAMW, **FULL), make_tools(ADAMW, **FULL)
    compiled(first, ADAMW).run(segment(0, 17))
    second.model.load_state_dict(first.model.state_dict())
    second.optimizers["train"].load_state_dict(first.optimizers["train"].state_dict())
    second.average.load(first.average.averages, first.average.num_updates)
    compiled(second, ADAMW).run(segment(17, 13))
    assert_same_bits(everything(second), everything(whole))


def test_state_loaded_between_segments_is_taken_up():
    values = {"name": "momentum", "lr": 0.1, "dampening": 0.3}
    tools, fresh = make_tools(values), make_tools(values)
    executor = compiled(tools, values)
    executor.run(segment(0, 5))
    saved = {k: v.clone() for k, v in tools.model.state_dict().items()}
    document = tools.optimizers["train"].state_dict()
    document = {
        "param_groups": document["param_groups"],
        "state": {k: {n: t.clone() for n, t in s.items()} for k, s in document["state"].items()},
    }
    executor.run(segment(5, 10))
    expected = everything(tools)
    tools.model.load_state_dict(saved)
    tools.optimizers["train"].load_state_dict(document)
    executor.run(segment(5, 10))
    assert_same_bits(everything(tools), expected)
    EagerExecutor(fresh).run(segment(0, 15))
    for name, value in everything(fresh).items():
        torch.testing.assert_close(expected[name], value, rtol=1e-4, atol=1e-5)


def test_eager_and_compiled_segments_may_alternate():
    """An epoch's short last batch is run eagerly in between."""
    one, other = make_tools(ADAMW, dropout=0.3), make_tools(ADAMW, dropout=0.3)
    EagerExecutor(one).run(segment(0, 30))
    executor, eager = compiled(other, ADAMW), EagerExecutor(other)
    executor.run(segment(0, 10))
    eager.run(segment(10, 3))
    executor.run(segment(13, 17))
    for name, value in everything(one).items():
        torch.testing.assert_close(everything(other)[name], value, rtol=1e-4, atol=1e-5)


def test_a_loss_that_is_not_finite_changes_nothing():
    def fragile(logits: Tensor, batch: dict[str, Tensor]) -> Losses:
        losses = cross_entropy(logits, batch)
        losses.add("spoiled", (batch["target"][:, 0] * 1e30).square().sum(), 1.0)
        return losses

    tools = make_tools(ADAMW, loss=fragile, **FULL)
    with torch.no_grad():
        rows = tools.feed.rows(0)[: 20 * 8]
        tools.feed.columns["target"][:] = 0.0
        tools.feed.columns["target"][rows[13 * 8 + 2]] = 1.0
    executor = compiled(tools, ADAMW)
    assert executor.run(segment(0, 10)) is not None
    before = everything(tools)
    assert executor.run(segment(10, 10)) is None
    assert_same_bits(everything(tools), before)
    with pytest.raises(NonFiniteError, match="step 13"):
        EagerExecutor(tools).run(segment(10, 10))


def test_a_label_outside_the_classes_changes_nothing_and_reads_nothing():
    tools = make_tools(ADAMW)
    executor = compiled(tools, ADAMW)
    executor.run(segment(0, 5))
    before = everything(tools)
    tools.feed.columns["label"][tools.feed.rows(0)[6 * 8]] = 1 << 40
    assert executor.run(segment(5, 5)) is None
    assert_same_bits(everything(tools), before)


def test_frozen_and_unused_parameters_stay():
    class Spare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = dense((20, 6, 4))
            self.spare = nn.Parameter(torch.ones(3))

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x)

    values = {"name": "adam", "lr": 0.01, "weight_decay": 0.1}
    tools = make_tools(values, model=Spare(), frozen=("body.0.weight",), widths=(20, 6, 4))
    before = everything(tools)
    compiled(tools, values).run(segment(0, 10))
    after = everything(tools)
    assert torch.equal(before["spare"], after["spare"])
    assert torch.equal(before["body.0.weight"], after["body.0.weight"])
    assert not torch.equal(before["body.2.weight"], after["body.2.weight"])


def test_state_carried_from_step_to_step():
    def remember(tools: Any) -> Any:
        model = tools.model

        def loss(batch: Any, ctx: Any, state: dict[str, Tensor]) -> tuple[Losses, dict[str, Tensor]]:
            logits = model(batch["features"]) + 0.1 * state["last"]
            return cross_entropy(logits, batch), {"last": logits.detach()}

        tools.updates[0].loss = loss
        tools.state = {"last": torch.zeros(8, 4)}
        return tools

    one, other = remember(make_tools(ADAMW)), remember(make_tools(ADAMW))
    start = other.state["last"]
    EagerExecutor(one).run(segment(0, 25))
    executor = compiled(other, ADAMW)
    executor.run(segment(0, 7))
    executor.run(segment(7, 18))
    assert not start.any(), "the tensor that the task gave is not ours to change"
    torch.testing.assert_close(other.state["last"], one.state["last"], rtol=1e-4, atol=1e-5)


# --- the rule ----------------------------------------------------------------------------------------------------------


def choose(tools: Any, *, num_steps: int = 10**6, compile: str = "auto") -> Any:
    return choose_executor(TrainingConfig(compile=compile), tools, optimizer={"train": ADAMW}, num_steps=num_steps)


def test_a_long_run_of_a_small_dense_network_is_compiled():
    choice = choose(make_tools(ADAMW))
    assert choice.value == "compiled"
    assert "1,000,000 steps" in choice.reason


def test_choosing_leaves_everything_as_it_was():
    tools = make_tools(ADAMW, **FULL)
    tools.model.eval()
    before = everything(tools)
    assert choose(tools).value == "compiled"
    assert_same_bits(everything(tools), before)
    assert not tools.model.training


def _several(tools: Any) -> None:
    tools.updates = [tools.updates[0], tools.updates[0]]


def _direct(tools: Any) -> None:
    tools.updates = [DirectUpdate("train", tools.model, tools.updates[0].loss)]


def _set(**values: Any) -> Any:
    return lambda tools: [setattr(tools, name, value) for name, value in values.items()]


def _update(**values: Any) -> Any:
    return lambda tools: [setattr(tools.updates[0], name, value) for name, value in values.items()]


def _reads_back(tools: Any) -> None:
    before = tools.updates[0].loss

    def loss(batch: Any, ctx: Any, state: Any) -> Any:
        scale = 2.0 if float(batch["features"].sum()) > 0 else 1.0
        return before({**batch, "features": batch["features"] * scale}, ctx, state)

    tools.updates[0].loss = loss


def _looks_at_the_epoch(tools: Any) -> None:
    before = tools.updates[0].loss

    def loss(batch: Any, ctx: Any, state: Any) -> Any:
        return before({**batch, "features": batch["features"] * (1 + ctx.epoch)}, ctx, state)

    tools.updates[0].loss = loss


def _frozen_norm(tools: Any) -> None:
    tools.model.add_module("norm", nn.BatchNorm1d(4).requires_grad_(False))


def _shared(tools: Any) -> None:
    tools.model.add_module("again", tools.model[0])


def _convolution(tools: Any) -> None:
    convolution = nn.Conv1d(1, 1, 3, padding=1)
    tools.updates[0].loss = lambda batch, ctx, state: (
        cross_entropy(tools.model(convolution(batch["features"].unsqueeze(1)).squeeze(1)), batch),
        state,
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_several, "2 updates"),
        (_direct, "without gradients"),
        (_update(double_backward=True), "plain kernels"),
        (_update(compilable=False), "plain kernels"),
        (_update(repeats=5), "several batches"),
        (_set(device=torch.device("meta")), "device is meta"),
        (_set(autocast=True), "bf16"),
        (_set(accumulation=2), "accumulated"),
        (_reads_back, "cannot be traced"),
        (_looks_at_the_epoch, "epoch"),
        (_convolution, "convolution"),
        (_frozen_norm, "batch norm is frozen"),
        (_shared, "the module '0' is also 'again'"),
    ],
)
def test_what_cannot_be_compiled_runs_eagerly_and_says_why(change: Any, reason: str):
    tools = make_tools(ADAMW)
    change(tools)
    choice = choose(tools)
    assert choice.value == "eager"
    assert reason in choice.reason
    with pytest.raises(ConfigError, match="cannot be compiled") as caught:
        choose(tools, compile="always")
    assert reason in str(caught.value)


def test_a_shared_module_without_tensors_is_no_obstacle():
    activation = nn.Tanh()
    tools = make_tools(ADAMW, model=nn.Sequential(nn.Linear(20, 8), activation, nn.Linear(8, 4), activation))
    assert choose(tools).value == "compiled"


def test_short_runs_and_large_steps_are_not_worth_it():
    assert "pay" not in choose(make_tools(ADAMW), num_steps=shortest_run() - 1).reason
    assert choose(make_tools(ADAMW), num_steps=shortest_run() - 1).value == "eager"
    assert choose(make_tools(ADAMW), num_steps=10, compile="always").value == "compiled"
    assert choose(make_tools(ADAMW), compile="never").value == "eager"
    large = make_tools(ADAMW, model=nn.Linear(20, 4 * compiled_rule.LARGEST_STEP // 20 // 4 // 8 + 4, device="meta"))
    assert "multiply-adds" in choose(large).reason


def test_without_a_compiler_steps_run_eagerly(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compiled_rule, "find_compiler", lambda: None)
    choice = choose(make_tools(ADAMW))
    assert choice.value == "eager"
    assert "no C++ compiler" in choice.reason
    monkeypatch.undo()
    monkeypatch.setenv("CXX", "no-such-compiler -O1")
    assert "$CXX is 'no-such-compiler -O1'" in choose(make_tools(ADAMW)).reason
    with pytest.raises(NotNativeError, match=r"\$CXX is"):
        build("// never compiled")


def test_a_compiler_that_fails_is_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    with pytest.raises(NotNativeError, match="failed"):
        build("this is not C++")
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF no program")
    broken.chmod(0o700)
    monkeypatch.setenv("CXX", str(broken))
    with pytest.raises(NotNativeError, match="could not be used"):
        build("// gone")
    monkeypatch.delenv("CXX")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(NotNativeError, match="could not be used"):
        build("// nowhere to write")


def test_nothing_is_left_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    build(
        '#include <cstdint>\nextern "C" int64_t lamina_run(void**, unsigned char*, int64_t n, int64_t*) { return n; }'
    )
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_computes_something_else_is_not_used(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        compiled_module, "write_program", lambda *a, **k: write_program(*a, **k).replace("= expf(", "= 1.01f * expf(")
    )
    choice = choose(make_tools(ADAMW))
    assert choice.value == "eager"
    assert "where torch gave" in choice.reason
