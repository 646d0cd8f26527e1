"""Speed beside other tools, in one interleaved run on identical work.

    python benchmarks/run.py [mnist-mlp] [sign-cnn] [resnet18] [resnet50] [knn] [--rounds 7] [--draws 3] [--quick] [--setup]

Every contender is a process of its own, in an environment of its own where it needs one (installed by this script from
benchmarks/requirements/, into benchmarks/environments/). All are set up and warmed up first; then the rounds go through
them in turn, so that whatever else the machine does hits all alike. Figures are medians over the rounds; a ratio is the
median of the ratios to the plain PyTorch loop within a round. Results go to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from protocol import Contender
from work import describe, drawn_mlp, mlp, multiply_adds, resnet, sign_cnn

HERE = Path(__file__).resolve().parent
PLAIN = "plain PyTorch loop"
_QUIET = 0.7


@dataclass(frozen=True)
class Entry:
    """One contender: its script, its environment (None: Lamina's own), changes to the work."""

    name: str
    script: str
    environment: str | None = None
    variables: dict[str, str] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)


def keras(backend: str, *, precision: str, jit: bool, steps: int = 64, tf_data: bool = False) -> Entry:
    words = [f"Keras/{'TF' if backend == 'tensorflow' else 'JAX'}", precision, *(["jit"] if jit else [])]
    return Entry(
        " ".join([*words, *(["tf.data"] if tf_data else [])]),
        "keras_fit.py",
        f"keras-{backend}",
        {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        {"precision": precision, "jit": jit, "steps_per_execution": steps, "tf_data": tf_data},
    )


DENSE = (
    Entry(PLAIN, "plain_torch.py"),
    Entry(f"{PLAIN}, 1 thread", "plain_torch.py", variables={"OMP_NUM_THREADS": "1"}),
    Entry("Lamina", "lamina_fit.py"),
    Entry("Lamina, not compiled", "lamina_fit.py", changes={"training": {"compile": "never"}}),
    Entry("JAX, jitted step", "jax_step.py", "keras-jax"),
    keras("jax", precision="fp32", jit=True),
    keras("tensorflow", precision="fp32", jit=True),
    keras("tensorflow", precision="fp32", jit=False, tf_data=True),
    Entry("scikit-learn", "sklearn_fit.py"),
)
CONVOLUTIONS = (
    Entry(PLAIN, "plain_torch.py"),
    Entry("Lamina", "lamina_fit.py"),
    Entry("Lamina, fp32", "lamina_fit.py", changes={"training": {"precision": "fp32"}}),
    keras("tensorflow", precision="fp32", jit=False, steps=16),
    keras("tensorflow", precision="fp32", jit=True, steps=16),
    keras("tensorflow", precision="bf16", jit=False, steps=16),
    keras("tensorflow", precision="bf16", jit=True, steps=16),
    keras("jax", precision="fp32", jit=True, steps=16),
    keras("jax", precision="bf16", jit=True, steps=16),
)
LARGE = (
    Entry(PLAIN, "plain_torch.py"),
    Entry("Lamina", "lamina_fit.py"),
    Entry("Lamina, fp32", "lamina_fit.py", changes={"training": {"precision": "fp32"}}),
    keras("tensorflow", precision="fp32", jit=False, steps=1),
    keras("tensorflow", precision="bf16", jit=False, steps=1),
    keras("jax", precision="bf16", jit=True, steps=1),
)
NAMES = ("mnist-mlp", "sign-cnn", "resnet18", "resnet50", "knn")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(NAMES)}; all by default")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--draws", type=int, default=3, help="dense networks drawn at random beside 784-16-16-10")
    parser.add_argument("--draw-seed", type=int, help="seed of the first draw; by default drawn anew and shown")
    parser.add_argument("--quick", action="store_true", help="three rounds of small work, to see that everything runs")
    parser.add_argument("--setup", action="store_true", help="only install the environments")
    parser.add_argument(
        "--only", default="", help="contenders whose name one of these patterns matches, comma-separated"
    )
    arguments = parser.parse_args()
    names = arguments.names or list(NAMES)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    for name in names:
        if name not in NAMES:
            parser.error(f"there is no benchmark {name!r}; there are {', '.join(NAMES)}")
    if set(names) - {"knn"} or arguments.setup:
        install()
    if arguments.setup:
        return 0
    rounds = 3 if arguments.quick else arguments.rounds
    only = [word.strip() for word in arguments.only.split(",") if word.strip()]
    peaks = json.loads(
        subprocess.run([sys.executable, str(HERE / "peak.py")], capture_output=True, text=True, check=True).stdout
    )
    machine = describe_machine() | {"peak_gflops": peaks}
    if (machine["load_before"] or 0) > _QUIET:
        print(
            f"load {machine['load_before']}: other work is running; loops on several threads suffer most from it",
            file=sys.stderr,
        )
    for name in names:
        if name == "knn":
            target = HERE / "results" / "knn.json"
            subprocess.run(
                [sys.executable, str(HERE / "knn.py"), "--rounds", str(rounds), "--json", str(target)], check=True
            )
            continue
        report: dict[str, Any] = {"benchmark": name, "machine": machine, "rounds": rounds, "works": []}
        for work, entries in plan(name, arguments):
            chosen = [
                e for e in entries if not only or e.name == PLAIN or any(re.fullmatch(word, e.name) for word in only)
            ]
            result = measure(work, chosen, rounds=rounds, peaks=peaks)
            report["works"].append(result)
            print_table(result)
        target = HERE / "results" / f"{name}{'-quick' if arguments.quick else ''}.json"
        target.parent.mkdir(exist_ok=True)
        target.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        print(f"\nwritten: {target.relative_to(HERE.parent)}")
    return 0


