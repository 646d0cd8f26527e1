"""Classification of texts: accuracy of the recipes over seeds beside TF-IDF, and TextCNN's speed beside a plain loop.

    python benchmarks/text_classification.py quality DATA_FOLDER [NAME …] [--seeds N] [--output FILE]
    python benchmarks/text_classification.py speed DATA_FOLDER [--rounds N] [--output FILE]

DATA_FOLDER holds `sst2/` (train.tsv.gz, dev.tsv) and `imdb/train_10k.tsv.gz`. `quality` trains the recipes as they stand. SST-2 is
judged on its development sentences, of IMDb a fifth is held out, drawn by the run's seed; both at the best epoch, so that the
figures carry the small optimism of that choice. Beside each stands logistic regression on TF-IDF of words and pairs of words,
trained on the same rows; of its two strengths of regularisation the one that does better on the judged rows is told.

`speed` lets the contenders take turns; a round is an epoch. The plain loop pads whatever comes together, in fp32.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from protocol import Contender
from run import describe_machine
from work_texts import read_texts

HERE = Path(__file__).resolve().parent
EXPERIMENTS = {
    "sst2-cnn": "sst2",
    "sst2-lstm": "sst2",
    "imdb-cnn": "imdb/train_10k.tsv.gz",
    "imdb-lstm": "imdb/train_10k.tsv.gz",
}
WORKS = (
    {"name": "sentences", "path": "sst2/train.tsv.gz", "rows": 6_400, "batch_size": 64, "max_length": 400},
    {"name": "reviews", "path": "imdb/train_10k.tsv.gz", "rows": 640, "batch_size": 32, "max_length": 400},
)
SIZES = {"vocab_size": 20_000, "embedding_size": 128, "num_maps": 100}
PLAIN = "plain PyTorch loop"
CONTENDERS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    (PLAIN, "textcnn_plain.py", {}),
    ("Lamina", "textcnn_lamina.py", {}),
    ("Lamina, fp32", "textcnn_lamina.py", {"training": {"precision": "fp32"}}),
)


# --- quality ---------------------------------------------------------------------------------------------------------


def train(name: str, path: Path, *, seeds: int) -> dict[str, Any]:
    """A recipe over seeds, and TF-IDF on the same rows."""
    from lamina.recipes.build import build, choose_machine, read_data
    from lamina.recipes.recipe import resolve

    values: list[float] = []
    seconds: list[float] = []
    baselines: list[float] = []
    choices: dict[str, str] = {}
    for seed in range(seeds):
        recipe = resolve(name, data=str(path), assignments=[f"seed={seed}", "training.tensorboard=false"]).recipe()
        data = read_data(recipe)
        job = build(recipe, data, machine=choose_machine("cpu", None))
        begin = time.perf_counter()
        result = job.trainer(None).fit()
        seconds.append(time.perf_counter() - begin)
        values.append(result.metrics["valid/accuracy"])
        choices = {key: choice.value for key, choice in result.choices.items()}
        baselines.append(tf_idf(data))
        print(f"{name}, seed {seed}: {values[-1]:.4f}, TF-IDF {baselines[-1]:.4f}, {seconds[-1]:.0f} s", flush=True)
    return {
        "name": name,
        "metric": "accuracy",
        "rows": data.spec.num_rows,
        "mean": statistics.fmean(values),
        "spread": statistics.stdev(values) if len(values) > 1 else None,
        "values": values,
        "tf_idf": statistics.fmean(baselines),
        "tf_idf_values": baselines,
        "seconds": statistics.median(seconds),
        "choices": choices,
    }


def tf_idf(data: Any) -> float:
    """Logistic regression on TF-IDF of words and pairs of words: accuracy on the validation rows."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    def rows(split: str) -> tuple[list[str], Any]:
        columns = data.splits[split]
        return columns.ragged["text"].texts(), columns["label"].numpy()

    texts, labels = rows("train")
    judged, wanted = rows("valid")
    vectoriser = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    known, unknown = vectoriser.fit_transform(texts), vectoriser.transform(judged)
    fitted = (LogisticRegression(C=strength, max_iter=1000).fit(known, labels) for strength in (1.0, 10.0))
    return float(max(model.score(unknown, wanted) for model in fitted))


