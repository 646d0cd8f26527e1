"""Checkpoints that are whole by their checksums and yet not ours: refused with place and mend, never an internal error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lamina.core.errors import CheckpointError, InterruptedRunError
from lamina.core.files import sha256_file
from lamina.train.checkpoints import list_checkpoints, read_checkpoint
from unit.train.engine_case import Net, make_trainer

SETTINGS: dict[str, Any] = {"ema_decay": 0.9, "schedule": {"name": "reduce-on-plateau"}}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that was stopped in the middle of its second epoch, with a best judgement before."""
    with pytest.raises(InterruptedRunError):
        make_trainer(tmp_path, **SETTINGS).fit(until=8)
    return tmp_path


def latest(run: Path) -> Path:
    return list_checkpoints(run / "checkpoints")[-1]


def reseal(path: Path) -> None:
    """Make the manifest agree with the files again, as whoever changes them on purpose would."""
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"] = {
        file.name: {"bytes": file.stat().st_size, "sha256": sha256_file(file)}
        for file in sorted(path.iterdir())
        if file.name != "manifest.json"
    }
    (path / "manifest.json").write_text(json.dumps(manifest))


def change(run: Path, key: str, value: Any, *, drop: bool = False) -> None:
    path = latest(run) / "trainer.json"
    document = json.loads(path.read_text())
    *above, last = key.split("/")
    level = document
    for part in above:
        level = level[int(part)] if isinstance(level, list) else level[part]
    if drop:
        del level[last]
    else:
        level[int(last) if isinstance(level, list) else last] = value
    path.write_text(json.dumps(document))
    reseal(latest(run))


def refused(run: Path, **options: Any) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        make_trainer(run, **{**SETTINGS, **options}).fit(resume=True)
    error = caught.value
    assert str(run) in error.where or "checkpoint" in error.where
    assert error.accepts
    assert error.mend
    return error


def test_left_alone_it_is_resumed(run: Path) -> None:
    reseal(latest(run))
    assert make_trainer(run, **SETTINGS).fit(resume=True).steps == 18


KEYS = (
    *(
        "cursor",
        "best",
        "choices",
        "optimizers",
        "schedule",
        "means",
        "metrics_bytes",
        "generators",
        "ema_updates",
        "stop",
    ),
    *("cursor/stage", "cursor/step", "cursor/batch", "cursor/pending", "best/step", "best/value", "best/metrics"),
    *("choices/precision", "choices/executor/value", "optimizers/train", "optimizers/train/groups", "means/log"),
    *("schedule/reduction", "generators/python", "generators/numpy", "optimizers/train/numbers"),
)


@pytest.mark.parametrize("key", KEYS)
def test_a_key_that_is_missing(run: Path, key: str) -> None:
    change(run, key, None, drop=True)
    refused(run)


