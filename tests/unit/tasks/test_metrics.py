"""What metrics say where the textbook formula has no value, and what they refuse."""

import json

import pytest
import torch

from lamina.core import registry
from lamina.core.errors import NonFiniteError, ShapeError, UnknownNameError
from lamina.tasks import formulas
from lamina.tasks.metrics import ClassificationMetrics, RegressionMetrics


def classified(scores, targets, classes="ab", **more):
    metrics = ClassificationMetrics(tuple(classes), **more)
    metrics.update(torch.tensor(scores).log_softmax(1), torch.tensor(targets))
    return metrics


def test_names_are_those_of_the_product():
    found = classified(torch.eye(6).tolist(), list(range(6)), "abcdef").finish()
    assert set(found) == {
        "accuracy",
        "top5_accuracy",
        "cross_entropy",
        *(f"{part}_{average}" for part in ("precision", "recall", "f1") for average in ("macro", "micro", "weighted")),
        "roc_auc",
        "calibration_error",
    }
    assert all(type(value) is float for value in found.values())


def test_each_metric_is_registered_with_direction_formula_and_source():
    for family, expected in (("classification", 14), ("regression", 4)):
        names = list(formulas._families[family])
        assert len(names) == expected
        for name in names:
            entry = registry.lookup("metric", name)
            assert entry.capabilities["better"] in ("max", "min")
            assert entry.summary
            assert entry.source
            assert entry.target.__name__ == name
    assert formulas.better("accuracy") == "max"
    assert formulas.better("mae") == "min"
    with pytest.raises(UnknownNameError, match="acuracy"):
        formulas.better("acuracy")


def test_one_class_only_has_no_roc_auc():
    found = classified([[1.0, 0.0], [0.0, 1.0]], [0, 0]).finish()
    assert "roc_auc" not in found
    assert found["accuracy"] == 0.5
    assert found["precision_macro"] == 0.5  # class b: decided once, never right
    assert found["recall_macro"] == 0.25


def test_roc_auc_is_left_out_with_very_many_classes():
    metrics = ClassificationMetrics([str(c) for c in range(257)])
    metrics.update(torch.zeros(2, 257).log_softmax(1), torch.tensor([0, 1]))
    assert "roc_auc" not in metrics.finish()
    assert "scores" not in metrics.state()


def test_top5_only_with_more_than_five_classes():
    assert "top5_accuracy" not in classified(torch.eye(5).tolist(), [0, 1, 2, 3, 4], "abcde").finish()


def test_equal_scores_decide_for_the_first_and_rank_agrees():
    metrics = classified([[1.0, 1.0], [1.0, 1.0]], [0, 1])
    assert metrics.finish()["accuracy"] == 0.5
    assert metrics.state()["rank"].tolist() == [0, 1]


def test_decisions_may_differ_from_the_most_probable():
    metrics = ClassificationMetrics(("no", "yes"))
    metrics.update(torch.tensor([[0.6, 0.4], [0.9, 0.1]]).log(), torch.tensor([1, 0]), predicted=torch.tensor([1, 0]))
    found = metrics.finish()
    assert found["accuracy"] == 1.0
    assert found["cross_entropy"] == pytest.approx(-(torch.tensor([0.4, 0.9]).log().mean().item()))


def test_constant_target_has_no_r2():
    metrics = RegressionMetrics(("price",))
    metrics.update(torch.tensor([[1.0], [2.0]]), torch.tensor([[0.1], [0.1]]))
    assert set(metrics.finish()) == {"mse", "rmse", "mae"}
    one = RegressionMetrics(("price",))
    one.update(torch.tensor([[1.0]]), torch.tensor([[0.1]]))
    assert "r2" not in one.finish()


def test_r2_goes_over_the_targets_that_vary():
    metrics = RegressionMetrics(("a", "b"))
    metrics.update(torch.tensor([[1.0, 5.0], [2.0, 6.0]]), torch.tensor([[1.0, 5.0], [2.0, 5.0]]))
    assert metrics.finish()["r2"] == 1.0
    assert [row.get("r2") for row in metrics.details()["per_target"]] == [1.0, None]


