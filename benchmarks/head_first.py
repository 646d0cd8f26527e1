"""Does fine-tuning before the head is trained destroy the body? A small experiment on embedded data; for docs/transfer.md.

Run: python benchmarks/head_first.py [--seeds N] [--output FILE]

A small convolutional network learns the digits 0 to 4, then 5 to 9 from ten pictures of each, in three ways: a new head
on the frozen body; the same and then everything at the rate given; everything at once at that rate, the head being new.
The last two take the same number of steps on the body. Told are the accuracy on all other pictures of 5 to 9, and what
is left of the old knowledge: the accuracy on held-out pictures of 0 to 4 with the old head put back, and how far their
features moved (relative L2 distance).
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

import lamina as lm
from lamina.core.files import write_atomic
from lamina.data.columns import Columns, Data
from lamina.data.preprocessing import Preprocessing
from lamina.data.splits import stratified_order

RATES: Final = (1e-3, 3e-3, 1e-2)
EACH: Final = 10  # pictures of each new class
_HEAD: Final = {"head": {"trainable": ["head"], "epochs": 60, "optimizer": {"lr": 1e-2}}}
_EPOCHS: Final = 20  # in which the body learns


def halves(seed: int) -> tuple[Data, Data]:
    """The digits 0 to 4 with a held-out third, and 5 to 9 with few to train on; the rest is the test split."""
    data = lm.load_data("digits")
    columns = next(iter(data.splits.values()))
    made = []
    for first, num_train in ((0, 600), (5, 5 * EACH)):
        rows = ((columns["label"] >= first) & (columns["label"] < first + 5)).nonzero().flatten()
        part = columns.take(rows)
        part = Columns({**{name: part[name] for name in part if name != "label"}, "label": part["label"] - first})
        order = stratified_order(part["label"], seed)
        splits = {"train": part.take(order[:num_train]), "test": part.take(order[num_train:])}
        label = data.spec.columns["label"]
        names = label.classes[first : first + 5] if label.classes else ()
        spec = data.spec.model_copy(
            update={"columns": {**data.spec.columns, "label": label.model_copy(update={"classes": names})}}
        )
        made.append(Data(splits=dict(data.splits), spec=spec, source="digits").with_splits(splits))
    return made[0], made[1]


def network(seed: int) -> nn.Module:
    """Two blocks of convolution, batch norm, ReLU and pooling, a dense layer of 32, five classes."""
    blocks = ({"channels": 16}, {"channels": 32})
    return lm.create_model("cnn", image_size=(8, 8), num_classes=5, blocks=blocks, dense=({"size": 32},), seed=seed)


def train(model: nn.Module, data: Data, *, seed: int, rate: float, stages: dict[str, Any] | None, epochs: int) -> float:
    """Train in place; the accuracy on the test split after the last step, for nothing is chosen."""
    run = lm.fit(
        model,
        data,
        task="image-classification",
        epochs=epochs,
        seed=seed,
        data={"split": "given"},
        optimizer={"name": "adam", "lr": rate},
        training={"batch_size": 16, "cross_validate": "never", "compile": "never"},
        **({"stages": stages} if stages else {}),
    )
    return run.metrics["test/accuracy"]


@torch.no_grad()
def remembered(model: nn.Module, old: nn.Module, data: Data) -> tuple[float, float]:
    """Accuracy on the old test pictures with the old head, and how far their features moved."""
    columns = data.splits["test"]
    images = Preprocessing.fit([], columns, data.spec)(columns.batch(torch.arange(columns.num_rows)))["image"]
    before, after = features(old, images), features(model, images)
    accuracy = (old.head(after).argmax(1) == columns["label"]).float().mean()  # type: ignore[operator]
    return float(accuracy), float((after - before).norm() / before.norm())


def features(model: nn.Module, images: Tensor) -> Tensor:
    """In evaluation mode."""
    return model.eval().features(images)  # type: ignore[operator, no-any-return]


def one_seed(seed: int) -> list[dict[str, Any]]:
    """All ways for one seed."""
    old_data, new_data = halves(seed)
    old = network(seed)
    base = train(old, old_data, seed=seed, rate=3e-3, stages=None, epochs=12)
    rows = []
    everything: dict[str, Any] = {"trainable": ["body", "head"], "epochs": _EPOCHS}
    for rate in RATES:
        ways: dict[str, dict[str, Any]] = {
            "head alone": _HEAD,
            "head first": {**_HEAD, "all": everything},
            "all at once": {"all": {**everything, "allow_untrained_head": True}},
        }
        for way, stages in ways.items():
            if way == "head alone" and rate != RATES[0]:
                continue
            model = copy.deepcopy(old)
            new_head = network(seed + 1000).head
            model.head = new_head
            accuracy = train(model, new_data, seed=seed, rate=rate, stages=stages, epochs=_EPOCHS)
            kept, moved = remembered(model, old, old_data)
            rows.append(
                {"seed": seed, "way": way, "rate": rate, "new": accuracy, "old": kept, "moved": moved, "before": base}
            )
    return rows


def main() -> None:
    """Print the means and write all rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    rows = [row for seed in range(arguments.seeds) for row in one_seed(seed)]
    table = []
    for way, rate in dict.fromkeys((row["way"], row["rate"]) for row in rows):
        chosen = [row for row in rows if (row["way"], row["rate"]) == (way, rate)]
        line: dict[str, Any] = {"way": way, "rate": rate}
        for key in ("new", "old", "moved", "before"):
            values = [row[key] for row in chosen]
            line[key] = {"mean": statistics.fmean(values), "std": statistics.stdev(values) if len(values) > 1 else None}
        table.append(line)
        shown = "  ".join(
            f"{key} {line[key]['mean']:.3f} ± {line[key]['std'] or 0:.3f}" for key in ("new", "old", "moved")
        )
        print(f"{way:<12} rate {rate:<6g} {shown}", flush=True)
    if arguments.output:
        document = {"schema": 1, "seeds": arguments.seeds, "summary": table, "rows": rows}
        write_atomic(arguments.output, json.dumps(document, indent=1).encode() + b"\n")


if __name__ == "__main__":
    main()
