"""Word vectors beside gensim: words per second and quality, in one interleaved run on the same text with the same settings.

    python benchmarks/word2vec.py [--data wiki_en_6m.txt.xz] [--seeds 3] [--threads 2] [--architectures skip-gram cbow] [--share 1.0]

Settings are gensim's own: 100 numbers, window 5, 5 negatives, 5 epochs, least count 5, subsampling 1e-3, rate 0.025 to 0.0001. The text is in
small letters, one sentence or paragraph per line, divided at white space. Tools run one after the other, seed by seed; gensim in both of
its ways, from lists of words and from a file. Words per second are all words of the text times the epochs by the seconds of training; reading,
the vocabulary and compiling are told apart. All vectors are judged by the same code on the same lists: what the metric
`spearman` of WordSim-353 and the analogies of questions-words.txt are, docs/word-vectors.md says. Results go to
benchmarks/results/word2vec.json after every process.
"""

from __future__ import annotations

import argparse
import json
import lzma
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from run import HERE, describe_machine, environment_python, install

from lamina.data.columns import Columns
from lamina.data.loading import load_data
from lamina.data.ragged import RaggedColumns
from lamina.models.vector_files import load_word2vec
from lamina.tasks.word_evaluation import pair_cosines, solve_analogies, spearman

DATA = HERE.parent.parent / "shared" / "data"
TOOLS = (
    ("Lamina", None, "lamina_word2vec.py", ""),
    ("gensim", "gensim", "gensim_word2vec.py", "lists"),
    ("gensim, corpus_file", "gensim", "gensim_word2vec.py", "file"),
)
SETTINGS: dict[str, Any] = {
    "size": 100,
    "window": 5,
    "negative": 5,
    "epochs": 5,
    "min_count": 5,
    "subsample": 1e-3,
    "lr": 0.025,
    "final_factor": 0.004,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA / "wiki_en" / "wiki_en_6m.txt.xz")
    parser.add_argument("--similarity", type=Path, default=DATA / "word_similarity" / "EN-WS-353-ALL.txt")
    parser.add_argument("--analogies", type=Path, default=DATA / "word_analogies" / "questions-words.txt")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--architectures", nargs="+", default=["skip-gram", "cbow"], choices=["skip-gram", "cbow"])
    parser.add_argument("--tools", nargs="+", default=[tool[0] for tool in TOOLS], choices=[tool[0] for tool in TOOLS])
    parser.add_argument("--share", type=float, default=1.0, help="of the text, from its beginning")
    parser.add_argument("--json", type=Path, default=HERE / "results" / "word2vec.json")
    arguments = parser.parse_args()
    install()
    report: dict[str, Any] = {
        "benchmark": "word2vec",
        "machine": describe_machine(),
        "threads": arguments.threads,
        "settings": SETTINGS,
        "rows": [],
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = folder / "corpus.txt"
        report["corpus_words"] = prepare(arguments.data, corpus, share=arguments.share)
        for seed in range(arguments.seeds):
            for architecture in arguments.architectures:
                for tool, environment, script, mode in TOOLS:
                    if tool not in arguments.tools:
                        continue
                    row = {"tool": tool, "architecture": architecture, "seed": seed}
                    work = {
                        **SETTINGS,
                        "architecture": architecture,
                        "seed": seed,
                        "threads": arguments.threads,
                        "corpus": str(corpus),
                        "output": str(folder / "vectors.bin"),
                        "mode": mode,
                    }
                    row |= run(script, environment, work, folder)
                    row |= judge(folder / "vectors.bin", arguments.similarity, arguments.analogies)
                    report["rows"].append(row)
                    report["summary"] = summary(report["rows"])
                    arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
                    print(json.dumps(row), flush=True)
    for line in report["summary"]:
        print(line)
    print(f"written: {arguments.json}")


def prepare(source: Path, target: Path, *, share: float) -> int:
    """The text in small letters; how many words it has."""
    opener = lzma.open if source.suffix == ".xz" else open
    with opener(source, "rt", encoding="utf-8") as file:
        text = file.read().lower()
    text = text[: int(len(text) * share)]
    target.write_text(text, encoding="utf-8")
    return len(text.split())


def run(script: str, environment: str | None, work: dict[str, Any], folder: Path) -> dict[str, Any]:
    """One training in a process of its own."""
    python = str(environment_python(environment)) if environment is not None else sys.executable
    (folder / "work.json").write_text(json.dumps(work), encoding="utf-8")
    done = subprocess.run(
        [python, str(HERE / "contenders" / script), str(folder / "work.json")],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    found["words_per_s"] = found["words"] / found["train_s"]
    found["words_per_cpu_s"] = found["words"] / found["train_cpu_s"]
    return found


def judge(path: Path, similarity: Path, analogies: Path) -> dict[str, float]:
    """Quality of the vectors in a file."""
    found = load_word2vec(path)
    places = found.places()
    pairs, scores = known_rows(load_data(similarity).splits["all"], places, 2)
    target = load_data(similarity).splits["all"]["target"][scores, 0]
    questions, _ = known_rows(load_data(analogies).splits["all"], places, 4)
    correct = sum(
        int((solve_analogies(found.vectors, part[:, :3]) == part[:, 3]).sum()) for part in questions.split(512)
    )
    return {
        "ws353": spearman(pair_cosines(found.vectors, pairs).double(), target.double()),
        "analogies": correct / len(questions),
        "pairs_judged": len(pairs),
        "questions_judged": len(questions),
    }


def known_rows(columns: Columns, places: dict[str, int], width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Places of the words of rows all of whose words are known, and which rows these are."""
    assert isinstance(columns, RaggedColumns)
    rows = [text.lower().split() for text in columns.ragged["text"].texts()]
    kept = [number for number, row in enumerate(rows) if len(row) == width and all(word in places for word in row)]
    return torch.tensor([[places[word] for word in rows[number]] for number in kept]), torch.tensor(kept)


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over seeds, and ratios to gensim from lists within a seed: their medians."""
    result = []
    for architecture in dict.fromkeys(row["architecture"] for row in rows):
        mine = [row for row in rows if row["architecture"] == architecture]
        base = {row["seed"]: row for row in mine if row["tool"] == "gensim"}
        for tool in dict.fromkeys(row["tool"] for row in mine):
            own = [row for row in mine if row["tool"] == tool]
            line: dict[str, Any] = {"tool": tool, "architecture": architecture, "seeds": len(own)}
            for key in ("words_per_s", "words_per_cpu_s", "prepare_s", "train_s"):
                line[key] = round(statistics.median(row[key] for row in own), 1)
            if "compile_s" in own[0]:
                line["compile_s"] = round(statistics.median(row["compile_s"] for row in own), 1)
            for key in ("ws353", "analogies"):
                values = [row[key] for row in own]
                line[key] = round(statistics.mean(values), 4)
                line[f"{key}_spread"] = round(statistics.stdev(values), 4) if len(values) > 1 else None
            for key in ("words_per_s", "words_per_cpu_s"):
                ratios = [row[key] / base[row["seed"]][key] for row in own if row["seed"] in base]
                line[f"{key}_ratio"] = round(statistics.median(ratios), 3) if ratios else None
            result.append(line)
    return result


if __name__ == "__main__":
    main()
