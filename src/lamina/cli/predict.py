"""`lamina predict`: what a bundle says about files, folders, tables, arrays and texts."""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lamina.cli.forecast_rows import forecast_rows, is_forecast
from lamina.cli.output import SCHEMA, Output, render_json
from lamina.cli.parser import Parser
from lamina.cli.subjects import open_bundle, use_threads
from lamina.cli.tag_rows import is_tagged, tag_rows
from lamina.core.errors import UsageError

SUMMARY = "predict for files, folders, tables, arrays or texts"
EXAMPLES = (
    "lamina predict runs/digits-1 photo.png",
    "lamina predict digits.zip new.csv --output predictions.csv",
    "lamina predict runs/iris-mlp-1 flowers.csv --json",
    "lamina predict runs/pets-1 garden/ --reject",
    "lamina predict runs/sst2-cnn-1 'A film to remember.'",
    "lamina predict runs/wnut17-bilstm-crf-1 'Ann left New York'",
    "lamina predict resnet20 photo.png --weights resnet20-12fca82f.th",
)
_SHOWN = 40


def add_arguments(parser: Parser) -> None:
    """The words of the command."""
    parser.add_argument(
        "bundle",
        metavar="BUNDLE|MODEL",
        help="a bundle (folder or .zip), a run folder, or the name of a model with --weights",
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="pictures, folders, archives, CSV, NPY, NPZ, IDX files; for a model of texts also texts",
    )
    parser.add_argument(
        "--reject", action="store_true", help="give no label to what looks like none of the known classes"
    )
    parser.add_argument(
        "--weights",
        metavar="W",
        help="weights of a MODEL from elsewhere: a file, TABLE:FILE, timm/NAME or hf:OWNER/NAME",
    )
    parser.add_argument("--output", metavar="FILE", help="write the predictions to FILE, .json or .csv")


def run(options: argparse.Namespace, output: Output) -> int:
    """Predict every row of every input."""
    target = _target(options.output)
    use_threads(options.threads)
    bundle = open_bundle(
        options.bundle, command="predict", device=options.device, weights=options.weights, output=output
    )
    # A model of texts is given texts as they stand; which of them are files is seen where they are read.
    is_text = "text" in bundle.spec.columns
    inputs: list[str] | list[Path] = options.inputs if is_text else [Path(word) for word in options.inputs]
    predictions = bundle.predict(inputs[0] if len(inputs) == 1 else inputs, reject=options.reject)
    document: dict[str, Any] = {"task": bundle.task.name, "predictions": predictions}
    if options.reject:
        document["num_rejected"] = sum(prediction["rejected"] for prediction in predictions)
        output.note(
            f"{document['num_rejected']:,} of {len(predictions):,} look like no known class (score below the threshold)."
        )
    if target is not None:
        from lamina.core.files import write_atomic

        text = to_csv(predictions) if target.suffix == ".csv" else render_json({"schema": SCHEMA, **document}) + "\n"
        write_atomic(target, text.encode("utf-8"))
        output.note(f"{len(predictions):,} predictions: {target}")
    output.document(document)
    if target is None and (is_forecast(predictions) or is_tagged(predictions)):
        forecast = is_forecast(predictions)
        steps = forecast_rows(predictions) if forecast else tag_rows(predictions)
        output.table([list(row.values()) for row in steps[:_SHOWN]], header=list(steps[0]) if steps else ["input"])
        if len(steps) > _SHOWN:
            what = "steps" if forecast else "words"
            output.note(f"… and {len(steps) - _SHOWN:,} more {what}; --output FILE or --json gives all.")
    elif target is None:
        rows = [[p["input"], *_short(p)] for p in predictions[:_SHOWN]]
        first = predictions[0] if predictions else {}
        number = "perplexity" if "perplexity" in first else "value"
        output.table(rows, header=["input", "label", "probability"] if "label" in first else ["input", number])
        if len(predictions) > _SHOWN:
            output.note(f"… and {len(predictions) - _SHOWN:,} more; --output FILE or --json gives all.")
    return 0


def _target(word: str | None) -> Path | None:
    if word is None:
        return None
    path = Path(word)
    if path.suffix not in (".json", ".csv"):
        raise UsageError(
            f"--output got {word!r}.",
            where="command line of lamina predict, --output",
            accepts="a file name that ends in .json or .csv",
            mend=f"--output {path.with_suffix('.csv')}",
        )
    return path


def _short(prediction: Mapping[str, Any]) -> list[Any]:
    if "label" in prediction:
        label = "(none)" if prediction.get("rejected") else prediction["label"]
        return [label, prediction.get("probability")]
    if "perplexity" in prediction:
        return [prediction["perplexity"]]
    return [prediction.get("value", json.dumps(prediction.get("values")))]


def to_csv(predictions: Sequence[Mapping[str, Any]]) -> str:
    """A table with a row per prediction; nested values get a column each, such as `probabilities.cat`. Of forecasts a row per step, of tagged words a row per word."""
    if is_forecast(predictions):
        predictions = forecast_rows(predictions)
    elif is_tagged(predictions):
        predictions = tag_rows(predictions)
    flat = [
        {
            name: inner
            for key, value in row.items()
            for name, inner in (
                ((f"{key}.{k}", v) for k, v in value.items()) if isinstance(value, Mapping) else ((key, value),)
            )
        }
        for row in predictions
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in flat for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()
