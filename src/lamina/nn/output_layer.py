"""Cross-entropy of a linear layer over a large vocabulary, in chunks.

A language model of 200 units over 10,000 words does three quarters of its arithmetic in the output layer. Written as
`cross_entropy(linear(hidden), targets)` the logits go through memory about ten times, in float32. Here a chunk of rows at a time
stays in the processor's cache: product, log-softmax, and at once the gradient with respect to the logits, kept in the
precision of the product. The backward pass is then two products. Where keeping it would take too much memory it is
calculated again, chunk by chunk, and memory does not grow with the number of rows.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lamina.core.errors import DtypeError, ShapeError

__all__ = ["CHUNK_ELEMENTS", "KEPT_BYTES", "head_cross_entropy", "linear_cross_entropy"]

CHUNK_ELEMENTS: Final = 1 << 21  # logits at a time on a processor: 8 MiB in float32, a part of the last cache
KEPT_BYTES: Final = 256 << 20  # of gradients with respect to logits; above, they are calculated again
_ACCELERATOR_CHUNK: Final = 1 << 26


def head_cross_entropy(head: nn.Module, hidden: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of each row, in nats, of whatever layer turns hidden states into logits.

    A plain `nn.Linear` goes through `linear_cross_entropy`; any other module is called, and its logits are taken whole.

    Args:
        head: (N, H) -> (N, V).
        hidden: Float (N, H).
        targets: int64 (N,).

    Returns:
        Float32 (N,), float64 where everything is.
    """
    if type(head) is nn.Linear and not (head._forward_hooks or head._forward_pre_hooks):
        return linear_cross_entropy(hidden, head.weight, head.bias, targets)
    logits = head(hidden)
    wide = logits if logits.dtype == torch.float64 else logits.float()
    nats: Tensor = nn.functional.cross_entropy(wide, targets, reduction="none")
    return nats


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    *,
    chunk_rows: int | None = None,
    kept_bytes: int = KEPT_BYTES,
) -> Tensor:
    """-log softmax(hidden @ weight.T + bias)[target] of each row, in nats, without the logits of all rows at once.

    Under autocast the products are taken in its type, as those of `nn.Linear` are; the softmax is always float32 or wider.
    Differentiable once, with respect to hidden, weight and bias.

    Args:
        hidden: Float (N, H).
        weight: Float (V, H).
        bias: Float (V,), or None.
        targets: int64 (N,), from 0 to V - 1.
        chunk_rows: Rows at a time; by default as many as stay in the cache. The result depends on it by rounding at most.
        kept_bytes: The gradient with respect to the logits is kept for the backward pass up to this size.

    Returns:
        Float32 (N,), float64 where hidden and weight are.

    Raises:
        ShapeError: The shapes do not fit.
        DtypeError: The targets are not int64.

    Source: the gradient p - 1[target] of Bridle (1990), doi:10.1007/978-3-642-76153-9_28; taken chunk by chunk as in Hsu
    et al. (2024), arXiv:2410.10989, section 3.2.
    """
    if hidden.ndim != 2 or weight.ndim != 2 or hidden.shape[1] != weight.shape[1] or targets.shape != hidden.shape[:1]:
        raise ShapeError(
            f"hidden is shaped {tuple(hidden.shape)}, weight {tuple(weight.shape)}, targets {tuple(targets.shape)}.",
            where="linear_cross_entropy",
            accepts="hidden (N, H), weight (V, H), targets (N,)",
            mend="hidden.flatten(0, 1) and targets.flatten() make rows of (B, T, H) and (B, T)",
        )
    if targets.dtype != torch.int64:
        raise DtypeError(
            f"The targets are {str(targets.dtype).removeprefix('torch.')}.",
            where="linear_cross_entropy, argument `targets`",
            accepts="int64 numbers of classes",
            mend="targets.long()",
        )
    kind = hidden.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
    if hidden.dtype == torch.float64:
        dtype = torch.float64
    if chunk_rows is None:
        elements = CHUNK_ELEMENTS if kind == "cpu" else _ACCELERATOR_CHUNK
        chunk_rows = max(8, elements // max(len(weight), 1))
    with torch.autocast(kind, enabled=False):
        nats: Tensor = _LinearCrossEntropy.apply(hidden, weight, bias, targets, dtype, chunk_rows, kept_bytes)  # type: ignore[no-untyped-call]
    return nats


def _probs(rows: Tensor, weight: Tensor, bias: Tensor | None, column: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax of a chunk, and -log of the probability of each row's target; float32 or wider."""
    logits = rows @ weight.t() if bias is None else torch.addmm(bias, rows, weight.t())
    logits = logits.to(torch.float64 if logits.dtype == torch.float64 else torch.float32)
    probs = torch.softmax(logits, dim=1)
    # log-sum-exp by way of the largest, whose probability is never small: exact without another pass of exponentials, also where
    # the target's own probability is too small for a number.
    total = logits.amax(dim=1) - probs.amax(dim=1).log()
    return probs, total - logits.gather(1, column).squeeze(1)


class _LinearCrossEntropy(torch.autograd.Function):
    """See `linear_cross_entropy`."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        dtype: torch.dtype,
        chunk_rows: int,
        kept_bytes: int,
    ) -> Tensor:
        rows, kernel = hidden.to(dtype), weight.to(dtype)
        shift = None if bias is None else bias.to(dtype)
        num_rows, num_classes = len(rows), len(kernel)
        wanted = any(ctx.needs_input_grad[:3])
        keeps = wanted and num_rows * num_classes * rows.element_size() <= kept_bytes
        kept = rows.new_empty(num_rows, num_classes) if keeps else None
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        nats = torch.empty(num_rows, dtype=wide, device=rows.device)
        for first in range(0, num_rows, chunk_rows):
            chunk = slice(first, first + chunk_rows)
            column = targets[chunk].unsqueeze(1)
            probs, nats[chunk] = _probs(rows[chunk], kernel, shift, column)
            if kept is not None:
                _put_difference(kept[chunk], probs, column)
        ctx.save_for_backward(rows, kernel, shift, targets, kept)
        ctx.chunk_rows = chunk_rows
        ctx.dtypes = (hidden.dtype, weight.dtype, None if bias is None else bias.dtype)
        return nats

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, kernel, shift, targets, kept = ctx.saved_tensors
        dtypes = ctx.dtypes
        if kept is not None:
            parts = _products(kept, rows, kernel, grad, wanted=ctx.needs_input_grad)
            given = [None if part is None else part.to(dtype) for part, dtype in zip(parts, dtypes, strict=True)]
            return (*given, None, None, None, None)
        wide = grad.dtype
        for_rows: list[Tensor] = []
        sums: list[Tensor | None] = [None, None]
        for first in range(0, len(rows), ctx.chunk_rows):
            chunk = slice(first, first + ctx.chunk_rows)
            column = targets[chunk].unsqueeze(1)
            probs, _ = _probs(rows[chunk], kernel, shift, column)
            difference = torch.empty_like(probs, dtype=rows.dtype)
            _put_difference(difference, probs, column)
            parts = _products(difference, rows[chunk], kernel, grad[chunk], wanted=ctx.needs_input_grad)
            if parts[0] is not None:
                for_rows.append(parts[0])
            for place, part in enumerate(parts[1:]):  # summed in float32: many small parts
                if part is not None:
                    known = sums[place]
                    sums[place] = part.to(wide) if known is None else known.add_(part)
        first_given = torch.cat(for_rows).to(dtypes[0]) if for_rows else None
        others = [None if part is None else part.to(dtype) for part, dtype in zip(sums, dtypes[1:], strict=True)]
        return (first_given, *others, None, None, None, None)


def _put_difference(place: Tensor, probs: Tensor, column: Tensor) -> None:
    """Write the gradient with respect to the logits, p - 1[target], in the precision of `place`."""
    place.copy_(probs)
    # The difference of the wide numbers: rounded first, a probability near 1 would leave nothing to learn.
    place.scatter_(1, column, (probs.gather(1, column) - 1).to(place.dtype))


def _products(
    difference: Tensor, rows: Tensor, kernel: Tensor, grad: Tensor, *, wanted: tuple[bool, ...]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of rows, weight and bias from p - 1[target] (N, V) and the gradient of each row's nats (N,)."""
    # The rows' own gradients are brought in where they cost least: N x H numbers instead of N x V.
    scale = grad.unsqueeze(1)
    for_rows = (difference @ kernel) * scale if wanted[0] else None
    for_weight = difference.t() @ (rows * scale).to(rows.dtype) if wanted[1] else None
    for_bias = (scale.t().to(rows.dtype) @ difference).squeeze(0) if wanted[2] else None
    return for_rows, for_weight, for_bias
