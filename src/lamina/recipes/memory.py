"""Recipes that show what a recurrent network remembers: the adding problem."""

from __future__ import annotations

from lamina.recipes.recipe import declare

declare(
    __name__,
    "adding-lstm",
    "The sum of two marked numbers among 200: an LSTM keeps the first until the second comes.",
    source="Hochreiter, Schmidhuber (1997), doi:10.1162/neco.1997.9.8.1735, experiment 4; as in Le, Jaitly, Hinton (2015), arXiv:1504.00941",
    task={"name": "time-series-regression"},
    data={"path": "adding", "options": {"length": 200, "num_rows": 10000}},
    preprocess=({"name": "none"},),
    # The gates begin with keeping for up to 200 steps. With the usual bias of 1 the forget gate keeps 0.73 of the cell at each
    # step, of which nothing is left after 200, and for thousands of steps nothing is learned.
    model={"kind": "lstm", "hidden_size": 64, "memory_length": 200},
    optimizer={"name": "adam", "lr": 1e-2},
    schedule={"name": "cosine"},
    training={"epochs": 10, "batch_size": 50, "clip_norm": 1.0},
)

declare(
    __name__,
    "adding-rnn",
    "The same with a simple recurrent network, whose error vanishes on the way back: it answers with the mean.",
    source="Bengio, Simard, Frasconi (1994), doi:10.1109/72.279181; Le, Jaitly, Hinton (2015), arXiv:1504.00941",
    extends="adding-lstm",
    model={"kind": "rnn", "hidden_size": 64},
)