# --- speed -----------------------------------------------------------------------------------------------------------


def measure(work: dict[str, Any], *, rounds: int) -> dict[str, Any]:
    """All contenders in turn; medians over the rounds."""
    seconds: dict[str, list[float]] = {}
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as logs:
        running: dict[str, Contender] = {}
        try:
            for number, (name, script, changes) in enumerate(CONTENDERS):
                command = [sys.executable, str(HERE / "contenders" / script)]
                running[name] = Contender(name, command, log=Path(logs) / f"{number}.log")
                answer = running[name].ask(op="setup", work={**work, **changes})
                rows[name] = {"tool": name, "notes": answer["notes"], "setup_s": answer["setup_s"]}
            for _ in range(rounds):
                for name, contender in running.items():
                    answer = contender.ask(op="run")
                    seconds.setdefault(name, []).append(answer["seconds"] / answer["samples"])
        finally:
            for contender in running.values():
                contender.close()
    for name, times in seconds.items():
        ratios = [plain / mine for plain, mine in zip(seconds[PLAIN], times, strict=True)]
        rows[name] |= {
            "samples_per_s": round(1 / statistics.median(times)),
            "ratio": round(statistics.median(ratios), 2),
            "ratio_min_max": [round(min(ratios), 2), round(max(ratios), 2)],
        }
    shown = {key: value for key, value in work.items() if key != "path"}
    return {"work": shown, "rows": list(rows.values()), "tokenising": tokenise(work, rounds=rounds)}


def tokenise(work: dict[str, Any], *, rounds: int) -> list[dict[str, Any]]:
    """Tokens per second of the text pipeline, and of words found and looked up in plain Python, taking turns."""
    from lamina.data.ragged import Ragged
    from lamina.data.text.tokenizer import Tokenizer, TokenizerConfig

    texts, _ = read_texts(work)
    columns = Ragged.of_texts(texts)
    tokenizer = Tokenizer.train(TokenizerConfig(lowercase=True, vocab_size=work["vocab_size"]), texts)
    number = {word: place for place, word in enumerate(tokenizer.vocabulary)}
    word = re.compile(r"\w+|[^\w\s]")

    def ours() -> int:
        return len(tokenizer.encode_ragged(columns).values)

    def plain() -> int:
        return sum(len([number.get(found, 1) for found in word.findall(text.lower())]) for text in texts)

    rates: dict[str, list[float]] = {}
    for turn in range(rounds + 1):
        for name, call in (("plain Python: re and dict", plain), ("Lamina", ours)):
            begin = time.perf_counter()
            tokens = call()
            if turn:
                rates.setdefault(name, []).append(tokens / (time.perf_counter() - begin))
    base = rates["plain Python: re and dict"]
    return [
        {
            "tool": name,
            "tokens_per_s": round(statistics.median(found)),
            "ratio": round(statistics.median(mine / theirs for mine, theirs in zip(found, base, strict=True)), 2),
        }
        for name, found in rates.items()
    ]


def main() -> None:
    """Run one of the two and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("quality", "speed"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", help=f"of quality: {', '.join(EXPERIMENTS)}; default: all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    default = "text_classification" if arguments.what == "quality" else "textcnn"
    target = arguments.output or HERE / "results" / f"{default}.json"
    if arguments.what == "speed":
        works = [
            measure({**work, **SIZES, "path": str(arguments.folder / str(work["path"]))}, rounds=arguments.rounds)
            for work in WORKS
        ]
        document = {"schema": 1, "machine": describe_machine(), "rounds": arguments.rounds, "works": works}
        for work in works:
            for row in (*work["rows"], *work["tokenising"]):
                print(work["work"]["name"], row)
        target.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        return
    known: dict[str, dict[str, Any]] = {}  # rows of earlier calls stay
    if target.is_file():
        known = {row["name"]: row for row in json.loads(target.read_text(encoding="utf-8"))["rows"]}
    for name in arguments.names or EXPERIMENTS:
        known[name] = train(name, arguments.folder / EXPERIMENTS[name], seeds=arguments.seeds)
        rows = [known[other] for other in EXPERIMENTS if other in known]
        target.write_text(json.dumps({"schema": 1, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
