"""The report: one self-contained HTML page about a run, readable offline, in a browser's dark mode and on paper.

It is read from the run folder alone: no process needs to be alive, no data needs to be where it was. A section appears
when the run has what it shows; a run that was interrupted gets a report too, which says so.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from lamina import __version__
from lamina.core.config import flatten
from lamina.core.errors import LaminaError
from lamina.core.files import write_atomic
from lamina.core.run import RunFolder
from lamina.explain import report_sections as sections
from lamina.explain.charts import format_number
from lamina.explain.pictures import heat_picture
from lamina.explain.report_network import network_sections, wrong_section

__all__ = ["write_report"]

_FOLDER: Final = Path(__file__).parent
# Key of the section's content, id of its heading, its name in the list of contents.
_CONTENTS: Final = (
    ("comparison", "result", "Result"),
    ("cross_validation", "cross-validation", "Cross-validation"),
    ("charts", "curves", "Curves"),
    ("confusion", "confusion", "Confusion"),
    ("per_class", "classes", "Classes"),
    ("groups", "groups", "Groups"),
    ("wrong", "wrong", "Most wrong"),
    ("saliency", "saliency", "What it looks at"),
    ("kernels", "kernels", "Kernels"),
    ("weights", "weights", "Weights"),
    ("learning_curve", "learning-curve", "More data?"),
    ("layers", "layers", "Network"),
    ("data", "data", "Data"),
    ("recipe", "recipe", "Recipe"),
    ("replay", "reproduce", "Do it again"),
)


def write_report(run: str | os.PathLike[str], *, output: str | os.PathLike[str] | None = None) -> Path:
    """Write the report of a run.

    Args:
        run: The run folder, finished or not.
        output: Where to write; default: `report.html` in the run folder.

    Returns:
        The path that was written.

    Raises:
        RunError: Not a run folder, or one of its files cannot be read.
        StorageError: The page cannot be written.
    """
    folder = RunFolder.open(run)
    path = Path(output) if output is not None else folder.report_file
    write_atomic(path, render_report(folder).encode("utf-8"))
    return path


def render_report(folder: RunFolder) -> str:
    """The page as text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.ChainableUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    style = (_FOLDER / "report.css").read_text(encoding="utf-8")
    content = collect(folder)
    content["contents"] = [(anchor, name) for key, anchor, name in _CONTENTS if content.get(key)]
    page = environment.get_template("report.html.j2").render(
        **content,
        version=__version__,
        style=Markup(style),  # noqa: S704 - our own file
        # The page allows this one style sheet and nothing else to be loaded or run, whatever a run's values contain.
        style_sha256=base64.b64encode(hashlib.sha256(style.encode("utf-8")).digest()).decode("ascii"),
    )
    return page + "\n"


