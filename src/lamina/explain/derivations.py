"""How a layer's output size and its number of parameters came about, in words and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from torch import Tensor, nn

from lamina.nn.convolution import CONVOLUTIONS, TRANSPOSED
from lamina.nn.pooling import ADAPTIVE_POOLS, AVERAGE_POOLS, MAX_POOLS
from lamina.nn.recurrent_cells import Cell, GRUCell
from lamina.nn.windows import numbers, window_steps

__all__ = ["CONVOLUTIONS", "TRANSPOSED", "how_it_came", "numbers"]

BATCH_NORMS: Final = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_ADAPTIVE: Final = tuple(zip(ADAPTIVE_POOLS[:3], ADAPTIVE_POOLS[3:], strict=True))
_BY_AXES: Final = tuple(zip(CONVOLUTIONS, TRANSPOSED, MAX_POOLS, AVERAGE_POOLS, _ADAPTIVE, strict=True))


def how_it_came(module: nn.Module, source: Sequence[int], result: Sequence[int]) -> str:
    """In words and numbers: how a layer's output size and its number of parameters came about."""
    parts = []
    steps = window_steps(module, source[2:]) if len(source) == len(result) == _rank(module) else None
    if steps is not None and [step.size for step in steps] == list(result[2:]):
        hows = list(dict.fromkeys(step.how for step in steps))
        parts.append("; ".join(hows) if len(hows) == 1 else "; ".join(step.how for step in steps))
    if isinstance(module, (*CONVOLUTIONS, *TRANSPOSED)):
        kernel = "*".join(map(str, module.kernel_size))
        inner = module.in_channels // module.groups
        parts.append(_counted(f"{module.out_channels}*({inner}*{kernel}", module.bias, module))
    elif isinstance(module, nn.Linear):
        parts.append(_counted(f"{module.out_features}*({module.in_features}", module.bias, module))
    elif isinstance(module, Cell):
        gates = len(module.gates_in_order)
        more = f" + {module.hidden_size}" if isinstance(module, GRUCell) else ""
        product = f"{gates}*{module.hidden_size}*({module.input_size} + {module.hidden_size} + 1){more}"
        parts.append(f"{product} = {sum(p.numel() for p in module.parameters()):,} parameters")
    elif isinstance(module, nn.Flatten) and len(source) > 2:
        parts.append(f"{'*'.join(map(str, source[1:]))} = {result[-1]}")
    elif isinstance(module, BATCH_NORMS) and module.affine:
        running = f"; 2*{module.num_features} running statistics" if module.track_running_stats else ""
        parts.append(f"2*{module.num_features} learned{running}")
    return "; ".join(parts)


def _rank(module: nn.Module) -> int:
    """Dimensions of a batch that the layer slides over, batch and channels among them; 0 for layers without windows."""
    return next((axes + 2 for axes, kinds in enumerate(_BY_AXES, start=1) if isinstance(module, kinds)), 0)


def _counted(product: str, bias: Tensor | None, module: nn.Module) -> str:
    total = sum(parameter.numel() for parameter in module.parameters(recurse=False))
    return f"{product}{' + 1' if bias is not None else ''}) = {total:,} parameters"
