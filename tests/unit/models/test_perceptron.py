"""Rosenblatt's rule: what it learns, what it cannot, and when it stops."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lamina.core.errors import DataError, ShapeError
from lamina.models.factory import create_model
from lamina.models.perceptron import Perceptron

CORNERS = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
AND, OR, XOR = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 1, 1, 1]), torch.tensor([0, 1, 1, 0])


def epochs_to_learn(model: Perceptron, inputs: Tensor, targets: Tensor, *, most: int = 100) -> int | None:
    for epoch in range(1, most + 1):
        if not bool(model.update(inputs, targets).any()):
            return epoch
    return None


def test_the_rule_step_by_step() -> None:
    model = Perceptron(in_features=2, num_classes=2)
    mistakes = model.update(torch.tensor([[1.0, 2.0], [0.5, 0.0], [3.0, 0.0]]), torch.tensor([1, 0, 1]))
    # w = 0: score 0 is class 0, wrong, w = (1, 2), b = 1; score 1.5 is class 1, wrong, w = (.5, 2), b = 0; score 1.5 is right.
    assert mistakes.tolist() == [True, True, False]
    assert model.head.weight.tolist() == [[0.5, 2.0]]
    assert model.head.bias.tolist() == [0.0]


def test_the_rule_of_several_classes_step_by_step() -> None:
    model = Perceptron(in_features=2, num_classes=3)
    # All scores are 0 and the first class wins, wrongly; then class 2 wins with 2, wrongly.
    mistakes = model.update(torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.tensor([2, 1]))
    assert mistakes.tolist() == [True, True]
    assert model.head.weight.tolist() == [[-1.0, 0.0], [1.0, 1.0], [0.0, -1.0]]
    assert model.head.bias.tolist() == [-1.0, 1.0, 0.0]


@pytest.mark.parametrize("targets", [AND, OR])
@pytest.mark.parametrize("num_classes", [2, 3])
def test_it_learns_what_a_line_can_part(targets: Tensor, num_classes: int) -> None:
    model = Perceptron(in_features=2, num_classes=num_classes)
    assert epochs_to_learn(model, CORNERS, targets) is not None
    assert model(CORNERS).argmax(1).tolist() == targets.tolist()


@pytest.mark.parametrize("num_classes", [2, 3])
def test_it_never_learns_xor(num_classes: int) -> None:
    model = Perceptron(in_features=2, num_classes=num_classes)
    assert epochs_to_learn(model, CORNERS, XOR, most=1000) is None
    assert bool((model(CORNERS).argmax(1) != XOR).any())


def test_an_mlp_learns_xor() -> None:
    solved = 0
    for seed in range(5):
        model = create_model("mlp", seed=seed, in_features=2, hidden_sizes=(8,), num_classes=2, activation="tanh")
        optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
        for _ in range(200):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(CORNERS), XOR).backward()
            optimizer.step()
        solved += int(model(CORNERS).argmax(1).tolist() == XOR.tolist())
    assert solved == 5


def test_novikoffs_bound_on_mistakes() -> None:
    inputs = torch.randn(300, 5, generator=torch.Generator().manual_seed(0))
    inputs = torch.cat([inputs, torch.ones(300, 1)], dim=1)
    truth = torch.tensor([1.0, -2.0, 0.5, 0.0, 1.0, 0.2])
    truth = truth / truth.norm()
    inputs = inputs[(inputs @ truth).abs() > 0.3]
    targets = (inputs @ truth > 0).long()
    model = Perceptron(in_features=6, num_classes=2, bias=False)
    mistakes = 0
    while made := int(model.update(inputs, targets).sum()):
        mistakes += made
    assert 0 < mistakes <= float((inputs.norm(dim=1).max() / (inputs @ truth).abs().min()) ** 2)


def test_the_step_size_changes_no_decision() -> None:
    inputs = torch.randn(50, 4, generator=torch.Generator().manual_seed(1))
    targets = torch.arange(50) % 3
    small, large = (Perceptron(in_features=4, num_classes=3, step_size=size) for size in (0.125, 4.0))
    assert torch.equal(small.update(inputs, targets), large.update(inputs, targets))
    torch.testing.assert_close(small(inputs) * 32, large(inputs))


def test_batches_do_not_matter_and_the_error_rate_is_logged() -> None:
    inputs, targets = torch.randn(40, 3, generator=torch.Generator().manual_seed(2)), torch.arange(40) % 4
    whole, single = Perceptron(in_features=3, num_classes=4), Perceptron(in_features=3, num_classes=4)
    total, weight = whole.learn(inputs, targets)["mistakes"]
    assert weight == 40
    assert float(total) == sum(
        float(single.learn(x[None], t[None])["mistakes"][0]) for x, t in zip(inputs, targets, strict=True)
    )
    assert torch.equal(whole.head.weight, single.head.weight)


def test_images_and_templates() -> None:
    model = Perceptron(in_features=12, num_classes=3)
    model.update(torch.ones(1, 3, 2, 2), torch.tensor([2]))
    assert model.templates((3, 2, 2)).shape == (3, 3, 2, 2)
    assert model.templates((3, 2, 2))[2].unique().tolist() == [1.0]


def test_what_does_not_fit_is_refused() -> None:
    model = Perceptron(in_features=2, num_classes=2)
    with pytest.raises(ShapeError, match="targets shaped"):
        model.update(CORNERS, AND[:3])
    with pytest.raises(DataError, match="Row 3 of the batch has the label 2"):
        model.update(CORNERS, AND + torch.tensor([0, 0, 0, 1]))
