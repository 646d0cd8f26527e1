"""Small made-up problems: points, sequences and shapes, the same for all time.

Every number is drawn by `core.draws`, keyed by the generator's seed and the row, so a longer set begins with the
shorter one's draws. Each generator is registered as `dataset` and takes a DataConfig and its own options.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from lamina.core import draws
from lamina.core.config import Config, Field
from lamina.core.registry import register
from lamina.data.columns import Data, FieldSpec, column_spec
from lamina.data.config import DataConfig
from lamina.data.embedded import embedded_data


class PointsConfig(Config):
    """How many points and how noisy."""

    num_rows: int = Field(1000, description="Number of points.", ge=2)
    noise: float = Field(0.1, description="Standard deviation of the normal noise on each coordinate.", ge=0)
    seed: int = Field(0, description="Seed of the generator; not the run's.")


class XorConfig(PointsConfig):
    """The corners of a square; with num_rows=4 and noise=0 the truth table itself."""

    num_rows: int = Field(400, description="Number of points, dealt to the four corners in turn.", ge=4)


class SpiralsConfig(PointsConfig):
    """Arms that wind around each other."""

    num_rows: int = Field(900, description="Number of points, dealt to the arms in turn.", ge=2)
    noise: float = Field(
        0.03, description="Standard deviation of the normal noise on each coordinate; arms reach radius 1.", ge=0
    )
    num_classes: int = Field(3, description="Number of arms.", ge=2, le=16)
    turns: float = Field(0.75, description="How often an arm goes around.", gt=0, le=4)


class BlobsConfig(PointsConfig):
    """Normal clouds, one per class."""

    noise: float = Field(1.0, description="Standard deviation of each cloud.", ge=0)
    num_classes: int = Field(3, description="Number of clouds.", ge=2)
    num_features: int = Field(2, description="Number of coordinates.", ge=1)
    spread: float = Field(4.0, description="Standard deviation of the clouds' centres.", gt=0)


class RingsConfig(PointsConfig):
    """Gaussians on a circle, without labels: what a generative network has to cover."""

    num_rows: int = Field(10000, description="Number of points, dealt to the modes in turn.", ge=2)
    noise: float = Field(0.02, description="Standard deviation of each mode.", ge=0)
    num_modes: int = Field(8, description="Number of modes on the circle.", ge=1)
    radius: float = Field(2.0, description="Radius of the circle.", gt=0)


class GridConfig(PointsConfig):
    """Gaussians on a square grid, without labels."""

    num_rows: int = Field(10000, description="Number of points, dealt to the modes in turn.", ge=2)
    noise: float = Field(0.05, description="Standard deviation of each mode.", ge=0)
    side: int = Field(5, description="Modes along a side; side * side in all.", ge=1)
    spacing: float = Field(2.0, description="Distance between neighbouring modes.", gt=0)


class SequenceConfig(Config):
    """Sequences of symbols."""

    num_rows: int = Field(5000, description="Number of sequences.", ge=2)
    length: int = Field(10, description="Symbols to remember.", ge=1)
    num_symbols: int = Field(8, description="Different symbols.", ge=2)
    seed: int = Field(0, description="Seed of the generator; not the run's.")


class CopyConfig(SequenceConfig):
    """Symbols, a long wait, and then the same symbols."""

    delay: int = Field(20, description="Blank steps between the last symbol and the recall mark.", ge=0)


class AddingConfig(Config):
    """Two marked numbers in a long sequence."""

    num_rows: int = Field(5000, description="Number of sequences.", ge=2)
    length: int = Field(50, description="Steps of a sequence.", ge=2)
    seed: int = Field(0, description="Seed of the generator; not the run's.")


class ShapesConfig(Config):
    """Squares, circles and triangles of any place, size, turn and brightness."""

    num_rows: int = Field(3000, description="Number of images, dealt to the three classes in turn.", ge=3)
    size: int = Field(28, description="Height and width in pixels.", ge=8, le=512)
    channels: Literal[1, 3] = Field(1, description="1: grey; 3: coloured shapes on a coloured ground.")
    noise: float = Field(
        0.05, description="Standard deviation of the noise on each pixel, as a share of the range.", ge=0, le=1
    )
    seed: int = Field(0, description="Seed of the generator; not the run's.")


@register(
    "dataset",
    "xor",
    config=XorConfig,
    source="Minsky, Papert (1969), Perceptrons",
    example="lamina train xor-mlp",
    task="tabular-classification",
)
def xor(config: DataConfig, options: XorConfig | None = None) -> Data:
    """Points around the corners of the unit square; the class says whether exactly one coordinate is 1."""
    options = options or XorConfig()
    corner = torch.arange(options.num_rows) % 4
    bits = torch.stack([corner // 2, corner % 2], dim=1)
    points = bits.to(torch.float32) + _noise("xor", options, 2)
    return _points("xor", points, bits[:, 0] ^ bits[:, 1], ("0", "1"))


@register(
    "dataset",
    "moons",
    config=PointsConfig,
    source="scikit-learn `make_moons`",
    example="lamina train --data moons",
    task="tabular-classification",
)
def moons(config: DataConfig, options: PointsConfig | None = None) -> Data:
    """Two half circles that reach into each other."""
    options = options or PointsConfig()
    labels = torch.arange(options.num_rows) % 2
    angle = math.pi * _uniform("moons/angle", options.seed, options.num_rows, 1)[:, 0]
    upper = torch.stack([angle.cos(), angle.sin()], dim=1)
    lower = torch.stack([1 - angle.cos(), 0.5 - angle.sin()], dim=1)
    points = torch.where(labels.bool().unsqueeze(1), lower, upper) + _noise("moons", options, 2)
    return _points("moons", points, labels, ("upper", "lower"))


@register(
    "dataset",
    "spirals",
    config=SpiralsConfig,
    source="Lang, Witbrock (1988), Learning to Tell Two Spirals Apart",
    example="lamina train spirals-mlp",
    task="tabular-classification",
)
def spirals(config: DataConfig, options: SpiralsConfig | None = None) -> Data:
    """Arms of a spiral around the origin, one class per arm; no straight line parts them."""
    options = options or SpiralsConfig()
    labels = torch.arange(options.num_rows) % options.num_classes
    radius = 0.05 + 0.95 * _uniform("spirals/radius", options.seed, options.num_rows, 1)[:, 0]
    angle = 2 * math.pi * (labels / options.num_classes + options.turns * radius)
    points = radius.unsqueeze(1) * torch.stack([angle.cos(), angle.sin()], dim=1) + _noise("spirals", options, 2)
    return _points("spirals", points, labels, tuple(str(i) for i in range(options.num_classes)))


@register(
    "dataset",
    "blobs",
    config=BlobsConfig,
    source="scikit-learn `make_blobs`",
    example="lamina train --data blobs",
    task="tabular-classification",
)
def blobs(config: DataConfig, options: BlobsConfig | None = None) -> Data:
    """Normal clouds around drawn centres, one class per cloud."""
    options = options or BlobsConfig()
    labels = torch.arange(options.num_rows) % options.num_classes
    key = draws.stream_key(options.seed, "sample", "blobs/centres")
    centres = options.spread * draws.normal(
        key, draws.counters(torch.arange(options.num_classes), options.num_features)
    )
    points = centres[labels] + _noise("blobs", options, options.num_features)
    return _points("blobs", points, labels, tuple(str(i) for i in range(options.num_classes)))


@register(
    "dataset",
    "rings",
    config=RingsConfig,
    source="Metz, Poole, Pfau, Sohl-Dickstein (2016), arXiv:1611.02163, section 3.3.1",
    example="lamina data rings",
    task="tabular-generation",
)
def rings(config: DataConfig, options: RingsConfig | None = None) -> Data:
    """A ring of Gaussians in the plane, without labels."""
    options = options or RingsConfig()
    angle = 2 * math.pi * (torch.arange(options.num_rows) % options.num_modes) / options.num_modes
    centres = options.radius * torch.stack([angle.cos(), angle.sin()], dim=1)
    return _points("rings", centres + _noise("rings", options, 2))


@register(
    "dataset",
    "grid",
    config=GridConfig,
    source="Dumoulin et al. (2016), arXiv:1606.00704, section 4.2",
    example="lamina data grid",
    task="tabular-generation",
)
def grid(config: DataConfig, options: GridConfig | None = None) -> Data:
    """A square grid of 25 Gaussians in the plane, without labels."""
    options = options or GridConfig()
    mode = torch.arange(options.num_rows) % options.side**2
    place = torch.stack([mode // options.side, mode % options.side], dim=1) - (options.side - 1) / 2
    return _points("grid", options.spacing * place + _noise("grid", options, 2))


@register(
    "dataset",
    "copy",
    config=CopyConfig,
    source="Hochreiter, Schmidhuber (1997), doi:10.1162/neco.1997.9.8.1735; as in Arjovsky, Shah, Bengio (2015), arXiv:1511.06464",
    example="lamina data copy",
    task="token-classification",
)
def copy(config: DataConfig, options: CopyConfig | None = None) -> Data:
    """Symbols, a long wait, a mark, and then the same symbols are wanted.

    Columns `tokens` and `targets`, int64 (N, T) with T = 2 * length + delay: 0 is blank, 1 … num_symbols are symbols,
    num_symbols + 1 is the recall mark on the last blank before the symbols are wanted.
    """
    options = options or CopyConfig()
    symbols = _symbols("copy", options)  # (N, L)
    blank = torch.zeros(options.num_rows, options.length + options.delay, dtype=torch.int64)
    targets = torch.cat([blank, symbols], dim=1)
    tokens = torch.cat([symbols, blank], dim=1)
    tokens[:, options.length + options.delay - (options.delay > 0)] = options.num_symbols + 1
    return _sequences("copy", tokens, targets, options)


@register(
    "dataset",
    "reverse",
    config=SequenceConfig,
    source="Sutskever, Vinyals, Le (2014), arXiv:1409.3215, made into a problem of its own",
    example="lamina data reverse",
    task="translation",
)
def reverse(config: DataConfig, options: SequenceConfig | None = None) -> Data:
    """Symbols, and the same symbols backwards.

    Columns `tokens` and `targets`, int64 (N, length): 1 … num_symbols are symbols; 0 is kept for padding.
    """
    options = options or SequenceConfig()
    symbols = _symbols("reverse", options)
    return _sequences("reverse", symbols, symbols.flip(1).contiguous(), options)


@register(
    "dataset",
    "adding",
    config=AddingConfig,
    source="Hochreiter, Schmidhuber (1997), doi:10.1162/neco.1997.9.8.1735, experiment 4",
    example="lamina train adding-lstm 'data.options={length: 50}'",
    task="time-series-regression",
)
def adding(config: DataConfig, options: AddingConfig | None = None) -> Data:
    """A long sequence of numbers, two of them marked, one in each half: what is their sum?

    Column `signal` float32 (N, 2, length): numbers in [0, 1) and marks 0 or 1; `target` float32 (N, 1). Always
    answering 1 has a mean squared error of 1/6.
    """
    options = options or AddingConfig()
    values = _uniform("adding/values", options.seed, options.num_rows, options.length)
    half = options.length // 2
    place = _uniform("adding/places", options.seed, options.num_rows, 2)
    first = (place[:, 0] * half).to(torch.int64)
    second = half + (place[:, 1] * (options.length - half)).to(torch.int64)
    rows = torch.arange(options.num_rows)
    marks = torch.zeros_like(values)
    marks[rows, first] = 1.0
    marks[rows, second] = 1.0
    signal = torch.stack([values, marks], dim=1)
    target = (values * marks).sum(1, keepdim=True)
    specs = {
        "signal": column_spec("series", signal, fields=(FieldSpec(name="value"), FieldSpec(name="mark"))),
        "target": column_spec("target", target, fields=(FieldSpec(name="sum"),)),
    }
    return embedded_data("adding", {"signal": signal, "target": target}, specs)


@register(
    "dataset",
    "shapes",
    config=ShapesConfig,
    source="Made for Lamina",
    example="lamina train --data shapes",
    task="image-classification",
)
def shapes(config: DataConfig, options: ShapesConfig | None = None) -> Data:
    """Small images of squares, circles and triangles of any place, size, turn and brightness."""
    options = options or ShapesConfig()
    num_rows, size, channels = options.num_rows, options.size, options.channels
    labels = torch.arange(num_rows) % 3
    place = _uniform("shapes/place", options.seed, num_rows, 4)
    radius = size * (0.18 + 0.17 * place[:, 0])
    centre = radius.unsqueeze(1) + place[:, 1:3] * (size - 2 * radius).unsqueeze(1)  # (N, 2), wholly inside
    turn = 2 * math.pi * place[:, 3]
    colour = _uniform("shapes/colour", options.seed, num_rows, 2 * channels)
    ground = 0.35 * colour[:, :channels]
    ink = 0.6 + 0.4 * colour[:, channels:]
    axis = torch.arange(size, dtype=torch.float32) + 0.5
    images = torch.empty(num_rows, channels, size, size, dtype=torch.uint8)
    for start in range(0, num_rows, 1024):  # bounded memory
        rows = slice(start, min(start + 1024, num_rows))
        x = axis.view(1, 1, -1) - centre[rows, 0].view(-1, 1, 1)
        y = axis.view(1, -1, 1) - centre[rows, 1].view(-1, 1, 1)
        distance = _distance(x, y, radius[rows].view(-1, 1, 1), turn[rows].view(-1, 1, 1), labels[rows].view(-1, 1, 1))
        cover = (0.5 - distance).clamp(0, 1).unsqueeze(1)  # (B, 1, H, W), smooth over one pixel
        picture = ground[rows, :, None, None] * (1 - cover) + ink[rows, :, None, None] * cover
        if options.noise > 0:
            key = draws.stream_key(options.seed, "sample", "shapes/noise")
            numbers = torch.arange(num_rows)[rows]
            width = channels * size * size
            picture = picture + options.noise * draws.normal(key, draws.counters(numbers, width)).view_as(picture)
        images[rows] = (picture * 255).round().clamp(0, 255).to(torch.uint8)
    specs = {
        "image": column_spec("image", images),
        "label": column_spec("label", labels, classes=("square", "circle", "triangle")),
    }
    return embedded_data("shapes", {"image": images, "label": labels}, specs)


def _distance(x: Tensor, y: Tensor, radius: Tensor, turn: Tensor, labels: Tensor) -> Tensor:
    """Signed distance (pixels, negative inside) to a square (0), circle (1) or triangle (2) inscribed in `radius`."""
    across = x * turn.cos() + y * turn.sin()
    along = y * turn.cos() - x * turn.sin()
    square = torch.maximum(across.abs(), along.abs()) - radius / math.sqrt(2)
    circle = (x * x + y * y).sqrt() - radius
    sides = [across * math.cos(angle) + along * math.sin(angle) for angle in (0, 2 * math.pi / 3, 4 * math.pi / 3)]
    triangle = torch.maximum(torch.maximum(sides[0], sides[1]), sides[2]) - radius / 2
    return torch.where(labels == 0, square, torch.where(labels == 1, circle, triangle))


def _uniform(name: str, seed: int, num_rows: int, width: int) -> Tensor:
    key = draws.stream_key(seed, "sample", name)
    return draws.uniform(key, draws.counters(torch.arange(num_rows), width))


def _noise(name: str, options: PointsConfig, width: int) -> Tensor:
    key = draws.stream_key(options.seed, "sample", f"{name}/noise")
    return options.noise * draws.normal(key, draws.counters(torch.arange(options.num_rows), width))


def _symbols(name: str, options: SequenceConfig) -> Tensor:
    drawn = _uniform(name, options.seed, options.num_rows, options.length)
    return 1 + (drawn * options.num_symbols).to(torch.int64)


def _points(name: str, points: Tensor, labels: Tensor | None = None, classes: tuple[str, ...] = ()) -> Data:
    names = ("x", "y") if points.shape[1] == 2 else tuple(f"x{i}" for i in range(points.shape[1]))
    tensors = {"number": points.to(torch.float32)}
    specs = {"number": column_spec("number", tensors["number"], fields=tuple(FieldSpec(name=field) for field in names))}
    if labels is not None:
        tensors["label"] = labels.to(torch.int64)
        specs["label"] = column_spec("label", tensors["label"], classes=classes)
    return embedded_data(name, tensors, specs)


def _sequences(name: str, tokens: Tensor, targets: Tensor, options: SequenceConfig) -> Data:
    classes = ("blank", *(str(i) for i in range(1, options.num_symbols + 1)))
    if name == "copy":
        classes = (*classes, "recall")
    specs = {
        "tokens": column_spec("tokens", tokens, classes=classes),
        "targets": column_spec("tokens", targets, classes=classes),
    }
    return embedded_data(name, {"tokens": tokens, "targets": targets}, specs)
