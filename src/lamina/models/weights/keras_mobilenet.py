"""MobileNet v1 as Keras Applications names and lays out its arrays.

Source: Keras Applications, `keras/src/applications/mobilenet.py`, https://github.com/keras-team/keras (Apache-2.0; weights by
Google); Howard et al. (2017), arXiv:1704.04861. An NPZ with `.` for `/` in the names. Kernels are (height, width, in, out), a
depthwise one (height, width, channels, 1); the classifier is a 1x1 convolution. Batch norm has epsilon 0.001, images are
scaled to -1 … 1, and "same" padding puts the odd zero behind.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from torch import Tensor

from lamina.models.weights.table import Preparation, Rule, Transform, WeightTable, declare

__all__ = ["MOBILENET"]

_KERNEL: Final = Transform(
    "(height, width, in, out) -> (out, in, height, width)",
    lambda kernel: kernel.permute(3, 2, 0, 1),
    lambda kernel: kernel.permute(2, 3, 1, 0),
    4,
)
_DEPTHWISE: Final = Transform(
    "(height, width, channels, 1) -> (channels, 1, height, width)",
    lambda kernel: kernel.permute(2, 3, 0, 1),
    lambda kernel: kernel.permute(2, 3, 0, 1),
    4,
)
_CLASSIFIER: Final = Transform(
    "(1, 1, in, out) -> (out, in)",
    lambda kernel: kernel.flatten(0, 2).T,
    lambda weight: weight.T[None, None],
    4,
)
_NORM: Final = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def _norms(theirs: str, ours: str) -> tuple[Rule, ...]:
    return tuple(Rule(f"{theirs}.{a}", f"{ours}.{b}") for a, b in _NORM.items())


def _built(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """How wide the network of a file is, and how many blocks it has: the widely copied one ends after 12 of the 13."""
    numbers = [int(found[1]) for key in state if (found := re.match(r"blocks\.(\d+)\.", key)) is not None]
    values: dict[str, Any] = {"last_block": max(numbers) + 1} if numbers else {}
    if "conv1.weight" in state:
        values["width_multiplier"] = state["conv1.weight"].shape[0] / 32
    return values


MOBILENET: Final = declare(
    __name__,
    WeightTable(
        name="keras-mobilenet",
        summary="Keras's MobileNet v1 as an NPZ of its arrays, whole or without the last block and the classifier.",
        source="Keras Applications, mobilenet.py, https://github.com/keras-team/keras; Howard et al. (2017), arXiv:1704.04861",
        models={"mobilenet-v1": {}, "mobilenet_v1": {}},
        rules=(
            Rule("conv1.kernel", "conv1.weight", _KERNEL),
            *_norms("conv1_bn", "bn1"),
            Rule("conv_dw_{n}.depthwise_kernel", "blocks.{n-1}.depthwise.weight", _DEPTHWISE),
            Rule("conv_dw_{n}.kernel", "blocks.{n-1}.depthwise.weight", _DEPTHWISE, alias=True),  # as of Keras 3
            *_norms("conv_dw_{n}_bn", "blocks.{n-1}.bn1"),
            Rule("conv_pw_{n}.kernel", "blocks.{n-1}.pointwise.weight", _KERNEL),
            *_norms("conv_pw_{n}_bn", "blocks.{n-1}.bn2"),
            Rule("conv_preds.kernel", "head.weight", _CLASSIFIER),
            Rule("conv_preds.bias", "head.bias"),
        ),
        preparation=Preparation(size=(224, 224), low=-1.0, high=1.0),
        missing=("head.<p>",),
        configure=_built,
    ),
    example="lamina inspect mobilenet-v1 --weights mobilenet_v1_1.0_224_imagenet_to_pw12_fp16.npz",
)
