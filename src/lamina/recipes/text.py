"""Recipes for texts of one class each: film reviews, a sentence or a page long, by convolutions or a recurrent network over words.

All begin with word vectors drawn at random: nothing is read but the user's own files.
"""

from __future__ import annotations

from typing import Any, Final

from lamina.recipes.recipe import declare

_NEEDS: Final = "texts with a class each: a TSV, CSV or JSONL file with a column of texts and one of labels"
_SENTENCES: Final[tuple[dict[str, Any], ...]] = (
    {"name": "tokenize", "kind": "word", "lowercase": True, "vocab_size": 20_000},
)
_REVIEWS: Final[tuple[dict[str, Any], ...]] = (
    {
        "name": "tokenize",
        "kind": "word",
        "lowercase": True,
        "remove_markup": True,
        "vocab_size": 20_000,
        # Of a long review the end says what its writer thinks.
        "max_length": 300,
        "truncate": "begin",
    },
)
_KIM: Final = "Kim (2014), arXiv:1408.5882, with vectors that begin at random"
_LSTM: Final = "Hochreiter, Schmidhuber (1997), doi:10.1162/neco.1997.9.8.1735; Tai, Socher, Manning (2015), arXiv:1503.00075, table 2"

declare(
    __name__,
    "sst2-cnn",
    "Good or bad, a sentence of a film review: convolutions over words.",
    source=_KIM,
    needs=_NEEDS,
    task={"name": "text-classification"},
    preprocess=_SENTENCES,
    model={
        "kind": "textcnn",
        "embedding_size": 200,
        "embedding_std": 0.15,
        "word_dropout": 0.2,
        "embedding_dropout": 0.3,
    },
    optimizer={"name": "adam", "lr": 1e-3},
    schedule={"name": "polynomial", "warmup_fraction": 0.1},
    training={"epochs": 2, "batch_size": 64, "monitor": "accuracy"},
)

declare(
    __name__,
    "sst2-lstm",
    "Good or bad, a sentence of a film review: an LSTM in both directions, of each number the largest over the words.",
    source=_LSTM,
    needs=_NEEDS,
    task={"name": "text-classification"},
    preprocess=_SENTENCES,
    model={
        "kind": "lstm",
        "embedding_size": 100,
        "hidden_size": 100,
        "bidirectional": True,
        "readout": "max",
        "dropout": 0.4,
    },
    optimizer={"name": "adam", "lr": 2e-3},
    schedule={"name": "polynomial", "warmup_fraction": 0.1},
    training={"epochs": 2, "batch_size": 128, "clip_norm": 5.0, "ema_decay": 0.999, "monitor": "accuracy"},
)

declare(
    __name__,
    "imdb-cnn",
    "Good or bad, a whole film review: convolutions over words.",
    source=_KIM,
    needs=_NEEDS,
    task={"name": "text-classification"},
    preprocess=_REVIEWS,
    model={"kind": "textcnn", "embedding_size": 64, "word_dropout": 0.1, "embedding_dropout": 0.3},
    optimizer={"name": "adam", "lr": 3e-3},
    schedule={"name": "polynomial", "warmup_fraction": 0.1},
    training={"epochs": 5, "batch_size": 32, "ema_decay": 0.99},
)

declare(
    __name__,
    "imdb-lstm",
    "Good or bad, a whole film review: an LSTM in both directions, the mean over the words.",
    source=_LSTM,
    needs=_NEEDS,
    task={"name": "text-classification"},
    preprocess=_REVIEWS,
    model={
        "kind": "lstm",
        "embedding_size": 100,
        "hidden_size": 64,
        "bidirectional": True,
        "readout": "mean",
        "dropout": 0.5,
    },
    optimizer={"name": "adam", "lr": 3e-3},
    schedule={"name": "polynomial", "warmup_fraction": 0.1},
    training={"epochs": 3, "batch_size": 64, "clip_norm": 5.0, "ema_decay": 0.99},
)
