"""The examples that stand on the public API run as they are written."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from helpers import ROOT


def run_example(name: str, folder: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples" / name), *words],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(("name", "least"), [("own_arrays.py", 0.75), ("own_model.py", 0.85)])
def test_own_things_are_learned(name: str, least: float, tmp_path: Path) -> None:
    found = re.search(r"accuracy (\d\.\d+)", run_example(name, tmp_path))
    assert found is not None
    assert float(found[1]) > least


def test_the_demo_prints_the_network_beside_the_baselines(tmp_path: Path) -> None:
    text = run_example("demo.py", tmp_path, "--run", "first", "training.epochs=2")
    for words in (
        "the network you just trained",
        "3 nearest neighbours",
        "Linear model",
        "lamina verify first",
        "report.html",
    ):
        assert words in text
    assert (tmp_path / "first" / "report.html").is_file()


def test_fixed_filters_draws_a_labelled_picture(tmp_path: Path) -> None:
    text = run_example("fixed_filters.py", tmp_path, "filters.png")
    means = re.findall(r"(?m)^(blur|sharpen|vertical|horizontal|all).*mean +(-?\d\.\d+)", text)
    assert len(means) == 5
    assert {name: round(float(mean), 1) for name, mean in means} == {
        "blur": 0.6,  # as bright as the photograph
        "sharpen": 0.6,
        "vertical": 0.0,
        "horizontal": 0.0,
        "all": 0.0,
    }
    with Image.open(tmp_path / "filters.png") as picture:
        assert picture.size == (1260, 756)
        assert len(picture.convert("L").getcolors() or []) > 200
