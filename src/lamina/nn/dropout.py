"""Dropout whose masks are pure functions of (seed, step, layer, row), and cheap.

torch's dropout draws from a global generator, so that its masks depend on whatever was drawn before, and on a CPU those
draws cost more than the layer beneath (`bernoulli_` takes about 30 times as long as raw random bits). Here a mask comes
from a counter-based hash in 32-bit integer arithmetic: the same bits eagerly, inside a compiled graph, for any division
of the batch into micro-batches and after a restart.

While the engine trains, `DropoutKeys` sets the key of every layer before each step. Without an engine the layers draw a
fresh key from torch's global generator at each forward pass and behave as torch's own.

Differs from the paper: activations are scaled up in training instead of weights scaled down afterwards, as everywhere today.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn

from lamina.core import draws
from lamina.core.config import Config, Field
from lamina.core.errors import ConfigError
from lamina.core.registry import register

__all__ = ["Dropout", "DropoutConfig", "DropoutKeys", "SpatialDropout"]

# One round of the mixing function in core/draws (constants of lowbias32) over a Weyl sequence, with the key entering
# before and in the middle of it, so that two keys do not give one sequence shifted. A mask needs no second round
# (tests/unit/nn/test_dropout.py measures uniformity, independence and avalanche), and this is the hot path: on feature
# maps a layer takes a quarter of the time of torch's or less, on small tensors, where calls dominate, two thirds
# (benchmarks/layers.py). Eight bits per element would save another fifth, but p would come in steps of 1/256.
_M1: Final = 0x7FEB352D
_M2: Final = 0x846CA68B - (1 << 32)
_GOLDEN: Final = 0x9E3779B9
_LEVELS: Final = 1 << 16  # each element compares 16 random bits; two share a hashed word


class DropoutConfig(Config):
    """Options of a dropout layer."""

    p: float = Field(
        0.5, description="Probability that an element (a channel, when spatial) is dropped in training.", ge=0, lt=1
    )


def _as_int32(number: int) -> int:
    """The signed 32-bit number with the same low 32 bits."""
    return (number + (1 << 31)) % (1 << 32) - (1 << 31)


def _shifted(bits: Tensor, places: int) -> Tensor:
    """Logical right shift of int32 into a new tensor."""
    return (bits >> places).bitwise_and_((1 << (32 - places)) - 1)


def _hash(bits: Tensor, key: Tensor) -> Tensor:
    """Mix int32 words in place; `bits` must be the caller's own."""
    bits.bitwise_xor_(_shifted(bits, 16)).mul_(_M1)
    bits.bitwise_xor_(key)
    bits.bitwise_xor_(_shifted(bits, 15)).mul_(_M2)
    return bits.bitwise_xor_(_shifted(bits, 16))


