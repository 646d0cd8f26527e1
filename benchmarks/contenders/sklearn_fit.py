"""scikit-learn's MLPClassifier, one epoch per round."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import sklearn
from protocol import serve
from sklearn.neural_network import MLPClassifier
from work import make_data


def setup(work: dict[str, Any]) -> Any:
    images, labels = make_data(work)
    x = images.reshape(len(images), 784).astype(np.float32) / 255
    model = MLPClassifier(
        tuple(work["widths"][1:-1]),
        solver="adam" if work["optimizer"] == "adam" else "sgd",
        learning_rate_init=work["lr"],
        momentum=0.9 if work["optimizer"] == "momentum" else 0.0,
        nesterovs_momentum=False,
        alpha=0.0,
        batch_size=work["batch_size"],
        max_iter=1,
        warm_start=True,
    )
    warnings.simplefilter("ignore")  # it says each time that one epoch is not convergence

    def run() -> int:
        model.fit(x, labels)
        return len(x)

    run()
    return run, f"scikit-learn {sklearn.__version__}"


if __name__ == "__main__":
    serve(setup)
