"""What this machine can do at most: matrix products and 3x3 convolutions in float32 and bfloat16, in GFLOP/s.

Run in Lamina's environment; prints one JSON document.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import torch


def rate(run: Callable[[], Any], flops: float, *, seconds: float = 1.0) -> float:
    """The best of several repetitions, in GFLOP/s."""
    run()
    best = 0.0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        begin = time.perf_counter()
        run()
        best = max(best, flops / (time.perf_counter() - begin) / 1e9)
    return round(best, 1)


def measure() -> dict[str, float]:
    """All peaks, on as many threads as torch uses by itself; `one_thread` on one."""
    found: dict[str, float] = {}
    n = 1536
    threads = torch.get_num_threads()
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        a, b = torch.randn(n, n).to(dtype), torch.randn(n, n).to(dtype)
        found[f"product_{name}"] = rate(lambda a=a, b=b: a @ b, 2.0 * n**3)
        torch.set_num_threads(1)
        found[f"product_{name}_one_thread"] = rate(lambda a=a, b=b: a @ b, 2.0 * n**3)
        torch.set_num_threads(threads)
        x, w = torch.randn(32, 64, 28, 28).to(dtype), torch.randn(64, 64, 3, 3).to(dtype)
        flops = 2.0 * 32 * 28 * 28 * 64 * 64 * 9
        found[f"convolution_{name}_channels_first"] = rate(lambda x=x, w=w: torch.conv2d(x, w, padding=1), flops)
        x, w = (t.contiguous(memory_format=torch.channels_last) for t in (x, w))
        found[f"convolution_{name}_channels_last"] = rate(lambda x=x, w=w: torch.conv2d(x, w, padding=1), flops)
    return found


if __name__ == "__main__":
    print(json.dumps(measure()))
