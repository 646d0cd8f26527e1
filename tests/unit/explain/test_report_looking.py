"""The report's pictures of what a decision hangs on: for image classifiers, small, and only where they can be made."""

from __future__ import annotations

import pytest
import torch

import lamina as lm
from lamina.data.preprocessing import Preprocessing
from lamina.explain.report_looking import saliency_section
from lamina.tasks.bundle import Bundle
from lamina.tasks.image_classification import ImageClassification
from lamina.tasks.pipeline import Pipeline
from unit.tasks.task_case import make_pipeline, table


def bundle(model: str, **config: object) -> Bundle:
    data = lm.load_data("digits")
    rows = data.splits["all"]
    preprocessing = Preprocessing.fit(["scale"], rows, data.spec)
    network = lm.create_model(model, preprocessing.spec, seed=0, **config)
    if model == "knn":
        network.learn(preprocessing(rows.batch(torch.arange(40)))["image"], rows["label"][:40])  # type: ignore[operator]
    task = ImageClassification(ImageClassification.Config(), preprocessing.spec)
    return Bundle.from_pipeline(Pipeline(network, task, preprocessing), examples=rows)


def test_a_convolutional_network_is_shown_by_two_methods() -> None:
    section = saliency_section(bundle("cnn", blocks=[{"channels": 2}]), flops=1000)
    assert section is not None
    assert len(section["examples"]) == 4
    for item in section["examples"]:
        assert [one["title"] for one in item["maps"]] == ["integrated gradients", "Grad-CAM"]
        assert all(one["picture"].startswith("data:image/png;base64,") for one in item["maps"])
        assert len(item["picture"]) < 2000
        assert item["label"] in "0123456789"
        assert item["probability"].endswith("%")


def test_a_large_network_gets_the_gradient_which_costs_less() -> None:
    section = saliency_section(bundle("cnn", blocks=[{"channels": 2}]), flops=10**10)
    assert section is not None
    assert [one["title"] for one in section["examples"][0]["maps"]] == ["gradient", "Grad-CAM"]


def test_without_a_convolution_there_is_one_method() -> None:
    section = saliency_section(bundle("linear"), flops=1000)
    assert section is not None
    assert [one["title"] for one in section["examples"][0]["maps"]] == ["integrated gradients"]
    assert "Grad-CAM," not in section["caption"]


@pytest.mark.parametrize("kind", ["knn", "table"])
def test_what_has_no_such_pictures_has_no_section(kind: str) -> None:
    if kind == "knn":
        found = bundle("knn")
    else:
        data = table()
        found = Bundle.from_pipeline(make_pipeline(data, "tabular-regression"), examples=data.splits["train"])
    assert saliency_section(found, flops=1000) is None
