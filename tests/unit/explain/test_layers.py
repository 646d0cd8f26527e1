"""The layers view: golden counts, shapes, receptive fields, arithmetic, and models of unusual make."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from lamina.core.errors import ShapeError, UsageError
from lamina.data.columns import ColumnSpec, DataSpec
from lamina.explain.layers import LayersConfig, layers_view, render_layers, summarise
from lamina.explain.views import Subject, example_inputs
from lamina.models.cnn import sign_cnn
from lamina.models.knn import KNN
from lamina.models.lenet import LeNet
from lamina.models.mlp import MLP

KEYS = {
    "name",
    "type",
    "input_shape",
    "output_shape",
    "num_parameters",
    "num_trainable",
    "num_buffers",
    "num_total",
    "flops",
    "receptive_field",
}


def rows(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in document["layers"]}


def summary(model: nn.Module) -> dict[str, Any]:
    return layers_view(Subject(model), LayersConfig()).document


def test_mlp() -> None:
    document = summary(MLP())
    assert document["num_parameters"] == document["num_trainable"] == document["num_total"] == 13_002
    assert (document["num_weights"], document["num_biases"], document["num_buffers"]) == (12_960, 42, 0)
    assert document["num_weighted_layers"] == 3
    assert document["flops"] == 2 * 12_960
    assert [row["num_total"] for row in document["layers"]] == [12_560, 0, 272, 0, 170]
    assert all(row["receptive_field"] is None for row in document["layers"])


def test_sign_cnn() -> None:
    document = summary(sign_cnn())
    assert document["num_total"] == 264_049
    assert document["num_buffers"] == 300
    assert document["num_parameters"] == 263_749
    assert document["num_weighted_layers"] == 5
    totals = [row["num_total"] for row in document["layers"] if row["num_total"]]
    assert totals == [750, 300, 33_800, 200, 11_275, 100, 205_312, 12_312]
    found = rows(document)
    assert [found[f"body.pool{n}"]["output_shape"] for n in (1, 2, 3)] == [
        [1, 75, 14, 14],
        [1, 50, 7, 7],
        [1, 25, 4, 4],
    ]
    assert [
        found[f"body.{name}"]["receptive_field"] for name in ("conv1", "pool1", "conv2", "pool2", "conv3", "pool3")
    ] == [
        3,
        4,
        8,
        10,
        18,
        22,
    ]
    assert found["head"]["receptive_field"] == 28
    assert found["body.conv2"]["flops"] == 2 * 50 * 75 * 9 * 14 * 14
    assert set(found["head"]) >= KEYS
    assert document["flops"] == sum(row["flops"] for row in document["layers"])
    assert json.loads(json.dumps(document)) == document


def test_how_sizes_came_about() -> None:
    found = rows(summary(LeNet()))
    assert found["conv1"]["how"] == "floor((28 + 2*2 - 5) / 1) + 1 = 28; 6*(1*5*5 + 1) = 156 parameters"
    assert found["pool2"]["how"] == "floor((10 + 0 - 2) / 2) + 1 = 5"
    assert found["flatten"]["how"] == "16*5*5 = 400"
    assert found["fc1"]["how"] == "120*(400 + 1) = 48,120 parameters"
    strided = rows(summarise(nn.Sequential(nn.Conv2d(3, 96, 11, stride=4)), (3, 224, 227)))
    assert "floor(53.25) + 1 = 54; stride 4 does not divide: the last 1 of 224 is not used" in strided["0"]["how"]
    assert "floor((227 + 0 - 11) / 4) + 1 = 55" in strided["0"]["how"]


def test_a_kernel_over_two_channels() -> None:
    document = summarise(nn.Conv2d(2, 1, 3), (2, 4, 4))
    assert document["num_parameters"] == 19
    assert document["layers"][0]["name"] == ""
    assert document["layers"][0]["output_shape"] == [1, 1, 2, 2]


@pytest.mark.parametrize(("layers", "stride", "size"), [(2, 1, 5), (3, 1, 7), (2, 2, 7)])
def test_receptive_fields_of_stacks(layers: int, stride: int, size: int) -> None:
    model = nn.Sequential(*[nn.Conv2d(1, 1, 3, stride=stride, padding=1) for _ in range(layers)])
    assert summarise(model, (1, 32, 32))["layers"][-1]["receptive_field"] == size


class Residual(nn.Module):
    """A sum of a deep and a shallow branch, pooled by a functional call, and a product outside any layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, (3, 1))
        self.deep = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1))
        self.act = nn.ReLU()
        self.scale = nn.Parameter(torch.ones(4, 1, 1))
        self.head = nn.Linear(4, 3)
        self.unused = nn.Linear(2, 2)

    def forward(self, images: Tensor) -> Tensor:
        x = self.act(self.stem(images))
        x = self.act(x + self.deep(x)) * self.scale
        x = nn.functional.max_pool2d(x, 2)
        x = x.mean((2, 3))
        return self.head(x) @ torch.ones(3, 3, device=x.device, dtype=x.dtype)


