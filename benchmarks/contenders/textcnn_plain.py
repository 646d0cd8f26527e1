"""The loop that everybody writes for texts: words numbered in Python, a DataLoader that pads each batch, TextCNN in fp32."""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from protocol import serve
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from work_texts import read_texts

WORD = re.compile(r"\w+|[^\w\s]")


class Texts(Dataset):
    """Numbers of the words of each text, and its label."""

    def __init__(self, work: dict[str, Any]) -> None:
        texts, self.labels = read_texts(work)
        words = [WORD.findall(text.lower())[: work["max_length"]] for text in texts]
        common = Counter(word for row in words for word in row).most_common(work["vocab_size"] - 2)
        number = {word: place for place, (word, _) in enumerate(common, start=2)}
        self.rows = [torch.tensor([number.get(word, 1) for word in row] or [1]) for row in words]
        self.vocab_size = len(number) + 2

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return self.rows[row], self.labels[row]


def collate(batch: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
    rows, labels = zip(*batch, strict=True)
    return nn.utils.rnn.pad_sequence(list(rows), batch_first=True), torch.tensor(labels)


class TextCNN(nn.Module):
    """Kim (2014), as tutorials have it."""

    def __init__(self, vocab_size: int, work: dict[str, Any]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, work["embedding_size"], padding_idx=0)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(work["embedding_size"], work["num_maps"], width, padding=width // 2) for width in (3, 4, 5)
        )
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(3 * work["num_maps"], 2)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T) -> (B, 2)."""
        x = self.embedding(tokens).transpose(1, 2)
        pooled = [torch.relu(convolution(x)).max(dim=2).values for convolution in self.convolutions]
        return self.head(self.dropout(torch.cat(pooled, dim=1)))


def setup(work: dict[str, Any]) -> Any:
    texts = Texts(work)
    loader = DataLoader(texts, batch_size=work["batch_size"], shuffle=True, collate_fn=collate)
    model = TextCNN(texts.vocab_size, work).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loss_of = nn.CrossEntropyLoss()

    def run() -> int:
        for x, y in loader:
            optimizer.zero_grad()
            loss = loss_of(model(x), y)
            loss.backward()
            optimizer.step()
        return len(texts)

    run()
    return run, f"torch {torch.__version__.split('+')[0]}, fp32, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    serve(setup)
