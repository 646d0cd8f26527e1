"""Recurrent layers beside torch's own: processor time of a forward and backward pass at the sizes of a language model.

Run: python benchmarks/recurrent.py [--rounds N] [--output FILE]

Two layers of 200 units, batches of 20, 35 steps, one thread. The candidates take turns; what counts is the least processor
time of a round, because other programs can only add to it. `scan` is our own way through a sequence, which an LSTM takes
only where torch's kernel cannot serve.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from lamina.core.files import write_atomic
from lamina.core.memory import keep_freed_memory
from lamina.nn.recurrent import Recurrent

BATCH, STEPS, UNITS, LAYERS = 20, 35, 200, 2
TORCH = {"elman": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def candidates(kind: str) -> dict[str, Callable[[Tensor], Tensor]]:
    """Name -> what gives hidden states (B, T, H) for inputs."""
    theirs = TORCH[kind](UNITS, UNITS, num_layers=LAYERS, batch_first=True)
    ours = Recurrent(kind, input_size=UNITS, hidden_size=UNITS, num_layers=LAYERS)
    found: dict[str, Callable[[Tensor], Tensor]] = {"torch": lambda x: theirs(x)[0], "lamina": lambda x: ours(x)[0]}
    if kind == "lstm":
        mask = torch.ones(BATCH, STEPS, dtype=torch.bool)
        found["lamina, scan"] = lambda x: ours(x, mask=mask)[0]
    return found


def seconds(forward: Callable[[Tensor], Tensor], inputs: Tensor, *, bf16: bool) -> float:
    """Processor time of one training pass."""
    begin = time.process_time()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        loss = forward(inputs).float().square().sum()
    loss.backward()
    return time.process_time() - begin


def main() -> None:
    """Print one line per kind and precision; with --output also write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    rows = []
    for kind in TORCH:
        inputs = torch.randn(BATCH, STEPS, UNITS, requires_grad=True)
        tools = candidates(kind)
        for bf16 in (False, True):
            best = dict.fromkeys(tools, float("inf"))
            for _ in range(arguments.rounds):
                for name, forward in tools.items():
                    best[name] = min(best[name], seconds(forward, inputs, bf16=bf16))
            row = {
                "kind": kind,
                "precision": "bf16" if bf16 else "fp32",
                "ms": {n: round(s * 1e3, 2) for n, s in best.items()},
            }
            rows.append(row)
            print(row, flush=True)
    if arguments.output:
        document = {
            "schema": 1,
            "batch": BATCH,
            "steps": STEPS,
            "units": UNITS,
            "layers": LAYERS,
            "threads": 1,
            "rows": rows,
        }
        write_atomic(arguments.output, json.dumps(document, indent=1).encode() + b"\n")


if __name__ == "__main__":
    main()
