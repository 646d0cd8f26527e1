"""Augmentation: images changed at random while training, each sample by draws of its own.

Geometric steps are composed, in their order, into one map per image and done by one bilinear warp; photometric steps
follow in their order, mixing steps (mixup, CutMix) come last. Policies (`sometimes`, `one_of`, `sequence`,
`randaugment`) choose steps per image. Every draw is keyed by (key, row of the split), so that a sample gets the same
change whatever batch it stands in. All is batched tensor code that can be traced.

The steps are in `data/augment/`, one file per kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from lamina.core import draws
from lamina.core.errors import ConfigError
from lamina.data.augment.geometric import FlipStep
from lamina.data.augment.maps import Affine, Fill, join
from lamina.data.augment.mixing import PairStep
from lamina.data.augment.policy import Leaf, unfold
from lamina.data.augment.step import GeometricStep, PhotometricStep
from lamina.data.augment.warp import is_traced, move, warp_maps
from lamina.data.columns import Columns, ColumnSpec, DataSpec

__all__ = ["Augmentation"]

# Streams under the augmentation's key, beside those of the photometric steps, which are numbered from 0.
_PARTNERS: Final = -1
_MIXING: Final = -2


class Augmentation:
    """The augmentation section of a recipe, ready to be applied to batches.

    Args:
        steps: Mappings with the `name` of a registered augmentation and its options.
        spec: Of the data; it must have an image column.
        columns: The training split, from which mixing steps take partners; without it they are taken from the batch.

    Attributes:
        mixes: Whether a step mixes samples, so that batches have `label_other` and `mix`.

    Raises:
        ConfigError: An option is unknown or out of bounds, the data has no images, steps disagree on `fill`, or a step
            means nothing to such images.
        UnknownNameError: No augmentation has that name.

    Example:
        >>> from lamina.data.loading import load_data
        >>> data = load_data("digits")
        >>> augment = Augmentation([{"name": "rotate", "degrees": 15}], data.spec)
        >>> key = draws.stream_key(0, "augment", 3)  # seed 0, epoch 3
        >>> augment(data.splits["all"].batch(torch.arange(4)), key)["image"].shape
        torch.Size([4, 1, 8, 8])
    """

    def __init__(self, steps: Sequence[Mapping[str, Any]], spec: DataSpec, *, columns: Columns | None = None) -> None:
        image = spec.columns.get("image")
        if steps and image is None:
            raise ConfigError(
                f"The data has no images to augment, only {', '.join(spec.columns) or 'nothing'}.",
                where="augment",
                accepts="data with an image column",
                mend="leave `augment` out",
            )
        if steps and image is not None and len(image.shape) != 3:
            raise ConfigError(
                f"The data's images are shaped {image.shape}; augmentation knows pictures alone.",
                where="augment",
                accepts="images (channels, height, width)",
                mend="leave `augment` out",
            )
        self.steps = tuple(steps)
        self.num_channels = image.shape[0] if image is not None and image.shape else 0
        plan = unfold(steps, num_channels=self.num_channels)
        self.geometric = [leaf for leaf in plan.leaves if isinstance(leaf.step, GeometricStep)]
        self.photometric = [leaf for leaf in plan.leaves if isinstance(leaf.step, PhotometricStep)]
        self.pairs = [leaf for leaf in plan.leaves if isinstance(leaf.step, PairStep)]
        self._num_gates = plan.num_slots
        self.maximum = None if image is None else image.maximum or {"uint8": 255.0, "uint16": 65535.0}.get(image.dtype)
        self.fill = _one_fill(self.geometric)
        for leaf in self.photometric:
            _check_photometric(leaf, self.num_channels, self.maximum, image)
        self._columns = columns
        self._partners = _one_partner(self.pairs, spec, columns)

    def __len__(self) -> int:
        return len(self.geometric) + len(self.photometric) + len(self.pairs)

    @property
    def mixes(self) -> bool:
        """Whether batches have `label_other` and `mix`, which the task's loss must know what to do with."""
        return bool(self.pairs)

    def __call__(self, batch: Mapping[str, Tensor], key: int | Tensor) -> dict[str, Tensor]:
        """The batch with changed images.

        Args:
            batch: `image` (B, C, H, W) uint8 or float, and `row` int64 (B,), by which the draws are keyed.
            key: `stream_key(seed, "augment", epoch)`, as an int or a 0-d int32 tensor.

        Returns:
            A new mapping; `image` is float32 in the range of the raw pixels (0 to 255 for bytes), all else as it was.
            Mixing steps add `label_other` int64 (B,) and `mix` float32 (B,). Without steps the batch is given back
            unchanged, bytes as bytes.
        """
        if len(self) == 0:
            return dict(batch)
        images, gates = self._alone(batch["image"], batch["row"], key)
        if not self.pairs:
            return {**batch, "image": images}
        rows = batch["row"]
        if self._partners == "data":
            assert self._columns is not None
            partners = self._partner_rows(rows, key)
            other = self._columns.batch(partners.to("cpu"))
            others, _ = self._alone(other["image"].to(images.device), partners, key)
            labels = other["label"].to(images.device)
        else:
            order = self._partner_places(rows, key)
            others, labels = images[order], batch["label"][order]
        images, mix = self._mixed(images, others, rows, gates, key)
        return {**batch, "image": images, "label_other": labels, "mix": mix}

    def _alone(self, images: Tensor, rows: Tensor, key: int | Tensor) -> tuple[Tensor, Tensor]:
        """Images changed each by itself, float32, and the draws of the gates (B, slots)."""
        leaves = [*self.geometric, *self.photometric]
        widths = [*(leaf.step.num_draws for leaf in leaves), self._num_gates]
        uniform = (
            draws.uniform(key, draws.counters(rows, sum(widths)))
            if sum(widths)
            else torch.empty(len(rows), 0, device=images.device)
        )
        *parts, gates = uniform.split(widths, dim=1)
        parts = [
            (part >= 0.5).to(part.dtype) if leaf.signs_only else part for leaf, part in zip(leaves, parts, strict=True)
        ]
        images = self._move(images, parts[: len(self.geometric)], gates)
        for number, (leaf, part) in enumerate(zip(self.photometric, parts[len(self.geometric) :], strict=True)):
            stream = draws.combine(key, torch.full_like(rows, number, dtype=torch.int32))
            keys = draws.combine(stream, rows)
            images = self._change(images, leaf, part, keys, leaf.open(gates))
        return images, gates

    def _move(self, images: Tensor, parts: Sequence[Tensor], gates: Tensor) -> Tensor:
        if not self.geometric:
            return images.to(torch.float32)
        like = gates.new_empty(len(images))
        if all(isinstance(leaf.step, FlipStep) for leaf in self.geometric):
            for leaf, part in zip(self.geometric, parts, strict=True):
                assert isinstance(leaf.step, FlipStep)
                chosen, wanted = leaf.step.chosen(part), leaf.open(gates)
                chosen = chosen if wanted is None else chosen & wanted
                images = torch.where(chosen.view(-1, 1, 1, 1), images.flip(leaf.step.axis), images)
            return images.to(torch.float32)
        height, width = images.shape[-2:]
        maps = []
        for leaf, part in zip(self.geometric, parts, strict=True):
            assert isinstance(leaf.step, GeometricStep)
            source, wanted = leaf.step.source(part, height=height, width=width), leaf.open(gates)
            maps.append(source if wanted is None else source.only(wanted))
        joined = join(maps)
        first = joined[0]
        if isinstance(first, Affine) and all(_is_exact(leaf) for leaf in self.geometric):
            return move(images, first, like, fill=self.fill).to(torch.float32)
        return warp_maps(images, joined, like, fill=self.fill)

    def _change(self, images: Tensor, leaf: Leaf, part: Tensor, keys: Tensor, wanted: Tensor | None) -> Tensor:
        step = leaf.step
        assert isinstance(step, PhotometricStep)
        if wanted is None:
            return step.apply(images, part, keys=keys, maximum=self.maximum)
        if _can_look(images):
            chosen = wanted.nonzero().squeeze(1)
            if len(chosen) == 0:
                return images
            changed = step.apply(images[chosen], part[chosen], keys=keys[chosen], maximum=self.maximum)
            return images.index_copy(0, chosen, changed)
        changed = step.apply(images, part, keys=keys, maximum=self.maximum)
        return torch.where(wanted.view(-1, 1, 1, 1), changed, images)

    # --- mixing ---

    def _partner_rows(self, rows: Tensor, key: int | Tensor) -> Tensor:
        """A row of the training split for each row."""
        assert self._columns is not None
        count = self._columns.num_rows
        # 31 bits, so that splits beyond the 24 bits of a float are reached as well.
        bits = draws.combine(draws.combine(key, torch.full_like(rows, _PARTNERS, dtype=torch.int32)), rows)
        return (bits & 0x7FFFFFFF).to(torch.int64) % count

    def _partner_places(self, rows: Tensor, key: int | Tensor) -> Tensor:
        """A place in the batch for each place: the next one in an order drawn by row."""
        bits = draws.combine(draws.combine(key, torch.full_like(rows, _PARTNERS, dtype=torch.int32)), rows)
        order = torch.argsort(bits, stable=True)
        return torch.empty_like(order).scatter(0, order, order.roll(-1))

    def _mixed(
        self, images: Tensor, others: Tensor, rows: Tensor, gates: Tensor, key: int | Tensor
    ) -> tuple[Tensor, Tensor]:
        widths = [leaf.step.num_draws for leaf in self.pairs]
        stream = draws.combine(key, torch.full_like(rows, _MIXING, dtype=torch.int32)).unsqueeze(1)
        parts = draws.uniform(stream, draws.counters(rows, sum(widths))).split(widths, dim=1)
        mix = torch.ones(len(images), device=images.device)
        for leaf, part in zip(self.pairs, parts, strict=True):
            assert isinstance(leaf.step, PairStep)
            mixed, share = leaf.step.mix(images, others, part)
            wanted = leaf.open(gates)
            if wanted is not None:
                mixed = torch.where(wanted.view(-1, 1, 1, 1), mixed, images)
                share = torch.where(wanted, share, 1.0)
            images, mix = mixed, mix * share
        return images, mix