def test_details_are_json_and_rows_are_true_classes():
    metrics = ClassificationMetrics(("cat", "dog"), group_names=("day", "night"), group_column="time")
    metrics.update(
        torch.tensor([[3.0, 0.0], [3.0, 0.0], [0.0, 3.0]]).log_softmax(1),
        torch.tensor([0, 1, 1]),
        group=torch.tensor([0, 1, 1]),
    )
    details = json.loads(json.dumps(metrics.details(), allow_nan=False))
    assert details["confusion_matrix"] == [[1, 0], [1, 1]]
    assert details["labels"] == ["cat", "dog"]
    assert details["per_class"][1] == {"label": "dog", "precision": 1.0, "recall": 0.5, "f1": 2 / 3, "support": 2}
    assert details["groups"]["time"]["night"]["accuracy"] == 0.5
    assert details["groups"]["time"]["day"] == pytest.approx(
        {**details["groups"]["time"]["day"], "accuracy": 1.0, "num_samples": 1}
    )
    assert "roc_auc" not in details["groups"]["time"]["day"]


def test_only_the_largest_groups_are_told(monkeypatch):
    monkeypatch.setattr("lamina.tasks.metrics.MAX_GROUPS", 2)
    metrics = RegressionMetrics(("t",))
    metrics.update(torch.zeros(6, 1), torch.zeros(6, 1), group=torch.tensor([5, 7, 7, 9, 9, 9]))
    details = metrics.details()
    assert list(details["groups"]["group"]) == ["7", "9"]
    assert details["num_groups"] == 3


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (({"log_probs": (3, 2), "targets": (3, 1)}), "targets is shaped (3, 1)"),
        (({"log_probs": (3, 2), "targets": (2,)}), "log_probs is shaped (3, 2)"),
        (({"log_probs": (3, 3), "targets": (3,)}), "log_probs is shaped (3, 3)"),
        (({"log_probs": (3, 1), "targets": (3,)}), "log_probs is shaped (3, 1)"),
    ],
)
def test_classification_broadcasts_nothing(arguments, expected):
    shapes = {name: torch.zeros(shape) for name, shape in arguments.items()}
    with pytest.raises(ShapeError) as caught:
        ClassificationMetrics(("a", "b")).update(shapes["log_probs"], shapes["targets"].long())
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("predictions", "targets"), [((3,), (3, 1)), ((3, 1), (3,)), ((3, 1), (1, 1)), ((3, 2), (3, 1))]
)
def test_regression_broadcasts_nothing(predictions, targets):
    with pytest.raises(ShapeError, match="is shaped"):
        RegressionMetrics(("t",)).update(torch.zeros(predictions), torch.zeros(targets))


def test_the_mend_names_the_call():
    with pytest.raises(ShapeError, match=r"predictions\.unsqueeze\(1\)"):
        RegressionMetrics(("t",)).update(torch.zeros(3), torch.zeros(3, 1))
    with pytest.raises(ShapeError, match=r"group\.squeeze\(1\)"):
        RegressionMetrics(("t",)).update(torch.zeros(3, 1), torch.zeros(3, 1), group=torch.zeros(3, 1))


def test_nan_is_never_averaged_away():
    with pytest.raises(NonFiniteError, match="1 of 2 rows"):
        classified([[0.0, 1.0], [float("nan"), 1.0]], [0, 0]).finish()
    metrics = RegressionMetrics(("t",))
    metrics.update(torch.tensor([[1.0], [float("inf")]]), torch.zeros(2, 1))
    with pytest.raises(NonFiniteError, match="row 1"):
        metrics.finish()


def test_nothing_judged_is_an_error():
    with pytest.raises(ShapeError, match="no row"):
        ClassificationMetrics(("a", "b")).finish()


def test_half_precision_outputs_are_kept_in_32_bits():
    metrics = ClassificationMetrics(("a", "b"))
    metrics.update(torch.zeros(1, 2, dtype=torch.bfloat16).log_softmax(1), torch.tensor([0]))
    assert metrics.state()["scores"].dtype == torch.float32
