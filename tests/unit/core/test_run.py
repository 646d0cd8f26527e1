"""Run folders: created whole, never overwritten, readable without torch."""

import concurrent.futures
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from lamina.core.config import read_yaml
from lamina.core.errors import RunError, StorageError
from lamina.core.run import RunFolder

VALUES = {
    "name": "tiny",
    "seed": 3,
    "data": {"path": "a b#c: d.csv", "label": None, "shape": [28, 28]},
    "preprocess": [{"name": "scale"}, {"name": "standardise", "per": "channel"}],
    "augment": [],
    "model": {"kind": "mlp", "hidden_sizes": [16, 16], "on": True},
    "optimizer": {"lr": 1e-05},
    "note": "two\nlines # and 'quotes' — ü",
    "loss": {},
}
ORIGINS = {
    "name": "recipe",
    "seed": "command line",
    "data.path": "command line",
    "data.label": "default",
    "data.shape": "file",
    "preprocess": "recipe",
    "augment": "default",
    "model.kind": "recipe",
    "model.hidden_sizes": "command line",
    "model.on": "default",
    "optimizer.lr": "recipe",
    "note": "file",
    "loss": "default",
}


def create(path: Path | None = None, name: str = "tiny") -> RunFolder:
    return RunFolder.create(path, name=name, values=VALUES, origins=ORIGINS, command=["lamina", "train", "a b\nc"])


def test_recipe_comes_back_with_its_origins(tmp_path: Path) -> None:
    run = create(tmp_path / "run")
    assert RunFolder.open(run.path).recipe() == (VALUES, ORIGINS)


def test_recipe_yaml_is_plain_yaml_with_a_comment_behind_each_value(tmp_path: Path) -> None:
    text = create(tmp_path / "run").recipe_file.read_text(encoding="utf-8")
    assert read_yaml(text, where="x") == VALUES
    assert "  lr: 1.0e-05  # recipe\n" in text
    assert "seed: 3  # command line\n" in text
    assert "preprocess:  # recipe\n  - {name: scale}\n" in text
    assert "# lamina train 'a b c'\n" in text


def test_an_origin_that_was_deleted_reads_as_file(tmp_path: Path) -> None:
    run = create(tmp_path / "run")
    text = run.recipe_file.read_text(encoding="utf-8")
    run.recipe_file.write_text(text.replace("seed: 3  # command line", "seed: 4"), encoding="utf-8")
    values, origins = run.recipe()
    assert (values["seed"], origins["seed"], origins["name"]) == (4, "file", "recipe")


def test_names_count_up_and_skip_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert [str(create().path) for _ in range(3)] == ["runs/tiny-1", "runs/tiny-2", "runs/tiny-3"]
    (tmp_path / "runs" / "tiny-7").write_text("somebody's file")
    (tmp_path / "runs" / "tiny-more").mkdir()
    assert str(create().path) == "runs/tiny-8"
    assert str(create(name="other").path) == "runs/other-1"


def test_many_at_once_get_different_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda _: create().path, range(16)))
    assert len(set(paths)) == 16
    assert all(RunFolder.open(path).recipe()[0] == VALUES for path in paths)
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == sorted(path.name for path in paths)


def test_of_two_who_want_one_folder_one_is_refused(tmp_path: Path) -> None:
    def attempt(_: int) -> str:
        try:
            return str(create(tmp_path / "deep" / "run").path)
        except RunError as error:
            return type(error).__name__

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(attempt, range(8)))
    assert sorted(outcomes) == sorted([str(tmp_path / "deep" / "run"), *["RunError"] * 7])


def test_an_empty_folder_is_used_and_a_full_one_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / ".tmp-recipe.yaml-1-ab").write_text("left by a killed process")
    assert create(empty).recipe_file.is_file()
    with pytest.raises(RunError, match="holds a run and is not overwritten") as caught:
        create(empty)
    assert "lamina train --resume" in caught.value.mend
    (empty / "result.json").write_text("{}")
    with pytest.raises(RunError, match="holds a finished run") as caught:
        create(empty)
    assert "choose another folder" in caught.value.mend
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("precious")
    with pytest.raises(RunError, match="is not an empty folder"):
        create(full)
    with pytest.raises(RunError, match="is not an empty folder"):
        create(full / "thesis.txt")
    assert (full / "thesis.txt").read_text() == "precious"


def test_a_place_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError) as caught:
        create(tmp_path / "file" / "run")
    assert str(tmp_path / "file" / "run") in caught.value.where


def test_open_refuses_and_suggests(tmp_path: Path) -> None:
    create(tmp_path / "good")
    with pytest.raises(RunError, match="does not exist") as caught:
        RunFolder.open(tmp_path / "god")
    assert str(tmp_path / "good") in caught.value.mend
    (tmp_path / "other").mkdir()
    with pytest.raises(RunError, match=r"has no recipe\.yaml"):
        RunFolder.open(tmp_path / "other")
    with pytest.raises(RunError, match="is a file"):
        RunFolder.open(tmp_path / "good" / "recipe.yaml")


def test_metrics_keep_nan_and_forgive_only_a_torn_last_line(tmp_path: Path) -> None:
    run = create(tmp_path / "run")
    assert run.metrics() == []
    run.metrics_file.write_text('{"step": 1, "loss": NaN}\n{"step": 2, "lo')
    rows = run.metrics()
    assert len(rows) == 1
    assert math.isnan(rows[0]["loss"])
    run.metrics_file.write_text('{"step": 1\n{"step": 2}\n')
    with pytest.raises(RunError) as caught:
        run.metrics()
    assert "line 1" in caught.value.where


def test_documents_and_checkpoints(tmp_path: Path) -> None:
    run = create(tmp_path / "run")
    assert (run.environment(), run.result(), run.is_finished, run.checkpoints()) == ({}, None, False, [])
    run.write_environment({"seed": 3})
    run.write_result({"metrics": {"valid/accuracy": 0.5}})
    assert run.environment() == {"seed": 3}
    assert run.result() == {"metrics": {"valid/accuracy": 0.5}}
    assert run.is_finished
    for name in ("step-00000200", "step-00000030", ".tmp-step-00000300-1", "step-x"):
        (run.checkpoints_folder / name).mkdir(parents=True)
    assert [path.name for path in run.checkpoints()] == ["step-00000030", "step-00000200"]
    run.result_file.write_text("{")
    with pytest.raises(RunError, match="not JSON"):
        run.result()


def test_reading_a_run_imports_no_torch(tmp_path: Path) -> None:
    create(tmp_path / "run")
    script = (
        "import sys, json; from lamina.core.run import RunFolder; run = RunFolder.open(sys.argv[1]); run.recipe(); run.metrics();"
        "print(json.dumps(sorted(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "run")], capture_output=True, text=True, check=True
    )
    assert "torch" not in json.loads(found.stdout)
