"""Classification of texts: training to the end, pairs, exact resume, and what is refused before step one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lamina.core.errors import DataError, InterruptedRunError, ShapeError
from lamina.data.batching import BucketFeed, IndexFeed
from lamina.models.factory import create_model
from lamina.recipes.build import Job
from lamina.tasks.bundle import load_bundle
from lamina.tasks.inputs import model_inputs, run_model
from unit.tasks.task_case import images
from unit.tasks.text_case import WORDS, PairNet, review_data, reviews, text_job


def check(job: Job) -> None:
    job.task.check(job.preprocessing.spec, job.model)


def test_it_learns_and_is_taken_away(tmp_path: Path) -> None:
    result = text_job(review_data()).trainer(tmp_path / "run").fit()
    assert result.metrics["valid/accuracy"] > 0.9
    assert {"valid/f1_macro", "valid/cross_entropy", "valid/roc_auc"} <= result.metrics.keys()
    bundle = load_bundle(tmp_path / "run" / "bundle")
    assert bundle.verify_golden() < 1e-5
    assert bundle.labels == tuple(WORDS)
    found = bundle.predict(["The plot was LOVELY", "it was awful , the film"])
    assert [row["label"] for row in found] == ["good", "bad"]
    assert len(bundle.predict(["", "fine"])) == 2  # an empty text is a text, and no folder
    again = bundle.evaluate(review_data().splits["valid"])
    assert again.metrics["accuracy"] == result.metrics["valid/accuracy"]
    assert again.details["confusion_matrix"]


def test_stopped_in_the_middle_of_an_epoch_and_resumed_equals_never_having_stopped(tmp_path: Path) -> None:
    data = review_data()
    whole = text_job(data)
    expected = whole.trainer(tmp_path / "whole").fit()
    for stop in (1, 8, 15):
        folder = tmp_path / f"stopped-{stop}"
        with pytest.raises(InterruptedRunError):
            text_job(data).trainer(folder).fit(until=stop)
        again = text_job(data)
        assert again.trainer(folder).fit(resume=True).metrics == expected.metrics
        for name, tensor in whole.model.state_dict().items():
            assert torch.equal(tensor, again.model.state_dict()[name]), name


def test_pairs_come_with_the_text_that_each_token_belongs_to() -> None:
    data = review_data(pairs=True)
    vocab_size = text_job(data).preprocessing.spec.columns["input_ids"].vocab_size
    assert vocab_size is not None
    torch.manual_seed(0)
    job = text_job(data, PairNet(vocab_size), training={"epochs": 12, "batch_size": 16, "tensorboard": False})
    assert job.trainer(None).fit().metrics["valid/accuracy"] > 0.9


def test_thresholds_weights_and_rejection_are_those_of_every_classifier() -> None:
    task = {"name": "text-classification", "threshold": "f1", "class_weights": [1.0, 2.0]}
    job = text_job(review_data(), task=task, loss={"name": "focal"}, penalties=[{"kind": "l2", "strength": 1e-4}])
    result = job.trainer(None).fit()
    assert result.bundle is not None
    task_of = result.bundle.task
    assert task_of.thresholds.positive is not None  # type: ignore[attr-defined]
    assert result.metrics["valid/accuracy"] > 0.8


def test_training_batches_hold_texts_of_like_lengths_and_judging_keeps_the_order() -> None:
    job = text_job(review_data())
    columns = job.preprocessing.encode(job.data.splits["train"])
    feed = job.task.feed(columns, batch_size=16, seed=0, training=True)
    assert isinstance(feed, BucketFeed)
    batch = job.preprocessing(feed.batch(0, 0))
    lengths = batch["attention_mask"].sum(dim=1)
    assert int(lengths.max() - lengths.min()) <= 3
    judging = job.task.feed(columns, batch_size=16, seed=0, training=False)
    assert type(judging) is IndexFeed
    assert judging.rows(0).tolist() == list(range(96))


def test_a_model_is_given_what_its_forward_pass_takes() -> None:
    batch = {
        "input_ids": torch.ones(2, 3, dtype=torch.int64),
        "attention_mask": torch.ones(2, 3, dtype=torch.bool),
        "token_type_ids": torch.ones(2, 3, dtype=torch.int64),
        "label": torch.zeros(2, dtype=torch.int64),
    }
    cnn = create_model("textcnn", vocab_size=9, embedding_size=4, num_maps=2)
    assert list(model_inputs(cnn, batch)) == ["input_ids", "attention_mask"]
    assert list(model_inputs(PairNet(9), batch)) == ["input_ids", "attention_mask", "token_type_ids"]
    assert run_model(PairNet(9), batch).shape == (2, 2)
    assert model_inputs(cnn, {"image": torch.ones(1, 1, 2, 2)}) == {}

    class Any(torch.nn.Module):
        def forward(self, tokens: torch.Tensor, **others: torch.Tensor) -> torch.Tensor:
            return torch.full((len(tokens), 2), float(len(others)))

    assert float(run_model(Any(), batch)[0, 0]) == 2.0


def test_a_vocabulary_that_is_too_small_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"TextCNN knows 5 tokens; the tokenizer makes \d+") as caught:
        check(text_job(review_data(), model={"kind": "textcnn", "vocab_size": 5}))
    assert "model.vocab_size=" in caught.value.mend
    assert "text-classification" in caught.value.where


def test_other_widths_and_other_data_are_refused() -> None:
    with pytest.raises(ShapeError, match="5 outputs; the data has 2 classes"):
        check(text_job(review_data(), model={"kind": "textcnn", "num_classes": 5}))
    with pytest.raises(DataError, match="no texts; it has image") as caught:
        check(text_job(images(classes=("cat", "dog")), preprocess=[{"name": "scale"}], model={"kind": "mlp"}))
    assert "lamina data" in caught.value.mend


def test_a_label_out_of_range_names_its_row() -> None:
    data = review_data()
    columns = reviews(6)
    columns["label"][3] = 7
    with pytest.raises(DataError, match="The label 7 is outside the classes"):
        text_job(data).task.check_columns(columns)
