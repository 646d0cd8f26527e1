"""LeNet-5, MLP and sign-cnn against independent implementations in numpy, float64: outputs and gradients.

The tolerance is 1e-10 relative: both sides round in float64 (1e-16) over sums of at most a few thousand terms.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from lamina.models.cnn import sign_cnn
from lamina.models.factory import create_model
from lamina.models.lenet import LeNet
from lamina.models.mlp import MLP

Array = NDArray[np.float64]


def parameters(model: nn.Module) -> dict[str, Array]:
    return {name: tensor.detach().double().numpy().copy() for name, tensor in model.state_dict().items()}


def patches(x: Array, k: int, pad: int) -> Array:
    """(N, C, H, W) -> (N, H', W', C*k*k)."""
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    views = np.lib.stride_tricks.sliding_window_view(x, (k, k), axis=(2, 3))  # (N, C, H', W', k, k)
    return views.transpose(0, 2, 3, 1, 4, 5).reshape(*views.shape[0:1], *views.shape[2:4], -1)


def conv(x: Array, weight: Array, bias: Array, pad: int) -> Array:
    out = patches(x, weight.shape[2], pad) @ weight.reshape(len(weight), -1).T + bias
    return out.transpose(0, 3, 1, 2)


def mean_pool(x: Array) -> Array:
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).mean((3, 5))


def lenet(p: dict[str, Array], x: Array) -> Array:
    x = mean_pool(np.tanh(conv(x, p["conv1.weight"], p["conv1.bias"], 2)))
    x = mean_pool(np.tanh(conv(x, p["conv2.weight"], p["conv2.bias"], 0)))
    x = x.reshape(len(x), -1)
    x = np.tanh(x @ p["fc1.weight"].T + p["fc1.bias"])
    x = np.tanh(x @ p["fc2.weight"].T + p["fc2.bias"])
    return x @ p["head.weight"].T + p["head.bias"]


def softmax_loss(scores: Array, labels: NDArray[np.int64]) -> float:
    shifted = scores - scores.max(1, keepdims=True)
    return float((np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(labels)), labels]).mean())


def loss_gradients(model: nn.Module, x: Array, labels: NDArray[np.int64]) -> dict[str, Array]:
    model.zero_grad()
    nn.functional.cross_entropy(model(torch.from_numpy(x)), torch.from_numpy(labels)).backward()
    return {name: parameter.grad.numpy().copy() for name, parameter in model.named_parameters()}


def test_lenet_outputs_and_gradients() -> None:
    model = create_model("lenet5", seed=0).double()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):  # zero at first, which would hide a mistake
            nn.init.uniform_(parameter, -0.3, 0.3, generator=torch.Generator().manual_seed(1))
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(4, 1, 28, 28)), np.array([3, 1, 4, 1])
    p = parameters(model)
    np.testing.assert_allclose(model(torch.from_numpy(x)).detach().numpy(), lenet(p, x), rtol=1e-10, atol=1e-12)
    gradients = loss_gradients(model, x, labels)
    for name, gradient in gradients.items():
        # Along a random direction, by central differences of the numpy network: error about step**2 + 1e-16 / step.
        direction = rng.normal(size=gradient.shape)
        step = 1e-5
        ends = [softmax_loss(lenet({**p, name: p[name] + sign * step * direction}, x), labels) for sign in (1, -1)]
        slope = (ends[0] - ends[1]) / (2 * step)
        assert slope == pytest.approx(float((gradient * direction).sum()), rel=1e-6, abs=1e-9), name


def mlp_gradients(p: dict[str, Array], x: Array, labels: NDArray[np.int64]) -> tuple[Array, dict[str, Array]]:
    """Forward and backward by hand: sigmoid units, softmax, cross-entropy."""
    layers = ["body.linear1", "body.linear2", "head"]
    activations = [x]
    for layer in layers[:-1]:
        activations.append(1 / (1 + np.exp(-(activations[-1] @ p[f"{layer}.weight"].T + p[f"{layer}.bias"]))))
    scores = activations[-1] @ p["head.weight"].T + p["head.bias"]
    shares = np.exp(scores - scores.max(1, keepdims=True))
    delta = shares / shares.sum(1, keepdims=True)
    delta[np.arange(len(x)), labels] -= 1
    delta /= len(x)
    gradients = {}
    for layer, inputs in zip(reversed(layers), reversed(activations), strict=True):
        gradients[f"{layer}.weight"] = delta.T @ inputs
        gradients[f"{layer}.bias"] = delta.sum(0)
        delta = (delta @ p[f"{layer}.weight"]) * inputs * (1 - inputs)
    return scores, gradients


def test_mlp_outputs_and_gradients() -> None:
    model = create_model("mlp", seed=0, activation="sigmoid").double()
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(9, 784)), rng.integers(0, 10, 9)
    scores, expected = mlp_gradients(parameters(model), x, labels)
    np.testing.assert_allclose(model(torch.from_numpy(x)).detach().numpy(), scores, rtol=1e-10)
    for name, gradient in loss_gradients(model, x, labels).items():
        np.testing.assert_allclose(gradient, expected[name], rtol=1e-10, atol=1e-14, err_msg=name)


def same_max_pool(x: Array) -> Array:
    n, c, h, w = x.shape
    x = np.pad(x, ((0, 0), (0, 0), (0, h % 2), (0, w % 2)), constant_values=-np.inf)
    return x.reshape(n, c, x.shape[2] // 2, 2, x.shape[3] // 2, 2).max((3, 5))


def test_sign_cnn_outputs_in_evaluation() -> None:
    model = sign_cnn().double().eval()
    generator = torch.Generator().manual_seed(0)
    for name, buffer in model.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5, generator=generator)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            nn.init.uniform_(parameter, -0.5, 0.5, generator=generator)
        assert parameter.dtype == torch.float64, name
    p = parameters(model)
    images = np.random.default_rng(0).normal(size=(3, 1, 28, 28))
    x = images
    for number in (1, 2, 3):
        x = np.maximum(conv(x, p[f"body.conv{number}.weight"], p[f"body.conv{number}.bias"], 1), 0)
        norm = f"body.norm{number}"
        mean, variance = p[f"{norm}.running_mean"], p[f"{norm}.running_var"]
        scale = p[f"{norm}.weight"] / np.sqrt(variance + 1e-5)
        x = x * scale[:, None, None] + (p[f"{norm}.bias"] - mean * scale)[:, None, None]
        x = same_max_pool(x)
    x = np.maximum(x.reshape(3, -1) @ p["body.dense1.weight"].T + p["body.dense1.bias"], 0)
    scores = x @ p["head.weight"].T + p["head.bias"]
    with torch.no_grad():
        found = model(torch.from_numpy(images)).numpy()
        last = model(torch.from_numpy(images).contiguous(memory_format=torch.channels_last)).numpy()
    np.testing.assert_allclose(found, scores, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(last, scores, rtol=1e-10, atol=1e-12)


def test_the_classes_are_what_the_registry_builds() -> None:
    assert type(create_model("lenet5")) is LeNet
    assert type(create_model("mlp")) is MLP
