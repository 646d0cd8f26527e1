"""Write the tables of the documentation from benchmarks/results/: no figure in a page is typed by hand.

    python benchmarks/tables.py [--check]

A page holds `<!-- table: NAME -->` and `<!-- end -->`; what stands between them is made from results/NAME.json. With --check
nothing is written and the exit status says whether the pages are current.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PAGES = HERE.parent / "docs"
_TABLE = re.compile(r"(<!-- table: ([a-z0-9_-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def quality(document: Mapping[str, Any]) -> str:
    """Experiments over seeds."""
    lines = ["| experiment | metric | held-out fifth | seeds |", "| --- | --- | --- | --- |"]
    for row in document["rows"]:
        share = row["metric"] != "mae"
        factor, unit = (100, " %") if share else (1, "")
        spread = f" ± {row['spread'] * factor:.2f}" if row["spread"] is not None else ""
        lines.append(
            f"| {row['name']} | {row['metric']} | {row['mean'] * factor:.2f}{spread}{unit} | {len(row['values'])} |"
        )
    return "\n".join(lines)


def speed(document: Mapping[str, Any]) -> str:
    """Contenders of benchmarks/run.py, the fastest first, a table for each work."""
    parts = []
    for result in document["works"]:
        lines = [
            f"{result['name']}, {result['work']['rows']:,} samples a round, {document['rounds']} rounds:",
            "",
            "| tool | samples/s | ratio to the plain loop | lowest and highest round | Lamina to it | of the machine's peak |",
            "| --- | ---: | ---: | ---: | ---: | ---: |",
        ]
        for row in sorted(result["rows"], key=lambda row: -row.get("ratio", 0.0)):
            if "failed" in row:
                lines.append(f"| {row['tool']} | failed | | | | |")
                continue
            low, high = row["ratio_min_max"]
            lines.append(
                f"| {row['tool']} | {row['samples_per_s']:,} | {row['ratio']:.2f} | {low:.2f}–{high:.2f} "
                f"| {row['lamina_to_it']:.2f} | {row['share_of_peak']:.1%} |"
            )
        parts.append("\n".join(lines))
    machine = document["machine"]
    flags = ", ".join(machine["instructions"])
    parts.append(f"Machine: {machine['processor']}, {machine['cores']} cores, {flags}; Python {machine['python']}.")
    return "\n\n".join(parts)


def neighbours(document: Mapping[str, Any]) -> str:
    """Contenders of benchmarks/knn.py."""
    lines = [
        f"{document['rows']:,} rows of {document['features']:,} values, {document['k']} neighbours, {document['threads']} threads:",
        "",
        "| data | tool | queries/s | ratio to a plain product | Lamina to it | prepared in | neighbours that were wrong |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in ("noise", "images"):
        for tool, row in document[name].items():
            wrong = f"{row['wrong_queries']} of {row['judged_queries']} queries"
            ours = document[name]["lamina"]["queries_per_s"] / row["queries_per_s"]
            numbers = f"{row['queries_per_s']:,.0f} | {row['ratio']:.2f} | {ours:.2f} | {row['prepared_s']:.1f} s"
            lines.append(f"| {name} | {tool} | {numbers} | {wrong} |")
    return "\n".join(lines)


def augmentation(document: Mapping[str, Any]) -> str:
    """Contenders of benchmarks/augmentation.py: a row for each tool, a column for each size and batch."""
    cells = document["cells"]
    tools = [row["tool"] for row in cells[0]["rows"]]
    lines = [
        f"Images per second, {document['rounds']} rounds; in brackets how many times as fast Lamina was:",
        "",
        f"| tool | {' | '.join(cell['name'] for cell in cells)} |",
        f"| --- |{' ---: |' * len(cells)}",
    ]
    for tool in tools:
        rows = [next(row for row in cell["rows"] if row["tool"] == tool) for cell in cells]
        shown = [
            "failed" if "failed" in row else f"{row['images_per_s']:,} ({row['lamina_to_it']:.1f})" for row in rows
        ]
        lines.append(f"| {tool} | {' | '.join(shown)} |")
    return "\n".join(lines)


def decoding(document: Mapping[str, Any]) -> str:
    """Contenders of benchmarks/decoding.py."""
    lines = [
        "| photographs, fitted to | tool | images/s | ratio to the DataLoader | processor time per image | ratio |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {row['folder']}, {row['size']}x{row['size']} | {row['tool']} | {row['images_per_s']:,} | {row['ratio']:.2f} "
        f"| {row['processor_us_per_image']:,} µs | {row['processor_ratio']:.2f} |"
        for row in document["rows"]
    ]
    return "\n".join(lines)


def forecasting(document: Mapping[str, Any]) -> str:
    """Errors of forecasts over seeds, and those of some steps ahead."""
    steps = list(document["rows"][0]["mse_by_step"])
    ahead = " | ".join(f"mse at step {step}" for step in steps)
    lines = [
        f"| model | mse | mae | mase | coverage | {ahead} | published mse, mae | seeds |",
        f"| --- | ---: | ---: | ---: | ---: | {'---: | ' * len(steps)}---: | ---: |",
    ]
    for row in document["rows"]:
        cells = []
        for name in ("mse", "mae", "mase", "coverage"):
            found = row["test"][name]
            cells.append(f"{found['mean']:.3f}" + (f" ± {found['spread']:.3f}" if found["spread"] is not None else ""))
        cells += [f"{row['mse_by_step'][step]:.3f}" for step in steps]
        known = row["published"]
        cells.append(f"{known['mse']:.3f}, {known['mae']:.3f}" if known else "")
        lines.append(f"| {row['name']} | {' | '.join(cells)} | {row['seeds']} |")
    return "\n".join(lines)


def texts(document: Mapping[str, Any]) -> str:
    """Recipes for texts over seeds, beside TF-IDF."""
    lines = [
        "| recipe | trained on | judged on | accuracy | TF-IDF | seeds | training |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in document["rows"]:
        spread = f" ± {row['spread']:.2%}".replace("%", "") if row["spread"] is not None else ""
        lines.append(
            f"| `{row['name']}` | {row['rows']['train']:,} | {row['rows']['valid']:,} | {100 * row['mean']:.2f}{spread} % "
            f"| {100 * row['tf_idf']:.2f} % | {len(row['values'])} | {row['seconds']:.0f} s |"
        )
    return "\n".join(lines)


def text_speed(document: Mapping[str, Any]) -> str:
    """Contenders of benchmarks/text_classification.py: training, then tokenising."""
    lines = [
        "| texts | tool | texts/s | ratio to the plain loop | lowest and highest round |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for result in document["works"]:
        what = f"{result['work']['rows']:,} {result['work']['name']}"
        for row in result["rows"]:
            low, high = row["ratio_min_max"]
            lines.append(
                f"| {what} | {row['tool']} | {row['samples_per_s']:,} | {row['ratio']:.2f} | {low:.2f}–{high:.2f} |"
            )
    lines += ["", "| texts | words found and numbered by | tokens/s | ratio |", "| --- | --- | ---: | ---: |"]
    for result in document["works"]:
        for row in result["tokenising"]:
            lines.append(f"| {result['work']['name']} | {row['tool']} | {row['tokens_per_s']:,} | {row['ratio']:.2f} |")
    return "\n".join(lines)


def language_run(document: Mapping[str, Any]) -> str:
    """A recorded training of benchmarks/ptb.py, epoch by epoch, and what the model wrote."""
    tokens, seconds = document["tokens"], document["wall_seconds"]
    lines = [
        f"`{document['recipe']}`: {document['num_parameters']:,} parameters, {tokens['train']:,} training and {tokens['valid']:,} "
        f"validation tokens, {document['vocabulary']:,} different ones, {document['choices']['precision']}, "
        f"{document['threads']} threads, {max(seconds.values()) / 60:.0f} minutes:",
        "",
        "| epoch | cross-entropy, training | validation | perplexity | bits per character |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {row['epoch']} | {row['train_cross_entropy']:.3f} | {row['cross_entropy']:.3f} | {row['perplexity']:.2f} "
        f"| {row['bits_per_character']:.3f} |"
        for row in document["epochs"]
    ]
    best = document.get("best", {})
    if best:
        shown = f"perplexity {best['valid/perplexity']:.2f}, {best['valid/bits_per_character']:.3f} bits per character"
        lines += [
            "",
            f"The best epoch, judged in fp32: {shown}. Samples at temperature {document['sampling']['temperature']}:",
        ]
        lines += [line for text in document["samples"] for line in ("", "```text", text.strip(), "```")]
    return "\n".join(lines)


def tagging(document: Mapping[str, Any]) -> str:
    """Recipes for tags of words over seeds, beside every word's most frequent tag."""
    lines = [
        "| recipe | trained on | judged on | by | last epoch | best epoch | most frequent tags | seeds | training |",
        "| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, found in document["recipes"].items():
        summary, runs = found["summary"], found["runs"]
        cells = []
        for key in ("last", "best", "frequent"):
            spread = summary[key]["std"]
            cells.append(f"{100 * summary[key]['mean']:.2f}" + (f" ± {100 * spread:.2f}" if spread else "") + " %")
        sizes = f"{runs[0]['train_sentences']:,} | {runs[0]['judged_sentences']:,} sentences"
        seconds = sum(run["seconds"] for run in runs) / len(runs)
        lines.append(
            f"| `{name}` | {sizes} | {summary['judged_by']} | {' | '.join(cells)} | {len(runs)} | {seconds / 60:.0f} min |"
        )
    return "\n".join(lines)


def adding(document: Mapping[str, Any]) -> str:
    """The adding problem over seeds, of benchmarks/adding.py."""
    lines = [
        f"Sequences of {document['length']} steps; always answering with the mean has an error of {document['mse_of_the_mean']:.4f}:",
        "",
        "| recipe | squared error on the held-out fifth, each seed | gradient at each step back, before training | and after | seconds of a processor |",
        "| --- | --- | --- | --- | ---: |",
    ]
    for row in document["rows"]:
        errors = ", ".join(f"{run['mse']:.4f}" for run in row["runs"])
        seconds = sum(run["cpu_seconds"] for run in row["runs"]) / len(row["runs"])
        spans = []
        for when in ("gradient_before", "gradient_after"):
            lines_of = [run[when] for run in row["runs"]]  # by the cell, where there is one: that is what remembers
            factors = [found.get("layer1.cell", found["layer1"])["factor_per_step"] for found in lines_of]
            spans.append(f"x {min(factors):.3f} to {max(factors):.3f}")
        lines.append(f"| {row['name']} | {errors} | {' | '.join(spans)} | {seconds:.0f} |")
    return "\n".join(lines)


def recurrent(document: Mapping[str, Any]) -> str:
    """Recurrent layers beside torch's, of benchmarks/recurrent.py."""
    lines = [
        f"{document['layers']} layers of {document['units']} units, batch {document['batch']}, {document['steps']} steps, forward and "
        f"backward, milliseconds of a processor, {document['threads']} thread:",
        "",
        "| network | precision | torch | Lamina | Lamina, own way |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for row in document["rows"]:
        ms = row["ms"]
        own = f"{ms['lamina, scan']:.1f}" if "lamina, scan" in ms else "the same"
        lines.append(f"| {row['kind']} | {row['precision']} | {ms['torch']:.1f} | {ms['lamina']:.1f} | {own} |")
    return "\n".join(lines)


def word_vectors(document: Mapping[str, Any]) -> str:
    """Contenders of benchmarks/word2vec.py."""
    rows = document["summary"]
    lines = [
        f"{document['corpus_words']:,} words, {document['settings']['epochs']} epochs, {document['threads']} threads, {rows[0]['seeds']} "
        "seeds; WordSim-353 as Spearman's correlation, analogies as accuracy:",
        "",
        "| architecture | tool | words/s | ratio to gensim | by processor time | WordSim-353 | analogies |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        quality = " | ".join(
            f"{row[key]:.3f}" + (f" ± {row[f'{key}_spread']:.3f}" if row[f"{key}_spread"] is not None else "")
            for key in ("ws353", "analogies")
        )
        ratios = " | ".join(
            f"{row[f'{key}_ratio']:.2f}" if row[f"{key}_ratio"] is not None else ""
            for key in ("words_per_s", "words_per_cpu_s")
        )
        lines.append(f"| {row['architecture']} | {row['tool']} | {row['words_per_s']:,.0f} | {ratios} | {quality} |")
    return "\n".join(lines)


RENDERERS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "quality": quality,
    "forecasting": forecasting,
    "mnist-mlp": speed,
    "sign-cnn": speed,
    "resnet18": speed,
    "resnet50": speed,
    "knn": neighbours,
    "augmentation": augmentation,
    "decoding": decoding,
    "text_classification": texts,
    "textcnn": text_speed,
    "language": speed,
    "adding": adding,
    "recurrent": recurrent,
    "tagging": tagging,
    "word2vec": word_vectors,
    **dict.fromkeys(("ptb-lstm-small", "ptb-lstm-medium", "shakespeare-lstm", "stdlib-lstm"), language_run),
}


def render(page: str) -> str:
    """The page with every table made anew."""

    def table(found: re.Match[str]) -> str:
        name = found.group(2)
        document = json.loads((HERE / "results" / f"{name}.json").read_text(encoding="utf-8"))
        return f"{found.group(1)}{RENDERERS[name](document)}\n{found.group(3)}"

    return _TABLE.sub(table, page)


def main() -> int:
    """Write the pages, or say which are not current."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = []
    for path in sorted(PAGES.rglob("*.md")):
        old = path.read_text(encoding="utf-8")
        new = render(old)
        if new == old:
            continue
        stale.append(str(path.relative_to(HERE.parent)))
        if not check:
            path.write_text(new, encoding="utf-8")
    for name in stale:
        print(f"{'not current' if check else 'written'}: {name}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