def test_branches_repeats_and_what_lies_outside_layers() -> None:
    model = Residual()
    model.stem.weight.requires_grad_(False)
    document = summarise(model, (1, 10, 10))
    found = document["layers"]
    names = [(row["name"], row["is_repeat"]) for row in found]
    assert names == [
        ("", False),
        ("stem", False),
        ("act", False),
        ("deep.0", False),
        ("deep.1", False),
        ("deep.2", False),
        ("act", True),
        ("head", False),
        ("unused", False),
    ]
    assert found[0]["num_parameters"] == 4, "the module's own parameter"
    assert found[1]["receptive_field"] == [3, 1]
    assert found[5]["receptive_field"] == found[6]["receptive_field"] == [7, 5]
    assert found[7]["receptive_field"] == 10, "the mean saw everything"
    assert found[8]["how"] == "did not run"
    assert found[8]["output_shape"] is None
    assert found[0]["flops"] == 2 * 3 * 3
    assert document["flops"] == sum(row["flops"] for row in found)
    assert document["num_parameters"] == sum(row["num_parameters"] for row in found)
    assert document["num_trainable"] == document["num_parameters"] - 12
    assert found[1]["num_trainable"] == 4


def test_shared_weights_count_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(11, 6)
            self.encoder = nn.TransformerEncoderLayer(6, 2, 12, batch_first=True)
            self.head = nn.Linear(6, 11, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, tokens: Tensor) -> Tensor:
            return self.head(self.encoder(self.embedding(tokens)))

    model = Tied()
    document = summarise(model, torch.zeros(2, 5, dtype=torch.int64))
    assert document["num_parameters"] == sum(p.numel() for p in model.parameters())
    assert sum(row["num_parameters"] for row in document["layers"]) == document["num_parameters"]
    found = rows(document)
    assert (found["embedding"]["num_parameters"], found["head"]["num_parameters"]) == (66, 0)
    assert found["embedding"]["input_shape"] == [2, 5]
    assert found["head"]["output_shape"] == [2, 5, 11]
    assert found["head"]["flops"] == 2 * 2 * 5 * 6 * 11


def test_recurrent_and_named_inputs() -> None:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(3, 4, num_layers=2, batch_first=True)
            self.head = nn.Linear(4, 2)

        def forward(self, series: Tensor, scale: Tensor) -> Tensor:
            return self.head(self.rnn(series * scale)[0][:, -1])

    document = summarise(Reader(), {"series": torch.zeros(1, 7, 3), "scale": torch.ones(1)})
    assert document["num_weighted_layers"] == 3
    assert rows(document)["rnn"]["output_shape"] == [[1, 7, 4], [2, 1, 4], [2, 1, 4]]
    assert document["input_shape"] == [[1, 7, 3], [1]]


