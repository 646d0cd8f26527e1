"""Run folders: created whole, never overwritten, readable without torch."""

import concurrent.futures
import json
import math
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lamina.core.config import read_yaml
from lamina.core.errors import ConfigError, RunError, StorageError
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
    run.metrics_file.write_text('{"step": 1, "epoch": 0, "split": "train", "loss": NaN}\n{"step": 2, "lo')
    rows = run.metrics()
    assert len(rows) == 1
    assert math.isnan(rows[0]["loss"])
    run.metrics_file.write_text('{"step": 1\n{"step": 2}\n')
    with pytest.raises(RunError) as caught:
        run.metrics()
    assert "line 1" in caught.value.where


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "3",
        "[" * 50_000,
        '{"epoch": 0, "split": "train"}',
        '{"step": "1", "epoch": 0, "split": "train"}',
        '{"step": 1, "epoch": 0, "split": 3}',
        '{"step": 1, "epoch": 0, "split": "train", "loss": "low"}',
        '{"step": -1, "epoch": 0, "split": "train"}',
    ],
)
def test_a_line_of_metrics_that_is_not_trainings(tmp_path: Path, line: str) -> None:
    run = create(tmp_path / "run")
    run.metrics_file.write_text(line + "\n{}\n")
    with pytest.raises(RunError, match="not training's") as caught:
        run.metrics()
    assert "line 1" in caught.value.where
    assert caught.value.mend == "delete that line"


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("environment.json", "{", "not JSON"),
        ("environment.json", "[]", "holds a list"),
        ("environment.json", "[" * 50_000, "levels deep"),
        ("environment.json", '{"device": 3}', "device is 3"),
        ("environment.json", '{"threads": "many"}', 'threads is "many"'),
        ("environment.json", '{"threads": 0}', "threads is 0"),
        ("environment.json", '{"choices": {"precision": "fp32"}}', "choices is"),
        ("environment.json", '{"choices": {"precision": {"value": "fp32"}}}', "choices is"),
        ("environment.json", '{"command": "lamina"}', "command is"),
        ("environment.json", '{"device": "cpu", "device": "cuda"}', "twice"),
        ("result.json", '{"metrics": [1]}', "metrics is [1]"),
        ("result.json", '{"metrics": {"valid/accuracy": "good"}}', "metrics is"),
        ("result.json", '{"steps": 1.5}', "steps is 1.5"),
        ("result.json", '{"seconds": NaN}', "number NaN"),
    ],
)
def test_a_damaged_document_names_place_and_mend(tmp_path: Path, name: str, text: str, what: str) -> None:
    run = create(tmp_path / "run")
    (run.path / name).write_text(text)
    with pytest.raises(RunError) as caught:
        run.environment() if name == "environment.json" else run.result()
    assert what in caught.value.what
    assert name in caught.value.where
    assert f"remove {run.path / name}" in caught.value.mend


def test_a_recipe_that_is_none(tmp_path: Path) -> None:
    run = create(tmp_path / "run")
    run.recipe_file.write_bytes(b"name: \xff\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        run.recipe()
    run.recipe_file.write_text("data: 3\n")
    assert run.section("model") == {}
    with pytest.raises(ConfigError, match="data got 3") as caught:
        run.section("data")
    assert "recipe.yaml, key `data`" in caught.value.where


def test_what_is_refused_is_taken_back_and_nothing_else(tmp_path: Path) -> None:
    made = create(tmp_path / "made")
    made.write_environment({"seed": 3})
    made.checkpoints_folder.mkdir()
    made.take_back()
    assert not made.path.exists()
    (tmp_path / "mine").mkdir()
    borrowed = create(tmp_path / "mine")
    borrowed.write_environment({"seed": 3})
    borrowed.take_back()
    assert list((tmp_path / "mine").iterdir()) == []
    other = create(tmp_path / "other")
    (other.path / "thesis.txt").write_text("precious")
    other.take_back()
    assert [path.name for path in other.path.iterdir()] == ["thesis.txt"]


def test_a_run_that_learned_something_is_not_taken_back(tmp_path: Path) -> None:
    for name in ("metrics.jsonl", "checkpoints/step-00000007/manifest.json"):
        run = create(tmp_path / name.partition("/")[0])
        (run.path / name).parent.mkdir(parents=True, exist_ok=True)
        (run.path / name).write_text("{}")
        assert not run.is_unused
        run.take_back()
        assert run.recipe_file.is_file()


def test_a_run_that_somebody_else_trains_in_is_not_taken_back(tmp_path: Path) -> None:
    run = create(tmp_path / "run")
    with concurrent.futures.ThreadPoolExecutor(1) as pool, run.locked():
        pool.submit(run.take_back).result()
        assert run.recipe_file.is_file()
    run.take_back()
    assert not run.path.exists()


def test_of_many_who_want_one_empty_folder_one_gets_it(tmp_path: Path) -> None:
    for number in range(20):
        folder = tmp_path / str(number)
        folder.mkdir()
        start = threading.Barrier(4)

        def attempt(seed: int, folder: Path = folder, start: threading.Barrier = start) -> int | None:
            start.wait()
            try:
                RunFolder.create(folder, name="tiny", values={"seed": seed}, origins={})
            except RunError:
                return None
            return seed

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            won = [seed for seed in pool.map(attempt, range(4)) if seed is not None]
        assert len(won) == 1
        assert RunFolder.open(folder).recipe()[0] == {"seed": won[0]}
        assert [path.name for path in folder.iterdir()] == ["recipe.yaml"]


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
