"""The loop that everybody writes for a language model: nn.LSTM, cross-entropy over all logits, clipping, SGD, the state detached."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from protocol import serve
from torch import nn
from work import make_tokens


class LanguageModel(nn.Module):
    """Embedding, LSTM, linear layer."""

    def __init__(self, work: dict[str, Any]) -> None:
        super().__init__()
        size = work["hidden_size"]
        self.embedding = nn.Embedding(work["vocabulary"], size)
        self.lstm = nn.LSTM(size, size, work["layers"], batch_first=True)
        self.head = nn.Linear(size, work["vocabulary"])

    def forward(self, tokens: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        """(B, T) -> logits (B, T, V) and the state."""
        hidden, state = self.lstm(self.embedding(tokens), state)
        return self.head(hidden), state


def setup(work: dict[str, Any]) -> Any:
    tokens = torch.from_numpy(make_tokens(work))
    batch, steps = work["batch_size"], work["steps"]
    size = (len(tokens) - 1) // batch
    inputs, targets = tokens[: batch * size].view(batch, size), tokens[1 : batch * size + 1].view(batch, size)
    torch.manual_seed(0)
    model = LanguageModel(work).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=work["lr"])
    loss_of = nn.CrossEntropyLoss()

    def run() -> int:
        state = None
        for first in range(0, size, steps):
            x, y = inputs[:, first : first + steps], targets[:, first : first + steps]
            optimizer.zero_grad()
            logits, state = model(x, state)
            loss = loss_of(logits.flatten(0, 1), y.flatten())
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), work["clip_norm"])
            optimizer.step()
            state = tuple(part.detach() for part in state)
        return batch * size

    run()
    return run, f"torch {torch.__version__.split('+')[0]}, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    serve(setup)
