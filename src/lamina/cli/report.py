"""`lamina report`: one self-contained page about a run."""

from __future__ import annotations

import argparse

from lamina.cli.output import Output
from lamina.cli.parser import Parser
from lamina.cli.subjects import use_threads

SUMMARY = "write one HTML page about a run, readable offline"
EXAMPLES = ("lamina report runs/digits-1", "lamina report runs/digits-1 --baselines --output digits.html")


def add_arguments(parser: Parser) -> None:
    """The words of the command."""
    parser.add_argument("run", metavar="RUN", help="a run folder, finished or not")
    parser.add_argument("--output", metavar="FILE", help="where to write; by default report.html in the run folder")
    parser.add_argument(
        "--baselines", action="store_true", help="first fit k-nearest neighbours and a linear model on the same rows"
    )
    parser.add_argument(
        "--learning-curve", action="store_true", help="first train the recipe on growing parts of its training rows"
    )


def run(options: argparse.Namespace, output: Output) -> int:
    """Write the page, after what was asked for has been computed."""
    from lamina.core.run import RunFolder

    folder = RunFolder.open(options.run)
    use_threads(options.threads)
    if options.baselines or options.learning_curve:
        from lamina.recipes.baselines import write_baselines, write_learning_curve

        if options.baselines:
            write_baselines(folder, listener=output)
        if options.learning_curve:
            write_learning_curve(folder, listener=output)
    from lamina.explain.report import write_report

    path = write_report(folder.path, output=options.output)
    output.document({"report": str(path), "run": str(folder.path)})
    output.text(str(path))
    return 0
