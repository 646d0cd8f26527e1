"""Metrics do not depend on where batches begin, nor (but for float64 rounding) on the order of the rows."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lamina.tasks.metrics import ClassificationMetrics, RegressionMetrics

FEW = settings(max_examples=40, deadline=None)


def classification(log_probs, targets, group, sizes):
    metrics = ClassificationMetrics([str(c) for c in range(log_probs.shape[1])], group_names=("x", "y"))
    for rows in torch.arange(len(targets)).split(sizes):
        metrics.update(log_probs[rows], targets[rows], group=group[rows])
    return metrics


@st.composite
def rows_and_cuts(draw):
    num_rows = draw(st.integers(1, 300))
    cuts = sorted(draw(st.sets(st.integers(1, num_rows), max_size=20)) | {num_rows})
    sizes = [b - a for a, b in zip([0, *cuts[:-1]], cuts, strict=True)]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    num_classes = draw(st.integers(2, 7))
    logits = torch.randn(num_rows, num_classes, generator=generator)
    if draw(st.booleans()):
        logits = logits.round()
    targets = torch.randint(0, num_classes, (num_rows,), generator=generator)
    group = torch.randint(0, 2, (num_rows,), generator=generator)
    return logits.log_softmax(1), targets, group, sizes, generator


@FEW
@given(rows_and_cuts())
def test_classification_does_not_depend_on_batch_boundaries(case):
    log_probs, targets, group, sizes, generator = case
    whole = classification(log_probs, targets, group, [len(targets)])
    cut = classification(log_probs, targets, group, sizes)
    assert cut.finish() == whole.finish()  # bit for bit
    assert cut.details() == whole.details()
    assert cut.num_samples == len(targets)

    order = torch.randperm(len(targets), generator=generator)
    shuffled = classification(log_probs[order], targets[order], group[order], sizes)
    assert shuffled.finish() == pytest.approx(whole.finish(), abs=1e-12)
    assert shuffled.details()["confusion_matrix"] == whole.details()["confusion_matrix"]


@FEW
@given(rows_and_cuts())
def test_groups_are_judged_as_if_alone(case):
    log_probs, targets, group, sizes, _ = case
    found = classification(log_probs, targets, group, sizes).details()["groups"]["group"]
    for value in group.unique().tolist():
        chosen = group == value
        alone = classification(log_probs[chosen], targets[chosen], group[chosen], [int(chosen.sum())])
        assert found[("x", "y")[value]] == {"num_samples": int(chosen.sum()), **alone.finish()}


@FEW
@given(rows_and_cuts())
def test_state_is_restored_anywhere(case):
    log_probs, targets, group, sizes, _ = case
    whole = classification(log_probs, targets, group, sizes)
    first = classification(log_probs[: sizes[0]], targets[: sizes[0]], group[: sizes[0]], [sizes[0]])
    resumed = ClassificationMetrics(whole.classes, group_names=("x", "y"))
    resumed.load_state(first.state())
    if len(sizes) > 1:
        rest = slice(sizes[0], None)
        resumed.update(log_probs[rest], targets[rest], group=group[rest])
    assert resumed.finish() == whole.finish()
    assert resumed.details() == whole.details()


@FEW
@given(rows_and_cuts())
def test_regression_does_not_depend_on_batch_boundaries(case):
    predictions, _, group, sizes, generator = case
    targets = torch.randn(predictions.shape, generator=generator)
    names = [str(i) for i in range(targets.shape[1])]

    def judge(sizes):
        metrics = RegressionMetrics(names)
        for rows in torch.arange(len(targets)).split(sizes):
            metrics.update(predictions[rows], targets[rows], group=group[rows])
        return metrics

    assert judge(sizes).finish() == judge([len(targets)]).finish()
    assert judge(sizes).details() == judge([len(targets)]).details()


def test_thousands_of_single_rows_are_joined_in_order():
    metrics = RegressionMetrics(["t"])
    for value in range(5000):
        row = torch.tensor([[float(value)]])
        metrics.update(row, row)
    assert metrics.state()["targets"].flatten().tolist() == list(range(5000))
    pieces = sum(len(lists["targets"]) for lists in metrics._rows._levels if lists)
    assert pieces < 3 * 64
