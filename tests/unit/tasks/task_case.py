"""Small data and pipelines for tests of tasks, pipelines and bundles."""

from __future__ import annotations

from typing import Any

import torch

from lamina.core import registry
from lamina.data.columns import Columns, Data, DataSpec, FieldSpec, column_spec
from lamina.data.preprocessing import Preprocessing
from lamina.models.factory import create_model
from lamina.tasks.base import Context, Task
from lamina.tasks.pipeline import Pipeline


def images(num_rows: int = 24, *, classes: tuple[str, ...] = ("cat", "dog", "owl"), seed: int = 0) -> Data:
    """Grey 6x6 images whose brightness tells the class; a group column of two values."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(num_rows) % len(classes)
    pixels = torch.randint(0, 60, (num_rows, 1, 6, 6), generator=generator)
    pixels = (pixels + label.view(-1, 1, 1, 1) * (190 // len(classes))).to(torch.uint8)
    columns = Columns(
        {"image": pixels, "label": label, "camera": torch.arange(num_rows) // 2 % 2},
        origin=[f"{number}.png" for number in range(num_rows)],
    )
    specs = {
        "image": column_spec("image", pixels),
        "label": column_spec("label", label, classes=classes),
        "camera": column_spec("group", columns["camera"], classes=("old", "new")),
    }
    return Data(splits={"train": columns}, spec=DataSpec(columns=specs, num_rows={"train": num_rows}))


def table(num_rows: int = 30, *, num_targets: int = 1, seed: int = 0) -> Data:
    """Two numbers and a category; targets far from zero with a large spread, and their mean and std in the spec."""
    generator = torch.Generator().manual_seed(seed)
    number = torch.randn(num_rows, 2, generator=generator)
    category = torch.randint(0, 2, (num_rows, 1), generator=generator)
    target = 1000.0 + 200.0 * (number[:, :1] + category) * torch.arange(1, num_targets + 1)
    columns = Columns({"number": number, "category": category, "target": target})
    specs = {
        "number": column_spec("number", number, fields=(FieldSpec(name="size"), FieldSpec(name="age"))),
        "category": column_spec("category", category, fields=(FieldSpec(name="colour", classes=("red", "blue")),)),
        "target": column_spec(
            "target",
            target,
            fields=tuple(FieldSpec(name=f"price{number}") for number in range(num_targets)),
            mean=tuple(target.mean(0).tolist()),
            std=tuple(target.std(0, correction=0).tolist()),
        ),
    }
    return Data(splits={"train": columns}, spec=DataSpec(columns=specs, num_rows={"train": num_rows}))


def make_pipeline(
    data: Data, task: str, *, model: str = "mlp", seed: int = 0, task_options: Any = None, **options: Any
) -> Pipeline:
    """An untrained pipeline for the data."""
    preprocessing = Preprocessing.fit(None, data.splits["train"], data.spec)
    if model == "mlp":
        options = {"hidden_sizes": (8,), **options}
    net = create_model(model, preprocessing.spec, seed=seed, **options)
    return Pipeline(net.eval(), make_task(task, preprocessing.spec, **(task_options or {})), preprocessing, data.spec)


def make_task(name: str, spec: DataSpec, **options: Any) -> Task:
    """A task by name."""
    entry = registry.lookup("task", name)
    assert entry.config is not None
    made = entry.target(entry.config(**options), spec)
    assert isinstance(made, Task)
    return made


def one_batch(pipeline: Pipeline, data: Data) -> dict[str, torch.Tensor]:
    """All training rows, preprocessed."""
    columns = data.splits["train"]
    return pipeline.preprocessing(columns.batch(torch.arange(columns.num_rows)))


def train_a_little(pipeline: Pipeline, data: Data, *, steps: int = 60, lr: float = 0.05) -> Pipeline:
    """Plain Adam on the whole batch, without the Trainer."""
    model = pipeline.model.train()
    update = pipeline.task.updates(model)[0]
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    batch = one_batch(pipeline, data)
    for _ in range(steps):
        optimizer.zero_grad()
        update.loss(batch, Context(training=True), {})[0].total().backward()
        optimizer.step()
    model.eval()
    return pipeline
