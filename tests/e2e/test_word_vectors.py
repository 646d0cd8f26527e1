"""Word vectors from the command line: train, resume to the bit, judge, look inside, take away."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch

import lamina as lm
from lamina.cli.main import main
from lamina.models.vector_files import load_word2vec, save_word2vec

pytest.importorskip("numba")
pytest.importorskip("tokenizers")

ANIMALS, TOOLS = ("cat", "dog", "horse", "mouse", "cow"), ("saw", "hammer", "drill", "file", "axe")
QUICK = [
    "training.batch_size=600",
    "training.epochs=4",
    "model.embedding_size=12",
    "optimizer.lr=0.1",
    "training.tensorboard=false",
    "training.log_every=5",
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sentences about animals and about tools."""
    draw = random.Random(0)
    lines = [" ".join(draw.choices(draw.choice((ANIMALS, TOOLS)), k=8)).capitalize() for _ in range(300)]
    path = tmp_path_factory.mktemp("corpus") / "corpus.txt"
    path.write_text("\n".join([*lines, "A Rare word", ""]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def run(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "vectors"
    assert main(["train", "word2vec-sg", "--data", str(corpus), "--run", str(folder), "--quiet", *QUICK]) == 0
    return folder


def document(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*words, "--json", "--quiet"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(lm.load_bundle(folder).model.state_dict())


def test_the_run_keeps_what_it_learned(run: Path) -> None:
    bundle = lm.load_bundle(run)
    text = bundle.pipeline.preprocessing.text
    assert text is not None
    assert set(text.tokenizer.vocabulary[3:]) == {*ANIMALS, *TOOLS}, "small letters, and no rare words"
    counts = bundle.model.counts
    assert isinstance(counts, torch.Tensor)
    assert int(counts.sum()) == 2400
    logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    losses = [line["loss"] for line in logged if line.get("split") == "train_epoch"]
    assert losses[-1] < losses[0]
    rates = [line["lr"] for line in logged if line.get("split") == "train"]
    assert rates == pytest.approx([0.1 * (1 - 0.996 * step / 20) for step in (4, 9, 14, 19)], rel=1e-6), (
        "a straight line"
    )
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    assert result["steps"] == 4 * 5  # 2,403 words, 600 at a time
    found = bundle.predict(["cat dog", "nothing known"])
    assert [one["known_words"] for one in found] == [2, 0]
    assert len(found[0]["vector"]) == 12


def test_verify_proves_exact_resume_and_another_run_gives_the_same_bits(
    run: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = document(capsys, "verify", str(run))
    assert found["resume_exact"] is True
    assert found["golden"] is True
    again = tmp_path / "again"
    assert main(["train", "word2vec-sg", "--data", str(corpus), "--run", str(again), "--quiet", *QUICK]) == 0
    for name, tensor in weights(run).items():
        assert torch.equal(tensor, weights(again)[name]), name


def test_threads_race_and_the_run_says_so(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "word2vec-cbow", "--data", str(corpus), "--run", str(tmp_path / "racing"), *QUICK]
    assert main([*words, "task.threads=2", "data.valid_fraction=0.2"]) == 0
    said = capsys.readouterr().err
    assert "another run will not give the same" in " ".join(said.split())
    result = json.loads((tmp_path / "racing" / "result.json").read_text(encoding="utf-8"))
    assert 0 < result["metrics"]["valid/loss"] < 4


def test_it_is_judged_on_lists(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("Cat\tdog\t9\nsaw\taxe\t8.5\ncat\tsaw\t1\ndog\tdrill\t0.5\nunicorn\tcat\t5\n", encoding="utf-8")
    found = document(capsys, "evaluate", str(run), "--data", str(pairs))
    assert found["metrics"]["spearman"] >= 0.8
    assert found["metrics"]["vocabulary_coverage"] == 0.8
    assert found["details"]["left_out_rows"] == [4]
    questions = tmp_path / "questions.txt"
    questions.write_text(": same\ncat dog horse mouse\nsaw axe file drill\ncat dog unicorn mouse\n", encoding="utf-8")
    found = document(capsys, "evaluate", str(run), "--data", str(questions))
    assert found["num_samples"] == 3
    assert found["details"]["left_out"] == 1
    assert found["details"]["sections"][0]["section"] == "same"
    assert found["metrics"]["accuracy"] in (0.0, 0.5, 1.0)


def test_words_are_looked_at(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "inspect", str(run), "neighbours", "view.words=Cat saw", "view.most=4")
    assert {one["word"] for one in found["words"][0]["neighbours"]} == set(ANIMALS) - {"cat"}
    assert {one["word"] for one in found["words"][1]["neighbours"]} == set(TOOLS) - {"saw"}
    picture = tmp_path / "words.png"
    found = document(capsys, "inspect", str(run), "projection", "--output", str(picture), "view.perplexity=3")
    assert set(found["words"]) == {*ANIMALS, *TOOLS}
    assert picture.read_bytes().startswith(b"\x89PNG")
    found = document(capsys, "inspect", str(run), "analogy", "view.question=cat dog saw")
    assert found["answers"][0]["word"] in {*ANIMALS, *TOOLS} - {"cat", "dog", "saw"}
    for words in (["view.question=cat dog"], ["view.question=cat dog hamer"]):
        assert main(["inspect", str(run), "analogy", *words]) == 2
    assert "did you mean 'hammer'" in capsys.readouterr().err


def test_vectors_are_taken_away_and_read_again(run: Path, tmp_path: Path) -> None:
    bundle = lm.load_bundle(run)
    text, embedding = bundle.pipeline.preprocessing.text, bundle.model.embedding
    assert text is not None
    assert isinstance(embedding, torch.nn.Embedding)
    save_word2vec(tmp_path / "v.bin", text.tokenizer.vocabulary[3:], embedding.weight[3:])
    assert torch.equal(
        load_word2vec(tmp_path / "v.bin")["cat"], embedding.weight[text.tokenizer.number("cat")].detach()
    )
