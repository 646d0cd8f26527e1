"""Bad input of every kind: exit status 2, the place and the mend are named, and there is no traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from e2e import (
    bad_bundle_inputs,
    bad_command_inputs,
    bad_reader_inputs,
    bad_recipe_inputs,
    bad_series_inputs,
    bad_text_inputs,
)
from e2e.bad_input_case import Case, Ground, flowers
from lamina.cli.main import main

CASES = Case.table(
    bad_reader_inputs.CASES,
    bad_text_inputs.CASES,
    bad_series_inputs.CASES,
    bad_recipe_inputs.CASES,
    bad_bundle_inputs.CASES,
    bad_command_inputs.CASES,
)
KINDS = {
    "readers": {"pixel CSV", "IDX", "image folder", "image archive", "CIFAR", "NPZ", "table", "any file"},
    "series": {"series"},
    "texts": {"text table", "words", "translations", "questions"},
    "recipes": {"recipe file", "recipe value", "recipe and data"},
    "bundles": {"bundle"},
    "runs": {"run"},
    "commands": {"command line", "inspect", "predict", "evaluate"},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run on images and one on a table with named columns, each of one epoch."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "garden.csv").write_text(flowers(60))
    brief = ["training.epochs=1", "training.compile=never", "--quiet"]
    assert main(["train", "mnist-mlp", "--data", "digits", "--run", str(folder / "images"), *brief]) == 0
    garden = str(folder / "garden.csv")
    assert main(["train", "tabular-mlp", "--data", garden, "--run", str(folder / "table"), *brief]) == 0
    return folder / "images", folder / "table"


@pytest.fixture
def ground(runs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ground:
    """An empty working folder, and the runs."""
    monkeypatch.chdir(tmp_path)
    return Ground(tmp_path, *runs)


def judge(case: Case, status: int, out: str, err: str) -> None:
    """Exit status, the parts of the message, and stdout with one JSON document that says the same."""
    assert "Traceback" not in err
    assert status == 2, err
    document = json.loads(out)  # refuses a second document
    assert document["schema"] == 1
    error = document["error"]
    assert case.what in error["what"]
    assert case.where in error["where"]
    assert case.mend in error["mend"]
    assert error["accepts"]
    for key in ("where", "accepts", "mend"):
        assert f"\n  {key:<8} {error[key].splitlines()[0]}" in err
    assert f"{error['type']}: {error['what'].splitlines()[0]}" in err
    assert not Path("broken-in").exists()
    assert not list(Path().glob("runs/*")), "the folder of a refused run is taken back"


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}: {case.name}")
def test_bad_input_is_refused(case: Case, ground: Ground, capsys: pytest.CaptureFixture[str]) -> None:
    words = case.words(ground)
    capsys.readouterr()
    status = main([*words, "--json"])
    told = capsys.readouterr()
    judge(case, status, told.out, told.err)


@pytest.mark.parametrize(
    "name",
    ["a gzip cut off", "a tag that would run code", "a file too many", "resume nothing", "a command that is not there"],
)
def test_bad_input_is_refused_by_the_program_itself(name: str, ground: Ground) -> None:
    case = next(case for case in CASES if case.name == name)
    program = [sys.executable, "-W", "error", "-m", "lamina", *case.words(ground)]
    done = subprocess.run([*program, "--json"], capture_output=True, text=True)
    judge(case, done.returncode, done.stdout, done.stderr)
    plain = subprocess.run(program, capture_output=True, text=True)
    assert (plain.returncode, plain.stdout) == (2, "")
    assert plain.stderr == done.stderr


def test_the_table_covers_everything() -> None:
    assert len(CASES) >= 60
    assert len({(case.kind, case.name) for case in CASES}) == len(CASES)
    assert {case.kind for case in CASES} == set.union(*KINDS.values())
    for area, kinds in KINDS.items():
        assert sum(case.kind in kinds for case in CASES) >= 10, area
    assert all(case.what and case.where and case.mend for case in CASES)
