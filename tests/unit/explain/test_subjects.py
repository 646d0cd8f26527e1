"""Subjects from bundles, pipelines and modules of one's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import lamina as lm
from lamina.core.errors import UsageError
from lamina.data.preprocessing import Preprocessing
from lamina.explain.subjects import subject_of
from lamina.explain.views import show_view
from lamina.tasks.bundle import Bundle
from lamina.tasks.image_classification import ImageClassification
from lamina.tasks.pipeline import Pipeline


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    data = lm.load_data("digits")
    rows = data.splits["all"]
    preprocessing = Preprocessing.fit(["scale"], rows, data.spec)
    model = lm.create_model("cnn", preprocessing.spec, seed=0, blocks=[{"channels": 2}])
    task = ImageClassification(ImageClassification.Config(), preprocessing.spec)
    return Bundle.from_pipeline(Pipeline(model, task, preprocessing), examples=rows)


def test_a_bundle_shows_its_golden_examples(bundle: Bundle) -> None:
    subject = subject_of(bundle, name="digits")
    assert isinstance(subject.inputs, torch.Tensor)
    assert subject.inputs.shape == (4, 1, 8, 8)
    assert subject.raw is not None
    torch.testing.assert_close(subject.inputs, subject.raw.float() / 16)
    assert list(subject.input_names) == [f"golden example {row}" for row in range(4)]
    assert show_view("saliency", subject, method="gradient").document["inputs"][3]["input"] == "golden example 3"


def test_counts_are_of_one_row_whatever_the_examples(bundle: Bundle) -> None:
    assert show_view("layers", subject_of(bundle)).document["input_shape"] == [1, 1, 8, 8]
    images = lm.load_data("digits").splits["all"]["image"][:3]
    assert show_view("layers", subject_of(bundle, inputs=images)).document["input_shape"] == [3, 1, 8, 8]


def test_inputs_are_read_as_for_predict(bundle: Bundle) -> None:
    images = lm.load_data("digits").splits["all"]["image"][:2]
    subject = subject_of(bundle, inputs=images.numpy())
    assert isinstance(subject.inputs, torch.Tensor)
    assert subject.inputs.max() == 1.0
    assert subject_of(bundle.pipeline).inputs is None


@pytest.mark.parametrize(("shape", "layer"), [((12,), nn.Conv1d), ((6, 7), nn.Conv2d), ((4, 5, 6), nn.Conv3d)])
def test_modules_of_ones_own_with_labels(shape: tuple[int, ...], layer: type[nn.Module]) -> None:
    model = nn.Sequential(layer(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))  # type: ignore[call-arg]
    inputs, labels = torch.rand(12, 2, *shape), torch.arange(12) % 3
    model(inputs)
    subject = subject_of(model, inputs=inputs, labels=labels, split="mine")
    for view, options in (("mistakes", {"most": 2}), ("embedding", {"method": "pca"}), ("saliency", {"steps": 8})):
        shown = show_view(view, subject, **options)
        assert shown.figure is not None
    assert show_view("mistakes", subject, most=2).document["split"] == "mine"


def test_what_is_refused() -> None:
    model = nn.Linear(4, 2)
    with pytest.raises(UsageError, match="are a list"):
        subject_of(model, inputs=[1, 2])
    with pytest.raises(UsageError, match=r"shaped \(3,\) came with inputs shaped \(2, 4\)"):
        subject_of(model, inputs=torch.rand(2, 4), labels=torch.arange(3))
    with pytest.raises(UsageError, match=r"inputs are shaped \(2,\)"):
        subject_of(model, inputs=torch.rand(2), labels=torch.arange(2))
