"""Recipes for small made-up problems that show what a network can and cannot do."""

from __future__ import annotations

from lamina.recipes.recipe import declare

declare(
    __name__,
    "xor-perceptron",
    "A perceptron on the exclusive or, which no straight line divides: it never gets beyond three corners of four.",
    source="Minsky, Papert (1969), Perceptrons; the rule: Rosenblatt (1958), doi:10.1037/h0042519",
    task={"name": "tabular-classification"},
    data={"path": "xor"},
    preprocess=({"name": "none"},),
    model={"kind": "perceptron"},
    training={"epochs": 20, "batch_size": 1, "monitor": "accuracy"},
)

declare(
    __name__,
    "xor-mlp",
    "One hidden layer solves the exclusive or.",
    source="Rumelhart, Hinton, Williams (1986), doi:10.1038/323533a0",
    extends="xor-perceptron",
    model={"kind": "mlp", "hidden_sizes": [8], "activation": "tanh", "initialiser": "xavier-uniform"},
    optimizer={"name": "adam", "lr": 2e-2},
    training={"epochs": 40, "batch_size": 16},
)

declare(
    __name__,
    "spirals-mlp",
    "Three arms that wind around each other, told apart by two hidden layers.",
    source="Lang, Witbrock (1988), Learning to Tell Two Spirals Apart",
    extends="xor-mlp",
    data={"path": "spirals"},
    model={"kind": "mlp", "hidden_sizes": [64, 64], "activation": "relu", "initialiser": "kaiming-uniform"},
    optimizer={"name": "adam", "lr": 1e-2},
    schedule={"name": "cosine"},
    training={"epochs": 100, "batch_size": 32},
)
