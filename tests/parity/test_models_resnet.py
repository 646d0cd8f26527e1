"""ResNets against other implementations in float64: outputs, gradients, batch statistics and one step of SGD.

The CIFAR networks: against a network written here from section 4.2 of the paper, as functions of a mapping of arrays, with batch norm
from its formula, convolution as a matrix product of patches and the shortcut as a product with a matrix of zeros and ones.
The ImageNet networks: against keras.applications, whose ResNets are the paper's own (stride in the first 1x1).

The tolerances: both sides round in float64 (1e-16) over sums of up to 1e5 terms in up to 50 layers; 1e-9 relative is met with room,
while a wrong epsilon, stride or padding shows in the third digit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from helpers import keras_in_float64
from lamina.models.factory import create_model
from lamina.optim.create import create_optimizer

EPS = 1e-5
MOMENTUM, DECAY, RATE = 0.9, 1e-4, 0.1


# --- section 4.2, as functions ------------------------------------------------------------------------------------------


def convolve(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """3x3, a border of one zero: patches times a matrix."""
    b, c, h, w = x.shape
    border = x.new_zeros(b, c, h + 2, w + 2)
    border[:, :, 1:-1, 1:-1] = x
    pieces = [border[:, :, i : i + h, j : j + w][:, :, ::stride, ::stride] for i in range(3) for j in range(3)]
    patches = torch.stack(pieces, dim=2)  # (B, C, 9, H', W')
    return torch.einsum("bckhw,ock->bohw", patches, weight.flatten(2))


def normalise(x: Tensor, p: dict[str, Tensor], name: str, training: bool) -> Tensor:
    """(x - mean) / sqrt(variance + eps) * scale + shift; the variance of the batch is divided by n."""
    if training:
        mean = x.mean((0, 2, 3), keepdim=True)
        variance = ((x - mean) ** 2).mean((0, 2, 3), keepdim=True)
    else:
        mean, variance = (p[f"{name}.running_{what}"][None, :, None, None] for what in ("mean", "var"))
    scale, shift = (p[f"{name}.{what}"][None, :, None, None] for what in ("weight", "bias"))
    return (x - mean) / (variance + EPS) ** 0.5 * scale + shift


def rectify(x: Tensor) -> Tensor:
    return x * (x > 0)


def shortcut_a(x: Tensor, out_channels: int) -> Tensor:
    """Every second pixel; a channel c becomes channel c + (out - in) / 2."""
    into = torch.zeros(out_channels, x.shape[1], dtype=x.dtype)
    for channel in range(x.shape[1]):
        into[channel + (out_channels - x.shape[1]) // 2, channel] = 1.0
    rows = torch.arange(0, x.shape[2], 2)
    columns = torch.arange(0, x.shape[3], 2)
    return torch.einsum("oc,bchw->bohw", into, x[:, :, rows][:, :, :, columns])


def cifar_resnet(p: dict[str, Tensor], x: Tensor, *, n: int, option: str, training: bool) -> Tensor:
    """Logits of the 6n + 2 layers."""
    x = rectify(normalise(convolve(x, p["conv1.weight"], 1), p, "bn1", training))
    for stage in (1, 2, 3):
        for block in range(n):
            name = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            y = rectify(normalise(convolve(x, p[f"{name}.conv1.weight"], stride), p, f"{name}.bn1", training))
            y = normalise(convolve(y, p[f"{name}.conv2.weight"], 1), p, f"{name}.bn2", training)
            if f"{name}.downsample.0.weight" in p:
                projected = torch.einsum(
                    "oc,bchw->bohw", p[f"{name}.downsample.0.weight"][:, :, 0, 0], x[:, :, ::stride, ::stride]
                )
                x = normalise(projected, p, f"{name}.downsample.1", training)
            elif stride == 2:
                assert option == "A"
                x = shortcut_a(x, y.shape[1])
            x = rectify(x + y)
    return x.mean((2, 3)) @ p["head.weight"].T + p["head.bias"]


def randomised(model: nn.Module) -> nn.Module:
    """In float64, with norms and biases that are not what they begin as, which would hide mistakes."""
    generator = torch.Generator().manual_seed(3)
    for key, tensor in model.double().state_dict().items():
        if "running_var" in key or (tensor.ndim == 1 and key.endswith("weight")):
            tensor.uniform_(0.6, 1.4, generator=generator)
        elif "running_mean" in key or key.endswith("bias"):
            tensor.uniform_(-0.3, 0.3, generator=generator)
    return model


def close(found: Tensor, wanted: Tensor, name: str = "", rtol: float = 1e-9) -> None:
    size = float(wanted.detach().abs().max())
    torch.testing.assert_close(
        found.detach(), wanted.detach(), rtol=rtol, atol=rtol * size, msg=lambda text: f"{name}: {text}"
    )


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("name", "option", "size"), [("resnet20", "A", (16, 14)), ("resnet32", "C", (9, 12))])
def test_cifar_resnet(name: str, option: str, size: tuple[int, int], training: bool) -> None:
    model = randomised(create_model(name, seed=0, width=6, image_size=size, shortcut=option)).train(training)
    n = (int(name.removeprefix("resnet")) - 2) // 6
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(4, 3, *size, generator=generator, dtype=torch.float64)
    labels = torch.tensor([3, 1, 4, 1])
    mine = {key: tensor.detach().clone() for key, tensor in model.state_dict().items()}
    for key, _ in model.named_parameters():
        mine[key].requires_grad_()

    wanted = cifar_resnet(mine, images, n=n, option=option, training=training)
    outputs = model(images)
    close(outputs, wanted, "outputs")
    nn.functional.cross_entropy(outputs, labels).backward()
    logs = wanted - wanted.exp().sum(1, keepdim=True).log()
    (-logs[torch.arange(4), labels].mean()).backward()
    for key, parameter in model.named_parameters():
        close(parameter.grad, mine[key].grad, key, rtol=1e-8)

    # One step of SGD with momentum and weight decay: the first velocity is the gradient itself.
    values = {"name": "momentum", "lr": RATE, "momentum": MOMENTUM, "weight_decay": DECAY}
    optimizer = create_optimizer(values, list(model.named_parameters()))
    optimizer.step()
    decayed = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for key, parameter in model.named_parameters():
        before = mine[key].detach()
        step = mine[key].grad + decayed[id(parameter)] * before
        close(parameter, before - RATE * step, key)
        mine[key] = before - RATE * step
    if not training:
        close(
            model(images), cifar_resnet(mine, images, n=n, option=option, training=False), "after the step", rtol=1e-8
        )


def test_cifar_resnet_running_statistics() -> None:
    model = randomised(create_model("resnet20", seed=0, width=4, image_size=(8, 8))).train()
    images = torch.randn(5, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    model(images)
    first = convolve(images, before["conv1.weight"], 1)
    mean, count = first.mean((0, 2, 3)), first.numel() / first.shape[1]
    variance = ((first - mean[None, :, None, None]) ** 2).sum((0, 2, 3)) / (count - 1)
    after = model.state_dict()
    close(after["bn1.running_mean"], 0.9 * before["bn1.running_mean"] + 0.1 * mean)
    close(after["bn1.running_var"], 0.9 * before["bn1.running_var"] + 0.1 * variance)


# --- keras.applications -------------------------------------------------------------------------------------------------

NAMES = {"conv": ("conv", "weight"), "bn": ("bn", "")}
BLOCKS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3), "resnet152": (3, 8, 36, 3)}


@pytest.fixture
def keras() -> Iterator[Any]:
    """Keras on torch, computing in float64."""
    with keras_in_float64() as found:
        yield found


def keras_names(blocks: tuple[int, ...]) -> dict[str, str]:
    """Our module -> the layer of keras.applications."""
    names = {"conv1": "conv1_conv", "bn1": "conv1_bn", "head": "predictions"}
    for stage, number in enumerate(blocks, start=1):
        for block in range(number):
            theirs = f"conv{stage + 1}_block{block + 1}"
            for place in (1, 2, 3):
                names[f"layer{stage}.{block}.conv{place}"] = f"{theirs}_{place}_conv"
                names[f"layer{stage}.{block}.bn{place}"] = f"{theirs}_{place}_bn"
            if block == 0:
                names[f"layer{stage}.{block}.downsample.0"] = f"{theirs}_0_conv"
                names[f"layer{stage}.{block}.downsample.1"] = f"{theirs}_0_bn"
    return names


def their_layout(ours: Tensor) -> Tensor:
    """(out, in, height, width) -> (height, width, in, out); (out, in) -> (in, out)."""
    if ours.ndim == 4:
        return ours.permute(2, 3, 1, 0)
    return ours.T if ours.ndim == 2 else ours


def their_variables(layer: Any, own: nn.Module) -> dict[str, Any]:
    """Our parameter -> their variable."""
    if isinstance(own, nn.BatchNorm2d):
        return {
            "weight": layer.gamma,
            "bias": layer.beta,
            "running_mean": layer.moving_mean,
            "running_var": layer.moving_variance,
        }
    pairs = {"weight": layer.kernel}
    if own.bias is not None:
        pairs["bias"] = layer.bias
    return pairs


@pytest.mark.parametrize("training", [False, True])
def test_resnet50_is_that_of_keras_applications(keras: Any, training: bool) -> None:
    theirs = keras.applications.ResNet50(weights=None, input_shape=(40, 48, 3), classes=5, classifier_activation=None)
    model = create_model("resnet50", seed=0, version="v1", image_size=(40, 48), num_classes=5)
    model = randomised(model).train(training)
    pairs: dict[str, Any] = {}
    epsilons = set()
    for ours, name in keras_names(BLOCKS["resnet50"]).items():
        layer, own = theirs.get_layer(name), model.get_submodule(ours)
        for key, variable in their_variables(layer, own).items():
            variable.assign(their_layout(own.state_dict()[key]).numpy())
            pairs[f"{ours}.{key}"] = variable
        if isinstance(own, nn.BatchNorm2d):
            own.eps = layer.epsilon  # theirs is 1.001e-5
            epsilons.add(layer.epsilon)
        elif own.bias is None:  # a bias before a batch norm changes nothing that is trained
            layer.bias.assign(np.zeros(layer.bias.shape))
    assert set(pairs) == {key for key in model.state_dict() if not key.endswith("num_batches_tracked")}
    assert epsilons == {1.001e-5}

    images = torch.randn(3, 3, 40, 48, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    labels = torch.tensor([3, 1, 4])
    wanted = theirs(images.permute(0, 2, 3, 1).contiguous(), training=training)
    outputs = model(images)
    assert wanted.dtype == torch.float64
    close(outputs, wanted, "outputs", rtol=1e-8)

    nn.functional.cross_entropy(outputs, labels).backward()
    parameters = dict(model.named_parameters())
    loss = nn.functional.cross_entropy(wanted, labels)
    gradients = torch.autograd.grad(loss, [pairs[key].value for key in parameters])
    for (key, parameter), gradient in zip(parameters.items(), gradients, strict=True):
        close(their_layout(parameter.grad), gradient, key, rtol=1e-7)

    create_optimizer({"name": "sgd", "lr": 0.01}, list(model.named_parameters())).step()
    with torch.no_grad():
        for key, gradient in zip(parameters, gradients, strict=True):
            pairs[key].assign((pairs[key].value - 0.01 * gradient).numpy())
            close(their_layout(parameters[key]), pairs[key].value, key)
        if not training:
            after = theirs(images.permute(0, 2, 3, 1).contiguous(), training=False)
            close(model(images), after, "after the step", rtol=1e-6)