def plan(name: str, arguments: argparse.Namespace) -> list[tuple[dict[str, Any], tuple[Entry, ...]]]:
    """The works of a benchmark and their contenders."""
    rows = 6_400 if arguments.quick else 48_000
    if name == "sign-cnn":
        return [(sign_cnn(rows=320 if arguments.quick else 3_840), CONVOLUTIONS)]
    if name == "resnet18":
        return [(resnet(layers=18, size=32, batch_size=128, rows=128 if arguments.quick else 512), LARGE)]
    if name == "resnet50":
        return [(resnet(layers=50, size=224, batch_size=16, rows=16 if arguments.quick else 48), LARGE[:5])]
    first = arguments.draw_seed if arguments.draw_seed is not None else time.time_ns() % 1_000_000
    works = [mlp(widths=(784, 16, 16, 10), optimizer="momentum")]
    works.append(mlp(widths=(784, 16, 16, 10), optimizer="adam", dropout=0.2))
    works += [drawn_mlp(first + n) | {"drawn_with_seed": first + n} for n in range(arguments.draws)]
    without = tuple(entry for entry in DENSE if entry.script != "sklearn_fit.py")  # it has no dropout
    return [
        (work | {"rows": rows}, without if work["dropout"] else DENSE)
        for work in works[: 2 if arguments.quick else None]
    ]


def measure(work: dict[str, Any], entries: list[Entry], *, rounds: int, peaks: dict[str, float]) -> dict[str, Any]:
    """Set all contenders up, then go round."""
    print(
        f"\n{describe(work)}, {work['rows']:,} samples a round"
        + (f" (drawn with seed {work['drawn_with_seed']})" if "drawn_with_seed" in work else "")
    )
    running: dict[str, Contender] = {}
    seconds: dict[str, list[float]] = {}
    samples: dict[str, int] = {}
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as logs:
        try:
            for entry in entries:
                contender = Contender(
                    entry.name, command_of(entry), env=entry.variables, log=Path(logs) / f"{len(rows)}.log"
                )
                running[entry.name] = contender
                rows[entry.name] = {"tool": entry.name}
                try:
                    answer = contender.ask(op="setup", work={**work, **entry.changes})
                except RuntimeError as error:
                    rows[entry.name]["failed"] = str(error)
                    print(f"  {entry.name}: {error}", file=sys.stderr)
                    del running[entry.name]
                    continue
                rows[entry.name] |= {"notes": answer["notes"], "setup_s": answer["setup_s"]}
            for _ in range(rounds):
                for name, contender in running.items():
                    answer = contender.ask(op="run")
                    seconds.setdefault(name, []).append(answer["seconds"] / answer["samples"])
                    samples[name] = answer["samples"]
        finally:
            for contender in running.values():
                contender.close()
    for name, times in seconds.items():
        ratios = [plain / mine for plain, mine in zip(seconds[PLAIN], times, strict=True)]
        loops = [values for tool, values in seconds.items() if tool.startswith(PLAIN)]
        to_best = [min(plain) / mine for *plain, mine in zip(*loops, times, strict=True)]
        ours = [theirs / mine for theirs, mine in zip(times, seconds.get("Lamina", times), strict=True)]
        per_s = 1 / statistics.median(times)
        gflops = 2 * multiply_adds(work) * per_s / 1e9
        best = peak_for(work, rows[name]["notes"], name, peaks)
        rows[name] |= {
            "samples_per_s": round(per_s),
            "samples_per_s_min_max": [round(1 / max(times)), round(1 / min(times))],
            "ratio": round(statistics.median(ratios), 2),
            "ratio_min_max": [round(min(ratios), 2), round(max(ratios), 2)],
            "ratio_to_faster_plain": round(statistics.median(to_best), 2),
            "lamina_to_it": round(statistics.median(ours), 2),
            "gflops": round(gflops, 1),
            "share_of_peak": round(gflops / peaks[best], 3),
            "peak": best,
        }
    return {"work": work, "name": describe(work), "rows": list(rows.values())}


