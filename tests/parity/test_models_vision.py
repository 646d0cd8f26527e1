"""AlexNet, VGG and MobileNet against other implementations in float64: outputs, gradients and one step of SGD.

AlexNet: against the network written here from sections 3 and 4 of the paper, as functions of a mapping of tensors, the two towers as two
streams that each compute their own maps. VGG and MobileNet: against keras.applications, weights mapped by name.

The tolerances: both sides round in float64 (1e-16) over sums of up to 1e4 terms in up to 28 layers; 1e-9 relative is met with room,
while a wrong epsilon, stride or padding shows in the third digit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from helpers import keras_in_float64
from lamina.models.factory import create_model
from lamina.optim.create import create_optimizer

RATE = 0.05


def randomised(model: nn.Module, *, gain: float = 1.0) -> nn.Module:
    """In float64, with norms and biases that are not what they begin as, which would hide mistakes."""
    generator = torch.Generator().manual_seed(3)
    for key, tensor in model.double().state_dict().items():
        if "running_var" in key or (tensor.ndim == 1 and key.endswith("weight")):
            tensor.uniform_(0.6, 1.4, generator=generator)
        elif "running_mean" in key or key.endswith("bias"):
            tensor.uniform_(-0.3, 0.3, generator=generator)
        elif tensor.ndim > 1:
            tensor.mul_(gain)
    return model


def close(found: Tensor, wanted: Tensor, name: str = "", *, rtol: float = 1e-9) -> None:
    size = float(wanted.detach().abs().max())
    assert size > 0, f"{name} is zero everywhere"
    torch.testing.assert_close(
        found.detach(), wanted.detach(), rtol=rtol, atol=rtol * size, msg=lambda text: f"{name}: {text}"
    )


def pictures(*size: int, rows: int) -> Tensor:
    return torch.randn(rows, 3, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


# --- AlexNet, from the paper ---------------------------------------------------------------------------------------


def response_norm(a: Tensor) -> Tensor:
    """Section 3.3: over n = 5 neighbouring maps, k = 2, alpha = 1e-4, beta = 0.75; the ends cut off."""
    number = a.shape[1]
    parts = []
    for i in range(number):
        neighbours = a[:, max(0, i - 2) : min(number - 1, i + 2) + 1]
        parts.append(a[:, i] / (2.0 + 1e-4 * (neighbours**2).sum(1)) ** 0.75)
    return torch.stack(parts, 1)


def alexnet(p: Mapping[str, Tensor], x: Tensor, *, names: list[str], towers: int, padding: int, normed: bool) -> Tensor:
    """Logits; each tower reads the maps of its own kernels, but in the third convolution."""

    def convolve(x: Tensor, number: int, *, stride: int = 1, pad: int, apart: bool) -> Tensor:
        weight, bias = p[f"{names[number]}.weight"], p[f"{names[number]}.bias"]
        if not apart:
            return F.relu(F.conv2d(x, weight, bias, stride=stride, padding=pad))
        streams = zip(x.chunk(towers, 1), weight.chunk(towers), bias.chunk(towers), strict=True)
        return F.relu(torch.cat([F.conv2d(*stream, stride=stride, padding=pad) for stream in streams], 1))

    x = convolve(x, 0, stride=4, pad=padding, apart=False)
    x = F.max_pool2d(response_norm(x) if normed else x, 3, 2)
    x = convolve(x, 1, pad=2, apart=True)
    x = F.max_pool2d(response_norm(x) if normed else x, 3, 2)
    x = convolve(x, 2, pad=1, apart=False)
    x = convolve(x, 3, pad=1, apart=True)
    x = F.max_pool2d(convolve(x, 4, pad=1, apart=True), 3, 2)
    assert x.shape[2:] == (6, 6)
    x = x.flatten(1)
    for name in ("classifier.1", "classifier.4"):
        x = F.relu(x @ p[f"{name}.weight"].T + p[f"{name}.bias"])
    return x @ p["head.weight"].T + p["head.bias"]


@pytest.mark.parametrize("name", ["alexnet", "alexnet-2012"])
def test_alexnet_is_that_of_the_paper(name: str) -> None:
    size = (227, 227) if name == "alexnet-2012" else (224, 224)
    model = create_model(
        name, seed=0, image_size=size, channels=(6, 8, 12, 8, 8), hidden_size=10, num_classes=4, initialiser="he-normal"
    )
    # Inputs and weights large enough that response normalisation shows: with values of 1 it divides by 2 ** 0.75 nearly.
    model = randomised(model, gain=2.0).eval()
    images, labels = pictures(*size, rows=2) * 5, torch.tensor([3, 1])
    mine = {key: tensor.detach().clone().requires_grad_() for key, tensor in model.named_parameters()}
    convolutions = [key.removesuffix(".weight") for key, tensor in mine.items() if tensor.ndim == 4]
    options: dict[str, Any] = {
        "names": convolutions,
        "towers": 2 if name == "alexnet-2012" else 1,
        "padding": 0 if name == "alexnet-2012" else 2,
        "normed": name == "alexnet-2012",
    }
    outputs, wanted = model(images), alexnet(mine, images, **options)
    close(outputs, wanted, "outputs")
    F.cross_entropy(outputs, labels).backward()
    F.cross_entropy(wanted, labels).backward()
    for key, parameter in model.named_parameters():
        close(parameter.grad, mine[key].grad, key)
    create_optimizer({"name": "sgd", "lr": RATE}, list(model.named_parameters())).step()
    stepped = {key: tensor.detach() - RATE * tensor.grad for key, tensor in mine.items()}
    for key, parameter in model.named_parameters():
        close(parameter, stepped[key], key)
    close(model(images), alexnet(stepped, images, **options), "after the step", rtol=1e-8)


# --- keras.applications --------------------------------------------------------------------------------------------


@pytest.fixture
def keras() -> Iterator[Any]:
    """Keras on torch, computing in float64."""
    with keras_in_float64() as found:
        yield found


def turned(ours: Tensor, key: str) -> Tensor:
    """Our weights as Keras keeps them: (height, width, in, out), depthwise (height, width, channels, 1), dense (in, out)."""
    if ours.ndim == 4:
        return ours.permute(2, 3, 0, 1) if "depthwise" in key else ours.permute(2, 3, 1, 0)
    return ours.T if ours.ndim == 2 else ours


def compare(theirs: Any, model: nn.Module, pairs: Mapping[str, Any], images: Tensor, **call: Any) -> None:
    """Outputs, gradients of the cross-entropy, one step of SGD, outputs after it."""
    state = model.state_dict()
    assert set(pairs) == {key for key in state if not key.endswith("num_batches_tracked")}
    for key, variable in pairs.items():
        variable.assign(turned(state[key], key).reshape(tuple(variable.shape)).numpy())
    labels = torch.arange(len(images)) % 3
    last = images.permute(0, 2, 3, 1).contiguous()
    outputs, wanted = model(images), theirs(last, **call).flatten(1)
    assert wanted.dtype == torch.float64
    close(outputs, wanted, "outputs")
    parameters = dict(model.named_parameters())
    F.cross_entropy(outputs, labels).backward()
    gradients = torch.autograd.grad(F.cross_entropy(wanted, labels), [pairs[key].value for key in parameters])
    for (key, parameter), gradient in zip(parameters.items(), gradients, strict=True):
        close(turned(parameter.grad, key).reshape(gradient.shape), gradient, key, rtol=1e-8)
    create_optimizer({"name": "sgd", "lr": RATE}, list(parameters.items())).step()
    with torch.no_grad():
        for (key, parameter), gradient in zip(parameters.items(), gradients, strict=True):
            pairs[key].assign((pairs[key].value - RATE * gradient).numpy())
            close(turned(parameter, key).reshape(gradient.shape), pairs[key].value, key)
        close(model(images), theirs(last, **call).flatten(1), "after the step", rtol=1e-7)


def test_vgg16_is_that_of_keras_applications(keras: Any) -> None:
    """Their convolutions, with the dense layers behind them, which read maps with channels last, in order of theirs."""
    size = (33, 64)
    convolutions = keras.applications.VGG16(include_top=False, weights=None, input_shape=(*size, 3))
    x = keras.layers.GlobalAveragePooling2D()(convolutions.output)
    for name, units in (("fc1", 7), ("fc2", 6)):
        x = keras.layers.Dense(units, activation="relu", name=name)(x)
    theirs = keras.Model(convolutions.input, keras.layers.Dense(3, name="predictions")(x))

    model = create_model("vgg16", seed=0, image_size=size, num_classes=3, pool_size=1, hidden_sizes=(7, 6))
    model = randomised(model).eval()
    names = [
        f"block{block}_conv{number}" for block, depth in enumerate((2, 2, 3, 3, 3), 1) for number in range(1, depth + 1)
    ]
    ours = [name for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    pairs = {}
    for own, name in zip(ours, [*names, "fc1", "fc2", "predictions"], strict=True):
        layer = theirs.get_layer(name)
        pairs |= {f"{own}.weight": layer.kernel, f"{own}.bias": layer.bias}
    compare(theirs, model, pairs, pictures(*size, rows=2), training=False)


@pytest.mark.parametrize("training", [False, True])
def test_mobilenet_is_that_of_keras_applications(keras: Any, training: bool) -> None:
    """Sizes that stay even: at odd ones Keras pads another way than TensorFlow's own "same", which ours is."""
    size = (64, 96)
    theirs = keras.applications.MobileNet(
        input_shape=(*size, 3), alpha=0.25, dropout=0.0, weights=None, classes=5, classifier_activation=None
    )
    model = create_model("mobilenet-v1", seed=0, image_size=size, num_classes=5, width_multiplier=0.25)
    model = randomised(model).train(training)
    names = {"conv1": "conv1", "bn1": "conv1_bn", "head": "conv_preds"}
    for number in range(1, 14):
        for own, name in (("depthwise", "dw"), ("pointwise", "pw")):
            names[f"blocks.{number - 1}.{own}"] = f"conv_{name}_{number}"
        for own, name in (("bn1", "dw"), ("bn2", "pw")):
            names[f"blocks.{number - 1}.{own}"] = f"conv_{name}_{number}_bn"
    pairs = {}
    for own, name in names.items():
        layer = theirs.get_layer(name)
        if name.endswith("_bn"):
            assert layer.epsilon == model.get_submodule(own).eps
            variables = {
                "weight": "gamma",
                "bias": "beta",
                "running_mean": "moving_mean",
                "running_var": "moving_variance",
            }
            pairs |= {f"{own}.{ours}": getattr(layer, variable) for ours, variable in variables.items()}
        else:
            pairs[f"{own}.weight"] = layer.kernel
            if layer.use_bias:
                pairs[f"{own}.bias"] = layer.bias
    compare(theirs, model, pairs, pictures(*size, rows=4), training=training)
