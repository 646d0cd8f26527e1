"""Every recipe in miniature through the commands: train, bundle, evaluate, predict, report, verify."""

from __future__ import annotations

import gzip
import json
import struct
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from lamina.cli.main import main
from lamina.core.registry import names
from lamina.core.run import RunFolder
from lamina.models.factory import create_model
from lamina.recipes.recipe import known_values

TAGGERS = ("conll2000-bilstm-crf", "ud-pos-bilstm", "wnut17-bilstm-crf")
TEXTS = ("sst2-cnn", "sst2-lstm", "imdb-cnn", "imdb-lstm")
SERIES = ("etth1-cnn", "etth1-dlinear", "etth1-lstm", "airline-lstm", "series-dlinear")
VECTORS = ("word2vec-sg", "word2vec-cbow")
LANGUAGE = ("shakespeare-lstm", "ptb-lstm-small", "ptb-lstm-medium")
_SMALL_TEXT = ["training.epochs=3", "training.batch_size=4", "model.embedding_size=8", "model.hidden_size=16"]
_SMALL_PHOTOS = ["data.shape=[32,32]", "model.width_multiplier=0.25"]
# What makes a recipe small enough for seconds; data that it needs is made by `make_data`.
SMALL: dict[str, list[str]] = {
    "digits": ["data.limit=200"],
    "iris-mlp": ["training.epochs=6"],
    "sign-cnn": ["training.epochs=3"],
    "mnist-mlp-sigmoid": ["training.epochs=8", "optimizer.lr=1.0"],
    "xor-perceptron": ["training.epochs=2"],
    "spirals-mlp": ["training.epochs=6"],
    "cifar10-resnet18": ["training.epochs=3", "model.width=4", "model.depths=[1,1,1,1]", "training.batch_size=16"],
    "cifar10-vgg11": ["training.epochs=3", "model.channels=[4,8,8,8,8]", "training.batch_size=16"],
    "cifar10-cnn": ["training.epochs=3", "training.batch_size=16"],
    "alexnet": [
        "training.epochs=3",
        "training.batch_size=8",
        "data.shape=[64,64]",
        "model.channels=[4,8,8,8,8]",
        "model.hidden_size=16",
    ],
    "signal-cnn1d": ["training.epochs=3", "data.limit=200"],
    "volume-cnn3d": ["training.epochs=3", "data.limit=100"],
    **{
        f"cifar10-resnet{depth}": [
            "training.epochs=3",
            "model.width=4",
            "model.blocks_per_stage=1",
            "training.batch_size=16",
        ]
        for depth in (20, 32, 44, 56, 110)
    },
    "cifar10-resnet20-paper": [
        "training.steps=9",
        "model.width=4",
        "model.blocks_per_stage=1",
        "training.batch_size=16",
    ],
    "photos-transfer": [*_SMALL_PHOTOS, "training.epochs=4"],
    "photos-finetune": [*_SMALL_PHOTOS, "stages.head.epochs=4", "training.epochs=2"],
    "sports-cnn": ["training.epochs=4", "data.shape=[32,32]"],
    **{name: ["training.epochs=3", "model.hidden_size=8"] for name in TAGGERS},
    **{
        f"adding-{kind}": ["training.epochs=3", "data.options={length: 20, num_rows: 300}", "model.hidden_size=8"]
        for kind in ("rnn", "lstm")
    },
    **{name: ["training.epochs=6", "optimizer.lr=0.01"] for name in TEXTS},
    **{name: ["training.epochs=3", "task.subsample=0"] for name in VECTORS},
    **{name: ["training.epochs=3", "data.past_length=24", "data.horizon=6", "data.boundaries=[]"] for name in SERIES},
    **dict.fromkeys(LANGUAGE, _SMALL_TEXT),
    "ptb-lstm-medium": [*_SMALL_TEXT, "model.dropout=0.1", "optimizer.lr=0.2"],
    "stdlib-lstm": [*_SMALL_TEXT, "data.options.max_bytes=20000"],
}


