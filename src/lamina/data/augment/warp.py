"""One bilinear warp for all geometric steps, in the way that suits the images.

`warp` is torch's grid_sample: for any device, any dtype, and what tiny images on a CPU are done with. `warp_bytes` is a
native loop over uint8 images (`warp.cpp`, compiled once per process where there is a C++ compiler): several times as
fast, because it makes no grid of places and reads bytes, and untouched by other work on the machine, because it waits
for no barrier. Both agree within 0.02 of 255 levels. The rule between them (`is_native`) looks at the images' dtype,
size and device alone, never at the batch, so that an image is warped the same way in whatever batch it stands. `move` is
for flips and whole-pixel shifts, which need no interpolation.
"""

from __future__ import annotations

import ctypes
import functools
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from lamina.core.toolchain import ToolchainError, compile_library, find_compiler
from lamina.data.augment.maps import Affine, Bend, Fill, Map

__all__ = ["is_native", "is_traced", "move", "warp", "warp_bytes", "warp_maps", "warp_places"]

_PADDING: Final = {"edge": "border", "reflect": "reflection", "zero": "zeros"}
_FILLS: Final = {"edge": 0, "reflect": 1, "zero": 2}
# Below so many pixels grid_sample is fast enough, and compiling (half a second) would cost more than it saves.
_SMALLEST: Final = 24 * 24
# Values below which handing work to another thread costs more than it saves.
_WORTH_A_THREAD: Final = 1 << 19
# Values that a thread takes at a time: a thread that is held up holds up little.
_PIECE: Final = 1 << 17


def warp(images: Tensor, source: Tensor, *, fill: Fill = "edge") -> Tensor:
    """Sample images bilinearly at the places that an affine map names.

    Args:
        images: Float (B, C, H, W).
        source: Float (B, 2, 3), as `Affine.matrix` gives it: pixels from the centre.
        fill: What lies outside.

    Returns:
        Float (B, C, H, W).
    """
    height, width = images.shape[-2:]
    across, down = _axes(images)
    # grid_sample counts from -1 to 1 over the outer edges of the border pixels.
    scaled = source * torch.tensor([2 / width, 2 / height], device=images.device, dtype=images.dtype).view(2, 1)
    along_row = scaled[:, :, 0, None] * across + scaled[:, :, 2, None]  # (B, 2, W)
    along_column = scaled[:, :, 1, None] * down  # (B, 2, H)
    # As two planes: one addition per plane, six times as fast as torch's affine_grid, and grid_sample reads it as well.
    places = along_row[:, :, None, :] + along_column[:, :, :, None]  # (B, 2, H, W)
    return functional.grid_sample(
        images, places.permute(0, 2, 3, 1), mode="bilinear", padding_mode=_PADDING[fill], align_corners=False
    )


def warp_places(images: Tensor, x: Tensor, y: Tensor, *, fill: Fill = "edge") -> Tensor:
    """Sample images bilinearly at places (B, H, W), pixels from the centre."""
    height, width = images.shape[-2:]
    places = torch.stack([x * (2 / width), y * (2 / height)], dim=3)
    return functional.grid_sample(images, places, mode="bilinear", padding_mode=_PADDING[fill], align_corners=False)


def warp_maps(images: Tensor, maps: list[Map], like: Tensor, *, fill: Fill = "edge") -> Tensor:
    """One warp through all maps, the last one first.

    Args:
        images: uint8 or float (B, C, H, W).
        maps: As `join` gives them.
        like: Float (B,): says dtype and device of the maps.

    Returns:
        Float32 (B, C, H, W).
    """
    first = maps[0]
    if len(maps) == 1 and isinstance(first, Affine):
        source = first.matrix(like)
        if is_native(images, fill=fill):
            return warp_bytes(images, source, fill=fill)
        return warp(images.to(torch.float32), source, fill=fill)
    images = images.to(torch.float32)
    across, down = _axes(images)
    shape = (len(images), *images.shape[-2:])
    x, y = across.view(1, 1, -1).expand(shape), down.view(1, -1, 1).expand(shape)
    for one in reversed(maps):
        if isinstance(one, Bend):
            x, y = one.move(x, y)
        else:
            m = one.matrix(like)[:, :, :, None, None]
            x, y = m[:, 0, 0] * x + m[:, 0, 1] * y + m[:, 0, 2], m[:, 1, 0] * x + m[:, 1, 1] * y + m[:, 1, 2]
    return warp_places(images, x, y, fill=fill)


