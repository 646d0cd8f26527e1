"""A small recurrent character model whose hidden state is carried from batch to batch (truncated backpropagation).

Run: python examples/char_rnn.py [FILE] [--steps 500] [--run DIR]

The state is the engine's to keep: it is in every checkpoint, and judging does not touch it.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lamina.core.config import Config, Field
from lamina.data.batching import Feed, StreamFeed
from lamina.data.columns import Columns, Data, DataSpec, column_spec
from lamina.data.preprocessing import Preprocessing
from lamina.nn.dropout import Dropout
from lamina.nn.initialisers import initialise
from lamina.tasks.base import Batch, Context, GradientUpdate, Losses, Outputs, Prediction, State, Task, Update
from lamina.tasks.scalar_metrics import ScalarMetrics
from lamina.train.config import TrainingConfig
from lamina.train.progress import LiveProgress
from lamina.train.trainer import Trainer


class CharRNN(nn.Module):
    """Embedding, Elman network (1990), dropout, linear output: (B, T) characters and (B, H) state -> logits (B, T, V), state."""

    def __init__(self, *, num_characters: int, hidden_size: int = 64, dropout: float = 0.1, seed: int = 0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_characters, hidden_size)
        self.rnn = nn.RNN(hidden_size, hidden_size, batch_first=True)
        self.dropout = Dropout(dropout)
        self.head = nn.Linear(hidden_size, num_characters)
        initialise(self, "xavier-uniform", seed=seed)
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if name.startswith(("embedding", "rnn")):
                nn.init.uniform_(parameter, -(hidden_size**-0.5), hidden_size**-0.5, generator=generator)

    def forward(self, tokens: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, T, V) and the state (B, H) after the last character."""
        outputs, last = self.rnn(self.embedding(tokens), hidden.unsqueeze(0))
        return self.head(self.dropout(outputs)), last[0]


class CharConfig(Config):
    """Options of the task."""

    length: int = Field(32, description="Characters through which gradients flow back.", ge=1)


class CharTask(Task):
    """Predict the next character."""

    Config = CharConfig

    def check(self, spec: DataSpec, model: nn.Module) -> None:
        """One dry pass."""
        hidden = torch.zeros(1, model.rnn.hidden_size)
        model(torch.zeros(1, 1, dtype=torch.long), hidden)

    def initial_state(self, model: nn.Module, batch_size: int) -> State:
        """A zero state for each stream."""
        return {"hidden": torch.zeros(batch_size, model.rnn.hidden_size)}

    def feed(self, columns: Columns, *, batch_size: int, seed: int, training: bool, **options: Any) -> Feed:
        """Contiguous streams; a judged split is one stream."""
        return StreamFeed(columns, batch_size=batch_size if training else 1, length=self.config.length)

    def forward(self, model: nn.Module, batch: Batch, ctx: Context) -> Outputs:
        """From a zero state, for judging."""
        logits, _ = model(batch["tokens"], torch.zeros(len(batch["tokens"]), model.rnn.hidden_size))
        return {"logits": logits}

    def updates(self, model: nn.Module) -> Sequence[Update]:
        """Cross-entropy per character, with the state carried over."""

        def loss(batch: Batch, ctx: Context, state: State) -> tuple[Losses, State]:
            hidden = state["hidden"] * (~batch["start"]).unsqueeze(1)
            logits, hidden = model(batch["tokens"], hidden)
            losses = Losses()
            total = nn.functional.cross_entropy(logits.flatten(0, 1), batch["targets"].flatten(), reduction="sum")
            losses.add("cross_entropy", total, batch["targets"].numel())
            return losses, {"hidden": hidden}

        return (GradientUpdate("train", model, loss),)

    def metrics(self) -> ScalarMetrics:
        """Mean cross-entropy and bits per character."""
        return ScalarMetrics()

    def judge(self, outputs: Outputs, batch: Batch, metrics: ScalarMetrics) -> None:
        """Accumulate per character."""
        nats = nn.functional.cross_entropy(
            outputs["logits"].flatten(0, 1), batch["targets"].flatten(), reduction="none"
        )
        metrics.record({"cross_entropy": nats, "bits_per_character": nats / math.log(2)})

    def decode(self, outputs: Outputs) -> list[Prediction]:
        """The likeliest next character's index."""
        return [{"index": index} for index in outputs["logits"][:, -1].argmax(dim=1).tolist()]


def make_trainer(run_dir: Path | None, text: str, *, steps: int, seed: int = 0, **training: object) -> Trainer:
    """A trainer for a text; a tenth of it is held out."""
    characters = sorted(set(text))
    index = {character: number for number, character in enumerate(characters)}
    tokens = torch.tensor([index[character] for character in text], dtype=torch.int32)
    cut = len(tokens) * 9 // 10
    splits = {"train": Columns({"tokens": tokens[:cut]}), "valid": Columns({"tokens": tokens[cut:]})}
    spec = DataSpec(
        columns={"tokens": column_spec("tokens", tokens)}, num_rows={"train": cut, "valid": len(tokens) - cut}
    )
    data = Data(splits=splits, spec=spec, source="text")
    preprocessing = Preprocessing.fit([], splits["train"], spec)
    return Trainer(
        CharRNN(num_characters=len(characters), seed=seed),
        CharTask(CharConfig(), preprocessing.spec),
        data,
        preprocessing=preprocessing,
        optimizer={"name": "adam", "lr": 3e-3},
        config=TrainingConfig(**{"steps": steps, "batch_size": 16, "clip_norm": 1.0, **training}),
        seed=seed,
        run_dir=run_dir,
        callbacks=[LiveProgress()],
    )


def main() -> None:
    """Train on a file, or on this program's own text."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, nargs="?", default=Path(__file__))
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--run", type=Path)
    arguments = parser.parse_args()
    text = arguments.file.read_text(encoding="utf-8")
    result = make_trainer(arguments.run, text, steps=arguments.steps).fit(resume=arguments.run is not None)
    print({name: round(value, 3) for name, value in result.metrics.items()})


if __name__ == "__main__":
    main()