def blobs(shape: tuple[int, ...], *, classes: int, each: int) -> tuple[np.ndarray, np.ndarray]:
    """Images that differ by class in where they are bright; the same for all time."""
    generator = np.random.default_rng(0)
    labels = np.arange(classes * each) % classes
    images = generator.integers(0, 60, (len(labels), *shape), dtype=np.uint8)
    rows = shape[0] // 4
    for image, label in zip(images, labels, strict=True):
        top, left = (label % 4) * rows, (label // 4) * rows
        image[top : top + rows, left : left + rows] += 150
    return images, labels


def write_idx(folder: Path) -> Path:
    images, labels = blobs((28, 28), classes=10, each=12)
    folder.mkdir()
    with gzip.open(folder / "train-images-idx3-ubyte.gz", "wb") as file:
        file.write(struct.pack(">BBBBIII", 0, 0, 8, 3, *images.shape) + images.tobytes())
    with gzip.open(folder / "train-labels-idx1-ubyte.gz", "wb") as file:
        file.write(struct.pack(">BBBBI", 0, 0, 8, 1, len(labels)) + labels.astype(np.uint8).tobytes())
    return folder


def write_pixels(path: Path) -> Path:
    images, labels = blobs((28, 28), classes=4, each=20)
    names_ = ["label", *(f"pixel{i + 1}" for i in range(784))]
    lines = [",".join(map(str, [label, *image.reshape(-1)])) for image, label in zip(images, labels * 2, strict=True)]
    path.write_text("\n".join([",".join(names_), *lines]) + "\n")
    return path


def write_colour(path: Path) -> Path:
    images, labels = blobs((32, 32, 3), classes=3, each=20)
    np.savez(path, images=images, labels=labels)
    return path


def write_photos(folder: Path) -> Path:
    images, labels = blobs((72, 80, 3), classes=3, each=12)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        place = folder / "abc"[label] / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place)
    return folder


def write_table(path: Path, *, target: str) -> Path:
    generator = np.random.default_rng(1)
    features = generator.normal(size=(120, 4)).round(3)
    score = features[:, 0] - 2 * features[:, 1]
    column = (score > 0).astype(int) if target == "class" else (score + generator.normal(size=120) / 10).round(3)
    lines = [",".join(map(str, [*row, value])) for row, value in zip(features, column, strict=True)]
    path.write_text("\n".join(["a,b,c,d,target", *lines]) + "\n")
    return path


def write_tagged(path: Path, *, entities: bool) -> Path:
    """Sentences of words with tags that the word decides, but for every second word of a name."""
    names_ = [("Ann", "B-PER" if entities else "NOUN"), ("Lee", "I-PER" if entities else "NOUN")]
    plain = [
        ("sings", "O" if entities else "VERB"),
        ("in", "O" if entities else "ADP"),
        ("May", "O" if entities else "NOUN"),
    ]
    sentences = [[*names_[: 1 + row % 2], *plain[: 1 + row % 3]] for row in range(40)]
    path.write_text("\n\n".join("\n".join(f"{word} {tag}" for word, tag in row) for row in sentences) + "\n")
    return path


def write_corpus(folder: Path) -> Path:
    """Lines of few words, in which a word says much of the next."""
    folder.mkdir()
    animals, verbs = ("cat", "dog", "cow"), ("sees", "hears")
    lines = [f" the {animals[row % 3]} {verbs[row % 2]} the <unk> " for row in range(90)]
    (folder / "ptb.train.txt").write_text("\n".join(lines[:72]) + "\n")
    (folder / "ptb.valid.txt").write_text("\n".join(lines[72:]) + "\n")
    return folder


def write_texts(path: Path) -> Path:
    """Sentences whose class a word decides."""
    lines = [f"{row % 2}\tthe film is {('bad', 'good')[row % 2]} number {row}" for row in range(80)]
    path.write_text("\n".join(["label\tsentence", *lines]) + "\n")
    return path


def write_series(path: Path) -> Path:
    """Two daily rhythms of two weeks and more, hour by hour."""
    start = datetime(2020, 1, 1)
    lines = [f"{start + timedelta(hours=hour)},{np.sin(hour / 4):.4f},{np.cos(hour / 4):.4f}" for hour in range(400)]
    path.write_text("\n".join(["date,a,OT", *lines]) + "\n")
    return path


