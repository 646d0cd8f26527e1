"""The demo behind `make demo`: train on the embedded digits, judge beside simple models, say what to try next.

Run: python examples/demo.py [--run DIR] [section.key=value …]

Everything goes through the commands that anybody can type; this script only runs them and lays out the result.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lamina.explain.report_sections import show_metric, wilson_interval


def lamina(*words: str) -> dict[str, Any]:
    """Run a command with live progress on stderr and give its JSON document."""
    done = subprocess.run([sys.executable, "-m", "lamina", *words, "--json"], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def main() -> None:
    """Train, report, print."""
    parser = argparse.ArgumentParser(description="Train on the embedded digits and judge beside simple models.")
    parser.add_argument("--run", help="where the run goes; by default the next free runs/digits-N")
    parser.add_argument("values", nargs="*", metavar="KEY=VALUE", help="recipe values, such as training.epochs=5")
    options = parser.parse_args()
    begin = time.perf_counter()
    trained = lamina("train", "digits", *options.values, *(["--run", options.run] if options.run else []))
    run = Path(trained["run"])
    report = lamina("report", str(run), "--baselines")["report"]
    baselines = json.loads((run / "baselines.json").read_text(encoding="utf-8"))
    evaluation = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))

    num_rows = int(evaluation["test"]["num_samples"])
    table = Table(title=f"Digits: {num_rows} test images that no model has seen", title_justify="left")
    table.add_column("model")
    table.add_column("test accuracy", justify="right")
    table.add_column("95 % interval", justify="right")
    scores = [("the network you just trained", trained["metrics"]["test/accuracy"])]
    scores += [(found["title"], found["metrics"]["accuracy"]) for found in baselines["baselines"]]
    for name, accuracy in scores:
        low, high = wilson_interval(accuracy, num_rows)
        table.add_row(name, show_metric("accuracy", accuracy), f"{100 * low:.1f} to {100 * high:.1f} %")

    console = Console()
    console.print()
    console.print(table)
    console.print(
        f"{time.perf_counter() - begin:.0f} s. The report, one page that needs no network: {report}\n", soft_wrap=True
    )
    console.print("Try next:", highlight=False)
    for command, why in (
        (f"lamina inspect {run}", "the layers, counted"),
        (f"lamina verify {run}", "resume is bit-exact, proved on this run"),
        ("lamina train digits model.kind=linear", "another model on the same data"),
        ("lamina data PATH", "what is in a file or folder of yours"),
        ("lamina train --data PATH", "a network from it"),
    ):
        console.print(f"  .venv/bin/{command:<44}  [dim]{why}[/dim]", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
