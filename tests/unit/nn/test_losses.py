"""Losses: sums and weights, golden values, strict shapes, what is refused, functions of one's own, sums of losses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from lamina.core import registry
from lamina.core.errors import ConfigError, DataError, DtypeError, ShapeError, UnknownNameError
from lamina.nn.losses import CallableLoss, Loss, WeightedSum, create_loss

SCORES = torch.tensor([[3.2, 5.1, -1.7]], dtype=torch.float64)
FIRST = torch.tensor([0])

LABEL_LOSSES = ("cross-entropy", "hinge", "focal", "half-squared-error")
NUMBER_LOSSES = ("mse", "mae", "huber")
BINARY_LOSSES = ("binary-cross-entropy", "binary-hinge")


def _mean(loss: Loss, *args: Any, **more: Any) -> float:
    total, weight = loss(*args, **more)
    assert total.dim() == 0
    return float(total / weight)


# --- golden values --------------------------------------------------------------------------------------------------


def test_worked_scores() -> None:
    assert _mean(create_loss("cross-entropy"), SCORES, FIRST) == pytest.approx(2.040355, abs=5e-7)
    assert _mean(create_loss("hinge"), SCORES, FIRST) == pytest.approx(2.9, abs=1e-12)
    probs = create_loss("cross-entropy").log_probs(SCORES).exp()
    torch.testing.assert_close(
        probs, torch.tensor([[0.129983, 0.869050, 0.000968]], dtype=torch.float64), atol=5e-7, rtol=0
    )


def test_hinge_by_hand() -> None:
    scores = torch.tensor([[3.2, 5.1, -1.7], [1.3, 4.9, 2.0], [2.2, 2.5, -3.1]], dtype=torch.float64)
    labels = torch.tensor([0, 1, 2])
    # rows: 2.9; 0; (2.2 + 3.1 + 1) + (2.5 + 3.1 + 1) = 12.9
    total, weight = create_loss("hinge")(scores, labels)
    assert total.item() == pytest.approx(15.8)
    assert weight == 3.0
    squared, _ = create_loss({"name": "hinge", "squared": True})(scores, labels)
    assert squared.item() == pytest.approx(2.9**2 + 6.3**2 + 6.6**2)
    wide, _ = create_loss({"name": "hinge", "margin": 2.0})(scores[:1], labels[:1])
    assert wide.item() == pytest.approx(3.9)


def test_binary_hinge_by_hand() -> None:
    scores = torch.tensor([0.5, -2.0, 3.0])
    for targets in (torch.tensor([1, 0, 0]), torch.tensor([1.0, -1.0, -1.0]), torch.tensor([True, False, False])):
        total, weight = create_loss("binary-hinge")(scores, targets)
        assert (total.item(), weight) == (0.5 + 0.0 + 4.0, 3.0)


def test_the_textbooks_first_network() -> None:
    """C = 1/(2n) sum of |y - a|^2 with sigmoid units and one-hot targets."""
    outputs = torch.tensor([[0.0, 2.0], [1.0, -1.0]], dtype=torch.float64)
    active = 1 / (1 + torch.exp(-outputs))
    wanted = ((active - torch.tensor([[0.0, 1.0], [1.0, 0.0]])) ** 2).sum() / 2
    loss = create_loss({"name": "half-squared-error", "activation": "sigmoid"})
    total, weight = loss(outputs, torch.tensor([1, 0]))
    assert total.item() == pytest.approx(wanted.item())
    assert weight == 2.0
    probs = loss.log_probs(outputs).exp()
    torch.testing.assert_close(probs, active / active.sum(dim=1, keepdim=True))


def test_half_squared_error_of_numbers() -> None:
    outputs, targets = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [0.0, 3.0]])
    total, weight = create_loss("half-squared-error")(outputs, targets)
    assert (total.item(), weight) == (7.0, 2.0)
    total, weight = create_loss("half-squared-error")(outputs, targets, weights=torch.tensor([2.0, 1.0]))
    assert (total.item(), float(weight)) == (9.5, 3.0)


def test_focal_by_hand() -> None:
    p = 0.129983
    gamma2 = _mean(create_loss("focal"), SCORES, FIRST)
    assert gamma2 == pytest.approx((1 - p) ** 2 * 2.040355, rel=1e-5)
    same = _mean(create_loss({"name": "focal", "gamma": 0.0}), SCORES, FIRST)
    assert same == pytest.approx(_mean(create_loss("cross-entropy"), SCORES, FIRST), rel=1e-12)
    two = torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    total, _ = create_loss({"name": "focal", "gamma": 0.0, "alpha": 0.25})(two, torch.tensor([0, 1]))
    assert total.item() == pytest.approx(0.693147, rel=1e-5)  # 0.75 + 0.25 of log 2
    total, _ = create_loss({"name": "focal", "gamma": 0.0, "alpha": [1.0, 3.0]}, num_classes=2)(
        two, torch.tensor([0, 1])
    )
    assert total.item() == pytest.approx(4 * 0.693147, rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_gradient_stays_finite_at_certainty(gamma: float) -> None:
    outputs = torch.tensor([[200.0, 0.0], [-200.0, 0.0], [0.0, 0.0]], requires_grad=True)
    total, _ = create_loss({"name": "focal", "gamma": gamma})(outputs, torch.tensor([0, 0, 0]))
    total.backward()
    assert bool(torch.isfinite(outputs.grad).all())
    assert bool(torch.isfinite(total))


# --- sums and weights -----------------------------------------------------------------------------------------------


def _sample(name: str, num: int = 6) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    outputs = torch.randn(num, 4, dtype=torch.float64)
    if name in LABEL_LOSSES:
        return outputs, torch.randint(0, 4, (num,))
    if name in BINARY_LOSSES:
        return outputs[:, 0], torch.randint(0, 2, (num,))
    return outputs, torch.randn(num, 4, dtype=torch.float64)


@pytest.mark.parametrize("name", [*LABEL_LOSSES, *BINARY_LOSSES, *NUMBER_LOSSES])
def test_weights_of_rows(name: str) -> None:
    loss = create_loss(name)
    outputs, targets = _sample(name)
    total, weight = loss(outputs, targets)
    assert isinstance(weight, float)
    ones, num = loss(outputs, targets, weights=torch.ones(6))
    assert ones.item() == pytest.approx(total.item())
    assert float(num) == pytest.approx(weight)
    # A weight of zero masks a row; a weight of two counts it twice.
    weights = torch.tensor([1.0, 0.0, 2.0, 1.0, 0.0, 1.0])
    got, num = loss(outputs, targets, weights=weights)
    repeated = [0, 2, 2, 3, 5]
    wanted, count = loss(outputs[repeated], targets[repeated])
    assert got.item() == pytest.approx(wanted.item())
    assert float(num) == pytest.approx(count)


@pytest.mark.parametrize("name", [*LABEL_LOSSES, *BINARY_LOSSES])
def test_class_weights_count_rows(name: str) -> None:
    outputs, targets = _sample(name)
    num_classes = 2 if name in BINARY_LOSSES else 4
    factors = [1.0, 3.0, 0.0, 2.0][:num_classes]
    loss = create_loss(name, num_classes=num_classes, class_weights=factors)
    total, weight = loss(outputs, targets)
    by_row = torch.tensor(factors)[targets]
    wanted, count = create_loss(name)(outputs, targets, weights=by_row)
    assert total.item() == pytest.approx(wanted.item())
    assert float(weight) == pytest.approx(float(count)) == pytest.approx(by_row.sum().item())
    both, count = loss(outputs, targets, weights=torch.full((6,), 2.0))
    assert both.item() == pytest.approx(2 * wanted.item())
    assert float(count) == pytest.approx(2 * by_row.sum().item())


@pytest.mark.parametrize("name", [*LABEL_LOSSES, *BINARY_LOSSES, *NUMBER_LOSSES])
def test_half_precision_is_widened(name: str) -> None:
    outputs, targets = _sample(name)
    total, _ = create_loss(name)(outputs.bfloat16(), targets)
    assert total.dtype == torch.float32


def test_weights_of_elements() -> None:
    outputs, targets = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.zeros(2, 2)
    mask = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    total, weight = create_loss("mse")(outputs, targets, weights=mask)
    assert (total.item(), float(weight)) == (17.0, 2.0)
    logits, labels = torch.randn(2, 3, 4), torch.randint(0, 3, (2, 4))  # (N, classes, positions)
    mask = torch.tensor([[1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    total, weight = create_loss("cross-entropy")(logits, labels, weights=mask)
    rows = functional.cross_entropy(logits, labels, reduction="none")
    assert total.item() == pytest.approx((rows * mask).sum().item())
    assert float(weight) == 3.0


# --- strict shapes and values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*NUMBER_LOSSES, "binary-cross-entropy", "binary-hinge"])
@pytest.mark.parametrize("flip", [False, True])
def test_no_silent_broadcasting(name: str, flip: bool) -> None:
    one, two = torch.zeros(5), torch.zeros(5, 1)
    outputs, targets = (two, one) if flip else (one, two)
    with pytest.raises(ShapeError, match=r"\(5, 1\)") as caught:
        create_loss(name)(outputs, targets)
    assert "squeeze(-1)" in caught.value.mend
    assert caught.value.where.startswith("loss ")


@pytest.mark.parametrize("name", LABEL_LOSSES)
def test_labels_of_a_wrong_shape_or_type(name: str) -> None:
    loss = create_loss(name)
    with pytest.raises(ShapeError, match=r"\(5, 1\)"):
        loss(torch.zeros(5, 3), torch.zeros(5, 1, dtype=torch.int64))
    with pytest.raises(ShapeError):
        loss(torch.zeros(5, 3), torch.zeros(4, dtype=torch.int64))
    with pytest.raises((DtypeError, ShapeError)):
        loss(torch.zeros(5, 3), torch.zeros(5, dtype=torch.int32))
    with pytest.raises((DtypeError, ShapeError)):
        loss(torch.zeros(5, 3), torch.zeros(5))
    with pytest.raises(ShapeError):
        loss(torch.zeros(5), torch.zeros(5, dtype=torch.int64))
    with pytest.raises(ShapeError, match="weights"):
        loss(torch.zeros(5, 3), torch.zeros(5, dtype=torch.int64), weights=torch.ones(5, 1))


@pytest.mark.parametrize("name", NUMBER_LOSSES)
def test_whole_numbers_are_no_numbers(name: str) -> None:
    with pytest.raises(DtypeError, match="int64") as caught:
        create_loss(name)(torch.zeros(5), torch.zeros(5, dtype=torch.int64))
    assert "cross-entropy" in caught.value.mend


def test_check_scans_labels() -> None:
    loss = create_loss("cross-entropy", num_classes=3)
    loss.check(torch.tensor([0, 1, 2]))
    with pytest.raises(DataError, match="label 3") as caught:
        loss.check(torch.tensor([0, 1, 3, 5]), where="column 'label'")
    assert "row 2" in caught.value.where
    assert "column 'label'" in caught.value.where
    assert caught.value.accepts == "0 to 2"
    with pytest.raises(DataError, match="label -1"):
        loss.check(torch.tensor([0, -1]))
    with pytest.raises(DtypeError, match="float32"):
        loss.check(torch.tensor([0.0, 1.0]))
    loss.check(torch.tensor([0, 1, 3]), num_outputs=4)


def test_check_scans_binary_targets_and_numbers() -> None:
    create_loss("binary-cross-entropy").check(torch.tensor([0, 1, 1]))
    create_loss("binary-cross-entropy").check(torch.tensor([0.0, 0.3, 1.0]))
    create_loss("binary-hinge").check(torch.tensor([-1, 1]))
    create_loss("binary-hinge").check(torch.tensor([True, False]))
    with pytest.raises(DataError, match=r"target 2"):
        create_loss("binary-cross-entropy").check(torch.tensor([0, 1, 2]))
    with pytest.raises(DataError, match=r"nan") as caught:
        create_loss("mse").check(torch.tensor([[0.0, 1.0], [float("nan"), 1.0]]))
    assert "row 1" in caught.value.where
    with pytest.raises(DtypeError):
        create_loss("mse").check(torch.tensor([1, 2]))
    create_loss("half-squared-error").check(torch.tensor([0.5]))
    with pytest.raises(DataError):
        create_loss("half-squared-error").check(torch.tensor([4]), num_outputs=4)


def test_class_weights_are_checked() -> None:
    with pytest.raises(ShapeError, match=r"\(2,\)"):
        create_loss("cross-entropy", num_classes=3, class_weights=[1.0, 2.0])
    with pytest.raises(ConfigError, match="-1"):
        create_loss("cross-entropy", num_classes=2, class_weights=[1.0, -1.0])
    with pytest.raises(ConfigError, match="no classes"):
        create_loss("mse", class_weights=[1.0, 2.0])
    with pytest.raises(ConfigError, match="function of your own"):
        create_loss(functional.mse_loss, class_weights=[1.0, 2.0])


def test_names_and_options_are_checked() -> None:
    with pytest.raises(UnknownNameError) as caught:
        create_loss("cross-entrophy")
    assert "'cross-entropy'" in caught.value.mend
    with pytest.raises(ConfigError, match="smoothing"):
        create_loss({"name": "cross-entropy", "smoothing": 0.1})
    with pytest.raises(ConfigError, match=r"loss.delta"):
        create_loss({"name": "huber", "delta": 0})
    with pytest.raises(ConfigError, match="alpha"):
        create_loss({"name": "focal", "alpha": [1.0, 1.0]}, num_classes=3)


# --- probabilities --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*LABEL_LOSSES, *BINARY_LOSSES])
@pytest.mark.parametrize("shape", [(7, 3), (7, 1), (7,)])
def test_log_probs_sum_to_one_and_keep_the_order(name: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    outputs = torch.randn(shape, dtype=torch.float64) * 5
    probs = create_loss(name).log_probs(outputs).exp()
    torch.testing.assert_close(probs.sum(dim=1), torch.ones(7, dtype=torch.float64))
    if shape == (7, 3):
        assert torch.equal(probs.argsort(dim=1), outputs.argsort(dim=1))
    else:
        assert torch.equal(probs[:, 1] > 0.5, outputs.reshape(7) > 0)


def test_which_losses_are_likelihoods() -> None:
    likely = {name for name in [*LABEL_LOSSES, *BINARY_LOSSES] if create_loss(name).is_likelihood}
    assert likely == {"cross-entropy", "binary-cross-entropy"}


# --- functions of one's own -----------------------------------------------------------------------------------------


def test_a_function_may_return_row_losses_a_mean_or_a_sum_with_its_weight() -> None:
    outputs, targets = torch.randn(5, 3), torch.randn(5, 3)
    wanted = functional.mse_loss(outputs, targets).item()

    def rows(y: Tensor, t: Tensor) -> Tensor:
        return (y - t).square().mean(dim=1)

    def pair(y: Tensor, t: Tensor) -> tuple[Tensor, float]:
        return (y - t).square().sum(), 15.0

    for function in (rows, functional.mse_loss, torch.nn.MSELoss(), pair):
        assert _mean(create_loss(function), outputs, targets) == pytest.approx(wanted)
    assert create_loss(rows).name == "rows"
    assert create_loss(torch.nn.MSELoss()).name == "MSELoss"
    assert list(create_loss(rows).parts(outputs, targets)) == ["rows"]


def test_a_mean_has_the_gradient_of_the_whole_batch_in_micro_batches() -> None:
    loss = create_loss(functional.mse_loss)
    outputs, targets = torch.randn(6, 2, dtype=torch.float64), torch.randn(6, 2, dtype=torch.float64)
    parts = [loss(outputs[rows], targets[rows]) for rows in (slice(0, 4), slice(4, 6))]
    mean = sum(total for total, _ in parts) / sum(weight for _, weight in parts)
    assert float(mean) == pytest.approx(functional.mse_loss(outputs, targets).item())


def test_weights_of_a_function() -> None:
    outputs, targets, weights = torch.randn(5), torch.randn(5), torch.tensor([1.0, 0.0, 2.0, 0.0, 1.0])

    def rows(y: Tensor, t: Tensor) -> Tensor:
        return (y - t).abs()

    def weighed(y: Tensor, t: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor | float]:
        assert weights is not None
        return ((y - t).abs() * weights).sum(), weights.sum()

    for function in (rows, weighed):
        total, weight = create_loss(function)(outputs, targets, weights=weights)
        assert total.item() == pytest.approx(((outputs - targets).abs() * weights).sum().item())
        assert float(weight) == 4.0
    with pytest.raises(ConfigError, match="mse_loss"):
        create_loss(functional.mse_loss)(outputs, targets, weights=weights)
    with pytest.raises(ConfigError, match="a sum"):
        create_loss(CallableLoss(lambda y, t: ((y - t).sum(), 5.0), name="mine"))(outputs, targets, weights=weights)


def test_a_function_that_returns_no_tensor_is_refused() -> None:
    with pytest.raises(DtypeError, match="float"):
        create_loss(lambda y, t: 1.0)(torch.zeros(2), torch.zeros(2))


# --- sums of losses -------------------------------------------------------------------------------------------------


def test_weighted_sum_logs_each_part() -> None:
    outputs, targets = _sample("cross-entropy")
    loss = create_loss(
        {
            "name": "weighted-sum",
            "parts": [{"name": "cross-entropy", "label_smoothing": 0.1}, {"name": "hinge", "factor": 0.5}],
        }
    )
    parts = loss.parts(outputs, targets)
    assert list(parts) == ["cross_entropy", "hinge"]
    assert (parts["cross_entropy"].factor, parts["hinge"].factor) == (1.0, 0.5)
    wanted = sum(part.factor * float(part.total / part.weight) for part in parts.values())
    assert _mean(loss, outputs, targets) == pytest.approx(wanted)
    assert parts["hinge"].total.item() == pytest.approx(create_loss("hinge")(outputs, targets)[0].item())


def test_weighted_sum_of_functions_and_of_one_loss_twice() -> None:
    outputs, targets = _sample("mse")
    loss = WeightedSum(parts=[(1.0, "huber"), (2.0, {"name": "huber", "delta": 0.1}), (1.0, functional.mse_loss)])
    assert list(loss.parts(outputs, targets)) == ["huber", "huber_2", "mse_loss"]
    assert not loss.is_likelihood
    loss.check(targets)
    with pytest.raises(DtypeError):
        loss.check(torch.tensor([1]))


def test_weighted_sum_hands_on_classes_and_weights() -> None:
    outputs, targets = _sample("cross-entropy")
    loss = create_loss(
        {"name": "weighted-sum", "parts": [{"name": "cross-entropy"}, {"name": "focal"}]},
        num_classes=4,
        class_weights=[1, 2, 3, 4],
    )
    weights = torch.rand(6)
    for name, part in loss.parts(outputs, targets, weights=weights).items():
        alone = create_loss(name.replace("_", "-"), num_classes=4, class_weights=[1, 2, 3, 4])
        assert part.total.item() == pytest.approx(alone(outputs, targets, weights=weights)[0].item())
    assert not loss.is_likelihood
    torch.testing.assert_close(loss.log_probs(outputs), outputs.log_softmax(dim=1))
    with pytest.raises(ConfigError, match="parts"):
        create_loss({"name": "weighted-sum", "parts": []})


def test_every_registered_loss_is_tried_here() -> None:
    tried = {*LABEL_LOSSES, *BINARY_LOSSES, *NUMBER_LOSSES, "weighted-sum"}
    assert set(registry.names("loss")) == tried
    for entry in registry.entries("loss"):
        assert entry.summary
        assert entry.source
