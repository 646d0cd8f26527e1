"""The arithmetic of sliding windows: output sizes, what a stride drops, and receptive fields.

The one place where a size is computed. Models use it to size their dense layers, `lamina inspect` to say how each
output size came about. Pure integers; imports no torch.

Source: Dumoulin and Visin (2016), "A guide to convolution arithmetic for deep learning", arXiv:1603.07285; the
receptive field recursion: Araujo, Norris, Sim (2019), "Computing Receptive Fields of Convolutional Neural Networks",
doi:10.23915/distill.00021.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

Padding = int | tuple[int, int] | Literal["same", "valid"]


@dataclass(frozen=True)
class OutputSize:
    """The size of one axis after a window has slid over it.

    Attributes:
        size: Positions of the window; 0 where it does not fit once.
        padding: Elements added before and after.
        dropped: Elements at the end (padding among them) that no window covers.
        how: The formula with its numbers, and what is dropped, in words.
    """

    size: int
    padding: tuple[int, int]
    dropped: int
    how: str


def same_padding(n: int, *, kernel: int, stride: int = 1, dilation: int = 1) -> tuple[int, int]:
    """Elements that "same" adds before and after an axis, so that ceil(n / stride) windows fit; the odd one goes to the end.

    What layers call in their forward pass: no words are made.

    >>> same_padding(224, kernel=3, stride=2), same_padding(7, kernel=3, stride=2)
    ((0, 1), (1, 1))
    """
    total = max((-(-n // stride) - 1) * stride + dilation * (kernel - 1) + 1 - n, 0)
    return total // 2, total - total // 2


def conv_output_size(n: int, *, kernel: int, stride: int = 1, padding: Padding = 0, dilation: int = 1) -> OutputSize:
    """The size of an axis after a convolution: floor((n + padding - extent) / stride) + 1.

    The extent of a kernel is dilation * (kernel - 1) + 1. Two things are often lost: the floor, and that a stride which
    does not divide leaves elements at the end uncovered.

    Args:
        n: Size of the axis, >= 1.
        padding: Elements on either side; (before, after); "valid" for none; "same" for ceil(n / stride) outputs, the
            odd element of the padding going to the end, as in TensorFlow.

    Returns:
        An OutputSize; `size` is 0 where the kernel does not fit.

    >>> conv_output_size(6, kernel=3).size
    4
    >>> print(conv_output_size(224, kernel=11, stride=4).how)
    floor((224 + 0 - 11) / 4) + 1 = floor(53.25) + 1 = 54; stride 4 does not divide: the last 1 of 224 is not used
    """
    extent = dilation * (kernel - 1) + 1
    if padding == "same":
        size = -(-n // stride)
        before, after = same_padding(n, kernel=kernel, stride=stride, dilation=dilation)
        total = before + after
        dropped = n + total - ((size - 1) * stride + extent)
        how = f'"same": ceil({n} / {stride}) = {size}, with {before} before and {after} after'
    else:
        before, after = _two_sides(padding)
        room = n + before + after - extent
        size = max(room // stride + 1, 0)
        dropped = room % stride if size else n + before + after
        padded = f"2*{before}" if before == after and before else f"{before + after}"
        how = f"floor(({n} + {padded} - {extent}) / {stride}) + 1 = {size}"
        if dropped and size:
            how = f"floor(({n} + {padded} - {extent}) / {stride}) + 1 = floor({_decimal(room, stride)}) + 1 = {size}"
    if dilation > 1:
        how = f"a kernel of {kernel} spread {dilation} apart covers {extent}; {how}"
    if size == 0:
        how += f": the kernel covers {extent} and does not fit once"
    elif dropped:
        verb = "is" if dropped == 1 else "are"
        how += f"; stride {stride} does not divide: the last {dropped} of {n + before + after} {verb} not used"
    return OutputSize(size, (before, after), dropped, how)


def pool_output_size(
    n: int,
    *,
    kernel: int,
    stride: int | None = None,
    padding: Padding = 0,
    dilation: int = 1,
    ceil_mode: bool = False,
) -> OutputSize:
    """The size of an axis after pooling; as `conv_output_size`, with the stride equal to the kernel by default.

    Args:
        ceil_mode: Round up instead of down, as torch does: the last window may reach past the end, but must begin inside
            the input or the padding before it. A pooled maximum ignores what lies outside.

    >>> pool_output_size(7, kernel=2, padding="same").size
    4
    >>> pool_output_size(7, kernel=2).size
    3
    """
    stride = kernel if stride is None else stride
    plain = conv_output_size(n, kernel=kernel, stride=stride, padding=padding, dilation=dilation)
    if not ceil_mode or padding == "same":
        return plain
    before, after = _two_sides(padding)
    extent = dilation * (kernel - 1) + 1
    room = n + before + after - extent
    size = max(-(-room // stride) + 1, 0)
    if size and (size - 1) * stride >= n + before:
        size -= 1
    reach = max((size - 1) * stride + extent - (n + before + after), 0)
    how = f"ceil(({n} + {before + after} - {extent}) / {stride}) + 1 = {size}"
    if size == 0:
        how += f": the kernel covers {extent} and does not fit once"
    elif reach:
        how += f"; the last window reaches {reach} past the end"
    dropped = max(n + before + after - ((size - 1) * stride + extent), 0) if size else n + before + after
    return OutputSize(size, (before, after + reach), dropped, how)


def transposed_output_size(
    n: int, *, kernel: int, stride: int = 1, padding: Padding = 0, output_padding: int = 0, dilation: int = 1
) -> OutputSize:
    """The size of an axis after a transposed convolution: (n - 1) * stride - 2 * padding + extent + output_padding.

    Args:
        padding: Elements cut off on either side; (before, after); "valid" for none; "same" for n * stride outputs, the odd
            element being cut off at the end: what undoes the sizes of a "same" convolution.

    >>> transposed_output_size(7, kernel=4, stride=2, padding=1).size
    14
    >>> transposed_output_size(7, kernel=3, stride=2, padding="same").size
    14
    """
    extent = dilation * (kernel - 1) + 1
    if padding == "same":
        cut = max(extent - stride, 0)
        before, after = cut // 2, cut - cut // 2
        return OutputSize(n * stride, (before, after), 0, f'"same": {n}*{stride} = {n * stride}')
    before, after = _two_sides(padding)
    size = max((n - 1) * stride - before - after + extent + output_padding, 0)
    cut_text = f"2*{before}" if before == after else f"{before + after}"
    how = f"({n} - 1)*{stride} - {cut_text} + {extent} + {output_padding} = {size}"
    return OutputSize(size, (before, after), 0, how)


def adaptive_output_size(n: int, *, size: int) -> OutputSize:
    """The size of an axis after adaptive pooling, which is what was asked for; and the windows that make it.

    Window i reaches from floor(i * n / size) to ceil((i + 1) * n / size): all alike where size divides n, overlapping where
    it does not, and repeating elements where n is smaller.

    >>> adaptive_output_size(14, size=7).how
    '7 windows of 2'
    >>> adaptive_output_size(7, size=3).how
    '3 windows of 3, overlapping'
    >>> adaptive_output_size(4, size=7).how
    '7 windows of 1 to 2, repeating elements'
    """
    least, most = adaptive_windows(n, size=size)
    how = f"{size} window{'s' if size > 1 else ''} of {least if least == most else f'{least} to {most}'}"
    if n % size:
        how += ", overlapping" if n > size else ", repeating elements"
    return OutputSize(size, (0, 0), 0, how)


def adaptive_windows(n: int, *, size: int) -> tuple[int, int]:
    """The smallest and the largest window of adaptive pooling from n to `size` elements.

    >>> adaptive_windows(13, size=6), adaptive_windows(10, size=7)
    ((3, 3), (2, 3))
    """
    windows = [-(-(i + 1) * n // size) - i * n // size for i in range(size)]
    return min(windows), max(windows)


@dataclass(frozen=True)
class ReceptiveField:
    """How much of the input one element of a feature map can see, along one axis.

    Attributes:
        size: Input elements covered. Padding does not enter: at the border some of them lie outside the input.
        jump: Distance in the input between neighbours of the feature map; below 1 after transposed convolutions.

    Three 3x3 convolutions see 7 elements:

    >>> ReceptiveField().after(kernel=3).after(kernel=3).after(kernel=3).size
    7
    """

    size: int = 1
    jump: Fraction = Fraction(1)

    def after(self, *, kernel: int, stride: int | Fraction = 1, dilation: int = 1) -> ReceptiveField:
        """The field after a convolution or pooling: size + dilation * (kernel - 1) * jump, jump * stride.

        The windows of adaptive pooling lie a fraction apart on average.
        """
        return ReceptiveField(self.size + _ceil(dilation * (kernel - 1) * self.jump), self.jump * stride)

    def after_transposed(self, *, kernel: int, stride: int = 1, dilation: int = 1) -> ReceptiveField:
        """The field after a transposed convolution, of the output that sees most: ceil(extent / stride) inputs."""
        extent = dilation * (kernel - 1) + 1
        return ReceptiveField(self.size + _ceil((-(-extent // stride) - 1) * self.jump), self.jump / stride)


def smallest_input(sizes: tuple[tuple[int, int, Padding], ...]) -> int:
    """The smallest axis on which a chain of windows, given as (kernel, stride, padding), leaves at least one output.

    >>> smallest_input(((5, 1, 0), (2, 2, 0), (5, 1, 0), (2, 2, 0)))
    16
    """
    n = 1
    while True:
        size = n
        for kernel, stride, padding in sizes:
            size = conv_output_size(size, kernel=kernel, stride=stride, padding=padding).size
            if size < 1:
                break
        else:
            return n
        n += 1


def _two_sides(padding: Padding) -> tuple[int, int]:
    if padding == "valid":
        return 0, 0
    if isinstance(padding, tuple):
        return padding
    assert isinstance(padding, int)
    return padding, padding


def _ceil(value: Fraction) -> int:
    return -((-value.numerator) // value.denominator)


def _decimal(numerator: int, denominator: int) -> str:
    return f"{numerator / denominator:.2f}".rstrip("0").rstrip(".")
