"""Recipes for language models: characters of Shakespeare and of Python's library, words of the Penn Treebank.

The two Treebank recipes are those of Zaremba, Sutskever, Vinyals (2014) in every setting; their loss is the sum over the steps
of a stretch, which counts for the clipping.
"""

from __future__ import annotations

from typing import Any, Final

from lamina.recipes.recipe import declare

_ZAREMBA: Final = "Zaremba, Sutskever, Vinyals (2014), arXiv:1409.2329, section 4.1"
_CHARACTERS: Final[tuple[dict[str, Any], ...]] = ({"name": "tokenize", "kind": "character", "ending": "\n"},)

declare(
    __name__,
    "shakespeare-lstm",
    "An LSTM of two layers that learns to write Shakespeare, character by character.",
    source="Karpathy (2015), The Unreasonable Effectiveness of Recurrent Neural Networks; layers as in Graves (2013), arXiv:1308.0850",
    needs="running text in a file, such as tiny Shakespeare; the last tenth is held out",
    task={"name": "text-generation", "length": 100},
    data={"reader": "corpus", "valid_fraction": 0.1},
    preprocess=_CHARACTERS,
    model={
        "kind": "lstm",
        "readout": "each",
        "embedding_size": 64,
        "hidden_size": 256,
        "num_layers": 2,
        "dropout": 0.2,
    },
    optimizer={"name": "adam", "lr": 3e-3},
    schedule={"name": "cosine", "warmup_steps": 50, "final_factor": 0.02},
    training={"epochs": 12, "batch_size": 50, "clip_norm": 1.0},
)

declare(
    __name__,
    "stdlib-lstm",
    "An LSTM that learns to write Python from the standard library's own source, character by character.",
    source="Karpathy (2015), The Unreasonable Effectiveness of Recurrent Neural Networks",
    needs="running text in a file",
    extends="shakespeare-lstm",
    data={"path": "stdlib", "reader": None},
    task={"length": 64},
    model={"hidden_size": 192, "dropout": 0.0},
    training={"epochs": 4, "batch_size": 32},
)

declare(
    __name__,
    "ptb-lstm-small",
    "The small LSTM of Zaremba et al. on the Penn Treebank: two layers of 200 units, not regularised.",
    source=f"{_ZAREMBA}: validation perplexity 120.7 (table 1)",
    needs="the Penn Treebank prepared by Mikolov: ptb.train.txt and ptb.valid.txt in a folder, a sentence per line, packed or not",
    task={"name": "text-generation", "length": 20, "sum_over_time": True},
    data={"reader": "corpus"},
    preprocess=({"name": "tokenize", "kind": "word", "split": "whitespace", "unicode": "none", "end": True},),
    model={
        "kind": "lstm",
        "readout": "each",
        "embedding_size": 200,
        "hidden_size": 200,
        "num_layers": 2,
        "forget_bias": 0.0,
        "init_bound": 0.1,
    },
    optimizer={"name": "sgd", "lr": 1.0},
    # Learning rate 1 for 4 epochs, then divided by 2 after each.
    schedule={"name": "step", "unit": "epoch", "milestones": list(range(4, 13)), "gamma": 0.5},
    training={"epochs": 13, "batch_size": 20, "clip_norm": 5.0},
)

declare(
    __name__,
    "ptb-lstm-medium",
    "The medium LSTM of Zaremba et al. on the Penn Treebank: two layers of 650 units with dropout.",
    source=f"{_ZAREMBA}: validation perplexity 86.2 (table 1)",
    extends="ptb-lstm-small",
    task={"length": 35},
    model={"embedding_size": 650, "hidden_size": 650, "dropout": 0.5, "init_bound": 0.05},
    # Learning rate 1 for 6 epochs, then divided by 1.2 after each.
    schedule={"milestones": list(range(6, 39)), "gamma": 1 / 1.2},
    training={"epochs": 39},
)
