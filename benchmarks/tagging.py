"""Tags of words: chunks, parts of speech and named entities by the recipes, over seeds; for docs/tagging.md.

Run: python benchmarks/tagging.py DATA [NAME …] [--seeds N] [--first-seed N] [--threads N] [--output FILE]

DATA is a folder with `conll2000/`, `ud_ewt/` and `wnut17/`. Of CoNLL-2000 a fifth of the training sentences is held out, drawn by
the seed; UD English EWT and WNUT 2017 are judged on their development files. `best` is the judged split at the epoch that was best on
it, which carries the small optimism of choosing on the same rows; `last` is that of the last epoch, for which nothing was chosen.
`frequent` gives every word the tag that it has most often in training, and unknown words the most frequent tag of words that occur once.
Rows of earlier calls stay in FILE; a seed that is there already is not run again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch

from lamina.core.devices import describe_hardware
from lamina.core.files import write_atomic
from lamina.data.columns import Columns
from lamina.data.ragged import RaggedColumns
from lamina.recipes.build import Job, build, choose_machine, read_data
from lamina.recipes.recipe import resolve
from lamina.tasks.tagging_metrics import TaggingMetrics
from lamina.train.callbacks import Callback
from lamina.train.trainer import Trainer

# Recipe -> folder of its data, and what it is judged by.
RECIPES: Final = {
    "conll2000-bilstm-crf": ("conll2000", "f1"),
    "ud-pos-bilstm": ("ud_ewt", "accuracy"),
    "wnut17-bilstm-crf": ("wnut17", "f1"),
}
_KEPT: Final = ("f1", "precision", "recall", "accuracy", "accuracy_unknown", "unknown_words", "cross_entropy")


class Judgements(Callback):
    """The metrics of the validation split after every epoch."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_evaluated(self, trainer: Trainer, split: str, values: Mapping[str, float]) -> None:
        """Keep them."""
        self.rows.append({name: values[name] for name in _KEPT if name in values})


def run(name: str, data: Path, *, seed: int, threads: int, words: list[str]) -> dict[str, Any]:
    """One training, and what it came to on the judged split."""
    folder, judged_by = RECIPES[name]
    recipe = resolve(
        name, data=str(data / folder), assignments=[f"seed={seed}", "training.tensorboard=false", *words]
    ).recipe()
    job = build(recipe, read_data(recipe), machine=choose_machine("cpu", threads))
    watch = Judgements()
    begin = time.perf_counter()
    result = job.trainer(None, callbacks=[watch]).fit()
    seconds = time.perf_counter() - begin
    return {
        "seed": seed,
        "best": max(row[judged_by] for row in watch.rows),
        "last": watch.rows[-1],
        "curve": [row[judged_by] for row in watch.rows],
        "frequent": frequent(job),
        "train_sentences": job.data.splits["train"].num_rows,
        "judged_sentences": job.data.splits["valid"].num_rows,
        "parameters": sum(parameter.numel() for parameter in job.model.parameters()),
        "epochs": result.epochs,
        "seconds": round(seconds, 1),
        "sentences_per_s": round(result.samples_per_s, 1),
        "per_type": result.evaluations["valid"].details.get("per_type"),
    }


def frequent(job: Job) -> dict[str, float]:
    """The judged split with every word's most frequent tag."""
    counts: dict[str, Counter[int]] = {}
    for words, tags in _sentences(job.data.splits["train"]):
        for word, tag in zip(words, tags, strict=True):
            counts.setdefault(word, Counter())[tag] += 1
    once = Counter(next(iter(found)) for found in counts.values() if found.total() == 1)
    other = once.most_common(1)[0][0]
    metrics = job.task.metrics()
    assert isinstance(metrics, TaggingMetrics)
    for words, tags in _sentences(job.data.splits["valid"]):
        decided = [counts[word].most_common(1)[0][0] if word in counts else other for word in words]
        known = torch.tensor([[word not in counts for word in words]])
        metrics.update(torch.tensor([decided]), torch.tensor([tags]), mask=torch.ones_like(known), unknown=known)
    return {name: value for name, value in metrics.finish().items() if name in _KEPT}


def _sentences(columns: Columns) -> list[tuple[list[str], list[int]]]:
    raw = columns.raw
    assert isinstance(raw, RaggedColumns)
    texts, tags = raw.ragged["text"].texts(), raw.ragged["tags"]
    return [(text.split("\n"), tags.row(row).tolist()) for row, text in enumerate(texts) if text]


def summary(rows: list[dict[str, Any]], judged_by: str) -> dict[str, Any]:
    """Mean and spread over the seeds of what counts."""
    result: dict[str, Any] = {"judged_by": judged_by}
    for key in ("best", "last", "frequent"):
        values = [row[key] if key == "best" else row[key][judged_by] for row in rows]
        spread = statistics.stdev(values) if len(values) > 1 else None
        result[key] = {"mean": statistics.fmean(values), "std": spread, "min": min(values)}
    return result


def main() -> None:
    """Run what is asked for, print a line for each run and each recipe, write FILE after every run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(RECIPES)}; default: all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="recipe values, for trying")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    known: dict[str, dict[str, Any]] = {}
    if arguments.output and arguments.output.is_file():
        known = json.loads(arguments.output.read_text(encoding="utf-8"))["recipes"]
    for name in arguments.names or RECIPES:
        rows = list(known.get(name, {}).get("runs", []))
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
            if any(row["seed"] == seed for row in rows):
                continue
            rows.append(run(name, arguments.data, seed=seed, threads=arguments.threads, words=arguments.set))
            rows.sort(key=lambda row: row["seed"])
            known[name] = {"summary": summary(rows, RECIPES[name][1]), "runs": rows}
            print(name, next(row for row in rows if row["seed"] == seed), flush=True)
            if arguments.output:
                ordered = {key: known[key] for key in RECIPES if key in known}
                document = {"schema": 1, "hardware": describe_hardware(), "threads": arguments.threads}
                write_atomic(arguments.output, json.dumps({**document, "recipes": ordered}, indent=1).encode() + b"\n")
        for key, found in summary(rows, RECIPES[name][1]).items():
            if isinstance(found, dict):
                print(f"{name:<22} {key:<9} {found['mean']:.4f} (least {found['min']:.4f})", flush=True)


if __name__ == "__main__":
    main()
