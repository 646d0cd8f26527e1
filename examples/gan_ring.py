"""A GAN on a ring of eight Gaussians: two updates per step through the same Trainer that trains classifiers.

Run: python examples/gan_ring.py [--steps 3000] [--run DIR]

The task below is all that a GAN needs: what the two updates minimise, and how samples are judged. Accumulation,
checkpoints, exact resume, non-finite checks and logging are the engine's.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from lamina.core.config import Config, Field
from lamina.data.columns import DataSpec
from lamina.data.loading import load_data
from lamina.data.preprocessing import Preprocessing
from lamina.nn.initialisers import initialise
from lamina.tasks.base import Batch, Context, GradientUpdate, Losses, Outputs, Prediction, State, Task, Update
from lamina.tasks.metrics import Metrics
from lamina.train.config import TrainingConfig
from lamina.train.progress import LiveProgress
from lamina.train.trainer import Trainer

LATENT = 8


class RingGAN(nn.Module):
    """Generator (B, 8) -> (B, 2) and discriminator (B, 2) -> (B, 1), logits."""

    def __init__(self, *, width: int = 64, seed: int = 0) -> None:
        super().__init__()
        self.generator = nn.Sequential(
            nn.Linear(LATENT, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2)
        )
        self.discriminator = nn.Sequential(
            nn.Linear(2, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2), nn.Linear(width, 1)
        )
        initialise(self, "he-uniform", seed=seed)

    def forward(self, latent: Tensor) -> Tensor:
        """Points (B, 2) from latent vectors (B, 8)."""
        return self.generator(latent)


class RingMetrics(Metrics):
    """Share of samples near a mode, and how many modes have at least a hundredth of the samples."""

    def record(self, near: Tensor, mode: Tensor) -> None:
        """Take in a batch: near a mode or not (B,), index of the nearest mode (B,)."""
        self._rows.append({"near": near, "mode": mode})

    def finish(self) -> dict[str, float]:
        """Both numbers over all rows."""
        rows = self._read()
        reached = rows["mode"][rows["near"]].bincount()
        return {
            "near_a_mode": float(rows["near"].double().mean()),
            "modes": float((reached > 0.01 * len(rows["near"])).sum()),
        }

    def details(self) -> dict[str, object]:
        """Nothing more."""
        return {}


class GANConfig(Config):
    """Options of the task."""

    radius: float = Field(1.0, description="Radius of the ring, to count the modes that samples reach.", gt=0)
    num_modes: int = Field(8, description="Gaussians on the ring.", ge=1)


class RingTask(Task):
    """The non-saturating GAN of Goodfellow et al. (2014), arXiv:1406.2661, on points."""

    Config = GANConfig

    def check(self, spec: DataSpec, model: nn.Module) -> None:
        """Points must be what the discriminator takes."""
        model.discriminator(torch.zeros(1, spec.columns["features"].shape[0]))

    def forward(self, model: nn.Module, batch: Batch, ctx: Context) -> Outputs:
        """As many samples as the batch has rows."""
        return {"samples": model(ctx.normal("latent", len(batch["features"]), LATENT))}

    def updates(self, model: nn.Module) -> Sequence[Update]:
        """The discriminator first, then the generator against it."""

        def discriminate(batch: Batch, ctx: Context, state: State) -> tuple[Losses, State]:
            real = batch["features"]
            fake = model.generator(ctx.normal("latent", len(real), LATENT)).detach()
            losses = Losses()
            losses.add("real", nn.functional.softplus(-model.discriminator(real)).sum(), len(real))
            losses.add("fake", nn.functional.softplus(model.discriminator(fake)).sum(), len(real))
            return losses, state

        def generate(batch: Batch, ctx: Context, state: State) -> tuple[Losses, State]:
            num = len(batch["features"])
            fake = model.generator(ctx.normal("latent", num, LATENT))
            losses = Losses()
            losses.add("fooling", nn.functional.softplus(-model.discriminator(fake)).sum(), num)
            return losses, state

        return (
            GradientUpdate("discriminator", model.discriminator, discriminate),
            GradientUpdate("generator", model.generator, generate),
        )

    def metrics(self) -> RingMetrics:
        """A fresh accumulator."""
        return RingMetrics()

    def judge(self, outputs: Outputs, batch: Batch, metrics: RingMetrics) -> None:
        """Near: within 0.2 of a mode's centre."""
        angles = torch.arange(self.config.num_modes) * (2 * math.pi / self.config.num_modes)
        centres = self.config.radius * torch.stack([angles.cos(), angles.sin()], dim=1)
        distance, mode = torch.cdist(outputs["samples"], centres).min(dim=1)
        metrics.record(distance < 0.2, mode)

    def decode(self, outputs: Outputs) -> list[Prediction]:
        """Points as lists."""
        return [{"point": point} for point in outputs["samples"].tolist()]

    @property
    def monitor(self) -> tuple[str, str]:
        """The share of samples near a mode."""
        return ("near_a_mode", "max")


def make_trainer(run_dir: Path | None, *, steps: int, seed: int = 0, **training: object) -> Trainer:
    """A trainer for the ring; everything that a resume needs is in its arguments."""
    data = load_data("rings")
    columns = data.splits.get("train") or next(iter(data.splits.values()))
    data = data.with_splits({"train": columns, "valid": columns.take(torch.arange(min(1000, columns.num_rows)))})
    preprocessing = Preprocessing.fit([], columns, data.spec)
    return Trainer(
        RingGAN(seed=seed),
        RingTask(GANConfig(), preprocessing.spec),
        data,
        preprocessing=preprocessing,
        optimizer={"name": "adam", "lr": 1e-3, "betas": [0.5, 0.999]},
        config=TrainingConfig(
            **{"steps": steps, "batch_size": 128, "evaluate_every": 5, "ema_decay": 0.99, **training}
        ),
        seed=seed,
        run_dir=run_dir,
        callbacks=[LiveProgress()],
    )


def main() -> None:
    """Train and say how many modes were found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--run", type=Path)
    arguments = parser.parse_args()
    result = make_trainer(arguments.run, steps=arguments.steps).fit(resume=arguments.run is not None)
    print({name: round(value, 3) for name, value in result.metrics.items()})


if __name__ == "__main__":
    main()
