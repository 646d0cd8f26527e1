"""Recipes for tables of numbers and categories."""

from __future__ import annotations

from typing import Any, Final

from lamina.recipes.recipe import declare

_TABLE: Final = "a CSV or TSV with a row per sample and the target in one column (data.label=NAME where it is neither first nor last)"
_STEPS: Final[tuple[dict[str, Any], ...]] = ({"name": "impute"}, {"name": "one-hot"}, {"name": "standardise"})

declare(
    __name__,
    "tabular-mlp",
    "A small dense network that tells classes apart by the columns of a table.",
    source="Rumelhart, Hinton, Williams (1986), doi:10.1038/323533a0",
    needs=_TABLE + "; the target is a class",
    task={"name": "tabular-classification"},
    preprocess=_STEPS,
    model={"kind": "mlp", "hidden_sizes": [32, 32], "activation": "relu"},
    optimizer={"name": "adam", "lr": 5e-3},
    schedule={"name": "cosine"},
    training={"epochs": 60, "batch_size": 32},
)

declare(
    __name__,
    "tabular-regression-mlp",
    "A small dense network that predicts a number from the columns of a table.",
    source="Rumelhart, Hinton, Williams (1986), doi:10.1038/323533a0",
    extends="tabular-mlp",
    needs=_TABLE + "; the target is a number",
    task={"name": "tabular-regression"},
)

declare(
    __name__,
    "iris-mlp",
    "Three species of iris by four lengths.",
    source="Fisher (1936), doi:10.1111/j.1469-1809.1936.tb02137.x",
    extends="tabular-mlp",
    data={"path": "iris"},
    model={"kind": "mlp", "hidden_sizes": [16]},
    optimizer={"name": "adam", "lr": 1e-2},
    training={"epochs": 80, "batch_size": 16},
)

declare(
    __name__,
    "housing-mlp",
    "House prices of 506 districts of Boston by 13 measurements.",
    source="Harrison, Rubinfeld (1978), doi:10.1016/0095-0696(78)90006-2",
    extends="tabular-regression-mlp",
    needs="housing.csv of the UCI repository: 14 columns without header, the price last",
    data={"target": "number"},
    training={"epochs": 150, "batch_size": 32},
)

declare(
    __name__,
    "diabetes-mlp",
    "Diabetes within five years, yes or no, by eight measurements of 768 women.",
    source="Smith et al. (1988), Using the ADAP Learning Algorithm to Forecast the Onset of Diabetes Mellitus",
    extends="tabular-mlp",
    needs="pima-indians-diabetes.csv of the UCI repository: 9 columns without header, the class last "
    "(for the other diabetes data, which come along: lamina train --data diabetes)",
    data={"target": "class"},
    model={"kind": "mlp", "hidden_sizes": [16], "dropout": 0.2},
    optimizer={"name": "adamw", "lr": 5e-3, "weight_decay": 1e-2},
    training={"epochs": 40, "batch_size": 32},
)
