"""`lamina generate`: what a trained model writes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lamina.cli.output import SCHEMA, Output, render_json
from lamina.cli.parser import Parser, whole_number
from lamina.cli.subjects import open_bundle, use_threads
from lamina.core.errors import UsageError

SUMMARY = "write texts with a trained model"
EXAMPLES = (
    'lamina generate runs/shakespeare-lstm-1 --prompt "ROMEO:" --num 3',
    "lamina generate runs/stdlib-lstm-1 --temperature 0.7 --top-k 20 --max-length 500",
    "lamina generate words.zip --top-p 0.9 --seed 7 --num 20 --output samples --json",
)


def add_arguments(parser: Parser) -> None:
    """The words of the command."""
    parser.add_argument("bundle", metavar="BUNDLE", help="a bundle (folder or .zip) or a run folder")
    parser.add_argument("--prompt", metavar="T", default="", help="what the texts begin with")
    parser.add_argument("--num", metavar="N", help="how many samples; 1 by default")
    parser.add_argument("--max-length", metavar="N", help="tokens to write; 200 by default")
    parser.add_argument(
        "--temperature", metavar="X", help="below 1 bolder, above 1 more varied, 0 always the likeliest; 1 by default"
    )
    parser.add_argument("--top-k", metavar="K", help="choose among the K most probable tokens only")
    parser.add_argument("--top-p", metavar="P", help="choose among the most probable tokens that together have P")
    parser.add_argument("--greedy", action="store_true", help="always the most probable token; as --temperature 0")
    parser.add_argument("--seed", metavar="N", help="keys every draw: the same seed writes the same; 0 by default")
    parser.add_argument("--output", metavar="DIR", help="write each text into a file of a new folder")


def run(options: argparse.Namespace, output: Output) -> int:
    """Write and show."""
    num = whole_number(options.num, option="--num") or 1
    chosen = _options(options)
    folder = _new_folder(options.output)
    use_threads(options.threads)
    bundle = open_bundle(options.bundle, command="generate", device=options.device)
    samples = bundle.generate(options.prompt or None, num=num, **chosen)
    unknown = samples[0].get("unknown", 0)
    if unknown:
        output.note(f"{unknown} tokens of the prompt were never seen in training; the model reads them as unknown.")
    document: dict[str, Any] = {"task": bundle.task.name, "options": chosen, "samples": samples}
    if folder is not None:
        _write(folder, document)
        output.note(f"{len(samples):,} texts and samples.json: {folder}")
    output.document(document)
    if folder is None:
        for number, sample in enumerate(samples, start=1):
            if len(samples) > 1:
                output.text(f"--- {number} ---")
            output.text(sample["text"])
    return 0


def _options(options: argparse.Namespace) -> dict[str, Any]:
    """What was given of the sampling options; their bounds are checked where they are declared."""
    if options.greedy and options.temperature is not None:
        raise UsageError(
            "--greedy and --temperature are both given.",
            where="command line of lamina generate",
            accepts="one of the two",
            mend="--greedy is --temperature 0",
        )
    given = {
        "max_length": whole_number(options.max_length, option="--max-length"),
        "temperature": 0.0 if options.greedy else _number(options.temperature, option="--temperature"),
        "top_k": whole_number(options.top_k, option="--top-k"),
        "top_p": _number(options.top_p, option="--top-p"),
        "seed": whole_number(options.seed, option="--seed", minimum=0),
    }
    return {name: value for name, value in given.items() if value is not None}


def _number(text: str | None, *, option: str) -> float | None:
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        raise UsageError(
            f"{option} got {text!r}.",
            where=f"command line, {option}",
            accepts="a number",
            mend=f"write {option} 0.8, say",
        ) from None


def _new_folder(word: str | None) -> Path | None:
    if word is None:
        return None
    folder = Path(word)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            f"{word} is there already, and not an empty folder.",
            where="command line of lamina generate, --output",
            accepts="a new or empty folder",
            mend="name another folder",
        )
    return folder


def _write(folder: Path, document: dict[str, Any]) -> None:
    from lamina.core.files import storage_errors, write_atomic

    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    samples = document["samples"]
    width = len(str(len(samples)))
    for number, sample in enumerate(samples, start=1):
        write_atomic(folder / f"sample-{number:0{width}}.txt", f"{sample['text']}\n".encode())
    write_atomic(folder / "samples.json", (render_json({"schema": SCHEMA, **document}) + "\n").encode())
