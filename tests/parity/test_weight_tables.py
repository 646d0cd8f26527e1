"""Each source's network written down in its own names and layouts, beside ours with the same weights by the table.

The networks below are functions of a state dict as the source keeps it (torchvision, Idelbayev, Keras), built of bare
`torch.nn.functional` and, for Keras, of patches and einsum over NHWC images. In float64 outputs, gradients and one step of
gradient descent agree to rounding: the tolerance is some thousand times the machine's 2e-16 for sums of some thousand terms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lamina.models.factory import create_model
from lamina.models.weights.table import get_table

State = Mapping[str, Tensor]
TOLERANCE = {"atol": 1e-11, "rtol": 1e-9}


def norm(x: Tensor, state: State, name: str) -> Tensor:
    mean, var, weight, bias = (
        state[f"{name}.{part}"].view(1, -1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (var + 1e-5).sqrt() * weight + bias


def torchvision_resnet(state: State, images: Tensor) -> Tensor:
    x = F.relu(norm(F.conv2d(images, state["conv1.weight"], stride=2, padding=3), state, "bn1"))
    x = F.max_pool2d(x, 3, 2, 1)
    for layer in range(1, 5):
        block = 0
        while (name := f"layer{layer}.{block}") + ".conv1.weight" in state:
            stride = 2 if layer > 1 and block == 0 else 1
            if f"{name}.conv3.weight" in state:
                y = F.relu(norm(F.conv2d(x, state[f"{name}.conv1.weight"]), state, f"{name}.bn1"))
                y = F.conv2d(y, state[f"{name}.conv2.weight"], stride=stride, padding=1)
                y = F.conv2d(F.relu(norm(y, state, f"{name}.bn2")), state[f"{name}.conv3.weight"])
                y = norm(y, state, f"{name}.bn3")
            else:
                y = F.conv2d(x, state[f"{name}.conv1.weight"], stride=stride, padding=1)
                y = F.conv2d(F.relu(norm(y, state, f"{name}.bn1")), state[f"{name}.conv2.weight"], padding=1)
                y = norm(y, state, f"{name}.bn2")
            if f"{name}.downsample.0.weight" in state:
                shortcut = F.conv2d(x, state[f"{name}.downsample.0.weight"], stride=stride)
                x = norm(shortcut, state, f"{name}.downsample.1")
            x = F.relu(x + y)
            block += 1
    return F.linear(x.mean((2, 3)), state["fc.weight"], state["fc.bias"])


def akamaster_resnet(state: State, images: Tensor) -> Tensor:
    own = {key.removeprefix("module."): tensor for key, tensor in state.items()}
    x = F.relu(norm(F.conv2d(images, own["conv1.weight"], padding=1), own, "bn1"))
    for layer in range(1, 4):
        for block in range(3):
            name, stride = f"layer{layer}.{block}", 2 if layer > 1 and block == 0 else 1
            y = F.relu(norm(F.conv2d(x, own[f"{name}.conv1.weight"], stride=stride, padding=1), own, f"{name}.bn1"))
            y = norm(F.conv2d(y, own[f"{name}.conv2.weight"], padding=1), own, f"{name}.bn2")
            if stride == 2:
                quarter = y.shape[1] // 4
                x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, quarter, quarter))
            x = F.relu(x + y)
    return F.linear(x.mean((2, 3)), own["linear.weight"], own["linear.bias"])


def torchvision_stack(state: State, images: Tensor, *, plan: list[Any], size: int, dense: list[int]) -> Tensor:
    """AlexNet and VGG: `features` by number, then `classifier` by number."""
    x = images
    for step in plan:
        if isinstance(step, tuple) and step[0] == "pool":
            x = F.max_pool2d(x, step[1], step[2])
            continue
        number, stride, padding = step if isinstance(step, tuple) else (step, 1, 1)
        x = F.conv2d(x, state[f"features.{number}.weight"], state[f"features.{number}.bias"], stride, padding)
        if f"features.{number + 1}.running_mean" in state:
            x = norm(x, state, f"features.{number + 1}")
        x = F.relu(x)
    x = F.adaptive_avg_pool2d(x, size).flatten(1)
    for place, number in enumerate(dense):
        x = F.linear(x, state[f"classifier.{number}.weight"], state[f"classifier.{number}.bias"])
        x = F.relu(x) if place < len(dense) - 1 else x
    return x


def alexnet(state: State, images: Tensor) -> Tensor:
    plan = [(0, 4, 2), ("pool", 3, 2), (3, 1, 2), ("pool", 3, 2), 6, 8, 10, ("pool", 3, 2)]
    return torchvision_stack(state, images, plan=plan, size=6, dense=[1, 4, 6])


def vgg11(state: State, images: Tensor) -> Tensor:
    pool = ("pool", 2, 2)
    plan = [0, pool, 3, pool, 6, 8, pool, 11, 13, pool, 16, 18, pool]
    return torchvision_stack(state, images, plan=plan, size=7, dense=[0, 3, 6])


def vgg11_bn(state: State, images: Tensor) -> Tensor:
    pool = ("pool", 2, 2)
    plan = [0, pool, 4, pool, 8, 11, pool, 15, 18, pool, 22, 25, pool]
    return torchvision_stack(state, images, plan=plan, size=7, dense=[0, 3, 6])


def keras_mobilenet(state: State, images: Tensor) -> Tensor:
    def patches(x: Tensor, stride: int) -> Tensor:
        """(B, H, W, C) -> (B, H', W', 3, 3, C): one zero around, with stride 2 only below and to the right."""
        pad = (0, 0, 0, 1, 0, 1) if stride == 2 else (0, 0, 1, 1, 1, 1)
        return F.pad(x, pad).unfold(1, 3, stride).unfold(2, 3, stride).permute(0, 1, 2, 4, 5, 3)

    def after(x: Tensor, name: str) -> Tensor:
        gamma, beta, mean, var = (state[f"{name}.{p}"] for p in ("gamma", "beta", "moving_mean", "moving_variance"))
        return ((x - mean) * gamma / (var + 1e-3).sqrt() + beta).clamp(0, 6)

    x = images.permute(0, 2, 3, 1)
    x = after(torch.einsum("bhwijc,ijco->bhwo", patches(x, 2), state["conv1.kernel"]), "conv1_bn")
    for n in range(1, 14):
        windows = patches(x, 2 if n in (2, 4, 6, 12) else 1)
        kernel = state[f"conv_dw_{n}.depthwise_kernel"][..., 0]
        x = after(torch.einsum("bhwijc,ijc->bhwc", windows, kernel), f"conv_dw_{n}_bn")
        x = after(torch.einsum("bhwc,co->bhwo", x, state[f"conv_pw_{n}.kernel"][0, 0]), f"conv_pw_{n}_bn")
    return x.mean((1, 2)) @ state["conv_preds.kernel"][0, 0] + state["conv_preds.bias"]


CASES: dict[str, tuple[str, str, Callable[[State, Tensor], Tensor], dict[str, Any], tuple[int, int]]] = {
    "torchvision resnet18": (
        "torchvision-resnet",
        "resnet18",
        torchvision_resnet,
        {"width": 4, "num_classes": 5},
        (40, 56),
    ),
    "torchvision resnet50": (
        "torchvision-resnet",
        "resnet50",
        torchvision_resnet,
        {"width": 4, "num_classes": 5},
        (40, 56),
    ),
    "timm resnet34": ("timm-resnet", "resnet34", torchvision_resnet, {"width": 4, "num_classes": 5}, (40, 56)),
    "akamaster resnet20": ("akamaster-resnet", "resnet20", akamaster_resnet, {}, (32, 32)),
    "alexnet": (
        "torchvision-alexnet",
        "alexnet",
        alexnet,
        {"channels": (4, 6, 6, 4, 4), "hidden_size": 8, "num_classes": 5},
        (70, 80),
    ),
    "vgg11": (
        "torchvision-vgg",
        "vgg11",
        vgg11,
        {"channels": (4, 4, 6, 6, 6), "hidden_sizes": (8, 8), "num_classes": 5},
        (40, 64),
    ),
    "vgg11-bn": (
        "torchvision-vgg",
        "vgg11-bn",
        vgg11_bn,
        {"channels": (4, 4, 6, 6, 6), "hidden_sizes": (8, 8), "num_classes": 5},
        (40, 64),
    ),
    "keras mobilenet": (
        "keras-mobilenet",
        "mobilenet-v1",
        keras_mobilenet,
        {"width_multiplier": 0.25, "num_classes": 5},
        (64, 96),
    ),
}


def learned(key: str) -> bool:
    return not any(part in key for part in ("running_", "moving_", "num_batches"))


@pytest.mark.parametrize("case", CASES)
def test_outputs_gradients_and_a_step(case: str) -> None:
    name, model_name, network, values, size = CASES[case]
    table = get_table(name)
    model = create_model(model_name, seed=0, image_size=size, **values).double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.ndim == 1:
                tensor.copy_(torch.rand(tensor.shape, generator=generator, dtype=torch.float64) + 0.5)
    images = torch.randn(2, 3, *size, generator=generator, dtype=torch.float64)
    targets = torch.tensor([1, 3])
    theirs = {
        key: tensor.detach().clone().requires_grad_(learned(key))
        for key, tensor in table.invert(model.state_dict()).items()
    }
    outputs, wanted = model(images), network(theirs, images)
    assert float(wanted.detach().std()) > 0
    torch.testing.assert_close(outputs, wanted, **TOLERANCE)

    F.cross_entropy(outputs, targets).backward()
    F.cross_entropy(wanted, targets).backward()
    ours = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
    gradients = table.invert(ours)
    assert set(gradients) == {key for key, tensor in theirs.items() if tensor.requires_grad}
    for key, gradient in gradients.items():
        torch.testing.assert_close(gradient, theirs[key].grad, **TOLERANCE, msg=key)

    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0.01 * parameter.grad  # type: ignore[operator]
        stepped = {k: t - 0.01 * t.grad if t.grad is not None else t for k, t in theirs.items()}
        torch.testing.assert_close(model(images), network(stepped, images), **TOLERANCE)