def test_a_transposed_convolution_and_a_series() -> None:
    model = nn.Sequential(nn.Conv1d(2, 3, 4, stride=2), nn.MaxPool1d(2), nn.ConvTranspose1d(3, 1, 4, stride=2))
    document = summarise(model, (2, 40))
    assert [row["receptive_field"] for row in document["layers"]] == [4, 6, 10]
    assert document["layers"][2]["how"].startswith("(9 - 1)*2 - 2*0 + 4 + 0 = 20")


def test_batch_norm_that_runs_twice_counts_once_and_is_not_trained() -> None:
    norm = nn.BatchNorm1d(6)
    model = nn.Sequential(nn.Linear(4, 6), norm, nn.ReLU(), norm).train()
    document = summarise(model, (4,))
    assert [row["num_total"] for row in document["layers"]] == [30, 24, 0, 0]
    assert document["num_total"] == 54
    assert int(norm.num_batches_tracked) == 0


def test_a_model_that_reads_values_runs_on_zeros() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(4, 2)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.head(inputs) if float(inputs.sum()) < 1 else inputs

    document = summarise(Reads(), (4,))
    assert [row["name"] for row in document["layers"]] == ["head"]


def test_the_model_is_left_as_it_was() -> None:
    model = sign_cnn().train()
    model.body.norm1.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    summary(model)
    assert model.training
    assert not model.body.norm1.training
    assert model.body.norm2.training
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(not parameter.is_meta for parameter in model.parameters())


def test_other_precisions() -> None:
    document = summarise(LeNet().bfloat16(), (1, 28, 28))
    assert rows(document)["head"]["activation_bytes"] == 20


def test_knn_is_one_layer() -> None:
    model = KNN(in_features=3, num_classes=2)
    model.store(torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), torch.zeros(5, dtype=torch.int64))
    document = summary(model)
    assert (document["num_parameters"], document["num_buffers"]) == (0, 15)
    assert document["layers"][0]["output_shape"] == [1, 2]


def test_inputs_that_do_not_fit() -> None:
    with pytest.raises(ShapeError, match="LeNet got images shaped"):
        summarise(LeNet(), (3, 28, 28))
    with pytest.raises(ShapeError, match="cannot take inputs shaped"):
        summarise(nn.Linear(3, 2), (4,))


def test_where_the_example_comes_from() -> None:
    spec = DataSpec(columns={"image": ColumnSpec(role="image", dtype="float32", shape=(3, 9, 8))}, num_rows={})
    assert example_inputs(Subject(nn.Identity(), spec=spec)).shape == (1, 3, 9, 8)  # type: ignore[union-attr]
    given = torch.zeros(2, 5)
    assert example_inputs(Subject(nn.Identity(), spec=spec, inputs=given)) is given
    assert example_inputs(Subject(LeNet(image_size=(20, 30)))).shape == (1, 1, 20, 30)  # type: ignore[union-attr]
    with pytest.raises(UsageError, match="Nothing says what Identity reads"):
        example_inputs(Subject(nn.Identity()))

    class Tokens(nn.Identity):
        def example_inputs(self) -> Tensor:
            return torch.zeros(1, 4, dtype=torch.int64)

    assert example_inputs(Subject(Tokens())).dtype == torch.int64  # type: ignore[union-attr]


def test_an_input_shape_can_be_asked_for() -> None:
    document = layers_view(Subject(nn.Conv2d(1, 1, 3)), LayersConfig(input_shape=(1, 12, 7))).document
    assert document["layers"][0]["output_shape"] == [1, 1, 10, 5]


def test_the_table() -> None:
    buffer = io.StringIO()
    Console(file=buffer, width=220).print(render_layers(summary(sign_cnn())))
    text = buffer.getvalue()
    assert "263,749 parameters; 300 running statistics; 264,049 in all" in text
    assert "75x28x28" in text
    assert '"same": ceil(7 / 2) = 4, with 0 before and 1 after' in text