def _is_exact(leaf: Leaf) -> bool:
    return isinstance(leaf.step, GeometricStep) and leaf.step.exact


def _can_look(images: Tensor) -> bool:
    """Whether it costs nothing to look which images are chosen: not while tracing, and not on an accelerator."""
    return images.device.type == "cpu" and not is_traced()


def _one_fill(leaves: Sequence[Leaf]) -> Fill:
    fills = {leaf.step.config.fill for leaf in leaves if getattr(leaf.step, "shows_outside", False)}
    if len(fills) > 1:
        raise ConfigError(
            f"The geometric steps are done in one warp but ask for different fills: {', '.join(sorted(fills))}.",
            where="augment, key `fill`",
            accepts="the same fill in all steps that move pixels in from outside (crop's default is zero, the others' edge)",
            mend=f"give all of them fill: {sorted(fills)[0]}",
        )
    found: Fill = fills.pop() if fills else "edge"
    return found


def _check_photometric(leaf: Leaf, num_channels: int, maximum: float | None, image: ColumnSpec | None) -> None:
    step = leaf.step
    assert isinstance(step, PhotometricStep)
    name = type(step).__name__.lower()
    if step.needs_colour and num_channels != 3:
        raise ConfigError(
            f"The step {name} changes colours; the images have {num_channels} channel{'' if num_channels == 1 else 's'}.",
            where=leaf.where,
            accepts="images with three channels",
            mend=f"leave {name} out, or read the images in colour with data.shape=[3, height, width]",
        )
    if step.needs_range and maximum is None:
        raise ConfigError(
            f"The step {name} needs to know the largest value of a pixel; the images are {image.dtype if image else 'unknown'}.",
            where=leaf.where,
            accepts="uint8 or uint16 images, or images whose spec says `maximum`",
            mend=f"give the images as bytes, or leave {name} out",
        )


def _one_partner(pairs: Sequence[Leaf], spec: DataSpec, columns: Columns | None) -> str:
    """Where mixing steps take their partners from."""
    if not pairs:
        return "batch"
    if "label" not in spec.columns:
        raise ConfigError(
            f"Mixing images mixes their labels; the data has none, only {', '.join(spec.columns)}.",
            where=pairs[0].where,
            accepts="data with class labels",
            mend="leave mixup and cutmix out",
        )
    wanted = {leaf.step.config.partner for leaf in pairs}
    if len(wanted) > 1:
        raise ConfigError(
            "The mixing steps ask for different partners, but an image has one.",
            where=f"{pairs[0].where}.partner",
            accepts="data in all of them, or batch in all of them",
            mend="give all of them partner: data",
        )
    return "data" if wanted == {"data"} and columns is not None else "batch"
