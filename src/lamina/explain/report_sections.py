"""The report's sections as plain values for the template, made from the documents of a run folder. Imports no torch.

Each function takes parsed documents and gives a dict that report.html.j2 knows how to show, or None where the run has
nothing to say: a section appears when its data is there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from lamina.core import registry
from lamina.explain.charts import Series, bar_chart, format_number, line_chart

__all__ = [
    "all_metrics",
    "class_table",
    "comparison",
    "confusion",
    "cross_validation",
    "curves",
    "data_section",
    "environment_rows",
    "group_table",
    "headline",
    "judged_split",
    "learning_curve",
    "recipe_rows",
    "show_metric",
    "wilson_interval",
]

# Shown as a share of 1 in the documents, as per cent on the page.
_SHARES: Final = ("accuracy", "precision", "recall", "f1", "top")
_PREFERRED: Final = ("accuracy", "f1_macro", "cross_entropy", "mae", "mse", "r2")
_MOST_CLASSES_IN_TABLE: Final = 32
_MOST_PAIRS: Final = 12
_MOST_BARS: Final = 40
_MOST_CHARTS: Final = 8
_PRETTY: Final = {
    "mae": "MAE",
    "mse": "MSE",
    "rmse": "RMSE",
    "top5": "top-5",
    "r2": "R²",
    "lr": "learning rate",
    "f1": "F1",
    "roc": "ROC",
    "auc": "AUC",
}
BASELINE_NAMES: Final = {"knn": "k-nearest neighbours", "linear": "Linear model", "mean": "Always the mean"}

Row = dict[str, Any]


def pretty(name: str) -> str:
    """A metric's or column's name for people: `f1_macro` -> `F1 macro`."""
    words = [_PRETTY.get(word, word) for word in name.split("_")]
    text = " ".join(words)
    return text[:1].upper() + text[1:]


def is_share(name: str) -> bool:
    """Whether a metric is shown in per cent."""
    return name.startswith(_SHARES)


def percent(share: float, digits: int) -> str:
    """A share of 1 in per cent; the space does not break."""
    return f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%"


def show_metric(name: str, value: Any) -> str:
    r"""A metric's value for people: shares as per cent, the rest with four digits.

    >>> show_metric("accuracy", 0.97776), show_metric("mae", 2.34567)
    ('97.78\xa0%', '2.346')
    """
    if not isinstance(value, int | float):
        return "" if value is None else str(value)
    if is_share(name) and math.isfinite(value):
        return percent(value, 2)
    return format_number(float(value))


def wilson_interval(share: float, num_rows: int, *, z: float = 1.959964) -> tuple[float, float]:
    """The 95 % interval of a share that was seen in `num_rows` independent rows.

    Source: Wilson (1927), "Probable Inference, the Law of Succession, and Statistical Inference".

    >>> low, high = wilson_interval(0.95, 100)
    >>> round(low, 4), round(high, 4)
    (0.8882, 0.9785)
    """
    centre = share + z * z / (2 * num_rows)
    spread = z * math.sqrt(share * (1 - share) / num_rows + z * z / (4 * num_rows * num_rows))
    scale = 1 + z * z / num_rows
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def _row(*cells: Any, css: str = "", wide: int | None = None) -> Row:
    return {"cells": ["" if cell is None else cell for cell in cells], "css": css, "wide": wide}


# --- result ---------------------------------------------------------------------------------------------------------


def judged_split(metrics: Mapping[str, Any]) -> str:
    """The split that the result is about: test where there is one, else valid, else what there is."""
    splits = list(dict.fromkeys(key.partition("/")[0] for key in metrics if "/" in key))
    return next((split for split in ("test", "valid") if split in splits), splits[0] if splits else "")


def of_split(metrics: Mapping[str, Any], split: str) -> dict[str, float]:
    """`split/name` keys -> name -> value of one split."""
    found = {key.partition("/")[2]: value for key, value in metrics.items() if key.partition("/")[0] == split}
    return {name: value for name, value in found.items() if isinstance(value, int | float)}


def headline(metrics: Mapping[str, Any], *, num_rows: int | None) -> str:
    """The result in one sentence."""
    split = judged_split(metrics)
    values = of_split(metrics, split)
    seen = {"test": "that it had never seen", "valid": "that it did not learn from", "train": "that it learned from"}
    rows = f"On {num_rows:,} {split} rows {seen.get(split, '')}" if num_rows else f"On the {split} split"
    if "accuracy" in values:
        text = f"{rows}, the network is right for {percent(values['accuracy'], 2)}"
        if num_rows:
            low, high = wilson_interval(values["accuracy"], num_rows)
            text += f" (95\N{NO-BREAK SPACE}% interval {percent(low, 1)} to {percent(high, 1)})"
        return text + "."
    if "mae" in values:
        tail = f" and explains {percent(values['r2'], 1)} of the variance" if "r2" in values else ""
        return f"{rows}, the prediction is off by {format_number(values['mae'])} on average{tail}."
    return ""


def comparison(
    title: str,
    metrics: Mapping[str, Any],
    *,
    baselines: Mapping[str, Any] | None,
    matrix: Sequence[Sequence[int]] | None,
    num_rows: int | None,
) -> dict[str, Any] | None:
    """The network's score beside those of simple models on the same rows.

    Args:
        title: Of the network.
        metrics: `split/name` -> value.
        baselines: The content of baselines.json.
        matrix: Confusion matrix of the judged split, true classes in rows; gives the score of guessing.
        num_rows: Rows of the judged split.
    """
    split = judged_split(metrics)
    own = of_split(metrics, split)
    if not own:
        return None
    names = [name for name in _PREFERRED if name in own] or list(own)[:4]
    own_row = _row(title, *(show_metric(name, own[name]) for name in names), css="own")
    rows = [own_row]
    notes = []
    comparable = baselines is not None and baselines.get("split") == split
    for found in (baselines or {}).get("baselines", ()) if comparable else ():
        values = found["metrics"]
        rows.append(_row(found["title"], *(show_metric(name, values.get(name)) for name in names)))
    if matrix is not None and "accuracy" in own:
        supports = [sum(row) for row in matrix]
        share = max(supports) / max(sum(supports), 1)
        guess = {"accuracy": share}
        rows.append(_row("Always the most frequent class", *(show_metric(n, guess.get(n)) for n in names)))
    if comparable:
        better = _better_baseline(own, baselines or {}, names[0], num_rows=num_rows)
        if better:
            notes.append(better)
    else:
        notes.append("Baselines were not fitted for this run; `lamina report RUN --baselines` fits and adds them.")
    rows_text = f", {num_rows:,} rows" if num_rows else ""
    return {
        "caption": f"Judged on the {split} split{rows_text}",
        "head": ["Model", *(pretty(name) for name in names)],
        "rows": rows,
        "numeric": tuple(range(1, len(names) + 1)),
        "notes": notes,
    }


def _better_baseline(own: Mapping[str, float], baselines: Mapping[str, Any], name: str, *, num_rows: int | None) -> str:
    """Says so when a simple model is better, and whether so many rows can tell the two apart."""
    smaller = registry_better(name) == "min"
    scores = {
        found["title"]: found["metrics"][name]
        for found in baselines.get("baselines", ())
        if isinstance(found["metrics"].get(name), int | float)
    }
    better = {title: value for title, value in scores.items() if (value < own[name] if smaller else value > own[name])}
    if not better:
        return ""
    title = min(better, key=lambda t: better[t]) if smaller else max(better, key=lambda t: better[t])
    value = better[title]
    text = f"{title} does better than the network here: {show_metric(name, value)} against {show_metric(name, own[name])}. "
    if (
        name == "accuracy"
        and num_rows
        and wilson_interval(value, num_rows)[0] <= wilson_interval(own[name], num_rows)[1]
    ):
        return text + f"On {num_rows:,} rows such a difference can be chance: the 95 % intervals overlap."
    return text + "Use the simpler model, or give the network other settings or more data."


def registry_better(name: str) -> str:
    """`min` or `max`: which way a metric gets better."""
    if name in registry.names("metric"):
        return str(registry.describe("metric", name).capabilities.get("better", "max"))
    return "min" if any(part in name for part in ("loss", "error", "entropy", "mse", "mae")) else "max"


def all_metrics(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """Every reported metric, one column per split."""
    splits = list(dict.fromkeys(key.partition("/")[0] for key in metrics if "/" in key))
    splits.sort(key=lambda split: ("train", "valid", "test").index(split) if split in ("train", "valid", "test") else 9)
    names = list(dict.fromkeys(key.partition("/")[2] for key in metrics if "/" in key))
    if not names:
        return None
    rows = [
        _row(pretty(name), *(show_metric(name, metrics.get(f"{split}/{name}")) for split in splits)) for name in names
    ]
    return {
        "caption": "At the best checkpoint",
        "head": ["Metric", *splits],
        "rows": rows,
        "numeric": tuple(range(1, len(splits) + 1)),
    }


# --- curves ---------------------------------------------------------------------------------------------------------

# Split in metrics.jsonl -> its name and look in a chart.
_SPLITS: Final = {
    "train_epoch": ("training", 0),
    "valid": ("validation", 1),
    "test": ("test", 2),
    "train": ("training, between log lines", 5),
}


def curves(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """One chart per quantity that is watched: every part of the loss, the main metrics, the learning rate."""
    by_name: dict[str, dict[str, list[tuple[float, float]]]] = {}
    parts = {name for line in lines if line.get("split") in ("train", "train_epoch") for name in line}
    for line in lines:
        split = str(line.get("split", ""))
        for name, value in line.items():
            wanted = name in parts or name in _PREFERRED
            if name in ("step", "epoch", "split") or not wanted or not isinstance(value, int | float):
                continue
            by_name.setdefault(name, {}).setdefault(split, []).append((float(line.get("step", 0)), float(value)))
    charts = []
    for name in sorted(by_name, key=_curve_order):
        splits = by_name[name]
        if name == "loss" and any(splits == found for other, found in by_name.items() if other != name):
            continue  # the loss is one metric alone, which has a chart of its own
        # The fine-grained training line is shown where there are too few epochs to see anything.
        if len(splits.get("train_epoch", ())) > 3 and name != "lr":
            splits = {split: points for split, points in splits.items() if split != "train"}
        series = [
            Series(
                "" if name == "lr" else _SPLITS.get(split, (split, 3))[0],
                [x for x, _ in points],
                [y for _, y in points],
                style=0 if name == "lr" else _SPLITS.get(split, (split, 3))[1],
            )
            for split, points in splits.items()
        ]
        svg = line_chart(series, title=pretty(name), x_label="step", y_label=pretty(name), may_log=name != "lr")
        if svg and max(len(line.x) for line in series) > 1:
            charts.append({"title": pretty(name), "svg": svg, "note": _curve_note(name, splits)})
    return charts[:_MOST_CHARTS]


def _curve_order(name: str) -> tuple[int, str]:
    order = ("loss", "cross_entropy", "mse", "mae", "accuracy", "f1_macro", "r2", "lr")
    return (order.index(name) if name in order else 7, name)


def _curve_note(name: str, splits: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    faults = [x for points in splits.values() for x, y in points if not math.isfinite(y)]
    if faults:
        return f"✕ marks values that are not finite, the first at step {format_number(min(faults))}."
    valid = [(y, x) for x, y in splits.get("valid", ())]
    if not valid or name == "lr":
        return ""
    best, step = min(valid) if registry_better(name) == "min" else max(valid, key=lambda pair: (pair[0], -pair[1]))
    return f"Best validation value {show_metric(name, best)} at step {format_number(step)}."


# --- confusion, classes, groups -------------------------------------------------------------------------------------


def confusion(matrix: Sequence[Sequence[int]], labels: Sequence[str], *, split: str, picture: str) -> dict[str, Any]:
    """The confusion matrix as a coloured table (a picture past 32 classes) and the pairs that are confused most.

    Args:
        matrix: Counts, true classes in rows, predicted ones in columns.
        picture: Data URI of the matrix as a picture; used only past 32 classes.
    """
    supports = [sum(row) for row in matrix]
    caption = f"Rows of the {split} split by true class (down) and predicted class (across)"
    rows = []
    if len(labels) <= _MOST_CLASSES_IN_TABLE:
        for index, (label, row) in enumerate(zip(labels, matrix, strict=True)):
            cells = [
                {"count": count, "level": _level(count, supports[index]), "right": column == index}
                for column, count in enumerate(row)
            ]
            rows.append({"label": label, "cells": cells})
    pairs = sorted(
        (
            (count, index, column)
            for index, row in enumerate(matrix)
            for column, count in enumerate(row)
            if index != column and count
        ),
        key=lambda pair: (-pair[0], pair[1], pair[2]),
    )[:_MOST_PAIRS]
    wrong = sum(supports) - sum(row[index] for index, row in enumerate(matrix))
    return {
        "caption": caption,
        "labels": labels,
        "rows": rows,
        "picture": picture,
        "alt": f"Confusion matrix of {len(labels)} classes; {wrong} of {sum(supports)} rows are off the diagonal",
        "pairs": [
            _row(labels[index], labels[column], count, percent(count / max(supports[index], 1), 1))
            for count, index, column in pairs
        ],
    }


def _level(count: int, support: int) -> int:
    """0 for nothing, then 1 to 5 by the share of the true class; small shares are told apart, because they are errors."""
    share = count / support if support else 0.0
    return 0 if count == 0 else 1 + sum(share > bound for bound in (0.02, 0.1, 0.3, 0.7))


def class_table(matrix: Sequence[Sequence[int]], labels: Sequence[str], *, split: str) -> dict[str, Any]:
    """Precision, recall and F1 of each class, from the confusion matrix."""
    rows = []
    for index, label in enumerate(labels):
        hits = matrix[index][index]
        support = sum(matrix[index])
        called = sum(row[index] for row in matrix)
        precision = percent(hits / called, 1) if called else "never predicted"
        recall = percent(hits / support, 1) if support else "no rows"
        score = percent(2 * hits / (called + support), 1) if called + support else ""
        rows.append(_row(label, support, precision, recall, score))
    return {"caption": f"On the {split} split", "rows": rows}


def group_table(groups: Mapping[str, Mapping[str, Any]], *, column: str, split: str) -> dict[str, Any] | None:
    """Each value of a chosen column judged by itself: is one group served worse?"""
    if not groups:
        return None
    names = [name for name in _PREFERRED if any(name in values for values in groups.values())]
    counts = any("num_samples" in values for values in groups.values())
    rows = [
        _row(
            group,
            *([values.get("num_samples")] if counts else []),
            *(show_metric(name, values.get(name)) for name in names),
        )
        for group, values in groups.items()
    ]
    return {
        "caption": f"The {split} split by the values of {column}",
        "head": ["Group", *(["Rows"] if counts else []), *(pretty(name) for name in names)],
        "rows": rows,
        "numeric": tuple(range(1, 1 + int(counts) + len(names))),
    }


def cross_validation(result: Mapping[str, Any]) -> dict[str, Any] | None:
    """Mean and spread over the folds, where the run was cross-validated.

    Args:
        result: The content of result.json.
    """
    found = result.get("cross_validation") or {}
    metrics: Mapping[str, Any] = found.get("metrics") or {}
    names = [name for name in _PREFERRED if name in metrics]
    if not names:
        return None
    folds, first = int(found["folds"]), names[0]
    mean, std = (show_metric(first, metrics[first][key]) for key in ("mean", "std"))
    return {
        "note": f"Each of {found['num_rows']:,} rows was held out once, in {folds} folds, while {found['what']} was trained on "
        f"the others: {pretty(first).lower()} {mean} ± {std} over the folds. It was done because {found['reason']}. The body "
        "stands still meanwhile, so that a fine-tuning after it is not judged by this.",
        "caption": "Judged by the last weights: nothing was chosen on the fold that judges",
        "head": ["Metric", "Mean", "Spread", *(f"Fold {number + 1}" for number in range(folds))],
        "rows": [
            _row(
                pretty(name),
                *(show_metric(name, value) for value in (metrics[name]["mean"], metrics[name]["std"])),
                *(show_metric(name, value) for value in metrics[name]["folds"]),
            )
            for name in names
        ],
        "numeric": tuple(range(1, folds + 3)),
    }


def learning_curve(document: Mapping[str, Any], *, num_rows: int | None = None) -> dict[str, Any] | None:
    """The score over the amount of training data.

    Args:
        document: The content of learning_curve.json.
        num_rows: Rows of the judged split, which say how much of a difference can be chance.
    """
    points = document.get("points", ())
    name = str(document.get("metric", ""))
    if len(points) < 2:
        return None
    series = Series(pretty(name), [p["rows"] for p in points], [p["value"] for p in points])
    svg = line_chart(
        [series], title=f"{pretty(name)} over training rows", x_label="training rows", y_label=pretty(name)
    )
    return {
        "svg": svg,
        "note": _gain(points[-2], points[-1], name, num_rows),
        "caption": f"Each row is a training of its own on a part of the data, judged on the same {document['split']} split",
        "head": ["Training rows", pretty(name)],
        "rows": [_row(f"{p['rows']:,}", show_metric(name, p["value"])) for p in points],
        "numeric": (1,),
    }


def _gain(before: Mapping[str, Any], after: Mapping[str, Any], name: str, num_rows: int | None) -> str:
    """What the last of the data brought, in a sentence."""
    gain = (after["value"] - before["value"]) * (-1 if registry_better(name) == "min" else 1)
    step = f"From {before['rows']:,} to {after['rows']:,} rows the score"
    if gain <= 0:
        return f"{step} gained nothing more."
    shown = f"{100 * gain:.2f} points" if is_share(name) else format_number(gain)
    if name == "accuracy" and num_rows:
        reach = wilson_interval(before["value"], num_rows)[1]
        if wilson_interval(after["value"], num_rows)[0] <= reach:
            return f"{step} gained {shown}, which on {num_rows:,} judged rows can be chance."
    return f"{step} gained {shown}: more data should help."


# --- data, recipe, environment --------------------------------------------------------------------------------------


def data_section(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """What was read: source, splits, classes and their balance, leaks and faults. `document` is as of `lamina data`."""
    if not document:
        return None
    facts = ("source", "reader", "kind", "fingerprint")
    rows = [_row(pretty(key), document[key], wide=1) for key in facts if document.get(key)]
    for name, split in dict(document.get("splits", {})).items():
        count = split.get("num_rows", split.get("rows")) if isinstance(split, Mapping) else split
        rows.append(_row(f"Rows in {name}", f"{count:,}" if isinstance(count, int) else count))
    classes = document.get("classes") or ()
    if classes:
        names = [str(name) for name in classes]
        rows.append(_row("Classes", f"{len(names)}: {', '.join(names[:40])}{' …' if len(names) > 40 else ''}", wide=1))
    balance, caption = _balance(document)
    return {
        "rows": rows,
        "balance": balance,
        "balance_caption": caption,
        "warnings": [str(warning) for warning in document.get("warnings", ())][:20],
        "leaks": [_sentence(leak) for leak in document.get("leaks", ())][:20],
        "faults": [_sentence(fault) for fault in document.get("faults", ())][:20],
        "notes": [str(note) for note in document.get("notes", ())][:20],
    }


def _balance(document: Mapping[str, Any]) -> tuple[str, str]:
    splits = document.get("splits", {})
    for name in ("train", "all", *splits):
        split = splits.get(name)
        counts = split.get("class_counts", split.get("classes")) if isinstance(split, Mapping) else None
        if isinstance(counts, Mapping) and counts:
            pairs = [(str(label), float(count)) for label, count in counts.items()]
            if len(pairs) > _MOST_BARS:
                pairs = sorted(pairs, key=lambda pair: -pair[1])
                pairs = [*pairs[: _MOST_BARS // 2], *pairs[-_MOST_BARS // 2 :]]
            return bar_chart(pairs, title=f"Rows per class in {name}"), f"Rows per class in {name}"
    return "", ""


def _sentence(item: Any) -> str:
    if not isinstance(item, Mapping):
        return str(item)
    if "message" in item:
        place = [str(item[key]) for key in ("file", "row", "column") if item.get(key) is not None]
        return f"{', '.join(place)}: {item['message']}" if place else str(item["message"])
    return ", ".join(f"{key} {value}" for key, value in item.items())


def recipe_rows(flat: Mapping[str, Any], origins: Mapping[str, str]) -> list[Row]:
    """Dotted keys with value and origin; values that somebody chose are marked."""
    return [
        _row(key, _plain(value), origins.get(key, ""), css="" if origins.get(key) == "default" else "set", wide=1)
        for key, value in flat.items()
    ]


def environment_rows(flat: Mapping[str, Any]) -> list[Row]:
    """Versions, device, threads, seed and choices."""
    return [_row(key, _plain(value), wide=1) for key, value in flat.items()]


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
