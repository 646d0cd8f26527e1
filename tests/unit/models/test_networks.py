"""MLP, linear, LeNet-5 and cnn: sizes, shapes, options, and what they refuse."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lamina.core.errors import ConfigError, ShapeError, UnknownNameError
from lamina.models.cnn import CNN, BlockConfig, sign_cnn
from lamina.models.lenet import LeNet
from lamina.models.linear import Linear
from lamina.models.mlp import MLP
from lamina.nn.dropout import Dropout


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_the_network_of_the_films() -> None:
    model = MLP()
    assert count(model) == 13_002
    assert sum(p.numel() for name, p in model.named_parameters() if name.endswith("bias")) == 42
    assert 784 + 16 + 16 + 10 == 826


def test_mlp_layers_in_order() -> None:
    model = MLP(
        in_features=5, hidden_sizes=(7, 6), activation=("tanh", "maxout"), norm="batch-norm", dropout=(0.0, 0.5)
    )
    assert [name for name, _ in model.body.named_children()] == [
        "linear1",
        "norm1",
        "activation1",
        "maxout2",
        "norm2",
        "dropout2",
    ]
    assert model.features(torch.zeros(3, 5)).shape == (3, 6)
    assert model(torch.zeros(3, 5, 1, 1)).shape == (3, 10)


def test_an_mlp_without_hidden_layers_is_linear() -> None:
    assert count(MLP(hidden_sizes=())) == count(Linear()) == 7850


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"activation": ("relu",)}, "1 values of activation for 2 hidden layers"),
        ({"dropout": (0.1, 0.2, 0.3)}, "3 values of dropout"),
        ({"hidden_sizes": (16, 0)}, "hidden_sizes=(16, 0)"),
    ],
)
def test_mlp_options_that_contradict(options: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        MLP(**options)  # type: ignore[arg-type]
    assert text in caught.value.what


def test_unknown_parts_are_named() -> None:
    with pytest.raises(UnknownNameError, match="rleu") as caught:
        MLP(activation="rleu")
    assert "relu" in caught.value.mend
    with pytest.raises(UnknownNameError):
        MLP(initialiser="kaiming")


def test_the_head_can_be_replaced() -> None:
    for model, inputs in ((MLP(), torch.zeros(2, 784)), (LeNet(), torch.zeros(2, 1, 28, 28))):
        model.head = nn.Linear(model.head.in_features, 3)
        assert model(inputs).shape == (2, 3)
        assert model.features(inputs).shape == (2, model.head.in_features)


def test_linear_templates_are_the_weights() -> None:
    model = Linear(in_features=12, num_classes=4)
    templates = model.templates((3, 2, 2))
    image = torch.rand(1, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    scores = (templates * image).sum((1, 2, 3)) + model.head.bias
    torch.testing.assert_close(scores[None], model(image))
    with pytest.raises(ShapeError, match="12 weights per class"):
        model.templates((1, 3, 3))


def test_lenet_counts_and_shapes() -> None:
    model = LeNet()
    assert count(model) == 61_706
    assert [
        sum(p.numel() for p in m.parameters()) for m in (model.conv1, model.conv2, model.fc1, model.fc2, model.head)
    ] == [
        156,
        2_416,
        48_120,
        10_164,
        850,
    ]
    assert model(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    assert count(LeNet(image_size=(32, 32), padding=0)) == 61_706
    assert LeNet(image_size=(40, 24), in_channels=3, pool="max")(torch.zeros(1, 3, 40, 24)).shape == (1, 10)


@pytest.mark.parametrize(("padding", "least"), [(2, 12), (0, 16)])
def test_the_smallest_image_of_lenet(padding: int, least: int) -> None:
    LeNet(image_size=(least, least), padding=padding)(torch.zeros(1, 1, least, least))
    with pytest.raises(ShapeError, match="nothing is left") as caught:
        LeNet(image_size=(least - 1, 28), padding=padding)
    assert f">= {least}" in caught.value.accepts


def test_sign_cnn_counts() -> None:
    model = sign_cnn()
    totals = []
    for module in model.modules():
        if not any(True for _ in module.children()):
            values = [*module.parameters(), *(b for b in module.buffers() if b.is_floating_point())]
            totals.append(sum(value.numel() for value in values))
    assert [total for total in totals if total] == [750, 300, 33_800, 200, 11_275, 100, 205_312, 12_312]
    assert sum(totals) == 264_049


def test_sign_cnn_order_and_sizes() -> None:
    model = sign_cnn(num_classes=7)
    names = [name for name, _ in model.body.named_children()]
    assert names[:4] == ["conv1", "activation1", "norm1", "pool1"]
    assert names[4:9] == ["conv2", "activation2", "dropout2", "norm2", "pool2"]
    assert names[-3:] == ["dense1", "dense_activation1", "dense_dropout1"]
    dropouts = [module.p for module in model.modules() if isinstance(module, Dropout)]
    assert dropouts == [0.2, 0.3]
    x = torch.zeros(2, 1, 28, 28)
    sizes = []
    for module in model.eval().body:
        x = module(x)
        if isinstance(module, nn.MaxPool2d):
            sizes.append(x.shape[-1])
    assert sizes == [14, 7, 4]
    assert model(torch.zeros(2, 1, 28, 28)).shape == (2, 7)


@pytest.mark.parametrize("size", [5, 7, 8, 9])
@pytest.mark.parametrize("k", [2, 3, 4])
@pytest.mark.parametrize("pool", ["max", "average"])
def test_same_pooling_is_tensorflows(pool: str, k: int, size: int) -> None:
    """Windows laid out by TensorFlow's rule, with what lies outside the image left out."""
    total = max((-(-size // k) - 1) * k + k - size, 0)
    before = total // 2
    block = BlockConfig(channels=2, norm="none", activation="identity", pool=pool, pool_size=k, pool_padding="same")
    model = CNN(image_size=(size, size), blocks=[block], dense=[])
    images = torch.randn(3, 2, size, size, generator=torch.Generator().manual_seed(0)) - 5
    pools = [module for name, module in model.body.named_children() if "pool" in name]
    found = nn.Sequential(*pools)(images)
    starts = range(-before, size + total - before, k)
    for i, top in enumerate(starts):
        for j, left in enumerate(starts):
            window = images[:, :, max(top, 0) : top + k, max(left, 0) : left + k].flatten(2)
            expected = window.amax(2) if pool == "max" else window.mean(2)
            torch.testing.assert_close(found[:, :, i, j], expected)
    assert found.shape[-1] == len(starts)


@pytest.mark.parametrize(("kernel", "stride", "size"), [(3, 1, 8), (4, 1, 8), (3, 2, 8), (5, 2, 9), (2, 3, 7)])
def test_same_convolution_is_tensorflows(kernel: int, stride: int, size: int) -> None:
    block = BlockConfig(channels=1, kernel_size=kernel, stride=stride, norm="none", activation="identity", pool="none")
    model = CNN(image_size=(size, size), blocks=[block], dense=[])
    images = torch.randn(1, 1, size, size, generator=torch.Generator().manual_seed(0))
    found = model.body[:-1](images)
    assert found.shape[-1] == -(-size // stride)
    total = max((found.shape[-1] - 1) * stride + kernel - size, 0)
    padded = nn.functional.pad(images, (total // 2, total - total // 2) * 2)
    conv = model.body.conv1
    torch.testing.assert_close(found, nn.functional.conv2d(padded, conv.weight, conv.bias, stride=stride))


def test_a_cnn_of_given_blocks() -> None:
    model = CNN(
        in_channels=3,
        image_size=(20, 30),
        num_classes=5,
        blocks=[
            {"channels": 8, "kernel_size": 5, "padding": "valid", "norm": "group-norm", "activation": "silu"},
            {"channels": 6, "stride": 2, "padding": 0, "pool": "none", "dropout": 0.2, "dropout_kind": "spatial"},
        ],
        dense=[{"size": 11, "norm": "layer-norm", "dropout": 0.1}, {"size": 9}],
    )
    assert model(torch.randn(4, 3, 20, 30)).shape == (4, 5)
    assert [name for name, _ in model.body.named_children()][:4] == ["conv1", "norm1", "activation1", "pool1"]
    assert model.features(torch.randn(4, 3, 20, 30)).shape == (4, 9)


@pytest.mark.parametrize(
    ("blocks", "text"),
    [
        ([{"chanels": 3}], "did you mean 'channels'"),
        ([{"channels": 0}], "channels"),
        ([{"dropout": 1.0}], "dropout"),
        ([{"order": ["norm", "norm"]}], "stands in it twice"),
        ([{"pool": "sum"}], "pool"),
    ],
)
def test_blocks_that_make_no_sense(blocks: list[dict[str, object]], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        CNN(blocks=blocks)  # type: ignore[arg-type]
    assert text in str(caught.value)
    assert "blocks.0" in str(caught.value)


def test_an_image_too_small_for_the_blocks() -> None:
    blocks = [{"channels": 2, "padding": "valid"}, {"channels": 2, "padding": "valid"}]
    with pytest.raises(ShapeError, match="nothing is left of its width after pooling 2") as caught:
        CNN(image_size=(28, 9), blocks=blocks)
    assert caught.value.accepts == "height and width >= 10"
    CNN(image_size=(10, 10), blocks=blocks)(torch.zeros(1, 2 // 2, 10, 10))


def test_overwriting_activations_changes_no_gradient() -> None:
    model = CNN(num_classes=3, image_size=(8, 8), blocks=[{"channels": 4}], dense=[{"size": 5}]).double()
    plain = CNN(num_classes=3, image_size=(8, 8), blocks=[{"channels": 4}], dense=[{"size": 5}]).double()
    plain.load_state_dict(model.state_dict())
    overwriting = [module for module in model.modules() if getattr(module, "inplace", False)]
    assert len(overwriting) == 2
    for module in plain.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    images = torch.randn(6, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    kept = images.clone()
    for net in (model, plain):
        net(images).square().sum().backward()
    assert torch.equal(images, kept)
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)
