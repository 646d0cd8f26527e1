"""Small texts whose words tell the class, and what is trained on them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lamina.data.columns import Columns, ColumnSpec, Data, DataSpec
from lamina.data.ragged import Ragged, RaggedColumns
from lamina.recipes.build import Job, build, choose_machine
from lamina.recipes.recipe import resolve_layers

WORDS = {"bad": ("awful", "dull", "poor"), "good": ("fine", "great", "lovely")}
OTHER_WORDS = ("film", "story", "plot", "the", "a", "it", "was", "with", "actors")


def reviews(num_rows: int, *, seed: int = 0, pairs: bool = False) -> RaggedColumns:
    """Between two and twelve words, one of which tells the class; of pairs it stands in the second text."""
    generator = torch.Generator().manual_seed(seed)

    def draw(high: int) -> int:
        return int(torch.randint(high, (), generator=generator))

    texts, others, labels = [], [], []
    for row in range(num_rows):
        label = row % len(WORDS)
        words = [OTHER_WORDS[draw(len(OTHER_WORDS))] for _ in range(1 + draw(11))]
        telling = list(WORDS.values())[label]
        if pairs:
            others.append(f"it was {telling[draw(len(telling))]}")
        else:
            words.insert(draw(len(words) + 1), telling[draw(len(telling))])
        texts.append(" ".join(words))
        labels.append(label)
    ragged = {"text": Ragged.of_texts(texts), **({"text_pair": Ragged.of_texts(others)} if pairs else {})}
    return RaggedColumns({"label": torch.tensor(labels)}, ragged=ragged)


def review_data(*, pairs: bool = False, num_rows: int = 96) -> Data:
    """Training and validation rows."""
    text = ColumnSpec(role="text", dtype="uint8", shape=(-1,))
    columns = {"text": text, "label": ColumnSpec(role="label", dtype="int64", classes=tuple(WORDS))}
    if pairs:
        columns["text_pair"] = text
    splits: dict[str, Columns] = {
        "train": reviews(num_rows, pairs=pairs),
        "valid": reviews(num_rows // 3, seed=1, pairs=pairs),
    }
    spec = DataSpec(columns=columns, num_rows={name: part.num_rows for name, part in splits.items()})
    return Data(splits=splits, spec=spec)


def text_job(data: Data, module: torch.nn.Module | None = None, **values: Any) -> Job:
    """A small training of texts."""
    given = {
        "task": {"name": "text-classification"},
        "model": {"kind": "textcnn", "embedding_size": 12, "num_maps": 8, "word_dropout": 0.1},
        "preprocess": [{"name": "tokenize", "lowercase": True}],
        "optimizer": {"name": "adam", "lr": 0.02},
        "training": {"epochs": 4, "batch_size": 16, "tensorboard": False},
        **values,
    }
    recipe = resolve_layers([("recipe", given)], file="test").recipe()
    return build(recipe, data, machine=choose_machine("cpu", 1), model=module)


class PairNet(torch.nn.Module):
    """A module of somebody's own, which reads the second text alone."""

    def __init__(self, vocab_size: int, num_classes: int = 2) -> None:
        super().__init__()
        self.vectors = torch.nn.Embedding(vocab_size, 8)
        self.head = torch.nn.Linear(8, num_classes)

    def forward(self, tokens: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        kept = attention_mask if token_type_ids is None else attention_mask & (token_type_ids == 1)
        total = (self.vectors(tokens) * kept.unsqueeze(-1)).sum(dim=1)
        out: Tensor = self.head(total / kept.sum(dim=1, keepdim=True))
        return out
