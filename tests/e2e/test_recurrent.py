"""Recurrent networks through every station: train, verify (exact resume), evaluate, predict, look inside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import lamina as lm
from lamina.cli.main import main
from lamina.tasks.bundle import load_bundle

QUICK = ("training.epochs=2", "training.batch_size=20", "data.options={length: 12, num_rows: 100}", "--quiet", "--json")


def said(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(list(words)) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


@pytest.mark.parametrize("recipe", ["adding-lstm", "adding-rnn"])
def test_the_adding_recipes(recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(tmp_path / "run")
    words = ["model.hidden_size=8", "model.variational_dropout=0.2", "training.checkpoint_every=3"]
    trained = said(capsys, "train", recipe, "--run", run, *QUICK, *words)
    assert trained["task"] == "time-series-regression"
    assert said(capsys, "verify", run, "--json")["resume_exact"]
    judged = said(capsys, "evaluate", run, "--data", "adding", "--json")
    assert judged["metrics"]["mse"] > 0
    bundle = load_bundle(Path(run))
    signals = lm.load_data("adding").splits["all"]["signal"][:3, :, :12].numpy()
    alone = [bundle.predict(signals[row : row + 1])[0]["value"] for row in range(3)]
    assert [row["value"] for row in bundle.predict(signals)] == pytest.approx(alone, abs=1e-5)
    shown = said(capsys, "inspect", run, "gradients", "--json", f"view.beside={run}")
    assert len({line["model"] for line in shown["lines"]}) == 2
    if recipe == "adding-lstm":
        assert said(capsys, "inspect", run, "gates", "--json")["num_steps"] == 12


def test_signals_of_a_class() -> None:
    time = torch.linspace(0, 1, 20)
    turns = torch.tensor([1.0, 4.0]).repeat(30).unsqueeze(1)
    series = torch.sin(2 * torch.pi * turns * time + torch.arange(60).unsqueeze(1))
    labels = torch.arange(60) % 2
    model = {"kind": "gru", "hidden_size": 12, "readout": "mean"}
    options = {"optimizer": {"name": "adam", "lr": 0.02}, "training": {"batch_size": 16}}
    run = lm.fit(model, (series.numpy(), labels.numpy()), task="time-series-classification", epochs=25, **options)
    assert run.metrics["valid/accuracy"] > 0.9