def make_data(recipe: str, folder: Path) -> str:
    """Data of the kind that the recipe needs, or its own."""
    own = known_values(recipe).get("data", {}).get("path")
    if own is not None:
        return str(own)
    if recipe.startswith("mnist"):
        return str(write_idx(folder / "mnist"))
    if recipe.startswith("cifar10") or recipe == "image-cnn":
        return str(write_colour(folder / "colour.npz"))
    if recipe in ("alexnet", "sports-cnn") or recipe.startswith("photos-"):
        return str(write_photos(folder / "photos"))
    if recipe == "sign-cnn":
        return str(write_pixels(folder / "signs.csv"))
    if recipe in LANGUAGE:
        corpus = write_corpus(folder / "ptb")
        return str(corpus / "ptb.train.txt" if recipe == "shakespeare-lstm" else corpus)
    if recipe in TEXTS:
        return str(write_texts(folder / "texts.tsv"))
    if recipe in VECTORS:
        return str(write_corpus(folder / "corpus"))
    if recipe in SERIES:
        return str(write_series(folder / "series.csv"))
    if recipe in TAGGERS:
        return str(write_tagged(folder / "words.conll", entities=recipe != "ud-pos-bilstm"))
    regression = recipe in ("housing-mlp", "tabular-regression-mlp")
    return str(write_table(folder / "table.csv", target="number" if regression else "class"))


def make_weights(recipe: str, folder: Path) -> list[str]:
    """Weights where the recipe cannot begin without: a small MobileNet of nobody's."""
    if "needs_weights" not in known_values(recipe):
        return []
    model = create_model("mobilenet-v1", seed=1, image_size=(32, 32), width_multiplier=0.25)
    save_file(model.state_dict(), folder / "mobilenet.safetensors")
    return ["--weights", str(folder / "mobilenet.safetensors")]


