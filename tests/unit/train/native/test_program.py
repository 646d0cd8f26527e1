"""What a program carries from step to step: updated in place only where nobody still needs the old value."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from lamina.train.native.nodes import Affine, Stored, expand, remap
from lamina.train.native.operations import lower
from lamina.train.native.program import Builder, Loop, Program
from lamina.train.native.source import arena_bytes, write_program
from lamina.train.native.toolchain import build, find_compiler
from lamina.train.native.tracing import trace

needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="there is no C++ compiler")


def lowered(step: Callable[..., Sequence[Tensor]], *start: Tensor) -> Program:
    """The program of a step that maps carried tensors to new ones."""
    graph = trace(lambda *tensors: [*step(*tensors), torch.zeros(())], start)
    builder = Builder()
    nodes = [builder.add_input(tensor.shape, tensor.dtype, kind="carried") for tensor in start]
    *ends, loss = lower(graph, builder, nodes, constant=lambda tensor: pytest.fail("there are no constants"))
    return builder.finish(list(zip(nodes, ends, strict=True)), {"loss": loss})


def run(
    step: Callable[..., Sequence[Tensor]], *start: Tensor, steps: int = 3
) -> tuple[list[Tensor], list[Tensor], Program]:
    """(native result, expected result, program) after some steps."""
    program = lowered(step, *start)
    function = build(write_program(program, loss="loss"))
    mine, expected = [tensor.clone() for tensor in start], [tensor.clone() for tensor in start]
    losses = torch.zeros(steps)
    arena = torch.zeros(arena_bytes(program)[2] + 64, dtype=torch.uint8)
    pointers = [tensor.data_ptr() for tensor in (*mine, losses)]
    table, fault = (ctypes.c_void_p * len(pointers))(*pointers), ctypes.c_int64(0)
    assert function(table, -(-arena.data_ptr() // 64) * 64, steps, ctypes.byref(fault)) == steps
    for _ in range(steps):
        expected = [tensor.clone() for tensor in step(*expected)]
    return mine, expected, program


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def in_place(program: Program) -> list[bool]:
    return [new is None for _, new in program.carried]


@needs_compiler
@pytest.mark.parametrize(
    ("step", "expected_in_place"),
    [
        (lambda w, m: [w - 0.1 * (0.9 * m + w.tanh()), 0.9 * m + w.tanh()], [True, True]),
        (lambda w, m: [w.flip(0) + 1, m.t() * 0.5], [False, False]),  # reads the old value at other places
        (lambda w, m: [m, w], [True, True]),  # exchanged: one loop loads both before it stores either
        (lambda w, m: [w, w], [True, True]),  # one stays, the other becomes its copy
        (lambda w, m: [w * 0.5, m + (w * 0.5) @ w], [False, True]),  # the old weight is read after the new one is there
        (lambda w, m: [w @ m, m], [False, True]),
        (lambda w, m: [w.sum(0, keepdim=True) * 0.1 + w, m], [True, True]),
        (lambda w, m: [w.t().contiguous(), m * w.t()], [False, True]),
    ],
)
def test_carried_values(step: Callable[..., Sequence[Tensor]], expected_in_place: list[bool]):
    mine, expected, program = run(step, numbers(7, 7), numbers(7, 7, seed=1))
    for first, second in zip(mine, expected, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-6)
    assert in_place(program) == expected_in_place


@needs_compiler
def test_a_loop_does_not_read_what_it_has_not_yet_computed():
    def step(x: Tensor) -> list[Tensor]:
        y = x.tanh()
        return [y + y.flip(0) + y.t() * 0.3 + y.roll(1, 1) * 0.2]

    mine, expected, _ = run(step, numbers(9, 9))
    torch.testing.assert_close(mine[0], expected[0], rtol=1e-5, atol=1e-6)


@needs_compiler
def test_a_buffer_that_is_written_in_parts_is_read_whole():
    def step(x: Tensor, y: Tensor) -> list[Tensor]:
        both = torch.cat([x * 2, y.tanh()], 0)
        both[1:3] = both[4:6] + 1
        return [both[:5] * 0.5, both[3:8] - both[:5]]

    mine, expected, _ = run(step, numbers(5, 4), numbers(5, 4, seed=1))
    for first, second in zip(mine, expected, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-6)


def test_values_of_one_shape_share_a_loop_and_what_only_it_reads_is_not_stored():
    def step(w: Tensor, m: Tensor) -> list[Tensor]:
        velocity = 0.9 * m + w.sin()
        return [w - 0.1 * velocity, velocity]

    program = lowered(step, numbers(6, 5), numbers(6, 5, seed=1))
    loops = [kernel for kernel in program.kernels if isinstance(kernel, Loop) and kernel.shape == (6, 5)]
    assert len(loops) == 1
    text = write_program(program, loss="loss")
    assert text.count("for (int64_t i1 = 0; i1 < 30; ++i1)") == 1, "two dimensions become one loop"

    def twice(w: Tensor) -> list[Tensor]:
        inner = w.sin()
        return [inner * inner + inner]

    program = lowered(twice, numbers(6, 5))
    assert len(program.registers) == 1
    assert not program.registers & set(program.temporaries)


def test_views_are_affine_maps():
    builder = Builder()
    x = builder.add_input((4, 6), torch.float32, kind="input")
    transposed = remap(x, (6, 4), (0, 0), ((0, 1), (1, 0)))
    assert isinstance(transposed, Stored)
    assert transposed.strides == (1, 6)
    assert not transposed.is_contiguous
    assert expand(builder.add_input((4, 1), torch.float32, kind="input"), (3, 4, 6)).strides == (0, 1, 0)
    lazy = builder.pointwise("twice", torch.float32, [x], lambda a: f"{a} * 2")
    back = remap(remap(lazy, (6, 4), (0, 0), ((0, 1), (1, 0))), (4, 6), (0, 0), ((0, 1), (1, 0)))
    assert back is lazy
    place = Affine.variable("i") * 3 + 4 + Affine.variable("i") * -3
    assert place == Affine(4)
