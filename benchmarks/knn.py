"""Exact nearest neighbours: Lamina beside a plain product in torch, faiss's flat index and scikit-learn's brute force.

Run: python benchmarks/knn.py [--rounds 5] [--queries 512] [--rows 50000] [--features 3072] [--json FILE]

Each tool is a process of its own that holds the data and waits; rounds go through them in turn, so that what else the
machine does hits all alike; on a busy machine the ratio of processor time says more than that of the clock. A round
answers the same queries; figures are medians over the rounds, ratios medians of the ratios within a round.
Whether the neighbours are right is judged against float64 for some of the queries. faiss lives in an environment of its own,
which the script makes on the first run.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
TOOLS = ("plain", "lamina", "faiss", "scikit-learn")
K = 10
JUDGED = 24
PLAIN_CHUNK = 256

Array = NDArray[np.float32]
Search = Callable[[Array], NDArray[np.int64]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--queries", type=int, default=512)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--features", type=int, default=3072)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=list(TOOLS))
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--worker", choices=TOOLS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments.worker, arguments.folder, arguments.threads)
        return
    figures: dict[str, Any] = {
        "k": K,
        "rows": arguments.rows,
        "features": arguments.features,
        "threads": arguments.threads,
    }
    figures["peak_gflops"] = peaks(arguments.threads)
    print(
        f"matrix product, {arguments.threads} threads: "
        + ", ".join(f"{n} {v:.0f} GFLOP/s" for n, v in figures["peak_gflops"].items())
    )
    for name, make in (("noise", noise), ("images", images)):
        with tempfile.TemporaryDirectory() as folder:
            rows, queries = (
                make(arguments.rows, arguments.features),
                make(arguments.queries, arguments.features, seed=1),
            )
            np.save(Path(folder) / "rows.npy", rows)
            np.save(Path(folder) / "queries.npy", queries)
            figures[name] = compare(Path(folder), arguments, rows=rows, queries=queries)
        report(name, figures[name], figures)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


# --- data ----------------------------------------------------------------------------------------------------------


def noise(number: int, features: int, *, seed: int = 0) -> Array:
    """Normal in every direction: all distances are nearly equal, the hardest case for a shortlist."""
    return np.random.default_rng([seed, 1]).standard_normal((number, features), dtype=np.float32)


def images(number: int, features: int, *, seed: int = 0) -> Array:
    """Smooth colour fields of a few waves with a little noise, in 256 levels scaled to [0, 1]: like photographs, few degrees of freedom."""
    side = round((features / 3) ** 0.5)
    waves = np.random.default_rng(7)
    place = np.linspace(0, 1, side, dtype=np.float32)
    grid = np.stack(np.meshgrid(place, place, indexing="ij"))  # (2, side, side)
    basis = []
    for wave in range(48):
        direction, phase = waves.normal(size=2) * (1 + wave / 6), waves.uniform(0, 2 * np.pi)
        colour = waves.normal(size=3)
        basis.append(
            np.multiply.outer(colour, np.cos(np.tensordot(direction, grid, 1) * 3 + phase)).ravel() / (1 + wave / 4)
        )
    mixture = np.zeros((48, features), dtype=np.float32)
    mixture[:, : 3 * side * side] = np.array(basis, dtype=np.float32)
    rng = np.random.default_rng([seed, 2])
    out = np.empty((number, features), dtype=np.float32)
    for start in range(0, number, 4096):
        part = out[start : start + 4096]
        part[:] = 120 + 40 * rng.standard_normal((len(part), 48), dtype=np.float32) @ mixture
        part += 6 * rng.standard_normal(part.shape, dtype=np.float32)
        np.clip(np.rint(part, out=part), 0, 255, out=part)
        part *= np.float32(1 / 255)
    return out


# --- the contest ---------------------------------------------------------------------------------------------------


class Worker:
    """A process that holds one tool and the data, and answers on request."""

    def __init__(self, tool: str, folder: Path, threads: int) -> None:
        # Threads that wait must sleep, or the idle tools would take the processor from the one at work.
        limits = {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
        command = [str(python_of(tool)), str(HERE / "knn.py"), "--worker", tool, "--folder", str(folder)]
        self.process = subprocess.Popen(
            [*command, "--threads", str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **limits, "OMP_WAIT_POLICY": "passive"},
        )
        self.prepared_s = float(self.ask("prepare")["seconds"])

    def ask(self, request: str) -> dict[str, Any]:
        """Send a line, wait for the answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.process.args} ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """Let it end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def compare(folder: Path, arguments: argparse.Namespace, *, rows: Array, queries: Array) -> dict[str, Any]:
    """Rounds of all tools in turn; the first is a warm-up that also leaves the answers to be judged."""
    workers = {tool: Worker(tool, folder, arguments.threads) for tool in arguments.tools}
    seconds: dict[str, list[float]] = {tool: [] for tool in workers}
    cpu: dict[str, list[float]] = {tool: [] for tool in workers}
    try:
        for turn in range(arguments.rounds + 1):
            order = list(workers)[turn % len(workers) :] + list(workers)[: turn % len(workers)]
            for tool in order:
                answer = workers[tool].ask("search")
                if turn:
                    seconds[tool].append(float(answer["seconds"]))
                    cpu[tool].append(float(answer["cpu_s"]))
        notes = {tool: worker.ask("notes") for tool, worker in workers.items()}
    finally:
        for worker in workers.values():
            worker.close()
    truth = nearest(queries[:JUDGED], rows)
    found = {}
    for tool, times in seconds.items():
        answers = np.load(folder / f"{tool}.npy")[:JUDGED]
        wrong = sum(set(a) != set(b) for a, b in zip(answers.tolist(), truth.tolist(), strict=True))
        found[tool] = {
            "queries_per_s": len(queries) / statistics.median(times),
            "ratio": statistics.median(a / b for a, b in zip(seconds[arguments.tools[0]], times, strict=True)),
            "cpu_ratio": statistics.median(a / b for a, b in zip(cpu[arguments.tools[0]], cpu[tool], strict=True)),
            "prepared_s": workers[tool].prepared_s,
            "wrong_queries": wrong,
            "judged_queries": len(truth),
            "seconds": times,
            **notes[tool],
        }
    return found


def nearest(queries: Array, rows: Array) -> NDArray[np.int64]:
    """float64, from the definition."""
    out = []
    for query in queries.astype(np.float64):
        keys = np.concatenate([((part.astype(np.float64) - query) ** 2).sum(1) for part in np.array_split(rows, 64)])
        out.append(np.argsort(keys, kind="stable")[:K])
    return np.array(out)


def report(name: str, found: dict[str, Any], figures: dict[str, Any]) -> None:
    print(f"\n{name}: {figures['rows']:,} rows of {figures['features']:,} values, {K} neighbours")
    print(f"{'tool':<14}{'queries/s':>10}{'ratio':>8}{'of CPU':>8}{'share of peak':>15}{'prepared':>10}{'wrong':>10}")
    work_per_query = 2e-9 * figures["rows"] * figures["features"]
    for tool, row in found.items():
        peak = figures["peak_gflops"]["bf16" if row.get("product") == "bfloat16" else "fp32"]
        share = row["queries_per_s"] * work_per_query / peak
        wrong = f"{row['wrong_queries']}/{row['judged_queries']}"
        print(
            f"{tool:<14}{row['queries_per_s']:>10.0f}{row['ratio']:>8.2f}{row['cpu_ratio']:>8.2f}{share:>15.0%}{row['prepared_s']:>9.1f}s{wrong:>10}",
            end="",
        )
        print(f"   widened {row['widened']} of {row['searched']}" if "widened" in row else "")


def peaks(threads: int) -> dict[str, float]:
    """Measured here and now: GFLOP/s of a large matrix product."""
    import torch

    torch.set_num_threads(threads)
    found = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        a, b = torch.randn(2048, 3072).to(dtype), torch.randn(3072, 2048).to(dtype)
        times = []
        for _ in range(7):
            start = time.perf_counter()
            a @ b
            times.append(time.perf_counter() - start)
        found[name] = 2e-9 * 2048 * 2048 * 3072 / min(times)
    return found


# --- environments and workers --------------------------------------------------------------------------------------


def python_of(tool: str) -> Path:
    """The interpreter of a tool; makes the environment of faiss and scikit-learn when it is missing."""
    if tool in ("plain", "lamina"):
        return Path(sys.executable)
    environment = HERE / "environments" / "faiss"
    python = environment / "bin" / "python"
    if not (environment / "ready").exists():
        print(f"making {environment}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(environment)], check=True)
        needed = ["-r", str(HERE / "requirements" / "faiss.in")]
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *needed], check=True)
        (environment / "ready").touch()
    return python


def work(tool: str, folder: Path, threads: int) -> None:
    """Answer requests, one line each, until the input ends."""
    rows, queries = np.load(folder / "rows.npy"), np.load(folder / "queries.npy")
    prepare: dict[str, Callable[[Array, int], tuple[Search, Callable[[], dict[str, Any]]]]] = {
        "plain": plain,
        "lamina": lamina,
        "faiss": faiss,
        "scikit-learn": scikit_learn,
    }
    imports = {"plain": "torch", "lamina": "lamina.models.knn", "faiss": "faiss", "scikit-learn": "sklearn.neighbors"}
    importlib.import_module(imports[tool])  # which is not part of preparing
    search: Search | None = None
    notes: Callable[[], dict[str, Any]] = dict
    for line in sys.stdin:
        start, start_cpu = time.perf_counter(), time.process_time()
        answer: dict[str, Any] = {}
        if line.strip() == "prepare":
            search, notes = prepare[tool](rows, threads)
        elif line.strip() == "search":
            assert search is not None
            found = search(queries)
        else:
            answer = notes()
        answer["seconds"], answer["cpu_s"] = time.perf_counter() - start, time.process_time() - start_cpu
        if line.strip() == "search":
            np.save(folder / f"{tool}.npy", found)
        print(json.dumps(answer), flush=True)


def plain(rows: Array, threads: int) -> tuple[Search, Callable[[], dict[str, Any]]]:
    """What one writes in torch: squared norms, a float32 product, the smallest."""
    import torch

    torch.set_num_threads(threads)
    stored = torch.from_numpy(rows)
    norms = stored.square().sum(1)

    def search(queries: Array) -> NDArray[np.int64]:
        parts = []
        for part in torch.from_numpy(queries).split(PLAIN_CHUNK):
            keys = torch.addmm(norms, part, stored.T, alpha=-2)
            parts.append(keys.topk(K, dim=1, largest=False).indices)
        return torch.cat(parts).numpy()

    return search, dict


def lamina(rows: Array, threads: int) -> tuple[Search, Callable[[], dict[str, Any]]]:
    """The model knn, as `lamina predict` calls it."""
    import torch

    from lamina.models.knn import KNN

    torch.set_num_threads(threads)
    model = KNN(in_features=rows.shape[1], num_classes=10, k=K)
    model.store(torch.from_numpy(rows), torch.zeros(len(rows), dtype=torch.int64))
    index = model._search()

    def search(queries: Array) -> NDArray[np.int64]:
        return model.neighbours(torch.from_numpy(queries))[1].numpy()

    def notes() -> dict[str, Any]:
        statistics = index.statistics
        product = str(index.product).removeprefix("torch.")
        return {"product": product, "widened": statistics.widened, "searched": statistics.queries}

    return search, notes


def faiss(rows: Array, threads: int) -> tuple[Search, Callable[[], dict[str, Any]]]:
    """IndexFlatL2."""
    import faiss as library

    library.omp_set_num_threads(threads)
    index = library.IndexFlatL2(rows.shape[1])
    index.add(rows)

    def search(queries: Array) -> NDArray[np.int64]:
        found: NDArray[np.int64] = index.search(queries, K)[1]
        return found

    return search, dict


def scikit_learn(rows: Array, threads: int) -> tuple[Search, Callable[[], dict[str, Any]]]:
    """NearestNeighbors, brute force."""
    from sklearn.neighbors import NearestNeighbors

    del threads  # taken from the environment
    index = NearestNeighbors(n_neighbors=K, algorithm="brute").fit(rows)

    def search(queries: Array) -> NDArray[np.int64]:
        found: NDArray[np.int64] = index.kneighbors(queries, return_distance=False)
        return found

    return search, dict


if __name__ == "__main__":
    main()
