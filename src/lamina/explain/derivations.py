"""How a layer's output size and its number of parameters came about, in words and numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from torch import Tensor, nn

from lamina.nn.arithmetic import OutputSize, conv_output_size, pool_output_size, transposed_output_size

__all__ = ["CONVOLUTIONS", "TRANSPOSED", "how_it_came", "numbers"]

TRANSPOSED: Final = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
CONVOLUTIONS: Final = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
MAX_POOLS: Final = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
AVERAGE_POOLS: Final = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
BATCH_NORMS: Final = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_BY_AXES: Final = tuple(zip(CONVOLUTIONS, TRANSPOSED, MAX_POOLS, AVERAGE_POOLS, strict=True))


def how_it_came(module: nn.Module, source: Sequence[int], result: Sequence[int]) -> str:
    """In words and numbers: how a layer's output size and its number of parameters came about."""
    kinds: tuple[tuple[tuple[type[nn.Module], ...], Callable[[Any, int, int, int], OutputSize]], ...] = (
        (CONVOLUTIONS, _convolved),
        (TRANSPOSED, _transposed),
        ((*MAX_POOLS, *AVERAGE_POOLS), _pooled),
    )
    parts = []
    for types, arithmetic in kinds:
        if isinstance(module, types) and len(source) == len(result) == _rank(module):
            axes = len(result) - 2
            steps = [arithmetic(module, source[2 + axis], axis, axes) for axis in range(axes)]
            hows = list(dict.fromkeys(step.how for step in steps))
            if [step.size for step in steps] == list(result[2:]):
                parts.append("; ".join(hows) if len(hows) == 1 else "; ".join(step.how for step in steps))
    if isinstance(module, (*CONVOLUTIONS, *TRANSPOSED)):
        kernel = "*".join(map(str, module.kernel_size))
        inner = module.in_channels // module.groups
        parts.append(_counted(f"{module.out_channels}*({inner}*{kernel}", module.bias, module))
    elif isinstance(module, nn.Linear):
        parts.append(_counted(f"{module.out_features}*({module.in_features}", module.bias, module))
    elif isinstance(module, nn.Flatten) and len(source) > 2:
        parts.append(f"{'*'.join(map(str, source[1:]))} = {result[-1]}")
    elif isinstance(module, BATCH_NORMS) and module.affine:
        running = f"; 2*{module.num_features} running statistics" if module.track_running_stats else ""
        parts.append(f"2*{module.num_features} learned{running}")
    return "; ".join(parts)


def _rank(module: nn.Module) -> int:
    """Dimensions of a batch that the layer slides over, batch and channels among them."""
    return next(axes + 2 for axes, kinds in enumerate(_BY_AXES, start=1) if isinstance(module, kinds))


def _counted(product: str, bias: Tensor | None, module: nn.Module) -> str:
    total = sum(parameter.numel() for parameter in module.parameters(recurse=False))
    return f"{product}{' + 1' if bias is not None else ''}) = {total:,} parameters"


def _convolved(module: nn.Conv2d, n: int, axis: int, axes: int) -> OutputSize:
    padding: Any = module.padding
    if not isinstance(padding, str):
        padding = numbers(padding, axes)[axis]
    return conv_output_size(
        n,
        kernel=module.kernel_size[axis],
        stride=module.stride[axis],
        padding=padding,
        dilation=module.dilation[axis],
    )


def _transposed(module: nn.ConvTranspose2d, n: int, axis: int, axes: int) -> OutputSize:
    return transposed_output_size(
        n,
        kernel=module.kernel_size[axis],
        stride=module.stride[axis],
        padding=numbers(cast("tuple[int, ...]", module.padding), axes)[axis],
        output_padding=module.output_padding[axis],
        dilation=module.dilation[axis],
    )


def _pooled(module: nn.MaxPool2d, n: int, axis: int, axes: int) -> OutputSize:
    return pool_output_size(
        n,
        kernel=numbers(module.kernel_size, axes)[axis],
        stride=numbers(module.stride, axes)[axis],
        padding=numbers(module.padding, axes)[axis],
        dilation=numbers(getattr(module, "dilation", 1), axes)[axis],
        ceil_mode=bool(module.ceil_mode),
    )


def numbers(value: int | Sequence[int], axes: int) -> list[int]:
    """One number per axis; of more than there are axes (1-d layers run as 2-d operations) the last."""
    if isinstance(value, int):
        return [value] * axes
    return [*value][-axes:] if len(value) > 1 else [*value] * axes