def peak_for(work: dict[str, Any], notes: str, name: str, peaks: dict[str, float]) -> str:
    """The peak that a contender's arithmetic is measured against."""
    dtype = "bfloat16" if "bf16" in f"{notes} {name}" else "float32"
    if work["kind"] in ("mlp", "lstm-lm"):
        return f"product_{dtype}"
    first, last = (f"convolution_{dtype}_{layout}" for layout in ("channels_first", "channels_last"))
    return max((first, last), key=peaks.__getitem__)


def print_table(result: dict[str, Any]) -> None:
    # "vs best": the ratio to the faster of the plain loops (all threads, one thread). "Lamina": how many times as fast as
    # this one Lamina was, round by round.
    print(
        f"  {'':<34}{'samples/s':>12}{'ratio':>8}{'min':>7}{'max':>7}{'vs best':>8}{'Lamina':>8}{'GFLOP/s':>9}{'of peak':>9}{'setup':>8}"
    )
    for row in sorted(result["rows"], key=lambda row: -row.get("ratio", 0)):
        if "failed" in row:
            print(f"  {row['tool']:<34}  failed: {row['failed'][:90]}")
            continue
        low, high = row["ratio_min_max"]
        print(
            f"  {row['tool']:<34}{row['samples_per_s']:>12,}{row['ratio']:>8.2f}{low:>7.2f}{high:>7.2f}{row['ratio_to_faster_plain']:>8.2f}{row['lamina_to_it']:>8.2f}"
            f"{row['gflops']:>9.1f}{row['share_of_peak']:>9.1%}{row['setup_s']:>7.1f}s"
        )


def command_of(entry: Entry) -> list[str]:
    python = sys.executable if entry.environment is None else str(environment_python(entry.environment))
    return [python, str(HERE / "contenders" / entry.script)]


def environment_python(name: str) -> Path:
    folder = HERE / "environments" / name
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def install() -> None:
    """Make the environments that are missing or older than their requirements."""
    for requirements in sorted((HERE / "requirements").glob("*.txt")):
        folder = HERE / "environments" / requirements.stem
        done = folder / ".installed"
        if done.exists() and done.read_text(encoding="utf-8") == requirements.read_text(encoding="utf-8"):
            continue
        print(f"installing {requirements.stem} (once)", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        command = [
            str(environment_python(requirements.stem)),
            "-m",
            "pip",
            "install",
            "-q",
            "--disable-pip-version-check",
        ]
        subprocess.run([*command, "--requirement", str(requirements)], check=True)
        done.write_text(requirements.read_text(encoding="utf-8"), encoding="utf-8")


def describe_machine() -> dict[str, Any]:
    """What matters for speed; nothing that names the machine."""
    processor, flags = platform.processor() or platform.machine(), ""
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = dict(line.split(":", 1) for line in info.read_text(encoding="utf-8").splitlines() if ":" in line)
        found = {key.strip(): value.strip() for key, value in lines.items()}
        processor, flags = found.get("model name", processor), found.get("flags", "")
    wanted = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": processor,
        "cores": cores,
        "instructions": [flag for flag in wanted if f" {flag} " in f" {flags} "],
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


if __name__ == "__main__":
    sys.exit(main())
