"""TextCNN through `lamina.fit` with a run folder: a round is an epoch of its real training."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from lamina_fit import Rounds
from protocol import take_stdout
from work_texts import read_texts

import lamina
from lamina.data.columns import ColumnSpec, Data, DataSpec
from lamina.data.ragged import Ragged, RaggedColumns

_HELD_OUT = 32  # rows that are judged when all is over; the rounds train on all others


def data_of(texts: list[str], labels: list[int]) -> Data:
    """All texts as the training split, and the first few again for judging."""
    columns = RaggedColumns({"label": torch.tensor(labels)}, ragged={"text": Ragged.of_texts(texts)})
    splits = {"train": columns, "valid": columns.take(torch.arange(_HELD_OUT))}
    specs = {
        "text": ColumnSpec(role="text", dtype="uint8", shape=(-1,)),
        "label": ColumnSpec(role="label", dtype="int64", classes=("0", "1")),
    }
    return Data(
        splits=splits, spec=DataSpec(columns=specs, num_rows={name: part.num_rows for name, part in splits.items()})
    )


def main() -> None:
    to = take_stdout()
    work = json.loads(sys.stdin.readline())["work"]
    texts, labels = read_texts(work)
    training = {"batch_size": work["batch_size"], "evaluate_every": 1_000_000, "checkpoint_every": 1_000_000_000}
    tokenize = {
        "name": "tokenize",
        "lowercase": True,
        "vocab_size": work["vocab_size"],
        "max_length": work["max_length"],
    }
    with tempfile.TemporaryDirectory() as folder:
        lamina.fit(
            {"kind": "textcnn", "embedding_size": work["embedding_size"], "num_maps": work["num_maps"]},
            data_of(texts, labels),
            task="text-classification",
            epochs=1_000_000,
            run=str(Path(folder) / "run"),
            callbacks=[Rounds(to)],
            preprocess=[tokenize],
            data={"split": "given"},
            optimizer={"name": "adam", "lr": 1e-3},
            training={**training, **work.get("training", {})},
        )


if __name__ == "__main__":
    main()
