"""Which input elements an output hangs on: five ways of asking, as plain functions of a model and a batch.

All work on any differentiable module that maps (B, *shape) to (B, outputs), leave it as it was (mode, parameters, their
`.grad`) and explain one output per row. Occlusion needs no gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lamina.core import draws
from lamina.core.errors import ConfigError, ShapeError, UsageError
from lamina.explain.activations import Activation, evaluating, last_maps, record

__all__ = [
    "Read",
    "grad_cam",
    "gradient",
    "integrated_gradients",
    "not_differentiable",
    "occlusion",
    "scores_of",
    "smoothgrad",
]

Read = Callable[[Tensor], Tensor]


def gradient(model: nn.Module, inputs: Tensor, target: Tensor, *, read: Read | None = None) -> Tensor:
    """The derivative of one output with respect to each input element.

    Args:
        inputs: Float tensor (B, …), as the model reads it.
        target: Index of the explained output per row, int64 (B,).
        read: Outputs (B, outputs) -> what is explained, (B, outputs'): probabilities, for example. Default: as they are.

    Returns:
        Tensor shaped like `inputs`, in units of the output per unit of the input.

    Raises:
        ShapeError: `target` and `inputs` disagree on B, or the model gives anything but (B, outputs).
        UsageError: The output does not depend on the inputs in a way that can be differentiated.

    Source: Simonyan, Vedaldi, Zisserman (2013), arXiv:1312.6034.
    """
    with evaluating(model):
        return _gradient(_scorer(model, inputs, target, read), inputs)


def integrated_gradients(
    model: nn.Module,
    inputs: Tensor,
    target: Tensor,
    *,
    baseline: Tensor | float = 0.0,
    steps: int = 64,
    read: Read | None = None,
) -> Tensor:
    """Attribute an output to input elements by integrating gradients along a straight path.

    Args:
        inputs, target, read: As of `gradient`.
        baseline: Start of the path, broadcastable to `inputs`. Zeros by default: black where pixels were scaled, the
            mean image where they were centred.
        steps: Points on the path, >= 1, in the middle of equal pieces. The error falls as 1/steps**2 for smooth models;
            memory does not grow with it.

    Returns:
        Tensor shaped like `inputs`, in units of the output; each row sums to output(inputs) - output(baseline) up to the
        step error.

    Raises:
        ConfigError: Fewer than one step.
        ShapeError, UsageError: As of `gradient`.

    Source: Sundararajan, Taly, Yan (2017), arXiv:1703.01365, equations 1 and 3 (midpoints instead of right ends).
    """
    if steps < 1:
        raise ConfigError(
            f"steps={steps} leaves no point on the path.",
            where="integrated_gradients, argument `steps`",
            accepts="at least 1; 64 is accurate for most networks",
            mend="steps=64",
        )
    start = torch.as_tensor(baseline, dtype=inputs.dtype, device=inputs.device).expand_as(inputs)
    with evaluating(model):
        score = _scorer(model, inputs, target, read)
        total = torch.zeros_like(inputs)
        for step in range(steps):
            total += _gradient(score, start + (inputs - start) * ((step + 0.5) / steps))
    return (inputs.detach() - start) * total / steps


def smoothgrad(
    model: nn.Module,
    inputs: Tensor,
    target: Tensor,
    *,
    noise: float = 0.15,
    samples: int = 32,
    seed: int = 0,
    read: Read | None = None,
) -> Tensor:
    """The gradient, averaged over copies of the input with Gaussian noise.

    Args:
        inputs, target, read: As of `gradient`.
        noise: Standard deviation as a share of each row's range (largest less smallest element).
        samples: Copies. All rows get the same noise, so that a row gives the same result in any batch.
        seed: Keys the noise.

    Returns:
        Tensor shaped like `inputs`, in the units of `gradient`.

    Raises:
        ShapeError, UsageError: As of `gradient`.

    Source: Smilkov et al. (2017), arXiv:1706.03825, section 3.
    """
    flat = inputs.detach().flatten(start_dim=1)
    spread = noise * (flat.amax(dim=1) - flat.amin(dim=1))  # (B,)
    spread = spread.view(-1, *[1] * (inputs.ndim - 1))
    counters = torch.arange(flat.shape[1], dtype=torch.int32, device=inputs.device).view(inputs.shape[1:])
    with evaluating(model):
        score = _scorer(model, inputs, target, read)
        total = torch.zeros_like(inputs)
        for sample in range(samples):
            drawn = draws.normal(draws.stream_key(seed, "sample", "smoothgrad", sample), counters).to(inputs.dtype)
            total += _gradient(score, inputs.detach() + spread * drawn)
    return total / samples


def occlusion(
    model: nn.Module,
    inputs: Tensor,
    target: Tensor,
    *,
    window: int | None = None,
    stride: int | None = None,
    value: Tensor | float = 0.0,
    read: Read | None = None,
) -> Tensor:
    """How much an output falls when a window of the input is covered, averaged over the windows that cover a position.

    Args:
        inputs: Float tensor (B, C, *positions), or (B, F).
        target, read: As of `gradient`.
        window: Side of the window along every axis; default: a sixth of the longest axis.
        stride: Distance between windows; default: half the window, in volumes the whole. The last one ends at the border.
        value: What covers: broadcastable to `inputs`.

    Returns:
        Tensor (B, 1, *positions), or (B, F): output(inputs) - output(covered), in units of the output. Positive where
        covering lowers the output.

    Raises:
        ShapeError: As of `gradient`.

    Source: Zeiler, Fergus (2014), arXiv:1311.2901, section 4.2.
    """
    sizes = tuple(inputs.shape[2:]) if inputs.ndim > 2 else tuple(inputs.shape[1:])
    window = window or max(1, -(-max(sizes) // 6))
    stride = stride or (window if len(sizes) > 2 else max(1, window // 2))
    cover = torch.as_tensor(value, dtype=inputs.dtype, device=inputs.device).expand_as(inputs)
    total = inputs.new_zeros((len(inputs), 1, *sizes) if inputs.ndim > 2 else inputs.shape)
    count = torch.zeros_like(total)
    with evaluating(model), torch.no_grad():
        score = _scorer(model, inputs, target, read)
        whole = score(inputs)
        for place in _places(sizes, window, stride):
            where: tuple[Any, ...] = (..., *place)
            covered = inputs.clone()
            covered[where] = cover[where]
            fall = (whole - score(covered)).view(-1, *[1] * (total.ndim - 1))
            total[where] += fall
            count[where] += 1
    return total / count


def grad_cam(
    model: nn.Module,
    inputs: Tensor,
    target: Tensor,
    *,
    layer: str | None = None,
    upsample: bool = True,
    read: Read | None = None,
) -> Tensor:
    """Where the maps of a convolution speak for an output: ReLU of their sum, weighted by their mean gradients.

    Args:
        inputs: Float tensor (B, C, *positions) with one to three axes of positions.
        target, read: As of `gradient`.
        layer: Name of a submodule that gives maps; default: the last convolution, behind its norm and activation.
        upsample: Interpolate (linearly) to the size of the input.

    Returns:
        Tensor (B, 1, *positions), >= 0; of the maps' own size without `upsample`. Units of the output, spread over the
        positions: only proportions within a picture mean something.

    Raises:
        UsageError: The model has no convolution, or no layer of that name gives maps.
        ShapeError: As of `gradient`.

    Source: Selvaraju et al. (2017), arXiv:1610.02391, equations 1 and 2.
    """
    with torch.enable_grad():
        # As a leaf with gradients, so that a frozen network has a graph too.
        activations, outputs = record(model, inputs.detach().clone().requires_grad_(True))
        maps = _maps(activations, layer, type(model).__name__)
        score = _chosen(outputs if read is None else read(outputs), target, inputs, type(model).__name__)
        slope = torch.autograd.grad(score.sum(), maps.value, allow_unused=True)[0] if score.requires_grad else None
    if slope is None:
        raise not_differentiable("grad_cam")
    axes = tuple(range(2, slope.ndim))
    weights = slope.mean(dim=axes, keepdim=True)  # (B, K, 1, …), alpha of equation 1
    cam = (weights * maps.value.detach()).sum(dim=1, keepdim=True).relu()  # (B, 1, *positions of the maps)
    if not upsample or cam.shape[2:] == inputs.shape[2:]:
        return cam
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(axes)]
    return nn.functional.interpolate(cam, size=inputs.shape[2:], mode=mode, align_corners=False)


def not_differentiable(where: str) -> UsageError:
    """The error for outputs that do not hang on the inputs in a way that has a derivative."""
    return UsageError(
        "The outputs cannot be differentiated with respect to the inputs.",
        where=where,
        accepts="a network of differentiable layers; the views layers, mistakes, invariance and robustness need no gradients",
        mend="occlusion needs no gradients: the view saliency with method=occlusion",
    )


# --- what is explained ---------------------------------------------------------------------------------------------


def scores_of(model: nn.Module, inputs: Tensor, target: Tensor, *, read: Read | None = None) -> Tensor:
    """The explained output of each row, (B,), without gradients.

    Raises:
        ShapeError: As of `gradient`.
    """
    with evaluating(model), torch.no_grad():
        return _scorer(model, inputs, target, read)(inputs)


def _scorer(model: nn.Module, inputs: Tensor, target: Tensor, read: Read | None) -> Read:
    def score(values: Tensor) -> Tensor:
        outputs = model(values)
        return _chosen(outputs if read is None else read(outputs), target, inputs, type(model).__name__)

    return score


def _chosen(outputs: Tensor, target: Tensor, inputs: Tensor, name: str) -> Tensor:
    if target.shape != (len(inputs),):
        raise ShapeError(
            f"There are targets shaped {tuple(target.shape)} for {len(inputs)} inputs.",
            where="argument `target`",
            accepts=f"int64 ({len(inputs)},): the index of an output per row",
            mend="torch.full((len(inputs),), index) explains the same output for all rows",
        )
    if outputs.ndim != 2 or len(outputs) != len(inputs):
        raise ShapeError(
            f"{name} gives outputs shaped {tuple(outputs.shape)} for {len(inputs)} rows.",
            where="argument `model`",
            accepts=f"({len(inputs)}, outputs)",
            mend="wrap it in a module whose forward gives one row of numbers per input",
        )
    if bool((target < 0).any()) or int(target.max()) >= outputs.shape[1]:
        raise ShapeError(
            f"The targets go from {int(target.min())} to {int(target.max())}; there are {outputs.shape[1]} outputs.",
            where="argument `target`",
            accepts=f"0 to {outputs.shape[1] - 1}",
            mend="count the outputs from 0",
        )
    return outputs.gather(1, target.to(outputs.device).unsqueeze(1)).squeeze(1)


def _gradient(score: Read, inputs: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = inputs.detach().clone().requires_grad_(True)
        value = score(leaf)
        slope = torch.autograd.grad(value.sum(), leaf, allow_unused=True)[0] if value.requires_grad else None
    if slope is None:
        raise not_differentiable("gradients of the model")
    return slope


def _places(sizes: tuple[int, ...], window: int, stride: int) -> Iterator[tuple[slice, ...]]:
    """The windows along all axes; the last one of an axis ends at its border."""
    if not sizes:
        yield ()
        return
    last = max(sizes[0] - window, 0)
    for start in sorted({*range(0, last + 1, stride), last}):
        for rest in _places(sizes[1:], window, stride):
            yield (slice(start, start + window), *rest)


def _maps(activations: list[Activation], layer: str | None, model: str) -> Activation:
    if layer is None:
        found = last_maps(activations)
        if found is None:
            raise UsageError(
                f"{model} has no convolution, so it has no maps for Grad-CAM.",
                where="grad_cam, argument `model`",
                accepts="a network with convolutions",
                mend="use gradient, integrated-gradients, smoothgrad or occlusion",
            )
        return found
    named = [activation for activation in activations if activation.name == layer and activation.has_positions]
    if not named:
        known = [activation.name for activation in activations if activation.has_positions]
        raise UsageError(
            f"No layer called {layer!r} gives maps.",
            where="grad_cam, argument `layer`",
            accepts=", ".join(known) or "no layer of this model",
            mend=f"layer={known[-1]}" if known else "use another method",
        )
    return named[-1]
