"""Recipes for tags of words: chunks, parts of speech, named entities, by a bidirectional LSTM over words and characters."""

from __future__ import annotations

from typing import Any, Final

from lamina.recipes.recipe import declare

_NEEDS: Final = "sentences of words with a tag each: columns parted by tabs or spaces (CoNLL), or CoNLL-U; a blank line behind each sentence"
# Small letters for the words, whose vectors are few; the characters keep capitals, beginnings and endings.
_WORDS: Final[tuple[dict[str, Any], ...]] = ({"name": "tokenize", "kind": "word", "lowercase": True, "characters": 20},)

declare(
    __name__,
    "conll2000-bilstm-crf",
    "Chunks of sentences (noun, verb phrases): words and characters, a bidirectional LSTM, a conditional random field.",
    source="Huang, Xu, Yu (2015), arXiv:1508.01991; Ma, Hovy (2016), arXiv:1603.01354; without word vectors from elsewhere",
    needs=_NEEDS,
    task={"name": "token-classification"},
    preprocess=_WORDS,
    model={"kind": "bilstm_crf"},
    optimizer={"name": "adam", "lr": 2e-3},
    schedule={"name": "cosine", "warmup_fraction": 0.05},
    training={"epochs": 12, "batch_size": 32, "clip_norm": 5.0},
)

declare(
    __name__,
    "ud-pos-bilstm",
    "Parts of speech: words and characters, a bidirectional LSTM, one decision per word.",
    source="Plank, Søgaard, Goldberg (2016), arXiv:1604.05529; Ling et al. (2015), arXiv:1508.02096",
    needs=_NEEDS,
    task={"name": "token-classification"},
    preprocess=_WORDS,
    model={"kind": "bilstm"},
    optimizer={"name": "adam", "lr": 2e-3},
    schedule={"name": "cosine", "warmup_fraction": 0.05},
    training={"epochs": 10, "batch_size": 32, "clip_norm": 5.0},
)

declare(
    __name__,
    "wnut17-bilstm-crf",
    "Named entities in noisy text: words and characters, a bidirectional LSTM, a conditional random field.",
    source="Derczynski, Nichols, van Erp, Limsopatham (2017), doi:10.18653/v1/W17-4418; Lample et al. (2016), arXiv:1603.01360",
    needs=_NEEDS,
    task={"name": "token-classification"},
    preprocess=_WORDS,
    model={"kind": "bilstm_crf"},
    optimizer={"name": "adam", "lr": 2e-3},
    schedule={"name": "cosine", "warmup_fraction": 0.05},
    training={"epochs": 20, "batch_size": 16, "clip_norm": 5.0},
)
