"""Which score tells outsiders best: largest probability, the same after temperature scaling, largest logit, or energy.

    python benchmarks/outsiders.py [--seeds 3] [--data DIR] [--output FILE]

A small network learns eight digits and sees the other two, other pictures and noise as outsiders: scikit-learn's digits
(always), and MNIST with notMNIST where they lie in DIR. Thresholds are chosen on one half of held-out rows of known classes so
that 5 % of them are refused, everything is counted on the other half: the area under the ROC curve, the share of outsiders
that pass, the share of insiders that are refused. Means over the seeds.

Source: Hendrycks, Gimpel (2017), arXiv:1610.02136; Guo et al. (2017), arXiv:1706.04599; Hendrycks et al. (2022),
arXiv:1911.11132 (largest logit); Liu et al. (2020), arXiv:2010.03759 (energy).
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import lamina as lm
from lamina.data.columns import Columns
from lamina.tasks.rejection import choose_insider, fit_temperature, judge_rejection

HERE = Path(__file__).resolve().parent
PAIRS = ((3, 8), (0, 1), (4, 9), (2, 7), (5, 6))
SHARE = 0.05


def scores(logits: Tensor, temperature: float) -> dict[str, Tensor]:
    """Every score of every row; larger is more like an insider."""
    return {
        "largest probability": logits.softmax(1).amax(1),
        "after temperature scaling": (logits / temperature).softmax(1).amax(1),
        "largest logit": logits.amax(1),
        "energy": logits.logsumexp(1),
    }


def one(
    images: Tensor, labels: Tensor, others: dict[str, Tensor], *, pair: tuple[int, int], kind: str, seed: int
) -> dict[tuple[str, str], dict[str, Any]]:
    """(outsiders, score) -> what judging came to, for one network."""
    known = (labels != pair[0]) & (labels != pair[1])
    table = torch.full((10,), -1)
    table[[digit for digit in range(10) if digit not in pair]] = torch.arange(8)
    inside, targets = images[known], table[labels[known]]
    order = torch.randperm(len(inside), generator=torch.Generator().manual_seed(seed))
    train, choose, judge = order.tensor_split([int(0.7 * len(order)), int(0.85 * len(order))])
    side = images.shape[2]
    if kind == "cnn":
        model = lm.create_model(
            "cnn", in_channels=1, image_size=(side, side), num_classes=8, blocks=[{"channels": 16}, {"channels": 32}]
        )
    else:
        model = lm.create_model("mlp", in_features=side * side, hidden_sizes=(128,), num_classes=8)
    run = lm.fit(
        model, (inside[train].numpy(), targets[train].numpy()), task="image-classification", epochs=6, seed=seed
    )

    def logits(rows: Tensor) -> Tensor:
        return run.bundle.pipeline.outputs(Columns({"image": rows}))["logits"]

    temperature = fit_temperature(logits(inside[choose]).log_softmax(1), targets[choose])
    chosen, judged = (scores(logits(inside[rows]), temperature) for rows in (choose, judge))
    found = {}
    for name, rows in {"the two digits": images[~known], **others}.items():
        for score, values in scores(logits(rows), temperature).items():
            threshold = choose_insider(chosen[score], share=SHARE)
            assert threshold is not None
            found[name, score] = judge_rejection(judged[score], values, threshold=threshold)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "outsiders.json")
    options = parser.parse_args()
    digits = lm.load_data("digits").splits["all"]
    noise = torch.Generator().manual_seed(0)
    work = [
        ("digits", digits["image"], digits["label"], {"noise": torch.randint(0, 17, (500, 1, 8, 8), generator=noise)})
    ]
    if (options.data / "mnist").is_dir():
        mnist = lm.load_data(options.data / "mnist").splits["train"]
        letters = next(iter(lm.load_data(options.data / "notmnist").splits.values()))["image"]
        rows = torch.randperm(mnist.num_rows, generator=noise)[:3000]
        others = {"letters": letters[:1000], "noise": torch.randint(0, 256, (500, 1, 28, 28), generator=noise)}
        work.append(("mnist", mnist["image"][rows], mnist["label"][rows], others))
    table: list[dict[str, Any]] = []
    for data, images, labels, others in work:
        for kind in ("cnn", "mlp"):
            seen = defaultdict(list)
            plain = {name: rows.to(torch.uint8) for name, rows in others.items()}
            for seed in range(options.seeds):
                pair = PAIRS[seed % len(PAIRS)]
                for key, result in one(images, labels, plain, pair=pair, kind=kind, seed=seed).items():
                    seen[key].append(result)
            for (outsiders, score), results in seen.items():
                names = ("roc_auc", "share_outsiders_passed", "share_insiders_refused")
                means = {name: round(statistics.mean(one[name] for one in results), 3) for name in names}
                table.append({"data": data, "model": kind, "outsiders": outsiders, "score": score, **means})
                print(*table[-1].values(), flush=True)
    options.output.write_text(json.dumps({"seeds": options.seeds, "share": SHARE, "rows": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