def _lanes(key: Tensor, *, num_rows: int, width: int) -> Tensor:
    """Uniform random integers in [-32768, 32768), (num_rows, width): element e of row r depends on key[0], key[1] + r and e alone.

    Both branches give the same numbers, as int16 and int32. Reinterpreting a word as two lanes costs nothing eagerly,
    whereas a compiler keeps plain arithmetic in registers and fuses it into its neighbours, faster although each word
    is hashed twice; it vectorises shifts, but no integer division.
    """
    words = -(-width // 2)
    first, first_row = key.unbind()
    offset = first_row * _as_int32(words * _GOLDEN) + first
    if torch.compiler.is_compiling():
        element = torch.arange(width, dtype=torch.int32, device=key.device)
        row = torch.arange(num_rows, dtype=torch.int32, device=key.device).unsqueeze(1)
        bits = _hash((row * words + (element >> 1)) * _as_int32(_GOLDEN) + offset, first)
        return (bits << ((1 - (element & 1)) * 16)) >> 16
    bits = torch.arange(num_rows * words, dtype=torch.int32, device=key.device)
    bits = _hash(bits.mul_(_as_int32(_GOLDEN)).add_(offset), first)
    lanes = bits.view(torch.int16).view(num_rows, words * 2)  # little-endian, as all of torch's platforms
    return lanes if words * 2 == width else lanes[:, :width]


class _KeyedDropout(nn.Module):
    """What both dropouts share: the key and the threshold."""

    key: Tensor

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0.0 <= p < 1.0:
            raise ConfigError(
                f"{type(self).__name__} got p={p!r}.",
                where=f"{type(self).__name__}, argument `p`",
                accepts="a probability of dropping, 0 <= p < 1",
                mend="p=0 keeps everything; to drop nearly everything use p=0.999",
            )
        self.p = p
        self.threshold = min(round(p * _LEVELS), _LEVELS - 1)  # lanes below it are dropped
        self.keep_prob = 1.0 - self.threshold / _LEVELS
        self.engine_driven = False
        self.register_buffer("key", torch.zeros(2, dtype=torch.int32), persistent=False)

    def extra_repr(self) -> str:
        """The probability, for printing."""
        return f"p={self.p}"

    def _mask(self, *, num_rows: int, width: int, dtype: torch.dtype) -> Tensor:
        """(num_rows, width) of ones (kept) and zeros (dropped)."""
        key = self.key
        if not self.engine_driven:
            key = torch.randint(-(1 << 31), (1 << 31) - 1, (2,), dtype=torch.int32, device=key.device)
        lanes = _lanes(key, num_rows=num_rows, width=width)
        threshold = self.threshold - _LEVELS // 2  # lanes are signed
        if torch.compiler.is_compiling():
            return (lanes >= threshold).to(dtype)
        return lanes.ge_(threshold).to(dtype)  # in place the comparison is vectorised, into bools it is not


@register(
    "layer",
    "dropout",
    config=DropoutConfig,
    source="Hinton, Srivastava, Krizhevsky, Sutskever, Salakhutdinov (2012), arXiv:1207.0580",
    example="nn.Sequential(nn.Linear(784, 512), nn.ReLU(), Dropout(0.3))",
)
class Dropout(_KeyedDropout):
    """Drop elements at random in training and scale the others by 1 / (probability of being kept).

    p is rounded to a multiple of 1/65536 (at most 65535/65536): each element compares 16 random bits with a threshold.
    The scale uses the rounded probability, so the expected output equals the input exactly. In evaluation: identity.

    Within one step a layer that is called twice with the same shape uses the same mask both times (which is what
    recurrent networks want; see Gal and Ghahramani 2016, arXiv:1512.05287).

    Args:
        p: Probability of dropping, 0 <= p < 1.

    Attributes:
        key: int32 (2,): the key of layer and step, and the index of the input's first row in the batch. Not in the
            state_dict.
        engine_driven: True while `DropoutKeys` sets the key; otherwise each forward pass draws a fresh one.
        keep_prob: The probability of being kept after rounding.

    Shapes: any, rows first; the output has the input's shape, dtype and memory format. Elements are counted in
    channels-last order for images and volumes (that is how they lie while training), in their own order otherwise,
    whatever the strides.

    Source: Hinton, Srivastava, Krizhevsky, Sutskever, Salakhutdinov (2012), arXiv:1207.0580.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Any shape (B, …) -> the same shape."""
        if not self.training or self.threshold == 0:
            return inputs
        shape = inputs.shape
        num_rows, width = (shape[0], math.prod(shape[1:])) if shape else (1, 1)
        mask = self._mask(num_rows=num_rows, width=width, dtype=inputs.dtype)
        if inputs.dim() in (4, 5):
            mask = mask.view(num_rows, *shape[2:], shape[1]).movedim(-1, 1)  # (B, H, W, C) -> (B, C, H, W)
            if inputs.is_contiguous():
                mask = mask.contiguous()
        else:
            mask = mask.view(shape)
        scale = 1.0 / self.keep_prob
        if inputs.dtype in (torch.float32, torch.float64):
            return inputs * mask.mul_(scale)
        return (inputs * mask).mul_(
            scale
        )  # a scale rounded to bfloat16 would be wrong by up to 0.4 % for all elements alike


@register(
    "layer",
    "spatial-dropout",
    config=DropoutConfig,
    source="Tompson, Goroshin, Jain, LeCun, Bregler (2015), arXiv:1411.4280",
    example="nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), SpatialDropout(0.2))",
)
class SpatialDropout(_KeyedDropout):
    """Drop whole channels at random in training and scale the others by 1 / (probability of being kept).

    Neighbouring pixels of a feature map are alike, so that dropping single ones hides little. Rounding of p, keys and
    evaluation as in `Dropout`.

    Shapes: (B, C, …) with any number of further dimensions, none included; the output has the input's shape.

    Source: Tompson, Goroshin, Jain, LeCun, Bregler (2015), arXiv:1411.4280.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, C, …) -> the same shape."""
        if not self.training or self.threshold == 0:
            return inputs
        num_rows, num_channels = inputs.shape[:2]
        mask = self._mask(num_rows=num_rows, width=num_channels, dtype=torch.float32) * (1.0 / self.keep_prob)
        # The scale is folded into the small mask; it is exact enough in float32, and rounded once, in the product.
        mask = mask.view(num_rows, num_channels, *[1] * (inputs.dim() - 2))
        return (inputs * mask).to(inputs.dtype)


class DropoutKeys:
    """Sets the keys of every keyed dropout layer of a model, so that masks depend on (seed, step, layer, row) alone.

    The layers are marked as driven by the engine until `release`. Make it after the model is on its device; should the
    model be moved later, the next `refresh` finds the layers again.

    Args:
        model: Its layers are keyed by their names in it.
        seed: Of the run.

    Attributes:
        names: Names of the layers, sorted.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 4), Dropout(0.5))
        >>> keys = DropoutKeys(model, 0)
        >>> keys.names
        ['1']
        >>> x = torch.ones(3, 4)
        >>> keys.refresh(7); first = model(x)
        >>> keys.refresh(8); other = model(x)
        >>> keys.refresh(7); bool((model(x) == first).all())
        True
    """

    def __init__(self, model: nn.Module, seed: int) -> None:
        layers = {name: module for name, module in model.named_modules() if isinstance(module, _KeyedDropout)}
        self.names = sorted(layers)
        self._modules = [layers[name] for name in self.names]
        self._layer_keys = torch.tensor(
            [draws.stream_key(seed, "dropout", name) for name in self.names], dtype=torch.int32
        )
        self._keys = torch.zeros(len(self.names), 2, dtype=torch.int32)
        self._views: list[Tensor] = []
        self._bind()

    def __len__(self) -> int:
        return len(self.names)

    def _bind(self) -> None:
        """Let the layers hold views of one tensor, on the device on which they are."""
        if not self._modules:
            return
        device = self._modules[0].key.device
        self._layer_keys = self._layer_keys.to(device)
        self._keys = self._keys.to(device)
        self._views = list(self._keys.unbind(0))
        for module, view in zip(self._modules, self._views, strict=True):
            module.key = view
            module.engine_driven = True

    def refresh(self, step: int | Tensor, first_row: int = 0) -> None:
        """Set all keys for a step, and for the micro-batch whose first row has this index within the step's batch."""
        if not self._modules:
            return
        if any(module.key is not view for module, view in zip(self._modules, self._views, strict=True)):
            self._bind()
        self._keys[:, 0] = self._step_keys(step)
        self._keys[:, 1] = first_row

    def values(self, step: Tensor, first_row: int | Tensor = 0) -> dict[str, Tensor]:
        """The same keys as new tensors by buffer name, for `torch.func.functional_call`; pure and traceable."""
        if not self._modules:
            return {}
        first = self._step_keys(step)
        rows = torch.zeros_like(first) + first_row
        keys = torch.stack([first, rows.to(torch.int32)], dim=1)
        return {f"{name}.key" if name else "key": key for name, key in zip(self.names, keys.unbind(0), strict=True)}

    def release(self) -> None:
        """Let the layers draw their own keys again, as they do without an engine."""
        for module in self._modules:
            module.engine_driven = False

    def _step_keys(self, step: int | Tensor) -> Tensor:
        position = torch.as_tensor(step, device=self._layer_keys.device)
        return draws.combine(self._layer_keys, position)