def document(words: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Run a command with --json and give its one document."""
    status = main([*words, "--json", "--quiet"])
    told = capsys.readouterr()
    assert status == 0, told.err
    found: dict[str, Any] = json.loads(told.out)
    assert found["schema"] == 1
    return found


@pytest.mark.parametrize("recipe", names("recipe"))
def test_recipe_in_miniature(recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, run = make_data(recipe, tmp_path), str(tmp_path / "run")
    words = [*make_weights(recipe, tmp_path), *SMALL.get(recipe, ["training.epochs=4"])]
    trained = document(["train", recipe, "--data", data, "--run", run, *words, "training.tensorboard=false"], capsys)
    assert (trained["run"], trained["recipe"]) == (run, recipe)
    for key in ("task", "epochs", "steps", "seconds", "samples_per_s"):
        assert trained[key]
    folder = RunFolder.open(run)
    assert folder.is_finished
    assert folder.checkpoints()
    assert folder.report_file.is_file()
    assert folder.environment()["data_fingerprint"]
    assert {"precision", "layout", "executor", "threads", "device"} <= set(folder.environment()["choices"])

    losses = [line["loss"] for line in folder.metrics() if line["split"] == "train_epoch" and "loss" in line]
    assert not losses or losses[-1] < losses[0], losses

    split = "test" if any(key.startswith("test/") for key in trained["metrics"]) else "valid"
    judged = document(["evaluate", run, "--data", data], capsys)
    assert judged["split"] == split
    assert judged["own_split"]
    assert judged["task"] == trained["task"]
    # Judging a bundle is in fp32; what was judged in bf16 differs in the third digit.
    rel = 0.05 if trained["choices"]["precision"]["value"] == "bf16" else 1e-5
    for name, value in judged["metrics"].items():
        assert value == pytest.approx(trained["metrics"][f"{split}/{name}"], rel=rel, abs=1e-6), name
    if "classification" in trained["task"]:
        # Of sentences it is the words that are classified.
        assert sum(map(sum, judged["confusion_matrix"])) == judged["details"].get("num_words", judged["num_samples"])
        assert len(judged["labels"]) == len(judged["confusion_matrix"])

    verified = document(["verify", run], capsys)
    assert (verified["resume_exact"], verified["golden"]) == (True, True)


def test_stations_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Run folder, bundle folder and zip give the same predictions, on the command line and in Python."""
    import lamina

    pixels, run = write_pixels(tmp_path / "signs.csv"), str(tmp_path / "run")
    document(["train", "sign-cnn", "--data", str(pixels), "--run", run, "training.epochs=1"], capsys)
    lamina.load_bundle(run).save(tmp_path / "signs.zip")
    places = [run, f"{run}/bundle", str(tmp_path / "signs.zip")]
    found = [document(["predict", place, str(pixels)], capsys)["predictions"] for place in places]
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 80
    assert set(found[0][0]) == {"input", "label", "probability", "probabilities"}
    assert set(found[0][0]["probabilities"]) == {"0", "2", "4", "6"}
    assert found[0] == json.loads(json.dumps(lamina.load_bundle(run).predict(pixels)))

    table = tmp_path / "out.csv"
    assert main(["predict", run, str(pixels), "--output", str(table), "--quiet"]) == 0
    lines = table.read_text().splitlines()
    assert lines[0] == "input,label,probability,probabilities.0,probabilities.2,probabilities.4,probabilities.6"
    assert len(lines) == 81
    told = document(["predict", run, str(pixels), "--output", str(tmp_path / "out.json")], capsys)
    assert json.loads((tmp_path / "out.json").read_text()) == told


def test_tagged_words_are_told_word_by_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, run = str(write_tagged(tmp_path / "words.conll", entities=True)), str(tmp_path / "run")
    small = ["training.epochs=12", "model.hidden_size=16", "optimizer.lr=0.02", "training.tensorboard=false"]
    document(["train", "wnut17-bilstm-crf", "--data", words, "--run", run, *small], capsys)
    (found,) = document(["predict", run, "Ann Lee  sings"], capsys)["predictions"]
    assert [token["word"] for token in found["tokens"]] == ["Ann", "Lee", "sings"]
    assert found["entities"] == [{"type": "PER", "text": "Ann Lee", "start": 0, "end": 7}]
    table = tmp_path / "tags.csv"
    assert main(["predict", run, "Ann Lee  sings", "--output", str(table), "--quiet"]) == 0
    lines = table.read_text().splitlines()
    assert lines[0] == "input,number,word,tag,probability,entity"
    assert lines[2].startswith("Ann Lee  sings,2,Lee,I-PER,")
    assert lines[3].endswith(",")
    assert len(document(["predict", run, words], capsys)["predictions"]) == 40
    assert main(["predict", run, "Ann Lee  sings"]) == 0
    assert "I-PER" in capsys.readouterr().out


def test_a_run_is_repeated_from_its_own_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    document(["train", "iris-mlp", "seed=3", "training.epochs=4", "--run", str(first)], capsys)
    document(["train", str(first / "recipe.yaml"), "--run", str(second)], capsys)
    assert (first / "metrics.jsonl").read_bytes() == (second / "metrics.jsonl").read_bytes()
    assert (first / "bundle/model.safetensors").read_bytes() == (second / "bundle/model.safetensors").read_bytes()
    assert RunFolder.open(first).recipe()[0] == RunFolder.open(second).recipe()[0]


def test_resume_continues_and_says_when_it_is_finished(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import shutil

    words = ["train", "iris-mlp", "training.epochs=4", "training.checkpoint_every=5"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for run in (whole, broken):
        document([*words, "--run", str(run)], capsys)
    kept = RunFolder.open(broken).checkpoints()[0]
    for path in broken.iterdir():
        if path.name in ("bundle", "result.json", "evaluation.json", "report.html"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in RunFolder.open(broken).checkpoints():
        if path != kept:
            shutil.rmtree(path)
    document(["train", "--resume", str(broken)], capsys)
    for name in ("metrics.jsonl", "bundle/model.safetensors"):
        assert (whole / name).read_bytes() == (broken / name).read_bytes()
    again = document(["train", "--resume", str(broken)], capsys)
    assert again["steps"] == 32
    assert main(["train", "--resume", str(broken)]) == 0
    assert "is finished" in capsys.readouterr().err

    fresh = tmp_path / "fresh"
    document([*words, "--run", str(fresh)], capsys)
    for path in fresh.iterdir():  # as after a kill before the first checkpoint
        if path.name != "recipe.yaml":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert main(["train", "--resume", str(fresh)]) == 0
    assert "from the beginning" in capsys.readouterr().err
    assert (whole / "metrics.jsonl").read_bytes() == (fresh / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("kind", "recipe"),
    [
        ("digits", "digits"),
        ("iris", "iris-mlp"),
        ("wine", "tabular-mlp"),
        ("colour", "image-cnn"),
        ("number", "tabular-regression-mlp"),
        ("class", "tabular-mlp"),
        ("entities", "conll2000-bilstm-crf"),
        ("words", "ud-pos-bilstm"),
    ],
)
def test_data_alone_chooses_a_recipe(
    kind: str, recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = kind
    if kind == "colour":
        data = str(write_colour(tmp_path / "colour.npz"))
    elif kind in ("number", "class"):
        data = str(write_table(tmp_path / "table.csv", target=kind))
    elif kind in ("entities", "words"):
        data = str(write_tagged(tmp_path / "words.conll", entities=kind == "entities"))
    limits = ["training.epochs=1", "data.limit=40"]
    assert main(["train", "--data", data, *limits, "--json"]) == 0
    told = capsys.readouterr()
    assert f"recipe: {recipe}, because " in told.err
    found = json.loads(told.out)
    assert (found["recipe"], found["run"]) == (recipe, f"runs/{recipe}-1")
    values, origins = RunFolder.open(found["run"]).recipe()
    assert (values["training"]["epochs"], origins["training.epochs"]) == (1, "command line")

    named = tmp_path / "named"
    trained = document(["train", "--data", data, *limits, "--run", str(named)], capsys)
    assert trained["recipe"] == recipe
    assert {k: v for k, v in trained["metrics"].items() if v} == {k: v for k, v in found["metrics"].items() if v}


def test_evaluate_follows_the_splits_of_other_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(tmp_path / "run")
    table = write_table(tmp_path / "table.csv", target="class")
    document(["train", "tabular-mlp", "--data", str(table), "--run", run, "training.epochs=2"], capsys)
    lines = table.read_text().splitlines()
    other = tmp_path / "other.csv"
    other.write_text("\n".join([lines[0], *lines[1:31]]) + "\n")
    judged = document(["evaluate", run, "--data", str(other)], capsys)
    assert (judged["split"], judged["num_samples"], judged["own_split"]) == ("all", 30, False)
    own = document(["evaluate", run], capsys)
    assert (own["split"], own["num_samples"], own["own_split"]) == ("valid", 24, True)
    train = document(["evaluate", run, "--split", "train"], capsys)
    assert (train["split"], train["num_samples"]) == ("train", 96)
    everything = document(["evaluate", run, "--split", "all"], capsys)
    assert everything["num_samples"] == 120
    assert main(["evaluate", run, "--split", "tset"]) == 2
    assert "no split 'tset'" in capsys.readouterr().err


def test_report_with_baselines_and_learning_curve(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    document(["train", "iris-mlp", "--run", str(run), "training.epochs=2"], capsys)
    page = tmp_path / "page.html"
    words = ["report", str(run), "--baselines", "--learning-curve", "--output", str(page)]
    assert document(words, capsys)["report"] == str(page)
    text = page.read_text(encoding="utf-8")
    assert "nearest neighbours" in text
    assert {found["name"] for found in json.loads((run / "baselines.json").read_text())["baselines"]} == {
        "knn",
        "linear",
    }
    assert len(json.loads((run / "learning_curve.json").read_text())["points"]) >= 3


def test_inspect_counts_the_golden_networks(capsys: pytest.CaptureFixture[str]) -> None:
    mlp = document(["inspect", "mlp"], capsys)
    assert (mlp["num_parameters"], mlp["num_weights"], mlp["num_biases"]) == (13_002, 12_960, 42)
    sign = document(["inspect", "sign-cnn"], capsys)
    assert (sign["num_total"], sign["num_buffers"]) == (264_049, 300)
    totals = [layer["num_total"] for layer in sign["layers"] if layer["num_total"]]
    assert totals == [750, 300, 33_800, 200, 11_275, 100, 205_312, 12_312]
    assert document(["inspect", "model:mlp", "model.hidden_sizes=[32]"], capsys)["num_parameters"] == 785 * 32 + 33 * 10
    assert document(["inspect", "recipe:digits"], capsys)["layers"][0]["input_shape"][-2:] == [8, 8]
    assert document(["inspect", "mnist-mlp-sigmoid"], capsys)["num_parameters"] == 785 * 30 + 31 * 10


def test_weights_are_where_training_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = str(tmp_path / "first")
    trained = document(["train", "iris-mlp", "--run", first, "training.epochs=20"], capsys)
    words = ["train", "iris-mlp", "--weights", first, "training.steps=1", "optimizer.lr=1e-6"]
    again = document([*words, "--run", str(tmp_path / "second")], capsys)
    wanted = trained["metrics"]["valid/cross_entropy"]
    assert again["metrics"]["valid/cross_entropy"] == pytest.approx(wanted, rel=1e-2)
