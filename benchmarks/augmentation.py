"""Affine augmentation (rotation, zoom, shift, flip) beside kornia, albumentations and Keras's layers, in interleaved rounds.

    python benchmarks/augmentation.py [--rounds 7] [--threads N] [--quick] [--only PATTERN,…] [--json FILE]

Bytes in, bytes or float32 out, each tool in the layout and with the calls that its documentation recommends; gathering the
batch is nobody's work. Every contender is a process of its own. albumentations and Keras have environments of their own
under benchmarks/environments/, kornia a folder of packages beside Lamina's own torch; this script makes them. The rounds
go through all contenders in turn, a second each (whole batches); figures are medians over the rounds, ratios medians of
the ratios within a round.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from protocol import Contender
from run import describe_machine, environment_python

HERE = Path(__file__).resolve().parent
CELLS = tuple((size, channels, batch) for size, channels in ((28, 1), (224, 3)) for batch in (32, 256))
_QUIET = 0.7


@dataclass(frozen=True)
class Entry:
    """One contender: its script, its environment (None: Lamina's own), changes to the work."""

    name: str
    script: str
    environment: str | None = None
    beside: str | None = None  # a folder of packages put beside Lamina's own environment
    changes: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)


KERAS = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}


def entries(threads: int) -> tuple[Entry, ...]:
    """The contenders; where a tool can be called in two ways that might be the faster one, both."""
    loop, pool = {"workers": 1, "cv_threads": threads}, {"workers": threads, "cv_threads": 1}
    return (
        Entry("Lamina", "augment_lamina.py"),
        Entry("kornia", "augment_kornia.py", beside="kornia"),
        Entry("albumentations", "augment_albumentations.py", "albumentations", changes=loop),
        Entry("albumentations, thread pool", "augment_albumentations.py", "albumentations", changes=pool),
        # With jit_compile=True these layers do not compile (XLA lacks an operation of theirs).
        Entry("Keras layers", "augment_keras.py", "keras-tensorflow", variables=KERAS),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--quick", action="store_true", help="three rounds of little work")
    parser.add_argument("--only", default="", help="contenders whose name one of these patterns matches, beside Lamina")
    parser.add_argument("--json", type=Path, default=HERE / "results" / "augmentation.json")
    arguments = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    only = [word.strip() for word in arguments.only.split(",") if word.strip()]
    chosen = [
        entry
        for entry in entries(arguments.threads)
        if not only or entry.name == "Lamina" or any(re.fullmatch(word, entry.name) for word in only)
    ]
    for name in {entry.environment for entry in chosen if entry.environment is not None}:
        install(name)
    for name in {entry.beside for entry in chosen if entry.beside is not None}:
        install_beside(name)
    machine = describe_machine()
    if (machine["load_before"] or 0) > _QUIET:
        print(f"load {machine['load_before']}: other work is running", file=sys.stderr)
    rounds = 3 if arguments.quick else arguments.rounds
    report: dict[str, Any] = {"benchmark": "augmentation", "machine": machine, "rounds": rounds, "cells": []}
    for size, channels, batch in CELLS:
        work = {
            "size": size, "channels": channels, "batch": batch, "pool": 256, "seconds": 0.3 if arguments.quick else 1.0,
            "degrees": 10.0, "zoom": 0.1, "shift": 0.1, "threads": arguments.threads,
        }  # fmt: skip
        cell = measure(work, chosen, rounds=rounds)
        report["cells"].append(cell)
        print_table(cell)
    if not arguments.quick and not only:
        report["machine"]["load_after"] = describe_machine()["load_before"]
        arguments.json.parent.mkdir(exist_ok=True)
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        print(f"\nwritten: {arguments.json}")
    return 0


def measure(work: dict[str, Any], chosen: list[Entry], *, rounds: int) -> dict[str, Any]:
    """Set all contenders up, then go round."""
    running: dict[str, Contender] = {}
    seconds: dict[str, list[float]] = {}
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as logs:
        try:
            for number, entry in enumerate(chosen):
                contender = Contender(
                    entry.name, command_of(entry), env=variables_of(entry, work), log=Path(logs) / f"{number}.log"
                )
                rows[entry.name] = {"tool": entry.name}
                try:
                    answer = contender.ask(op="setup", work={**work, **entry.changes})
                except RuntimeError as error:
                    rows[entry.name]["failed"] = str(error)
                    print(f"  {entry.name}: {error}", file=sys.stderr)
                    continue
                running[entry.name] = contender
                rows[entry.name] |= {"notes": answer["notes"], "setup_s": answer["setup_s"]}
            for _ in range(rounds):
                for name, contender in running.items():
                    answer = contender.ask(op="run")
                    seconds.setdefault(name, []).append(answer["seconds"] / answer["samples"])
        finally:
            for contender in running.values():
                contender.close()
    for name, times in seconds.items():
        ratios = [theirs / ours for theirs, ours in zip(times, seconds["Lamina"], strict=True)]
        rows[name] |= {
            "images_per_s": round(1 / statistics.median(times)),
            "images_per_s_min_max": [round(1 / max(times)), round(1 / min(times))],
            "lamina_to_it": round(statistics.median(ratios), 2),
            "lamina_to_it_min_max": [round(min(ratios), 2), round(max(ratios), 2)],
        }
    name = f"{work['size']}x{work['size']}x{work['channels']}, {work['batch']} images"
    return {"name": name, "work": work, "rows": list(rows.values())}


def print_table(cell: dict[str, Any]) -> None:
    print(f"\n{cell['name']}\n  {'':<30}{'images/s':>12}{'min':>10}{'max':>10}{'Lamina':>9}{'min':>7}{'max':>7}")
    for row in sorted(cell["rows"], key=lambda row: -row.get("images_per_s", 0)):
        if "failed" in row:
            print(f"  {row['tool']:<30}  failed: {row['failed'][:90]}")
            continue
        low, high = row["images_per_s_min_max"]
        least, most = row["lamina_to_it_min_max"]
        print(
            f"  {row['tool']:<30}{row['images_per_s']:>12,}{low:>10,}{high:>10,}"
            f"{row['lamina_to_it']:>9.2f}{least:>7.2f}{most:>7.2f}  {row['notes']}"
        )


def command_of(entry: Entry) -> list[str]:
    python = sys.executable if entry.environment is None else str(environment_python(entry.environment))
    return [python, str(HERE / "contenders" / entry.script)]


def variables_of(entry: Entry, work: dict[str, Any]) -> dict[str, str]:
    found = {**entry.variables, "OMP_NUM_THREADS": str(work["threads"])}
    if entry.beside is not None:
        found["PYTHONPATH"] = str(HERE / "environments" / entry.beside)
    return found


def requirements_of(name: str) -> Path:
    return next(path for path in (HERE / "requirements" / f"{name}{end}" for end in (".txt", ".in")) if path.exists())


def is_installed(name: str) -> bool:
    done = HERE / "environments" / name / ".installed"
    return done.exists() and done.read_text(encoding="utf-8") == requirements_of(name).read_text(encoding="utf-8")


def install(name: str) -> None:
    """Make an environment that is missing or older than its requirements."""
    if is_installed(name):
        return
    print(f"installing {name} (once)", file=sys.stderr)
    folder, wanted = HERE / "environments" / name, requirements_of(name)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip(environment_python(name), "--requirement", str(wanted))
    (folder / ".installed").write_text(wanted.read_text(encoding="utf-8"), encoding="utf-8")


def install_beside(name: str) -> None:
    """Put packages without their dependencies (Lamina's environment has them) into a folder."""
    if is_installed(name):
        return
    print(f"installing {name} (once)", file=sys.stderr)
    folder, wanted = HERE / "environments" / name, requirements_of(name)
    pip(Path(sys.executable), "--no-deps", "--upgrade", "--target", str(folder), "--requirement", str(wanted))
    (folder / ".installed").write_text(wanted.read_text(encoding="utf-8"), encoding="utf-8")


def pip(python: Path, *words: str) -> None:
    subprocess.run([str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *words], check=True)


if __name__ == "__main__":
    sys.exit(main())
