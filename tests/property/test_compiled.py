"""Whatever the network and wherever a segment is cut, the bits are the same and the eager executor agrees."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lamina.train.compiled import CompiledExecutor
from lamina.train.eager import EagerExecutor
from lamina.train.native.toolchain import find_compiler
from unit.train.compiled_case import assert_same_bits, everything, make_tools, segment

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="there is no C++ compiler")

OPTIMIZERS = ({"name": "sgd", "lr": 0.05}, {"name": "momentum", "lr": 0.02}, {"name": "adamw", "lr": 0.005})


@settings(max_examples=4)
@given(
    widths=st.lists(st.integers(1, 70), min_size=2, max_size=4),
    batch_size=st.integers(2, 19),
    values=st.sampled_from(OPTIMIZERS),
    norm=st.booleans(),
    dropout=st.sampled_from([0.0, 0.4]),
    data=st.data(),
)
def test_cuts_change_no_bit(widths, batch_size, values, norm, dropout, data):
    options = {"widths": widths, "batch_size": batch_size, "norm": norm, "dropout": dropout}
    steps = 480 // batch_size
    cut = data.draw(st.integers(1, steps - 1))
    whole, parts, eager = (make_tools(values, **options) for _ in range(3))
    assert CompiledExecutor(whole, optimizer_values=values).run(segment(0, steps)) is not None
    executor = CompiledExecutor(parts, optimizer_values=values)
    executor.run(segment(0, cut))
    executor.run(segment(cut, steps - cut))
    assert_same_bits(everything(parts), everything(whole))
    early, reference = make_tools(values, **options), EagerExecutor(eager)
    reference.run(segment(0, 10))
    CompiledExecutor(early, optimizer_values=values).run(segment(0, 10))
    for name, value in everything(eager).items():
        torch.testing.assert_close(everything(early)[name], value, rtol=1e-3, atol=1e-4)
