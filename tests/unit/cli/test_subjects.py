"""What the word BUNDLE of a command means."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

import lamina
from lamina.cli.main import main


def test_a_run_of_an_own_module_points_to_the_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    lamina.fit(model, "digits", epochs=1, run=tmp_path / "run", training={"batch_size": 256})
    for words in (["evaluate", str(tmp_path / "run"), "--data", "digits"], ["predict", str(tmp_path / "run"), "x.png"]):
        assert main(words) == 2
        told = capsys.readouterr().err
        assert "its model, Sequential, is not a registered one" in told
        assert "examples/own_model.py" in told
        assert "--resume" not in told
