"""What every model checks when data arrives: cheap, and answered with the shape that was wanted.

Shapes and element types only: nothing is read from the device, so that a forward pass can be traced and compiled.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lamina.core.errors import DtypeError, ShapeError


def check_images(model: nn.Module, images: Tensor, *, in_channels: int, size: tuple[int, int]) -> None:
    """Refuse anything but floating-point images (B, in_channels, height, width) of the size the model was built for.

    Raises:
        ShapeError: Another number of dimensions, channels last, other channels, another size.
        DtypeError: Whole numbers.
    """
    if images.ndim == 4 and tuple(images.shape[1:]) == (in_channels, *size) and images.dtype.is_floating_point:
        return
    name = type(model).__name__
    where = f"{name}.forward, argument `images`"
    accepts = f"float tensor (batch, {in_channels}, {size[0]}, {size[1]})"
    got = tuple(images.shape)
    if images.ndim == 4 and got[1:] == (in_channels, *size):
        raise DtypeError(
            f"{name} got images of {str(images.dtype).removeprefix('torch.')}.",
            where=where,
            accepts=accepts,
            mend="images.float() / 255 makes pixels in [0, 1]",
        )
    raise ShapeError(
        f"{name} got images shaped {got}.", where=where, accepts=accepts, mend=_mend(got, in_channels, size)
    )


def _mend(got: tuple[int, ...], in_channels: int, size: tuple[int, int]) -> str:
    if len(got) == 4 and got[3] in (1, 3, 4) and got[1] not in (1, 3, 4):
        grey = f"; build with in_channels={got[3]}" if got[3] != in_channels else ""
        other = f"; build with image_size=({got[1]}, {got[2]})" if got[1:3] != size else ""
        return f"images.permute(0, 3, 1, 2) puts channels first{grey}{other}"
    if len(got) == 4:
        parts = [f"in_channels={got[1]}"] if got[1] != in_channels else []
        parts += [f"image_size=({got[2]}, {got[3]})"] if got[2:] != size else []
        return f"build with {' and '.join(parts)}"
    if len(got) == 3 and got == (in_channels, *size):
        return "images.unsqueeze(0) makes a batch of one image"
    if len(got) == 3 and got[1:] == size and in_channels == 1:
        return "images.unsqueeze(1) adds the channel of grey images"
    if len(got) == 2 and got[1] == in_channels * size[0] * size[1]:
        return f"images.view(-1, {in_channels}, {size[0]}, {size[1]}) makes images of rows of pixels"
    return "bring the images into this shape, or build the model for theirs with in_channels and image_size"


def check_positions(
    model: nn.Module, inputs: Tensor, *, argument: str, in_channels: int, size: tuple[int, ...]
) -> None:
    """Refuse anything but floating-point signals or volumes (B, in_channels, *size) as the model was built for.

    Args:
        argument: What the forward pass calls them: `signals`, `volumes`.
        size: Length, or depth, height and width.

    Raises:
        ShapeError: Another number of dimensions, channels last, other channels, another size.
        DtypeError: Whole numbers.
    """
    wanted = (in_channels, *size)
    if inputs.ndim == len(wanted) + 1 and tuple(inputs.shape[1:]) == wanted and inputs.dtype.is_floating_point:
        return
    name = type(model).__name__
    where = f"{name}.forward, argument `{argument}`"
    accepts = f"float tensor (batch, {', '.join(map(str, wanted))})"
    got = tuple(inputs.shape)
    if got[1:] == wanted:
        raise DtypeError(
            f"{name} got {argument} of {str(inputs.dtype).removeprefix('torch.')}.",
            where=where,
            accepts=accepts,
            mend=f"{argument}.float() makes floating numbers; scale them as in training",
        )
    key = "length" if len(size) == 1 else "volume_size"
    if got == wanted:
        mend = f"{argument}.unsqueeze(0) makes a batch of one"
    elif got[1:] == size and in_channels == 1:
        mend = f"{argument}.unsqueeze(1) adds the one channel"
    elif got[1:] == (*size, in_channels):
        mend = f"{argument}.movedim(-1, 1) puts channels first"
    elif len(got) == len(wanted) + 1:
        parts = [f"in_channels={got[1]}"] if got[1] != in_channels else []
        parts += [f"{key}={got[2:] if len(size) > 1 else got[2]}"] if got[2:] != size else []
        mend = f"build with {' and '.join(parts)}"
    else:
        mend = f"bring the {argument} into this shape, or build the model for theirs with in_channels and {key}"
    raise ShapeError(f"{name} got {argument} shaped {got}.", where=where, accepts=accepts, mend=mend)


def flatten_features(model: nn.Module, inputs: Tensor, *, in_features: int) -> Tensor:
    """Rows of features (B, in_features) from features or images (B, …) with that many values each.

    Raises:
        ShapeError: Another number of values per row, or no batch dimension.
        DtypeError: Whole numbers.
    """
    features = inputs.flatten(start_dim=1) if inputs.ndim > 2 else inputs
    if features.ndim == 2 and features.shape[1] == in_features and features.dtype.is_floating_point:
        return features
    name = type(model).__name__
    where = f"{name}.forward, argument `inputs`"
    accepts = f"float tensor (batch, {in_features}), or images with {in_features} values each"
    if features.ndim == 2 and features.shape[1] == in_features:
        raise DtypeError(
            f"{name} got inputs of {str(inputs.dtype).removeprefix('torch.')}.",
            where=where,
            accepts=accepts,
            mend="inputs.float() for numbers, inputs.float() / 255 for pixels",
        )
    if inputs.numel() == in_features:
        mend = "inputs.reshape(1, -1) makes a batch of one row"
    elif features.ndim == 2:
        mend = f"build with in_features={features.shape[1]}, or give rows of {in_features} values"
    else:
        mend = f"give a batch of rows of {in_features} values"
    raise ShapeError(f"{name} got inputs shaped {tuple(inputs.shape)}.", where=where, accepts=accepts, mend=mend)


def check_tokens(model: nn.Module, input_ids: Tensor, attention_mask: Tensor | None = None) -> None:
    """Refuse anything but whole numbers (B, T) as tokens, and a mask of another shape or type.

    Whether the numbers lie inside the vocabulary is not looked at: it would read values from the device.

    Args:
        input_ids: int64 or int32 (B, T).
        attention_mask: bool (B, T), True where there is a token; None: everywhere.

    Raises:
        ShapeError: Another number of dimensions, or mask and tokens that disagree.
        DtypeError: Fractions or bytes for tokens, or a mask that is not bool.
    """
    name = type(model).__name__
    accepts = "int64 tensor (batch, tokens)"
    if input_ids.ndim != 2:
        one = input_ids.ndim == 1
        raise ShapeError(
            f"{name} got tokens shaped {tuple(input_ids.shape)}.",
            where=f"{name}.forward, argument `input_ids`",
            accepts=accepts,
            mend="input_ids.unsqueeze(0) makes a batch of one text" if one else "give one row of tokens per text",
        )
    if input_ids.dtype not in (torch.int64, torch.int32):
        raise DtypeError(
            f"{name} got tokens of {str(input_ids.dtype).removeprefix('torch.')}.",
            where=f"{name}.forward, argument `input_ids`",
            accepts=accepts,
            mend="give the numbers that the tokenizer makes: input_ids.long()",
        )
    if attention_mask is None:
        return
    if attention_mask.shape != input_ids.shape:
        raise ShapeError(
            f"{name} got a mask shaped {tuple(attention_mask.shape)} for tokens shaped {tuple(input_ids.shape)}.",
            where=f"{name}.forward, argument `attention_mask`",
            accepts="bool tensor shaped like input_ids",
            mend="attention_mask = input_ids != 0, where 0 is the padding",
        )
    if attention_mask.dtype != torch.bool:
        raise DtypeError(
            f"{name} got a mask of {str(attention_mask.dtype).removeprefix('torch.')}.",
            where=f"{name}.forward, argument `attention_mask`",
            accepts="bool, True where there is a token",
            mend="attention_mask.bool(), where 1 stands for a token",
        )
