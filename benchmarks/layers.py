"""Dropout beside torch's, fused optimizer steps beside foreach ones, and steps that keep freed memory beside ones that do not: the
numbers quoted in `nn/dropout.py`, `optim/create.py` and `core/memory.py`.

    python benchmarks/layers.py [--threads 1]

Candidates take turns in one process; medians of microseconds.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from lamina.core.memory import keep_freed_memory
from lamina.models.cnn import sign_cnn
from lamina.nn.dropout import Dropout, DropoutKeys

ROUNDS = 60
SHAPES = ((32, 50, 14, 14), (32, 25, 7, 7), (32, 512), (256, 512))
WEIGHTS = ((16, 784), (16,), (16, 16), (16,), (10, 16), (10,), (512, 400))


def medians(candidates: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Name -> median time of a call in microseconds, the candidates taking turns."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(ROUNDS + 5):
        for name, call in candidates.items():
            begin = time.perf_counter()
            call()
            if number >= 5:
                times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) * 1e6 for name, values in times.items()}


def dropout() -> None:
    """Forward and backward pass of a dropout layer in training."""
    for shape in SHAPES:
        for dtype in (torch.float32, torch.bfloat16):
            for layout in (
                (torch.contiguous_format, torch.channels_last) if len(shape) == 4 else (torch.contiguous_format,)
            ):
                x = torch.randn(shape).to(dtype).contiguous(memory_format=layout).requires_grad_()
                grad = torch.ones_like(x)
                layer = Dropout(0.2)
                DropoutKeys(layer, 0).refresh(1)

                def ours(x: Tensor = x, grad: Tensor = grad, layer: Dropout = layer) -> None:
                    torch.autograd.grad(layer(x), x, grad)

                def torchs(x: Tensor = x, grad: Tensor = grad) -> None:
                    torch.autograd.grad(functional.dropout(x, 0.2, training=True), x, grad)

                found = medians({"ours": ours, "torch": torchs})
                what = f"{shape} {str(dtype)[6:]} {'channels last' if layout == torch.channels_last else ''}"
                print(
                    f"dropout {what:44} {found['ours']:7.0f} us, torch {found['torch']:7.0f}, {found['torch'] / found['ours']:.1f} x"
                )


def optimizers() -> None:
    """One step over 218k float32 parameters."""
    classes = {
        "sgd": lambda p, **how: torch.optim.SGD(p, lr=1e-3, **how),
        "momentum": lambda p, **how: torch.optim.SGD(p, lr=1e-3, momentum=0.9, **how),
        "adagrad": lambda p, **how: torch.optim.Adagrad(p, lr=1e-3, **how),
        "adam": lambda p, **how: torch.optim.Adam(p, lr=1e-3, **how),
        "adamw": lambda p, **how: torch.optim.AdamW(p, lr=1e-3, **how),
    }
    for name, make in classes.items():
        candidates = {}
        for how in ("fused", "foreach"):
            parameters = [torch.randn(shape).requires_grad_() for shape in WEIGHTS]
            for parameter in parameters:
                parameter.grad = torch.randn_like(parameter)
            candidates[how] = make(parameters, **{how: True}).step
        found = medians(candidates)
        ratio = found["foreach"] / found["fused"]
        print(f"{name:10} fused {found['fused']:6.0f} us, foreach {found['foreach']:6.0f}, {ratio:.1f} x")


def memory() -> None:
    """Steps of the sign-cnn with and without the allocator's settings, which hold for a process, so in processes taking turns."""
    found: dict[str, list[tuple[float, int]]] = {"kept": [], "not kept": []}
    for _ in range(3):
        for how, rows in found.items():
            command = [sys.executable, __file__, "--threads", str(torch.get_num_threads()), "--steps", how]
            micros, faults = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
            rows.append((float(micros), int(faults)))
    for how, rows in found.items():
        micros = statistics.median(row[0] for row in rows)
        print(f"sign-cnn step, freed memory {how:8} {micros:7.0f} us, {rows[0][1]:6,} page faults a step")


def steps(how: str) -> None:
    """Print the median time of a bf16 training step at batch 32 in microseconds, and its page faults."""
    if how == "kept":
        keep_freed_memory()
    model = sign_cnn().to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    images, labels = torch.rand(32, 1, 28, 28), torch.arange(32) % 24
    times, before = [], 0
    for number in range(60):
        if number == 10:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        begin = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter() - begin)
    print(statistics.median(times) * 1e6, (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 50)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", choices=("kept", "not kept"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.steps:
        steps(arguments.steps)
    else:
        dropout()
        optimizers()
        memory()
