"""Recipes for signals and volumes: small convolutional networks over one positional dimension, and over three."""

from __future__ import annotations

from lamina.recipes.recipe import declare

declare(
    __name__,
    "signal-cnn1d",
    "A small network over time for signals: made-up waves by default, series of your own with --data.",
    source="Wang, Yan, Oates (2017), arXiv:1611.06455, with fewer channels and pooling",
    needs="series of one length with a class each: NPZ arrays (N, steps) or (N, channels, steps), or a CSV with one series per row",
    task={"name": "time-series-classification"},
    data={"path": "signals", "reader": "signal"},
    preprocess=({"name": "standardise", "per": "channel"},),
    model={"kind": "cnn1d"},
    optimizer={"name": "adam", "lr": 3e-3},
    schedule={"name": "one-cycle"},
    training={"epochs": 15, "batch_size": 32},
)

declare(
    __name__,
    "volume-cnn3d",
    "A small network for volumes and clips: made-up solids by default, volumes of your own with --data.",
    source="Tran, Bourdev, Fergus, Torresani, Paluri (2015), arXiv:1412.0767: kernels of 3x3x3 throughout",
    needs="volumes of one size with a class each: NPZ arrays (N, depth, height, width) with or without channels, or folders of frames class/clip/frame001.png",
    task={"name": "volume-classification"},
    data={"path": "volumes", "reader": "volume"},
    preprocess=({"name": "scale"}, {"name": "standardise", "per": "channel"}),
    model={"kind": "cnn3d"},
    optimizer={"name": "adam", "lr": 3e-3},
    schedule={"name": "one-cycle"},
    training={"epochs": 15, "batch_size": 32},
)
