"""A model of texts is looked at with a text as it stands, or with a file of texts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lamina.cli.main import main

SMALL = ["training.epochs=4", "optimizer.lr=0.01", "training.tensorboard=false", "--quiet"]


def test_views_take_texts_as_they_stand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"{row % 2}\tthe film is {('bad', 'good')[row % 2]} number {row}" for row in range(60)]
    data, run = tmp_path / "films.tsv", str(tmp_path / "run")
    data.write_text("\n".join(["label\tsentence", *rows]) + "\n")
    assert main(["train", "sst2-cnn", "--data", str(data), "--run", run, *SMALL]) == 0
    lines = tmp_path / "lines.txt"
    lines.write_text("the film is good\n")
    for given in ("the film is good", str(lines)):
        capsys.readouterr()
        assert main(["inspect", run, "saliency", "--input", given, "--json", "--quiet"]) == 0
        assert "good" in json.dumps(json.loads(capsys.readouterr().out))
    assert main(["inspect", run, "saliency", "--input", "films.csv", "--quiet"]) == 2
    assert "There is no such file" in capsys.readouterr().err
