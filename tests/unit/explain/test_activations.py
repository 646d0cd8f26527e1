"""What layers give is kept as they gave it; the penultimate layer and the last maps are found."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lamina.explain.activations import last_maps, penultimate, record
from lamina.models.factory import create_model


def test_what_is_overwritten_later_is_kept_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.Flatten())
    inputs = torch.randn(2, 1, 5, 5)
    activations, output = record(model, inputs)
    assert [one.name for one in activations] == ["0", "1", "2"]
    torch.testing.assert_close(activations[0].value, model[0](inputs))
    assert bool((activations[0].value < 0).any())
    torch.testing.assert_close(output, model(inputs))


def test_a_layer_that_runs_twice_is_numbered() -> None:
    shared = nn.ReLU()
    model = nn.Sequential(nn.Linear(3, 3), shared, nn.Linear(3, 3), shared)
    assert [one.name for one in record(model, torch.rand(2, 3))[0]] == ["0", "1", "2", "1 (2)"]


def test_the_last_maps_are_those_behind_norm_and_activation_before_pooling() -> None:
    blocks = [{"channels": 4}, {"channels": 6, "pool_size": 1}]
    model = create_model("cnn", blocks=blocks)
    found = last_maps(record(model, torch.rand(2, 1, 28, 28))[0])
    assert found is not None
    assert found.name == "body.activation2"
    assert found.value.shape == (2, 6, 14, 14)
    assert last_maps(record(create_model("mlp"), torch.rand(2, 784))[0]) is None


def test_penultimate_is_the_input_of_the_head() -> None:
    model = create_model("cnn").eval()
    inputs = torch.rand(3, 1, 28, 28)
    found = penultimate(model, inputs)
    assert found is not None
    torch.testing.assert_close(found, model.features(inputs).detach())


def test_penultimate_of_a_module_without_a_head_is_the_input_of_its_last_linear_layer() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last, self.first = nn.Linear(4, 2), nn.Linear(3, 4)  # defined in another order than they run

        def forward(self, values: Tensor) -> Tensor:
            return self.last(self.first(values).relu())

    model, inputs = Own(), torch.rand(5, 3)
    found = penultimate(model, inputs)
    assert found is not None
    torch.testing.assert_close(found, model.first(inputs).relu().detach())
    assert penultimate(nn.ReLU(), inputs) is None
