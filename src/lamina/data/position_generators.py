"""Small made-up signals and volumes, the same for all time.

As in `generators.py` every number is drawn by `core.draws`, keyed by the generator's seed and the row, so a longer set
begins with the shorter one's draws.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from lamina.core import draws
from lamina.core.config import Config, Field
from lamina.core.registry import register
from lamina.data.columns import Data, column_spec
from lamina.data.config import DataConfig
from lamina.data.embedded import embedded_data

WAVES: Final = ("sine", "square", "saw", "chirp")
SOLIDS: Final = ("ball", "cube", "cross")
_CHUNK: Final = 512


class SignalsConfig(Config):
    """Waves of four shapes, of any frequency, phase and loudness, under noise."""

    num_rows: int = Field(1200, description="Number of signals, dealt to the four classes in turn.", ge=4)
    length: int = Field(128, description="Steps of each signal.", ge=16, le=65_536)
    noise: float = Field(0.2, description="Standard deviation of the normal noise; waves reach about 1.", ge=0)
    seed: int = Field(0, description="Seed of the generator; not the run's.")


class VolumesConfig(Config):
    """Balls, cubes and crosses of any place, size and brightness, under noise."""

    num_rows: int = Field(600, description="Number of volumes, dealt to the three classes in turn.", ge=3)
    size: int = Field(16, description="Depth, height and width.", ge=8, le=64)
    noise: float = Field(
        0.05, description="Standard deviation of the noise on each voxel, as a share of the range.", ge=0, le=1
    )
    seed: int = Field(0, description="Seed of the generator; not the run's.")


@register(
    "dataset",
    "signals",
    config=SignalsConfig,
    source="Made for Lamina",
    example="lamina train signal-cnn1d",
    task="time-series-classification",
)
def signals(config: DataConfig, options: SignalsConfig | None = None) -> Data:
    """Sine, square and saw waves, and chirps (whose frequency rises), of any phase and loudness, under noise.

    Column `signal` float32 (N, 1, length). Three to eight periods fit a signal; a chirp has as many, its frequency rising
    to seven times that of its beginning.
    """
    options = options or SignalsConfig()
    labels = torch.arange(options.num_rows) % len(WAVES)
    drawn = _uniform("signals", options.seed, options.num_rows, 3)
    periods, phase = 3 + 5 * drawn[:, :1], drawn[:, 1:2]
    loudness = 0.6 + 0.4 * drawn[:, 2:3]
    time = torch.arange(options.length, dtype=torch.float32).unsqueeze(0) / options.length
    turns = periods * time + phase  # (N, T), whole numbers are whole periods
    rising = periods * (0.25 * time + 0.75 * time.square()) + phase  # its slope goes from a quarter to seven quarters
    waves = torch.stack(
        [
            torch.sin(2 * math.pi * turns),
            torch.sign(torch.sin(2 * math.pi * turns)),
            2 * (turns - turns.floor()) - 1,
            torch.sin(2 * math.pi * rising),
        ]
    )
    values = loudness * waves[labels, torch.arange(options.num_rows)]
    if options.noise > 0:
        values = values + options.noise * _normal("signals/noise", options.seed, options.num_rows, options.length)
    signal = values.unsqueeze(1).to(torch.float32)
    specs = {
        "signal": column_spec("series", signal),
        "label": column_spec("label", labels, classes=WAVES),
    }
    return embedded_data("signals", {"signal": signal, "label": labels}, specs)


@register(
    "dataset",
    "volumes",
    config=VolumesConfig,
    source="Made for Lamina",
    example="lamina train volume-cnn3d",
    task="volume-classification",
)
def volumes(config: DataConfig, options: VolumesConfig | None = None) -> Data:
    """Balls, cubes and three-armed crosses of any place, size and brightness inside a cube of voxels, under noise.

    Column `volume` uint8 (N, 1, size, size, size).
    """
    options = options or VolumesConfig()
    num_rows, size = options.num_rows, options.size
    labels = torch.arange(num_rows) % len(SOLIDS)
    drawn = _uniform("volumes", options.seed, num_rows, 6)
    radius = size * (0.2 + 0.15 * drawn[:, :1])
    centre = radius + drawn[:, 1:4] * (size - 2 * radius)  # (N, 3), wholly inside
    ground, ink = 0.3 * drawn[:, 4:5], 0.6 + 0.4 * drawn[:, 5:6]
    axis = torch.arange(size, dtype=torch.float32) + 0.5
    volume = torch.empty(num_rows, 1, size, size, size, dtype=torch.uint8)
    for start in range(0, num_rows, _CHUNK):  # bounded memory
        rows = slice(start, min(start + _CHUNK, num_rows))
        along = [
            (axis - centre[rows, place, None]).view(-1, *(size if p == place else 1 for p in range(3))).abs()
            for place in range(3)
        ]
        distance = _distance(along, radius[rows].view(-1, 1, 1, 1), labels[rows].view(-1, 1, 1, 1))
        cover = (0.5 - distance).clamp(0, 1)  # smooth over one voxel
        low, high = (value[rows].view(-1, 1, 1, 1) for value in (ground, ink))
        picture = low * (1 - cover) + high * cover
        if options.noise > 0:
            key = draws.stream_key(options.seed, "sample", "volumes/noise")
            noise = draws.normal(key, draws.counters(torch.arange(num_rows)[rows], size**3))
            picture = picture + options.noise * noise.view_as(picture)
        volume[rows, 0] = (picture * 255).round().clamp(0, 255).to(torch.uint8)
    specs = {
        "volume": column_spec("volume", volume),
        "label": column_spec("label", labels, classes=SOLIDS),
    }
    return embedded_data("volumes", {"volume": volume, "label": labels}, specs)


def _distance(along: list[Tensor], radius: Tensor, labels: Tensor) -> Tensor:
    """Signed distance (voxels, negative inside) to a ball (0), cube (1) or cross (2) that reaches `radius` along each axis.

    The cube's half edge is 0.8 of the radius, which makes it about as large as the ball: size alone tells nothing.
    """
    x, y, z = along
    ball = (x * x + y * y + z * z).sqrt() - radius
    cube = torch.maximum(torch.maximum(x, y), z) - 0.8 * radius
    arm = radius / 3
    bars = [
        torch.maximum(torch.maximum(first - radius, second - arm), third - arm)
        for first, second, third in ((x, y, z), (y, x, z), (z, x, y))
    ]
    cross = torch.minimum(torch.minimum(bars[0], bars[1]), bars[2])
    return torch.where(labels == 0, ball, torch.where(labels == 1, cube, cross))


def _uniform(name: str, seed: int, num_rows: int, width: int) -> Tensor:
    return draws.uniform(draws.stream_key(seed, "sample", name), draws.counters(torch.arange(num_rows), width))


def _normal(name: str, seed: int, num_rows: int, width: int) -> Tensor:
    return draws.normal(draws.stream_key(seed, "sample", name), draws.counters(torch.arange(num_rows), width))
