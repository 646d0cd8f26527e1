"""Thresholds are the best of all possible ones: compared with trying every one by hand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score

from lamina.core.errors import ConfigError, DataError, ShapeError
from lamina.tasks.thresholds import Thresholds, choose_positive, choose_reject, decide

OBJECTIVES = ["accuracy", "balanced_accuracy", "f1", "cost"]


def value(objective, decided, targets):
    """What the objective says of decisions, by other people's code."""
    if objective == "f1":
        return f1_score(targets, decided, zero_division=0)
    if objective == "balanced_accuracy":
        return balanced_accuracy_score(targets, decided)
    if objective == "accuracy":
        return float((decided == targets).double().mean())
    return -float(((decided == 1) & (targets == 0)).sum() + 5.0 * ((decided == 0) & (targets == 1)).sum())


def decisions(probs, threshold):
    return decide(torch.stack([1 - probs, probs], dim=1), Thresholds(positive=threshold))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0]) | st.floats(0, 1, width=32), st.integers(0, 1)
        ),
        min_size=2,
        max_size=30,
    ),
    st.sampled_from(OBJECTIVES),
)
def test_no_threshold_is_better(rows, objective):
    probs = torch.tensor([p for p, _ in rows])
    targets = torch.tensor([t for _, t in rows])
    if len(set(targets.tolist())) < 2:
        return
    chosen = choose_positive(probs, targets, objective=objective, false_negative_cost=5.0)
    reached = value(objective, decisions(probs, chosen), targets)
    for threshold in {0.0, 0.5, 1.0, *probs.tolist(), *(min(p + 1e-6, 1.0) for p in probs.tolist())}:
        assert value(objective, decisions(probs, threshold), targets) <= reached + 1e-9


def test_one_half_stays_where_nothing_is_gained():
    probs, targets = torch.tensor([0.1, 0.4, 0.6, 0.9]), torch.tensor([0, 0, 1, 1])
    for objective in OBJECTIVES:
        assert choose_positive(probs, targets, objective=objective) == 0.5


def test_costs_move_the_decision():
    probs, targets = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.6, 0.7]), torch.tensor([0, 1, 0, 0, 0, 1])
    careful = choose_positive(probs, targets, objective="cost", false_negative_cost=10.0)
    strict = choose_positive(probs, targets, objective="cost", false_positive_cost=10.0)
    assert 0.1 < careful <= 0.2
    assert 0.6 < strict <= 0.7


def test_neighbouring_floats_are_told_apart():
    low = torch.tensor(0.3)
    high = torch.nextafter(low, torch.tensor(1.0))
    probs, targets = torch.stack([low, low, high, high]), torch.tensor([0, 0, 1, 1])
    chosen = choose_positive(probs, targets, objective="accuracy")
    assert decisions(probs, chosen).tolist() == [0, 0, 1, 1]


def test_reject_reaches_the_accuracy_with_the_fewest_left_out():
    confidence = torch.tensor([0.9, 0.8, 0.8, 0.6, 0.5])
    correct = torch.tensor([True, True, True, False, True])
    threshold = choose_reject(confidence, correct, accuracy=0.95)
    assert threshold == pytest.approx(0.8)
    assert (confidence >= threshold).tolist() == [True, True, True, False, False]
    assert choose_reject(confidence, correct, accuracy=0.8) == 0.0
    assert choose_reject(confidence, ~correct, accuracy=0.9) == 1.0


def test_one_class_only_is_refused():
    with pytest.raises(DataError, match="of one class"):
        choose_positive(torch.tensor([0.1, 0.2]), torch.tensor([1, 1]), objective="f1")


def test_nothing_is_broadcast():
    with pytest.raises(ShapeError, match="shaped"):
        choose_positive(torch.zeros(3, 1), torch.zeros(3, dtype=torch.int64), objective="f1")
    with pytest.raises(ShapeError, match="shaped"):
        choose_reject(torch.zeros(3), torch.zeros(2), accuracy=0.5)


def test_thresholds_outside_probabilities_are_refused():
    with pytest.raises(ConfigError, match="positive"):
        Thresholds(positive=1.5)


def test_without_thresholds_the_most_probable_class_is_decided():
    probs = torch.tensor([[0.5, 0.5], [0.2, 0.8]])
    assert decide(probs, Thresholds()).tolist() == [0, 1]
    assert decide(torch.tensor([[0.2, 0.3, 0.5]]), Thresholds(positive=0.1)).tolist() == [2]
    assert Thresholds(reject=0.25).given() == {"reject": 0.25}
