"""Every rule against torch: the same function, traced and native, on ordinary and awkward values."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from lamina.train.native.nodes import NotNativeError
from lamina.train.native.operations import lower
from lamina.train.native.program import Builder
from lamina.train.native.source import arena_bytes, write_program
from lamina.train.native.toolchain import build, find_compiler
from lamina.train.native.tracing import trace

needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="there is no C++ compiler")


def natively(
    function: Callable[..., Sequence[Tensor]], *inputs: Tensor, run_on: Sequence[Tensor] | None = None
) -> list[Tensor]:
    """The function's results from one native step, traced on `inputs`, run on them or on others."""
    shapes: list[tuple[torch.Size, torch.dtype]] = []

    def step(*tensors: Tensor) -> list[Tensor]:
        results = [result.detach() for result in function(*tensors)]
        shapes[:] = [(result.shape, result.dtype) for result in results]
        return [*results, torch.zeros(())]

    graph = trace(step, inputs)
    builder = Builder()
    nodes = [builder.add_input(tensor.shape, tensor.dtype, kind="input") for tensor in inputs]
    constants: list[Tensor] = []

    def constant(tensor: Tensor):
        constants.append(tensor.contiguous())
        return builder.add_input(tensor.shape, tensor.dtype, kind="input")

    results = lower(graph, builder, nodes, constant=constant)
    names = [*(f"r{i}" for i in range(len(results) - 1)), "loss"]
    program = builder.finish([], dict(zip(names, results, strict=True)))
    run = build(write_program(program, loss="loss"))
    outputs = [torch.empty(shape, dtype=dtype) for shape, dtype in [*shapes, (torch.Size(()), torch.float32)]]
    arena = torch.empty(arena_bytes(program)[2] + 64, dtype=torch.uint8)
    pointers = [tensor.data_ptr() for tensor in (*(run_on or inputs), *constants, *outputs)]
    fault = ctypes.c_int64(0)
    done = run((ctypes.c_void_p * len(pointers))(*pointers), -(-arena.data_ptr() // 64) * 64, 1, ctypes.byref(fault))
    if done != 1:
        raise IndexError("index out of bounds")
    return outputs[:-1]


def check(function: Callable[..., Sequence[Tensor]], *inputs: Tensor, rtol: float = 1e-6, atol: float = 1e-6) -> None:
    expected = function(*inputs)
    for at, (mine, theirs) in enumerate(zip(natively(function, *inputs), expected, strict=True)):
        assert mine.dtype == theirs.dtype, at
        torch.testing.assert_close(
            mine, theirs.detach(), rtol=rtol, atol=atol, equal_nan=True, msg=lambda m, at=at: f"result {at}: {m}"
        )


def numbers(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_functions_of_one_number(dtype: torch.dtype):
    x = numbers(5, 7, dtype=dtype) * 3
    p = x.abs() + 0.1

    def many(x: Tensor, p: Tensor) -> list[Tensor]:
        return [
            -x, x.exp(), torch.expm1(x), p.log(), torch.log1p(p), p.log2(), p.sqrt(), p.rsqrt(), p.reciprocal(),
            x.sin(), x.cos(), x.tanh(), torch.erf(x), x.sigmoid(), x.relu(), x.floor(), x.ceil(), x.trunc(), x.round(),
            x.sign(), x.abs(), x**2, x**3, p**0.5, p**-0.5, p**-1.0, p**1.7, 2.0**x, p**x, x.clamp(-1, 1), x.clamp(min=0.5),
            nn.functional.leaky_relu(x, 0.1), nn.functional.elu(x), nn.functional.gelu(x), nn.functional.gelu(x, approximate="tanh"),
            nn.functional.silu(x), nn.functional.softplus(x), nn.functional.selu(x), nn.functional.mish(x), nn.functional.hardtanh(x),
            x.softmax(1), x.log_softmax(0), x.double(), x.float(), x.to(torch.int64), (x > 0).to(dtype), x.isnan(), x.isinf(),
        ]  # fmt: skip

    check(many, x, p, rtol=4e-6 if dtype == torch.float32 else 1e-13, atol=4e-6 if dtype == torch.float32 else 1e-13)


@needs_compiler
def test_nan_and_infinity_go_through_as_in_torch():
    x = torch.tensor([math.nan, math.inf, -math.inf, -0.0, 0.0, 1.0, -1.0, 88.0, -104.0, 3e38, 1e-40])
    y = torch.tensor([1.0, math.nan, math.inf, 0.0, -0.0, math.nan, 2.0, 0.0, math.nan, 3e38, -1e-40])

    def many(x: Tensor, y: Tensor) -> list[Tensor]:
        return [
            x.relu(), torch.maximum(x, y), torch.minimum(x, y), x.exp(), x.tanh(), x.sigmoid(), x.abs().log(), x.abs().sqrt(),
            x + y, x * y, x / y, x == y, x < y, x.isnan(), x.isinf(), torch.isfinite(x), x.clamp(-1, 1), x.amax(), y.amin(),
            x.sign(), torch.where(x > 0, x, y), x.logsumexp(0), x[3:].amax(), x.reshape(1, 11).expand(4, 11).amax(0),
        ]  # fmt: skip

    check(many, x, y)


@needs_compiler
def test_two_operands_broadcast_and_promote():
    a, b, c = numbers(4, 6), numbers(6, seed=1), numbers(4, 1, seed=2)
    i = torch.arange(-12, 12).reshape(4, 6)
    j = (torch.arange(24).reshape(4, 6) % 5) + 1

    def many(a: Tensor, b: Tensor, c: Tensor, i: Tensor, j: Tensor) -> list[Tensor]:
        wide = torch.tensor(0.1, dtype=torch.float64)
        return [
            a + b, a - c, a * b * c, a / c, torch.add(a, b, alpha=0.5), torch.sub(a, b, alpha=2), 1 - a, a + i, i + j, i * j, i / j,
            i // j, i % j, a % 0.7, torch.div(a, c, rounding_mode="floor"), torch.div(a, c, rounding_mode="trunc"),
            a * wide, i * 0.5, i == j, a > i, a != b, (i > 0) & (j > 2), (i > 0) | (j > 2), (i > 0) ^ (j > 2), ~(i > 0), i & 3, i | 8, i ^ j,
            i.to(torch.int32) << 3, i.to(torch.int32) >> 1, torch.where(i > 0, a, c), torch.where(i > 0, 1.0, a), a.lerp(c, 0.3), torch.atan2(a, c),
            torch.addcmul(a, b, c, value=0.5), torch.addcdiv(a, b, c, value=0.5), torch.logical_and(i > 0, j > 2), torch.logical_not(i > 0),
            a.masked_fill(i > 0, 7.0),
        ]  # fmt: skip

    check(many, a, b, c, i, j)


@needs_compiler
def test_integer_products_wrap_as_the_keyed_draws_need_them():
    x = torch.arange(-(1 << 31), (1 << 31) - 1, 99_999_989, dtype=torch.int64).to(torch.int32)

    def many(x: Tensor) -> list[Tensor]:
        mixed = (x ^ ((x >> 16) & 0xFFFF)) * 0x7FEB352D
        return [mixed, mixed * (0x846CA68B - (1 << 32)), (mixed >> 8).to(torch.float32) * (1.0 / (1 << 24))]

    for mine, theirs in zip(natively(many, x), many(x), strict=True):
        assert torch.equal(mine, theirs)


@needs_compiler
def test_views_constants_and_concatenation():
    x, y = numbers(3, 4, 5), numbers(3, 2, 5, seed=1)

    def many(x: Tensor, y: Tensor) -> list[Tensor]:
        lazy = x * 2  # not stored when it is looked at
        return [
            x.permute(2, 0, 1) + 0, x.transpose(0, 2) * 1.5, lazy.permute(1, 2, 0), x.reshape(12, 5) + 1, lazy.reshape(3, 20), lazy.reshape(6, 2, 5),
            lazy.reshape(3, 2, 2, 5), x[1] + 0, x[:, 1:3] * 2, lazy[:, ::2], x[:, -1, 2:] + 0, x.unsqueeze(1).expand(3, 2, 4, 5) + 0,
            torch.cat([x, y], 1), torch.cat([lazy, y, x], 1), torch.stack([x, lazy], 2), x.flip(0), x.flip((1, 2)) + 1,
            sum(x.unbind(1)), sum(piece.sum() for piece in x.split([1, 3], 1)), x.chunk(2, 1)[1] + 0, x.squeeze(),
            torch.full((2, 3), 1.5), torch.zeros(2, 2) + x[0, :2, :2], torch.ones_like(x) - x, torch.arange(6), torch.arange(2, 12, 3) * 2,
            nn.functional.pad(y, (1, 2)), nn.functional.pad(lazy, (0, 1, 2, 0), value=3.0),
            torch.tril(x[0, :, :4]),
        ]  # fmt: skip

    check(many, x, y)


@needs_compiler
def test_in_place_operations_on_own_tensors():
    x = numbers(4, 5)

    def many(x: Tensor) -> list[Tensor]:
        a = x.clone()
        a[1:3] *= 2
        a[:, 0] = 7.0
        a.add_(1).relu_()
        b = torch.zeros(4, 5)
        b[2] = x[1]
        b[:, 1:4:2] += x[:, 1:4:2]
        return [a, b]

    check(many, x)


@needs_compiler
def test_looking_up_and_writing_at_indices():
    x, rows, places = numbers(6, 5), torch.tensor([5, 0, 0, 3]), torch.tensor([[4], [0], [2], [2], [1], [3]])
    columns = torch.tensor([1, 4, 0, 2])
    wide = torch.tensor([[4, 4], [0, 1], [2, 2], [2, 0], [1, 3], [3, 3]])

    def many(x: Tensor, rows: Tensor, places: Tensor, columns: Tensor, wide: Tensor) -> list[Tensor]:
        zeros = torch.zeros(6, 5)
        return [
            x.index_select(0, rows), x.index_select(1, columns), x[rows], x[rows, columns], x[:, columns], x.gather(1, places), (x * 2).gather(1, wide),
            x[-rows], nn.functional.embedding(rows, x), zeros.scatter(1, places, 1.5),
            zeros.scatter_add(1, places, x[:, :1]), zeros.scatter_add(1, wide, x[:, :2]), zeros.index_put((rows, columns), x[:4, 0], accumulate=True),
        ]  # fmt: skip

    check(many, x, rows, places, columns, wide)


@needs_compiler
@pytest.mark.parametrize("bad", [5, -6, 1 << 40])
def test_an_index_out_of_bounds_is_noticed_and_nothing_outside_is_read(bad: int):
    x, good = numbers(4, 5), torch.zeros(4, 1, dtype=torch.int64)

    def look(x: Tensor, places: Tensor) -> list[Tensor]:
        return [x.gather(1, places)]

    with pytest.raises(IndexError):
        natively(look, x, good, run_on=[x, torch.tensor([[0], [bad], [1], [2]])])


@needs_compiler
def test_reductions():
    x, i = numbers(3, 33, 10), torch.arange(30).reshape(3, 10) % 7

    def many(x: Tensor, i: Tensor) -> list[Tensor]:
        return [
            x.sum(), x.sum(0), x.sum(1), x.sum(2), x.sum((0, 2)), x.sum((0, 1), keepdim=True), x.mean(), x.mean(1), x.amax(2), x.amax(0), x.amin((0, 1)),
            x.max(), x.var(), x.var(1), x.var((0, 1), correction=0), x.std(2), i.sum(), i.sum(1), i.amax(1), (i > 5).any(), (i > 5).any(1), (i < 7).all(),
            x.norm(), torch.linalg.vector_norm(x, dim=1), x.abs().sum(), (x * x).sum((1, 2)), x.logsumexp(1), (x > 0).sum(), x.square().mean().sqrt(),
            x.transpose(0, 2).sum(0), x[:, ::3].sum(1),
        ]  # fmt: skip

    check(many, x, i, rtol=2e-5, atol=2e-5)


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("m", "k", "n"), [(1, 1, 1), (32, 784, 16), (7, 13, 10), (33, 5, 49), (3, 130, 100), (12, 17, 35)]
)
def test_matrix_products_of_any_layout(dtype: torch.dtype, m: int, k: int, n: int):
    a, b = numbers(m, k, dtype=dtype), numbers(k, n, seed=1, dtype=dtype)

    def many(a: Tensor, b: Tensor, at: Tensor, bt: Tensor) -> list[Tensor]:
        return [
            a @ b,
            at.t() @ b,
            a @ bt.t(),
            at.t() @ bt.t(),
            (a * 2) @ (b - 1),
            b.t() @ a.t(),
            torch.addmm(b[0], a, b, beta=0.5, alpha=2),
        ]

    tolerance = 3e-5 if dtype == torch.float32 else 1e-12
    check(many, a, b, a.t().contiguous(), b.t().contiguous(), rtol=tolerance, atol=tolerance)


@needs_compiler
def test_losses_and_their_gradients():
    x, y, t = numbers(8, 5), torch.arange(8) % 5, numbers(8, 5, seed=3)
    weights = torch.rand(5, generator=torch.Generator().manual_seed(1))

    def many(x: Tensor, y: Tensor, t: Tensor) -> list[Tensor]:
        results = []
        with torch.enable_grad():
            for loss in (
                lambda z: nn.functional.cross_entropy(z, y),
                lambda z: nn.functional.cross_entropy(z, y, weight=weights, label_smoothing=0.1, reduction="sum"),
                lambda z: nn.functional.mse_loss(z, t),
                lambda z: nn.functional.l1_loss(z, t),
                lambda z: nn.functional.huber_loss(z, t, delta=0.5),
                lambda z: nn.functional.smooth_l1_loss(z, t),
                lambda z: nn.functional.binary_cross_entropy_with_logits(z, t.sigmoid()),
                lambda z: (z - z.gather(1, y.unsqueeze(1)) + 1).clamp(min=0).sum() - 8,
                lambda z: (z[torch.arange(8), y] ** 2).sum(),
                lambda z: nn.functional.layer_norm(z, (5,)).pow(3).sum(),
                lambda z: nn.functional.group_norm(z, 1).tanh().sum(),
            ):
                z = x.detach().requires_grad_()
                value = loss(z)
                results += [value.detach(), torch.autograd.grad(value, z)[0]]
        return results

    check(many, x, y, t, rtol=2e-5, atol=2e-6)


def test_what_has_no_rule_is_named():
    x = numbers(4, 4)
    builder = Builder()
    graph = trace(lambda x: [torch.linalg.inv(x)], [x])
    with pytest.raises(NotNativeError, match=r"linalg_inv"):
        lower(
            graph, builder, [builder.add_input(x.shape, x.dtype, kind="input")], constant=lambda t: pytest.fail("none")
        )


def test_reading_a_value_back_while_tracing_is_refused():
    with pytest.raises(NotNativeError, match=r"cannot be traced"):
        trace(lambda x: [x * 2 if float(x.sum()) > 0 else x], [numbers(3)])


def test_changing_a_tensor_of_the_surroundings_is_refused():
    counter = torch.zeros(())

    def step(x: Tensor) -> list[Tensor]:
        counter.add_(1)
        return [x + counter]

    with pytest.raises(NotNativeError, match=r"in place"):
        trace(step, [numbers(3)])


def test_bfloat16_is_refused():
    x = numbers(3)
    builder = Builder()
    graph = trace(lambda x: [x.bfloat16() * 2], [x])
    with pytest.raises(NotNativeError, match=r"bfloat16"):
        lower(
            graph, builder, [builder.add_input(x.shape, x.dtype, kind="input")], constant=lambda t: pytest.fail("none")
        )
