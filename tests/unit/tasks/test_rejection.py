"""Refusing what belongs to no class: temperature, threshold and its promise, and what predictions then say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from lamina.core.errors import ConfigError, DataError, ShapeError, UsageError
from lamina.tasks.bundle import Bundle, load_bundle
from lamina.tasks.pipeline import Pipeline
from lamina.tasks.rejection import choose_insider, fit_temperature, insider_scores, judge_rejection, separation
from lamina.tasks.thresholds import Thresholds
from unit.tasks.task_case import images, make_pipeline, table, train_a_little


def log_probs_of(num: int, classes: int, *, sharpness: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows whose labels are drawn from softmax(logits), given as sharpened log-probabilities."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(num, classes, generator=generator, dtype=torch.float64) * 2.0
    targets = torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)
    return (logits * sharpness).log_softmax(1), targets


@pytest.mark.parametrize("sharpness", [1.5, 3.0, 8.0])
def test_the_temperature_undoes_what_made_the_network_too_sure(sharpness: float) -> None:
    log_probs, targets = log_probs_of(6000, 5, sharpness=sharpness, seed=1)
    found = fit_temperature(log_probs, targets)
    assert found == pytest.approx(sharpness, rel=0.1)
    losses = [
        float(torch.nn.functional.cross_entropy(log_probs / t, targets)) for t in (found * 0.97, found, found * 1.03)
    ]
    assert losses[1] == min(losses)


def test_the_temperature_never_sharpens() -> None:
    log_probs, targets = log_probs_of(2000, 5, sharpness=0.3, seed=2)
    assert fit_temperature(log_probs, targets) == 1.0
    right = torch.eye(4).log_softmax(1)
    assert fit_temperature(right, torch.arange(4)) == 1.0


def test_the_temperature_of_rows_without_probability_is_finite() -> None:
    log_probs = torch.tensor([[0.0, -torch.inf], [-torch.inf, 0.0], [0.0, -torch.inf]])
    assert 1.0 < fit_temperature(log_probs, torch.tensor([0, 1, 1])) < 100.0
    with pytest.raises(ShapeError):
        fit_temperature(log_probs, torch.zeros(2, dtype=torch.int64))


def test_scores_are_largest_probabilities() -> None:
    log_probs, _ = log_probs_of(10, 3, sharpness=1.0, seed=3)
    assert torch.allclose(insider_scores(log_probs, temperature=1.0), log_probs.exp().amax(1))
    wanted = [max(np.exp(row / 2.0) / np.exp(row / 2.0).sum()) for row in log_probs.numpy()]
    assert insider_scores(log_probs, temperature=2.0).tolist() == pytest.approx(wanted)


@pytest.mark.parametrize(("num", "share", "refused"), [(19, 0.05, 0), (99, 0.05, 4), (100, 0.05, 4), (999, 0.01, 9)])
def test_at_most_the_share_is_refused(num: int, share: float, refused: int) -> None:
    scores = torch.rand(num, generator=torch.Generator().manual_seed(num))
    threshold = choose_insider(scores, share=share)
    assert threshold is not None
    assert int((scores < threshold).sum()) == refused <= share * num


def test_too_few_rows_give_no_threshold() -> None:
    assert choose_insider(torch.rand(18), share=0.05) is None
    assert choose_insider(torch.rand(19), share=0.05) is not None


def test_the_promise_holds_for_new_rows() -> None:
    """Over many draws of validation rows, a new row is refused with probability at most the share, and nearly that."""
    generator = torch.Generator().manual_seed(7)
    refused = [
        float(new < choose_insider(rows, share=0.1))
        for rows, new in (
            (torch.rand(35, generator=generator), torch.rand(1, generator=generator)) for _ in range(4000)
        )
    ]
    # floor(0.1 * 36) / 36 = 0.0833; four standard deviations of 4,000 draws are 0.0175
    assert sum(refused) / len(refused) == pytest.approx(3 / 36, abs=0.0175)


def test_equal_scores_are_not_refused() -> None:
    threshold = choose_insider(torch.ones(50), share=0.05)
    assert threshold == 1.0
    assert not (torch.ones(50) < threshold).any()


def test_separation_is_the_area_under_the_curve() -> None:
    generator = torch.Generator().manual_seed(5)
    inside = torch.randint(0, 12, (40,), generator=generator) / 12.0
    outside = torch.randint(0, 10, (25,), generator=generator) / 12.0
    wanted = roc_auc_score([1] * 40 + [0] * 25, torch.cat([inside, outside]).numpy())
    assert separation(inside, outside) == pytest.approx(wanted)


def test_judging_counts_both_mistakes() -> None:
    found = judge_rejection(torch.tensor([0.9, 0.8, 0.4]), torch.tensor([0.5, 0.3]), threshold=0.5)
    assert found["outsiders_passed"] == 1
    assert found["insiders_refused"] == 1
    assert found["share_outsiders_passed"] == 0.5
    assert found["share_insiders_refused"] == pytest.approx(1 / 3)
    with pytest.raises(DataError, match="0 outsiders"):
        judge_rejection(torch.ones(3), torch.ones(0), threshold=0.5)


# --- in a pipeline -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained() -> Pipeline:
    data = images(120)
    pipeline = train_a_little(make_pipeline(data, "image-classification"), data)
    pipeline.choose_rejection(pipeline.evaluate(data.splits["train"]))
    return pipeline


def test_predictions_say_what_was_refused(trained: Pipeline) -> None:
    columns = images(120).splits["train"]
    plain = trained.predict(columns)
    assert "rejected" not in plain[0]
    judged = trained.predict(columns, reject=True)
    threshold = trained.task.thresholds.insider
    for before, after in zip(plain, judged, strict=True):
        assert after["rejected"] is (after["score"] < threshold)
        assert after["label"] == (None if after["rejected"] else before["label"])
        assert after["probabilities"] == before["probabilities"]
    assert 0 < sum(one["rejected"] for one in judged) <= 0.05 * 120


def test_the_threshold_is_kept_in_the_bundle(trained: Pipeline, tmp_path) -> None:
    Bundle.from_pipeline(trained).save(tmp_path / "a.bundle")
    kept = load_bundle(tmp_path / "a.bundle")
    assert kept.task.thresholds == trained.task.thresholds
    columns = images(120).splits["train"]
    assert kept.predict(columns, reject=True) == trained.predict(columns, reject=True)


def test_choosing_keeps_other_thresholds() -> None:
    data = images(60, classes=("no", "yes"))
    pipeline = make_pipeline(data, "image-classification")
    pipeline.task.thresholds_from({"positive": 0.3})
    chosen = pipeline.choose_rejection(pipeline.evaluate(data.splits["train"]))
    assert set(chosen) == {"insider", "temperature"}
    assert pipeline.task.thresholds == Thresholds(positive=0.3, **chosen)


def test_what_has_no_threshold_refuses_nothing() -> None:
    data = images(12)
    pipeline = make_pipeline(data, "image-classification")
    columns = data.splits["train"]
    assert pipeline.choose_rejection(pipeline.evaluate(columns)) == {}
    assert pipeline.choose_rejection(None) == {}
    with pytest.raises(UsageError, match="no threshold") as caught:
        pipeline.predict(columns, reject=True)
    assert "at least 19 validation rows" in caught.value.mend
    off = make_pipeline(data, "image-classification", task_options={"reject_share": None})
    assert off.choose_rejection(off.evaluate(columns)) == {}
    numbers = table()
    with pytest.raises(UsageError, match="no known classes"):
        make_pipeline(numbers, "tabular-regression").predict(numbers.splits["train"], reject=True)


def test_outsiders_are_judged(trained: Pipeline) -> None:
    inside = images(120).splits["train"]
    noise = torch.randint(0, 256, (40, 1, 6, 6), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    found = trained.judge_outsiders(inside, noise.numpy())
    scores = [one["score"] for one in trained.predict(noise.numpy(), reject=True)]
    assert found["num_outsiders"] == 40
    assert found["outsiders_passed"] == sum(score >= found["threshold"] for score in scores)
    assert found["num_insiders"] == 120
    assert found["insiders_refused"] <= 6
    # Matched by name and refused where they do not fit, as everywhere.
    with pytest.raises(ConfigError, match="temperature"):
        trained.task.thresholds_from({"insider": 0.5, "temperature": 0.0})
