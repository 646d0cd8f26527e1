"""A language model from text to texts: train, judge, write, replay, through the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lamina.cli.main import main

VALUES = ("data.options.max_bytes=30000", "training.steps=6", "training.batch_size=8", "model.hidden_size=24")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("language") / "run"
    assert main(["train", "stdlib-lstm", "--run", str(folder), "--quiet", *VALUES]) == 0
    return folder


def document(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_run_has_the_promised_metrics_and_a_bundle_with_its_tokenizer(run: Path) -> None:
    metrics = json.loads((run / "result.json").read_text())["metrics"]
    for split in ("valid", "test"):
        assert metrics[f"{split}/cross_entropy"] > 0
        assert metrics[f"{split}/perplexity"] > 1
        assert metrics[f"{split}/bits_per_character"] > 0
    assert (run / "bundle" / "tokenizer.json").is_file()


def test_generate_is_reproducible_and_says_what_it_did(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("generate", str(run), "--prompt", "def ", "--num", "2", "--max-length", "7", "--top-k", "5", "--seed", "3")
    found = document(capsys, *words)
    assert found["schema"] == 1
    assert found["task"] == "text-generation"
    assert found["options"] == {"max_length": 7, "top_k": 5, "seed": 3}
    assert [sample["prompt"] for sample in found["samples"]] == ["def ", "def "]
    assert all(len(sample["text"]) == 11 for sample in found["samples"])
    assert document(capsys, *words) == found


def test_generate_writes_files_and_does_not_overwrite(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "samples"
    words = ["generate", str(run), "--num", "2", "--max-length", "5", "--greedy", "--output", str(target)]
    assert main(words) == 0
    written = json.loads((target / "samples.json").read_text())
    texts = [(target / f"sample-{number}.txt").read_text() for number in (1, 2)]
    assert texts == [f"{sample['text']}\n" for sample in written["samples"]]
    assert capsys.readouterr().out == ""
    assert main(words) == 2
    assert "not an empty folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--top-p", "2"], "top_p"),
        (["--temperature", "warm"], "--temperature got 'warm'"),
        (["--greedy", "--temperature", "1"], "both given"),
        (["--num", "0"], "--num got '0'"),
    ],
)
def test_wrong_options_are_refused(run: Path, words: list[str], what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", str(run), *words]) == 2
    told = capsys.readouterr()
    assert what in told.err
    assert told.out == ""


def test_a_classifier_makes_nothing_new(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "iris"
    assert main(["train", "iris-mlp", "--run", str(folder), "--quiet", "training.steps=1"]) == 0
    assert main(["generate", str(folder)]) == 2
    assert "makes nothing new" in capsys.readouterr().err


def test_the_bundle_judges_a_file_as_one_text(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "more.txt"
    text.write_text("import os\n\n\ndef main():\n    return os.sep\n")
    found = document(capsys, "evaluate", str(run), "--data", str(text))
    assert set(found["metrics"]) == {"cross_entropy", "perplexity", "bits_per_character"}
    assert found["num_samples"] == len(text.read_text()) - 1


def test_the_run_replays_exactly(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "verify", str(run))
    assert found["resume_exact"] is True
    assert found["golden"] is True


def test_predict_says_how_likely_each_text_is(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "two.txt"
    text.write_text("import os\n\x7f\x7f\x7f\n")
    likely, unlikely = document(capsys, "predict", str(run), str(text))["predictions"]
    assert (likely["num_tokens"], unlikely["num_tokens"]) == (9, 3)
    assert likely["perplexity"] > 1
    assert main(["predict", str(run), str(text)]) == 0
    assert "perplexity" in capsys.readouterr().out.splitlines()[0]