def move(images: Tensor, source: Affine, like: Tensor, *, fill: Fill = "edge") -> Tensor:
    """Flip and shift by whole pixels: values are moved, none is computed.

    Args:
        images: (B, C, H, W) of any dtype, which it keeps.
        source: A map without rotation whose entries name whole pixels.
    """
    height, width = images.shape[-2:]
    across, down = _axes(like.new_empty(1, 1, height, width))
    matrix = source.matrix(like)
    columns = matrix[:, 0, 0, None] * across + matrix[:, 0, 2, None] + (width - 1) / 2  # (B, W)
    rows = matrix[:, 1, 1, None] * down + matrix[:, 1, 2, None] + (height - 1) / 2  # (B, H)
    column, column_inside = _whole(columns, width, fill)
    row, row_inside = _whole(rows, height, fill)
    flat = (row.unsqueeze(2) * width + column.unsqueeze(1)).reshape(len(row), 1, -1)  # (B, 1, H * W)
    moved = images.flatten(2).gather(2, flat.expand(-1, images.shape[1], -1)).view(images.shape)
    if fill != "zero":
        return moved
    inside = row_inside.unsqueeze(2) & column_inside.unsqueeze(1)  # (B, H, W)
    return moved * inside.unsqueeze(1).to(moved.dtype)


def _whole(places: Tensor, size: int, fill: Fill) -> tuple[Tensor, Tensor]:
    """Index within the axis, and whether the place was inside."""
    index = places.round().to(torch.int64)
    inside = (index >= 0) & (index < size)
    if fill == "reflect":  # about the outer edges of the border pixels, as grid_sample does
        index = index.remainder(2 * size)
        index = torch.minimum(index, 2 * size - 1 - index)
    return index.clamp(0, size - 1), inside


def _axes(images: Tensor) -> tuple[Tensor, Tensor]:
    height, width = images.shape[-2:]
    across = torch.arange(width, device=images.device, dtype=images.dtype) - (width - 1) / 2
    down = torch.arange(height, device=images.device, dtype=images.dtype) - (height - 1) / 2
    return across, down


# --- the native loop ------------------------------------------------------------------------------------------------


def is_native(images: Tensor, *, fill: Fill = "edge") -> bool:
    """Whether images (B, C, H, W) are warped natively: uint8, one to four channels, at least 24x24, on a CPU, with a compiler."""
    height, width = images.shape[-2:]
    return (
        images.dtype == torch.uint8
        and images.device.type == "cpu"
        and 1 <= images.shape[1] <= 4
        and height * width >= _SMALLEST
        and max(height, width) <= 8192
        and _loop(images.shape[1], _FILLS[fill]) is not None
    )


@functools.cache
def _loop(channels: int, fill: int) -> Any:
    """The compiled loop; None where there is no compiler or it cannot be used."""
    if find_compiler() is None:
        return None
    source = Path(__file__).with_name("warp.cpp").read_text(encoding="utf-8")
    try:
        library = compile_library(f"#define LAMINA_CHANNELS {channels}\n#define LAMINA_FILL {fill}\n{source}")
    except ToolchainError:
        return None
    function = library.lamina_warp
    function.argtypes = [*[ctypes.c_void_p] * 3, *[ctypes.c_int64] * 3]
    function.restype = ctypes.c_int32
    return function


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="lamina-warp")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has none of its parent's threads


def warp_bytes(images: Tensor, source: Tensor, *, fill: Fill = "edge") -> Tensor:
    """`warp` for uint8 images that `is_native` accepts; float32 out, on torch's number of threads."""
    if is_traced():
        recorded: Tensor = _warp_op(images, source, _FILLS[fill])
        return recorded
    return _warp_bytes(images, source, _FILLS[fill])


def is_traced() -> bool:
    """Whether torch is writing down what is done, so that values must not be looked at."""
    if torch.compiler.is_compiling():
        return True
    modes = torch._C._TorchDispatchModeKey
    return any(torch._C._get_dispatch_mode(mode) is not None for mode in (modes.PROXY, modes.FAKE, modes.FUNCTIONAL))


def _warp_bytes(images: Tensor, source: Tensor, fill: int) -> Tensor:
    images, source = images.contiguous(), source.to(torch.float32).contiguous()
    batch, channels, height, width = images.shape
    warped = torch.empty(images.shape, dtype=torch.float32)
    loop = _loop(channels, fill)
    size = channels * height * width
    threads = min(torch.get_num_threads(), batch * size // _WORTH_A_THREAD)
    piece = max(1, _PIECE // size) if threads > 1 else max(batch, 1)
    waiting = iter(range(0, batch, piece))  # its `next` is one step of the interpreter, so that threads may share it

    def work() -> int:
        status = 0
        for begin in waiting:
            status |= loop(
                images.data_ptr() + begin * size,
                warped.data_ptr() + begin * size * 4,
                source.data_ptr() + begin * 24,
                min(piece, batch - begin),
                height,
                width,
            )
        return status

    helpers = [_pool().submit(work) for _ in range(threads - 1)]
    if work() | functools.reduce(int.__or__, (helper.result() for helper in helpers), 0):
        raise MemoryError(f"no memory to warp images of {height} by {width}")
    return warped


# What a tracer writes down; called plainly it would cost as much as warping a few small images.
_warp_op = torch.library.custom_op("lamina::warp_bytes", _warp_bytes, mutates_args=())


@_warp_op.register_fake
def _(images: Tensor, source: Tensor, fill: int) -> Tensor:
    return images.new_empty(images.shape, dtype=torch.float32)