@pytest.mark.parametrize("value", ["x", -3, {"y": []}, [[1]]], ids=["text", "negative", "object", "list"])
@pytest.mark.parametrize("key", [key for key in KEYS if key not in ("best/value", "schedule/reduction")])
def test_a_value_of_another_kind(run: Path, key: str, value: Any) -> None:
    change(run, key, value)
    refused(run)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("cursor/stage", 7),
        ("cursor/batch", 5000),
        ("cursor/step", 9),
        ("cursor/surprise", 1),
        ("best/step", 99),
        ("schedule/reduction", "much"),
        ("schedule/num_bad", []),
        ("means/log/loss", [1.0]),
        ("means/log/loss", ["a", "b"]),
        ("optimizers/other", {"numbers": {}, "groups": []}),
        ("optimizers/train/groups/0/lr", "fast"),
        ("optimizers/train/groups/0/betas", [0.9]),
        ("optimizers/train/groups/0/surprise", 1),
        ("optimizers/train/groups/0/params", [0]),
        ("optimizers/train/numbers/99", {"step": 1}),
        ("optimizers/train/numbers/first", {"step": 1}),
        ("generators/numpy/1", 625),
        ("generators/python/0", 99),
        ("generators/python/1", [1, 2, 3]),
        ("generators/python/1/0", 2**40),
        ("choices/layout/value", "diagonal"),
        ("metrics_bytes", 10**9),
    ],
)
def test_a_value_that_cannot_be(run: Path, key: str, value: Any) -> None:
    change(run, key, value)
    refused(run)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"cursor": 1, "cursor": 2}', "[" * 10_000, "\udcff"],
    ids=["", "list", "torn", "twice", "deep", "bytes"],
)
def test_a_document_that_is_none(run: Path, text: str) -> None:
    (latest(run) / "trainer.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    reseal(latest(run))
    assert "trainer.json" in refused(run).where


def retensor(run: Path, group: str, edit: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    path = latest(run) / f"{group}.safetensors"
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)
    reseal(latest(run))


@pytest.mark.parametrize("group", ["model", "optimizer", "ema", "random", "state", "best"])
def test_a_group_of_tensors_that_is_missing(run: Path, group: str) -> None:
    (latest(run) / f"{group}.safetensors").unlink()
    reseal(latest(run))
    refused(run)


@pytest.mark.parametrize("group", ["model", "optimizer", "ema", "random", "state", "best"])
def test_tensors_of_other_shapes(run: Path, group: str) -> None:
    name = {"random": "torch", "optimizer": "train.0.exp_avg"}.get(group)
    retensor(run, group, lambda t: t.update({name or next(iter(t)): torch.ones(3, 5)}))
    refused(run)


@pytest.mark.parametrize("group", ["model", "ema", "random", "best"])
def test_tensors_of_other_names(run: Path, group: str) -> None:
    retensor(run, group, lambda t: t.update(surprise=t.pop(next(iter(t)))))
    refused(run)


@pytest.mark.parametrize("name", ["train.99.exp_avg", "train.x.exp_avg", "train", "train."])
def test_optimizer_state_of_nobody(run: Path, name: str) -> None:
    retensor(run, "optimizer", lambda t: t.update({name: torch.ones(3)}))
    refused(run)


def test_tensors_that_are_none(run: Path) -> None:
    (latest(run) / "model.safetensors").write_bytes(b"\xff" * 64)
    reseal(latest(run))
    assert "tensors cannot be read" in refused(run).what


@pytest.mark.parametrize("document", [False, True])
def test_a_manifest_without_the_document(run: Path, document: bool) -> None:
    (latest(run) / "trainer.json").unlink()
    if document:
        (latest(run) / "trainer.json").mkdir()
        (latest(run) / "manifest.json").write_text('{"format": 1, "step": 8, "files": {"trainer.json": []}}')
    else:
        reseal(latest(run))
    refused(run)


def test_the_weight_average_may_not_be_switched(tmp_path: Path) -> None:
    for name, before, after, turned in (("on", None, 0.9, "switched on"), ("off", 0.9, None, "switched off")):
        folder = tmp_path / name
        with pytest.raises(InterruptedRunError):
            make_trainer(folder, ema_decay=before).fit(until=8)
        with pytest.raises(CheckpointError, match=turned) as caught:
            make_trainer(folder, ema_decay=after).fit(resume=True)
        assert "training.ema_decay back to" in caught.value.mend
        assert make_trainer(folder, ema_decay=before).fit(resume=True).steps == 18


def test_another_optimizer_or_batch_size_is_refused(run: Path) -> None:
    assert "setting" in refused(run, optimizer={"name": "sgd", "lr": 0.1}).what
    assert "stands behind step 2 of an epoch that has 1" in refused(run, batch_size=48).what


def test_another_model_is_refused_before_anything_is_loaded(run: Path) -> None:
    assert "do not fit the model" in refused(run, model=Net(norm=False)).what


def test_what_is_written_is_what_is_read(run: Path) -> None:
    path = latest(run)
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    snapshot = read_checkpoint(path)
    assert json.loads(before["trainer.json"]) == json.loads(json.dumps(snapshot.state.document()))
    assert list(json.loads(before["trainer.json"])) == [
        *("cursor", "best", "choices", "optimizers", "schedule", "means", "metrics_bytes", "generators"),
        *("ema_updates", "stop"),
    ]


@pytest.mark.parametrize("line", ["[]", "[" * 50_000, '{"step": "one"}', "{"], ids=["list", "deep", "kind", "torn"])
def test_lines_of_metrics_that_are_none(run: Path, line: str) -> None:
    path = run / "metrics.jsonl"
    size = path.stat().st_size
    path.write_text((line + "\n").ljust(size, " ")[:size] if len(line) < size else line)
    if len(line) >= size:
        change(run, "metrics_bytes", len(line))
    assert "metrics.jsonl" in str(refused(run))