def collect(folder: RunFolder) -> dict[str, Any]:
    """Everything that the page shows, by the template's names; missing things are None or empty."""
    values, origins = folder.recipe()
    environment = folder.environment()
    lines = folder.metrics()
    result = folder.result()
    metrics = dict((result or {}).get("metrics") or _latest_metrics(lines))
    evaluation = folder.document("evaluation.json")
    baselines = folder.document("baselines.json")
    split = sections.judged_split(metrics)
    details = _details(evaluation, split)
    matrix, labels = details.get("confusion_matrix"), [str(label) for label in details.get("labels", ())]
    num_rows = details.get("num_samples") or (sum(map(sum, matrix)) if matrix else None)
    name = str(values.get("name", folder.path.name))
    model = str(values.get("model", {}).get("kind", name))
    content: dict[str, Any] = {
        "title": f"{name}: {model}",
        "subtitle": _subtitle(values, result, environment),
        "headline": sections.headline(metrics, num_rows=num_rows),
        "notices": _notices(folder, result, lines),
        "comparison": sections.comparison(
            f"This network ({model})", metrics, baselines=baselines, matrix=matrix, num_rows=num_rows
        ),
        "splits": sections.all_metrics(metrics),
        "charts": [{**chart, "svg": Markup(chart["svg"])} for chart in sections.curves(lines)],  # noqa: S704 - escaped
        "data": _marked(sections.data_section(folder.document("data.json") or {}), "balance"),
        "learning_curve": _marked(
            sections.learning_curve(folder.document("learning_curve.json") or {}, num_rows=num_rows), "svg"
        ),
        "cross_validation": sections.cross_validation(result or {}),
        "recipe": sections.recipe_rows(flatten(values), origins),
        "environment": sections.environment_rows(flatten(environment)),
        "command": _command(environment),
        "replay": f"lamina train {shlex.quote(str(folder.recipe_file))}",
        "run": folder.path.name,
    }
    if matrix and labels:
        picture = heat_picture(_shares(matrix)) if len(labels) > 32 else ""
        content["confusion"] = sections.confusion(matrix, labels, split=split, picture=picture)
        content["per_class"] = sections.class_table(matrix, labels, split=split)
    for column, groups in (details.get("groups") or {}).items():
        content["groups"] = sections.group_table(groups, column=column, split=split)
    content["wrong"] = wrong_section(folder.path)
    try:
        content.update(network_sections(folder))
    except LaminaError as error:
        content["notices"].append(f"The network could not be looked into: {error.what}")
    return content


def _details(evaluation: Mapping[str, Any] | None, split: str) -> dict[str, Any]:
    found = (evaluation or {}).get(split) or {}
    return {**found, **found.get("details", {})}


def _latest_metrics(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of a run without a result: the last judgement and the last training line."""
    metrics: dict[str, Any] = {}
    for line in lines:
        split = {"train_epoch": "train"}.get(str(line.get("split")), str(line.get("split")))
        if line.get("split") != "train":
            metrics.update({f"{split}/{k}": v for k, v in line.items() if k not in ("step", "epoch", "split")})
    return metrics


def _notices(folder: RunFolder, result: Mapping[str, Any] | None, lines: Sequence[Mapping[str, Any]]) -> list[str]:
    notices = []
    if result is None:
        step = max((int(line.get("step", 0)) for line in lines), default=0)
        notices.append(
            f"This run is not finished: the last line is of step {step}. "
            f"`lamina train --resume {folder.path}` continues it; the figures below are the last that were written."
        )
    bad = [line for line in lines if any(isinstance(v, float) and not np.isfinite(v) for v in line.values())]
    if bad:
        notices.append(
            f"Values that are not finite were logged, {len(bad)} line(s), the first at step {bad[0].get('step')}: "
            "a lower optimizer.lr or training.clip_norm=1.0 usually mends that."
        )
    return notices


def _subtitle(values: Mapping[str, Any], result: Mapping[str, Any] | None, environment: Mapping[str, Any]) -> str:
    parts = [str(values.get("summary", "")), str(values.get("task", {}).get("name", "")).replace("-", " ")]
    if result is not None:
        parts.append(f"{result.get('epochs', 0):,} epochs, {result.get('steps', 0):,} steps")
        if result.get("seconds"):
            parts.append(f"{format_number(float(result['seconds']))} s of training")
    parts.append(f"seed {values.get('seed', 0)}")
    if environment.get("created"):
        parts.append(str(environment["created"])[:16].replace("T", " ") + " UTC")
    return " · ".join(part for part in parts if part)


def _command(environment: Mapping[str, Any]) -> str:
    command = environment.get("command") or environment.get("command_line") or ""
    return command if isinstance(command, str) else shlex.join(map(str, command))


def _marked(section: dict[str, Any] | None, key: str) -> dict[str, Any] | None:
    """The section with its chart as markup: charts escape what they are given."""
    return {**section, key: Markup(section[key])} if section is not None else None  # noqa: S704 - escaped in charts


def _shares(matrix: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    counts = np.asarray(matrix, dtype=np.float64)
    shares: NDArray[np.float64] = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
    return shares
