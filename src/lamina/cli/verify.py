"""`lamina verify`: proof on a run of your own that resuming is exact and the bundle computes what it did."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lamina.cli.output import Output
from lamina.cli.parser import Parser

if TYPE_CHECKING:
    from lamina.train.trainer import Trainer

SUMMARY = "prove on a run that resume is bit-identical and the bundle's golden outputs hold"
EXAMPLES = ("lamina verify runs/digits-1", "lamina verify runs/digits-1 --json")


def add_arguments(parser: Parser) -> None:
    """The words of the command."""
    parser.add_argument("run", metavar="RUN", help="a run folder with at least one checkpoint")


def run(options: argparse.Namespace, output: Output) -> int:
    """Replay and compare; exit status 1 where something differs."""
    from lamina.core.run import RunFolder

    folder = RunFolder.open(options.run)
    from lamina.recipes.session import job_of_run
    from lamina.train.verify import verify_resume

    def make_trainer(path: Path) -> Trainer:
        return job_of_run(folder, device=options.device, threads=options.threads).trainer(path)

    output.note("replaying between checkpoints …")
    replay = verify_resume(folder.path, make_trainer)
    golden: bool | None = None
    error: float | None = None
    if folder.bundle_folder.is_dir():
        from lamina.tasks.bundle import load_bundle

        bundle = load_bundle(folder.path)
        golden, error = bundle.golden_holds(), bundle.verify_golden()
    output.document(
        {
            "resume_exact": replay.exact,
            "golden": golden,
            "golden_max_abs_error": error,
            "from_step": replay.from_step,
            "to_step": replay.to_step,
            "differing": list(replay.differing),
            "run": str(folder.path),
        }
    )
    output.text(
        f"resume  steps {replay.from_step} to {replay.to_step} replayed: "
        + ("every byte of the checkpoint is the same" if replay.exact else f"different: {', '.join(replay.differing)}")
    )
    if golden is None:
        output.text("bundle  none yet: the run is not finished")
    else:
        output.text(f"bundle  golden outputs {'hold' if golden else 'do NOT hold'}, largest difference {error:.3g}")
    return 0 if replay.exact and golden is not False else 1
