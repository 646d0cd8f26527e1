"""`lamina evaluate`: judge a bundle or run on labelled data. Nothing is divided here."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lamina.cli.data import data_values
from lamina.cli.output import Output
from lamina.cli.parser import Parser
from lamina.cli.subjects import open_bundle, run_of, use_threads
from lamina.core.errors import DataError, UsageError, nearest

if TYPE_CHECKING:
    from lamina.core.run import RunFolder
    from lamina.data.columns import Columns, Data

SUMMARY = "judge a bundle or run on labelled data"
EXAMPLES = (
    "lamina evaluate runs/digits-1 --data digits",
    "lamina evaluate digits.bundle --data new.csv --split test --json",
    "lamina evaluate runs/pets-1 --outsiders garden/",
    "lamina evaluate resnet20 --data cifar10.tar.gz --weights resnet20-12fca82f.th",
)


def add_arguments(parser: Parser) -> None:
    """The words of the command."""
    parser.add_argument(
        "bundle",
        metavar="BUNDLE|MODEL",
        help="a bundle (folder or .zip), a run folder, or the name of a model with --weights",
    )
    parser.add_argument("values", nargs="*", metavar="data.KEY=VALUE", help="how to read the data: data.label=kind")
    parser.add_argument("--data", metavar="PATH", help="labelled data; by default a run's own")
    parser.add_argument(
        "--weights",
        metavar="W",
        help="weights of a MODEL from elsewhere: a file, TABLE:FILE, timm/NAME or hf:OWNER/NAME",
    )
    parser.add_argument(
        "--outsiders", metavar="PATH", help="inputs of no known class: how many of them pass `predict --reject`"
    )
    parser.add_argument("--split", metavar="S", help="the split to judge; by default test, else valid, else all rows")


def run(options: argparse.Namespace, output: Output) -> int:
    """Judge, and print metrics and the confusion matrix."""
    given = data_values(options.values)
    use_threads(options.threads)
    run_folder = run_of(options.bundle) if options.weights is None else None
    path, section = _what_to_read(options, run_folder, given)
    bundle = open_bundle(
        options.bundle, command="evaluate", device=options.device, weights=options.weights, output=output
    )
    from lamina.data.config import DataConfig
    from lamina.data.loading import load_data, load_like

    config = DataConfig.from_values({**section, **given}, where="data")
    # What arrays are, images or series or volumes, and which column of texts is the answer, the model knows best.
    is_known = any(name in bundle.spec.columns for name in ("signal", "volume", "past", "text"))
    data = load_like(path, spec=bundle.spec, config=config) if is_known else load_data(path, config=config)
    own = _own_split(data, run_folder)
    if own is None and data.reader in ("table", "image-folder"):
        # The few rows of a table to be judged may look otherwise than those of training: its columns decide. Photographs
        # are brought to the size that the model reads, as those of training were.
        data = load_like(path, spec=bundle.spec, config=config)
    split, columns = choose_rows(own or data, options.split)
    if own is not None:
        output.note(f"This is the data that the run was trained on; its own {split} split is judged.")
    evaluation = bundle.evaluate(columns, spec=(own or data).spec)
    details = evaluation.details
    matrix = details.get("confusion_matrix")
    outsiders: dict[str, Any] | None = None
    if options.outsiders is not None:
        outsiders = bundle.pipeline.judge_outsiders(columns, Path(options.outsiders), spec=(own or data).spec)
    output.document(
        {
            "task": bundle.task.name,
            "num_samples": evaluation.num_samples,
            "metrics": evaluation.metrics,
            "labels": list(bundle.labels),
            "confusion_matrix": matrix,
            "split": split,
            "own_split": own is not None,
            "data": str(path),
            "bundle": options.bundle,
            **({"outsiders": outsiders} if outsiders is not None else {}),
            "details": {key: value for key, value in details.items() if key not in ("confusion_matrix", "labels")},
        }
    )
    output.text(f"{evaluation.num_samples:,} rows, split {split}\n")
    output.table([[name, value] for name, value in evaluation.metrics.items()], header=["metric", "value"])
    if outsiders is not None:
        passed, refused = outsiders["outsiders_passed"], outsiders["insiders_refused"]
        output.text(f"\noutsiders that pass: {passed:,} of {outsiders['num_outsiders']:,}")
        output.text(f"rows of known classes that are refused: {refused:,} of {outsiders['num_insiders']:,}")
        output.text(f"area under the curve of known rows against outsiders: {outsiders['roc_auc']:.4f}")
    if matrix is not None and len(bundle.labels) <= 26:
        output.text("\nconfusion matrix (rows: true, columns: predicted)")
        rows = [[label, *row] for label, row in zip(bundle.labels, matrix, strict=True)]
        output.table(rows, header=["", *bundle.labels], indent="  ")
    return 0


def _what_to_read(
    options: argparse.Namespace, run_folder: RunFolder | None, given: dict[str, Any]
) -> tuple[str, dict[str, Any]]:
    """The path, and how the run read its own data: a file of the same kind is read alike."""
    section: dict[str, Any] = {}
    if run_folder is not None:
        recorded = run_folder.section("data")
        section = {key: value for key, value in recorded.items() if key not in ("path", "limit")}
    path = options.data or given.pop("path", None)
    if path is None and run_folder is not None:
        path = run_folder.section("data").get("path")
    if path is None:
        raise UsageError(
            "Nothing says which data to judge on.",
            where="command line of lamina evaluate",
            accepts="--data PATH: a file, folder or archive with labels, or the name of an embedded dataset",
            mend=f"lamina evaluate {options.bundle} --data PATH",
        )
    from lamina.core.registry import names

    if run_folder is not None and path != run_folder.section("data").get("path"):
        section.pop("options", None)  # of the generator that the run learned from
    if path not in names("dataset") and Path(path).exists() and section.get("reader") is not None:
        # Another file may well have another format; the run's own reader was named for its own file.
        section = {key: value for key, value in section.items() if key != "reader"}
    return str(path), section


def _own_split(data: Data, run_folder: RunFolder | None) -> Data | None:
    """The run's saved split, where this is the data that it was trained on."""
    if run_folder is None or run_folder.environment().get("data_fingerprint") != data.fingerprint:
        return None
    from lamina.data.splits import restore_split
    from lamina.recipes.build import saved_split

    saved = saved_split(run_folder)
    return restore_split(data, saved) if saved is not None else None


def choose_rows(data: Data, wanted: str | None) -> tuple[str, Columns]:
    """The rows to judge: the wanted split, else test, else valid, else all.

    Raises:
        UsageError: There is no such split.
        DataError: It has no rows.
    """
    from lamina.data.decoded_ahead import join_columns
    from lamina.data.splits import normalise_split_name

    splits = {normalise_split_name(name): columns for name, columns in data.splits.items()}
    if wanted is not None:
        name = wanted if wanted in splits else normalise_split_name(wanted)
        if name not in splits and name != "all":
            near = nearest(wanted, splits)
            raise UsageError(
                f"The data has no split {wanted!r}.",
                where="command line of lamina evaluate, --split",
                accepts=", ".join([*splits, "all"]),
                mend=f"did you mean {near[0]!r}?" if near else "leave --split out",
            )
    else:
        name = next((name for name in ("test", "valid") if name in splits and splits[name].num_rows), "all")
    columns = splits[name] if name in splits else join_columns(list(splits.values()))
    if columns.num_rows == 0:
        raise DataError(
            f"The split {name} has no rows.",
            where=data.source or "data",
            accepts="a split with rows",
            mend="choose another with --split",
        )
    return name, columns
