"""Every registered view shows a small trained digits run, or refuses in four parts; so it does for other subjects."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from torch import nn

import lamina as lm
from lamina.cli.main import main
from lamina.core import registry
from lamina.core.errors import ConfigError, LaminaError, UsageError
from lamina.explain.subjects import subject_of
from lamina.explain.views import Subject, show_view, views_that_read
from lamina.tasks.bundle import load_bundle

NAMES = registry.names("view")
OURS = {
    "activation-maximisation",
    "embedding",
    "features",
    "invariance",
    "kernels",
    "layers",
    "learning-rate",
    "mistakes",
    "receptive-field",
    "robustness",
    "saliency",
}
# What keeps a view to a second here.
QUICK = {
    "activation-maximisation": {"steps": 4, "most": 2},
    "embedding": {"most": 60},
    "invariance": {"most": 40},
    "learning-rate": {"steps": 12},
    "mistakes": {"most": 4},
    "robustness": {"most": 40, "draws": 1},
    "saliency": {"steps": 8, "samples": 2, "most": 2},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small convolutional network, trained on the digits for one epoch."""
    folder = tmp_path_factory.mktemp("views") / "digits"
    words = ["train", "digits", "--run", str(folder), "--quiet", "training.epochs=1"]
    assert main([*words, "model.kind=cnn", "model.blocks=[{channels: 4}, {channels: 6}]"]) == 0
    return folder


@pytest.fixture(scope="module")
def subject(run: Path) -> Subject:
    bundle = load_bundle(run)
    rows = lm.load_data("digits").splits["all"].take(torch.arange(100))
    return subject_of(bundle, name="digits", columns=rows, split="all")


def options(name: str) -> list[str]:
    return [f"view.{key}={value}" for key, value in QUICK.get(name, {}).items()]


def test_the_sweep_is_not_empty() -> None:
    assert set(NAMES) >= OURS


@pytest.mark.parametrize("name", NAMES)
def test_it_is_documented(name: str) -> None:
    entry = registry.lookup("view", name)
    assert entry.summary.endswith((".", ")"))
    assert entry.example.startswith("lamina inspect ")
    assert entry.config is not None
    assert all(info.description for info in entry.config.model_fields.values())
    page = (Path(__file__).resolve().parents[2] / "docs" / "views.md").read_text(encoding="utf-8")
    assert f"## `{name}`" in page, "docs/views.md says what it means and what it does not"


@pytest.mark.parametrize("name", NAMES)
def test_it_shows_a_run_from_the_command_line_or_refuses(
    name: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "view.png"
    draws_nothing = name == "layers"
    words = ["inspect", str(run), name, "--json", *options(name), *([] if draws_nothing else ["--output", str(file)])]
    status = main(words)
    said = capsys.readouterr()
    if status != 0:
        assert status == 2
        assert all(f"  {part} " in said.err for part in ("where", "accepts", "mend")), said.err
        assert name not in OURS, said.err
        return
    assert json.loads(said.out)["schema"] == 1
    if not draws_nothing:
        picture = np.asarray(Image.open(file).convert("RGB"))
        assert min(picture.shape[:2]) > 100
        assert picture.std() > 5


@pytest.mark.parametrize("name", sorted(OURS - {"learning-rate"}))
def test_it_shows_a_bundle_from_python(name: str, subject: Subject) -> None:
    shown = show_view(name, subject, **QUICK.get(name, {}))
    json.dumps(shown.document, allow_nan=False)
    console = Console(file=io.StringIO(), width=160)
    console.print(shown.renderable)
    if name != "layers":
        assert shown.figure is not None
        assert shown.arrays
        assert all(np.isfinite(array).all() for array in shown.arrays.values())
        assert shown.document["shown"], "the document says what is shown"
    again = show_view(name, subject, **QUICK.get(name, {}))
    assert again.document == shown.document, "a view is a function of what it looks at"


@pytest.mark.parametrize("name", sorted(OURS))
def test_it_leaves_the_model_as_it_was(name: str, subject: Subject) -> None:
    model = subject.model.train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    generator = torch.get_rng_state()
    try:
        show_view(name, subject, **QUICK.get(name, {}))
    except LaminaError:
        assert name == "learning-rate"
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(generator, torch.get_rng_state())
    model.eval()


def four_parts(error: LaminaError) -> None:
    assert all(len(part) > 3 for part in (error.what, error.where, error.accepts, error.mend))


@pytest.mark.parametrize("name", sorted(OURS))
@pytest.mark.parametrize("kind", ["knn", "mlp", "table", "bare"])
def test_other_subjects_are_shown_or_refused_in_four_parts(name: str, kind: str) -> None:
    try:
        shown = show_view(name, other_subject(kind), **QUICK.get(name, {}))
    except LaminaError as error:
        four_parts(error)
        named = f"view {name}" in error.where or error.where == "view of a model"
    else:
        named = True
        json.dumps(shown.document, allow_nan=False)
        assert shown.figure is None or shown.figure.startswith(b"\x89PNG")
    assert named


def other_subject(kind: str) -> Subject:
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.rand(30, 1, 6, 6, generator=generator), torch.arange(30) % 3
    if kind == "knn":
        model = lm.create_model("knn", in_features=36, num_classes=3)
        model.learn(images.flatten(start_dim=1), labels)
        return subject_of(model, inputs=images, labels=labels)
    if kind == "mlp":
        return subject_of(lm.create_model("mlp", in_features=36, num_classes=3), inputs=images, labels=labels)
    if kind == "table":
        table = torch.rand(30, 4, generator=generator)
        return subject_of(lm.create_model("mlp", in_features=4, num_classes=3), inputs=table, labels=labels)
    return Subject(nn.Conv2d(1, 2, 3))


def test_what_makes_no_sense_is_refused_with_the_views_that_can_be_used() -> None:
    knn = other_subject("knn")
    for name, match in (
        ("activation-maximisation", "no gradients"),
        ("kernels", "no convolution"),
        ("features", "no layers"),
        ("embedding", "no last linear layer"),
    ):
        with pytest.raises(UsageError, match=match) as caught:
            show_view(name, knn)
        assert "layers" in caught.value.accepts
    with pytest.raises(UsageError, match="no gradients"):
        show_view("saliency", knn, method="gradient")
    assert list(show_view("saliency", knn, window=2, stride=2).document["methods"]) == ["occlusion"]
    for name in ("saliency", "features", "receptive-field", "activation-maximisation", "invariance", "robustness"):
        with pytest.raises(UsageError):
            show_view(name, other_subject("table"))


def test_views_without_what_they_need_say_what_to_give(subject: Subject) -> None:
    bare = replace(subject, inputs=None, columns=None)
    for name in views_that_read("input"):
        if name in OURS:
            with pytest.raises(UsageError, match="needs an input") as caught:
                show_view(name, bare)
            assert "--input FILE" in caught.value.mend
    for name in views_that_read("rows"):
        if name in OURS:
            with pytest.raises(UsageError, match="labelled rows") as caught:
                show_view(name, bare)
            assert "--data PATH" in caught.value.mend
    with pytest.raises(UsageError, match="not a training"):
        show_view("learning-rate", bare)
    with pytest.raises(ConfigError, match="metod"):
        show_view("saliency", subject, metod="gradient")
