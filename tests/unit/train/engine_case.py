"""A small task and trainer for tests of the engine: a regression whose parts a test can switch on one by one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lamina.core.config import Config
from lamina.data.columns import Columns, Data, DataSpec, column_spec
from lamina.data.preprocessing import Preprocessing
from lamina.nn.dropout import Dropout
from lamina.tasks.base import GradientUpdate, Losses, Task
from lamina.tasks.scalar_metrics import ScalarMetrics
from lamina.train.config import TrainingConfig
from lamina.train.trainer import Trainer


class Net(nn.Module):
    def __init__(self, *, norm: bool = True, dropout: float = 0.2, seed: int = 0) -> None:
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.norm = nn.BatchNorm1d(8) if norm else nn.Identity()
        self.drop = Dropout(dropout)
        self.last = nn.Linear(8, 1)
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, 0, 0.5, generator=generator)
        nn.init.zeros_(self.first.bias)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.drop(torch.relu(self.norm(self.first(x)))))


class SquareTask(Task):
    """Weighted squared error, a penalty, and a running sum carried as state."""

    def __init__(self, config: Config, spec: DataSpec, *, penalty: float = 0.01) -> None:
        super().__init__(config, spec)
        self.penalty = penalty

    def check(self, spec: DataSpec, model: nn.Module) -> None:
        pass

    def initial_state(self, model: nn.Module, batch_size: int) -> dict[str, Tensor]:
        return {"carried": torch.zeros(batch_size, 1)}

    def forward(self, model: nn.Module, batch: Any, ctx: Any) -> dict[str, Tensor]:
        return {"prediction": model(batch["features"])}

    def updates(self, model: nn.Module) -> Sequence[GradientUpdate]:
        def loss(batch: Any, ctx: Any, state: dict[str, Tensor]) -> tuple[Losses, dict[str, Tensor]]:
            prediction = model(batch["features"])
            weights = 1.0 + (batch["features"][:, :1] > 0).to(prediction.dtype)
            losses = Losses()
            losses.add("mse", (weights * (prediction - batch["target"]).square()).sum(), weights.sum())
            if self.penalty:
                losses.add("l2", sum(p.square().sum() for p in model.parameters()), 1.0, factor=self.penalty)
            carried = state["carried"].clone()
            carried[: len(prediction)] = carried[: len(prediction)] * 0.5 + prediction.detach().to(carried.dtype)
            return losses, {"carried": carried}

        return (GradientUpdate("train", model, loss, compilable=False),)

    def metrics(self) -> ScalarMetrics:
        return ScalarMetrics()

    def judge(self, outputs: Any, batch: Any, metrics: ScalarMetrics) -> None:
        metrics.record({"mse": (outputs["prediction"] - batch["target"]).square().flatten()})

    def decode(self, outputs: Any) -> list[dict[str, Any]]:
        return [{"value": value} for value in outputs["prediction"].flatten().tolist()]

    @property
    def monitor(self) -> tuple[str, str]:
        return ("mse", "min")


def make_data(*, rows: int = 64, dtype: torch.dtype = torch.float32, seed: int = 0) -> Data:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 4, generator=generator).to(dtype)
    y = (x[:, :1] * x[:, 1:2] + 0.1 * torch.randn(rows, 1, generator=generator)).to(dtype)
    columns = Columns({"features": x, "target": y})
    cut = rows * 3 // 4
    splits = {"train": columns.take(torch.arange(cut)), "valid": columns.take(torch.arange(cut, rows))}
    spec = DataSpec(
        columns={"features": column_spec("number", x), "target": column_spec("target", y)},
        num_rows={"train": cut, "valid": rows - cut},
    )
    return Data(splits=splits, spec=spec, source="engine case")


def make_trainer(
    run_dir: Path | None = None,
    *,
    model: nn.Module | None = None,
    data: Data | None = None,
    optimizer: dict[str, Any] | None = None,
    schedule: dict[str, Any] | None = None,
    callbacks: Sequence[Any] = (),
    penalty: float = 0.01,
    seed: int = 7,
    **training: Any,
) -> Trainer:
    data = data or make_data()
    preprocessing = Preprocessing.fit([], data.splits["train"], data.spec)
    options = {"epochs": 3, "batch_size": 8, "log_every": 4, "tensorboard": False, **training}
    return Trainer(
        model if model is not None else Net(),
        SquareTask(Config(), preprocessing.spec, penalty=penalty),
        data,
        preprocessing=preprocessing,
        optimizer=optimizer or {"name": "adam", "lr": 0.01},
        schedule=schedule or {"name": "cosine"},
        config=TrainingConfig(**options),
        seed=seed,
        run_dir=run_dir,
        callbacks=callbacks,
    )
