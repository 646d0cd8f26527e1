"""word2vec by Lamina: python lamina_word2vec.py WORK.json. Prints one JSON line; writes the vectors in word2vec's binary format.

The recipe as it is, through the one Trainer; `train_s` is the whole of `fit`. Compiling the kernel is timed for itself, as the other
tools were compiled long before.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch

from lamina.data.corpus import keep_probabilities
from lamina.models.vector_files import save_word2vec
from lamina.models.word2vec import Word2Vec
from lamina.recipes.build import build, choose_machine, read_data
from lamina.recipes.recipe import resolve


def compile_kernel() -> float:
    begin = time.perf_counter()
    model = Word2Vec(vocab_size=5, embedding_size=4)
    model.count(torch.tensor([0, 0, 0, 1, 1]))
    keep = keep_probabilities(model.counts, threshold=0.0)
    model.walk(torch.tensor([3, 4]).int(), torch.tensor([0, 2]), first=0, key=0, keep=keep, rate=0.0)
    return time.perf_counter() - begin


def main() -> None:
    work = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    compile_s = compile_kernel()
    begin = time.perf_counter()
    values = {
        "seed": work["seed"],
        "data.path": work["corpus"],
        "model.embedding_size": work["size"],
        "model.window": work["window"],
        "model.negative": work["negative"],
        "task.subsample": work["subsample"],
        "task.threads": work["threads"],
        "optimizer.lr": work["lr"],
        "schedule.final_factor": work["final_factor"],
        "training.epochs": work["epochs"],
    }
    name = "word2vec-sg" if work["architecture"] == "skip-gram" else "word2vec-cbow"
    recipe = resolve(name, assignments=[f"{key}={value}" for key, value in values.items()]).recipe()
    job = build(recipe, read_data(recipe), machine=choose_machine("cpu", 1))
    trainer = job.trainer(None)
    ready, busy = time.perf_counter(), time.process_time()
    result = trainer.fit()
    done, busy = time.perf_counter(), time.process_time() - busy
    text = job.preprocessing.text
    assert text is not None
    words = text.tokenizer.vocabulary[3:]  # without padding, unknown words and ends
    save_word2vec(work["output"], words, job.model.embedding.weight[3:])
    print(
        json.dumps(
            {
                "words": len(job.data.splits["train"].ragged["tokens"].values) * work["epochs"],
                "train_s": done - ready,
                "train_cpu_s": busy,
                "prepare_s": ready - begin,
                "compile_s": compile_s,
                "segments_s": result.seconds,
                "vocabulary": len(words),
            }
        )
    )


if __name__ == "__main__":
    main()
