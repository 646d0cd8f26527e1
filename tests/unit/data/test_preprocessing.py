"""Preprocessing: what each step gives, what is refused, leakage, restoring, tracing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from lamina.core.errors import BundleError, ConfigError, DataError, ShapeError, UnknownNameError
from lamina.data.columns import Columns, DataSpec, FieldSpec, column_spec
from lamina.data.config import DataConfig
from lamina.data.decoded_ahead import LoadedColumns, RowLoader
from lamina.data.embedded import digits
from lamina.data.preprocess.flow import Affine
from lamina.data.preprocessing import Preprocessing, default_steps
from lamina.data.splits import split_data

NAN = float("nan")


def table(number: Tensor | None = None, category: Tensor | None = None, **extra: Tensor) -> tuple[Columns, DataSpec]:
    tensors: dict[str, Tensor] = {}
    specs = {}
    if number is not None:
        tensors["number"] = number
        fields = tuple(FieldSpec(name=f"n{i}") for i in range(number.shape[1]))
        specs["number"] = column_spec("number", number, fields=fields)
    if category is not None:
        tensors["category"] = category
        names = ("red", "green", "blue")
        fields = tuple(FieldSpec(name=f"k{i}", classes=names) for i in range(category.shape[1]))
        specs["category"] = column_spec("category", category, fields=fields)
    for name, tensor in extra.items():
        tensors[name] = tensor
        specs[name] = column_spec("label" if name == "label" else "group", tensor)
    columns = Columns(tensors)
    return columns, DataSpec(columns=specs, num_rows={"train": columns.num_rows})


def images(tensor: Tensor, **more: Any) -> tuple[Columns, DataSpec]:
    columns = Columns({"image": tensor})
    spec = DataSpec(columns={"image": column_spec("image", tensor, **more)}, num_rows={"train": len(tensor)})
    return columns, spec


def run(steps: Any, columns: Columns, spec: DataSpec) -> Tensor:
    out = Preprocessing.fit(steps, columns, spec)(dict(columns))
    return out["image"] if "image" in out else out["features"]


PIXELS = torch.arange(5 * 3 * 4 * 2, dtype=torch.uint8).view(5, 3, 4, 2)


def test_pixels_are_scaled_by_their_type() -> None:
    out = run(None, *images(PIXELS))
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, PIXELS.float() / 255, rtol=1e-6, atol=0)


def test_a_declared_maximum_counts() -> None:
    out = run(None, *images(PIXELS % 17, maximum=16.0))
    torch.testing.assert_close(out, (PIXELS % 17).float() / 16, rtol=1e-6, atol=0)


def test_float_images_are_scaled_by_one_range_of_the_training_split() -> None:
    out = run([{"name": "scale", "low": -1, "high": 1}], *images(PIXELS.float() * 3 - 7))
    assert (float(out.min()), float(out.max())) == (-1.0, 1.0)


@pytest.mark.parametrize(("per", "dims"), [(None, (0, 2, 3)), ("channel", (0, 2, 3)), ("feature", (0,))])
def test_images_are_standardised_per_channel_or_pixel(per: str | None, dims: tuple[int, ...]) -> None:
    out = run(["scale", {"name": "standardise", "per": per}], *images(PIXELS)).double()
    assert out.mean(dims).abs().max() < 1e-6
    assert (out.std(dims, correction=0) - 1).abs().max() < 1e-6


def test_centring_leaves_the_spread() -> None:
    out = run([{"name": "centre", "per": "feature"}], *images(PIXELS)).double()
    assert out.mean(0).abs().max() < 1e-5
    torch.testing.assert_close(out.std(0), PIXELS.double().std(0), rtol=1e-6, atol=1e-6)


def test_neighbouring_affine_steps_become_one_multiply_add() -> None:
    columns, spec = images(PIXELS)
    made = Preprocessing.fit(["scale", "centre", {"name": "standardise", "per": "feature"}], columns, spec)
    assert [type(operation) for operation in made.operations] == [Affine]


def test_statistics_of_many_chunks_equal_those_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    columns, spec = images((torch.arange(97 * 48) * 37 % 251).to(torch.uint8).view(97, 3, 4, 4))
    steps = ["scale", {"name": "standardise", "per": "feature"}, {"name": "pca", "num_components": 5}]
    whole = Preprocessing.fit(steps, columns, spec)
    monkeypatch.setattr("lamina.data.preprocessing.CHUNK_ELEMENTS", 500)
    pieces = Preprocessing.fit(steps, columns, spec)
    for name, tensor in whole.tensors().items():
        torch.testing.assert_close(tensor, pieces.tensors()[name], rtol=1e-5, atol=1e-6)


class _Stored(RowLoader):
    def __init__(self, images: Tensor) -> None:
        self.images, self.shape, self.dtype = images, tuple(images.shape), images.dtype

    def load(self, rows: Sequence[int]) -> Tensor:
        return self.images[list(rows)]


def test_columns_loaded_on_demand_are_fitted_chunk_by_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    columns, spec = images(PIXELS)
    monkeypatch.setattr("lamina.data.preprocessing.CHUNK_ELEMENTS", 50)
    stored = LoadedColumns({}, loaders={"image": _Stored(PIXELS)}, max_bytes=1)
    wanted = Preprocessing.fit(["scale", "standardise"], columns, spec).tensors()
    for name, tensor in Preprocessing.fit(["scale", "standardise"], stored, spec).tensors().items():
        torch.testing.assert_close(tensor, wanted[name])


def test_a_table_is_imputed_encoded_and_standardised() -> None:
    number = torch.tensor([[1.0, 5.0], [NAN, 5.0], [3.0, 5.0]])
    columns, spec = table(number, torch.tensor([[0], [2], [-1]]), label=torch.tensor([0, 1, 0]))
    made = Preprocessing.fit(None, columns, spec)
    out = made({**columns, "row": torch.arange(3)})
    assert set(out) == {"features", "label", "row"}
    a = 1.5**0.5
    expected = torch.tensor([[-a, 0, 1, 0], [0, 0, 0, 1], [a, 0, 0, 0]])
    torch.testing.assert_close(out["features"], expected, rtol=1e-6, atol=1e-6)
    assert [field.name for field in made.spec.columns["features"].fields] == ["n0", "n1", "k0=red", "k0=blue"]
    assert made.spec.columns["features"].shape == (4,)
    assert "number" not in made.spec.columns
    assert made.spec.columns["label"] == spec.columns["label"]


def test_unknown_categories_give_zeros_and_are_counted() -> None:
    columns, spec = table(category=torch.tensor([[0, 1], [1, 1]]))
    made = Preprocessing.fit(None, columns, spec)
    later = Columns({"category": torch.tensor([[2, 1], [-1, 0]])})
    out = made(dict(later))["features"]
    assert out.tolist() == [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    assert made.count_unknown(later) == {"k0": 2, "k1": 1}


def test_frequent_categories_can_stand_in() -> None:
    columns, spec = table(category=torch.tensor([[0], [1], [1], [-1]]))
    out = run([{"name": "impute", "category": "most-frequent"}, "one-hot"], columns, spec)
    assert out.tolist() == [[1, 0], [0, 1], [0, 1], [0, 1]]


@pytest.mark.parametrize(("strategy", "fill"), [("mean", 3.25), ("median", 2.5), ("most-frequent", 1.0)])
def test_impute_strategies_and_indicator(strategy: str, fill: float) -> None:
    number = torch.tensor([[1.0, 0.0], [NAN, 0.0], [1.0, 0.0], [4.0, 0.0], [7.0, 0.0]])
    out = run([{"name": "impute", "strategy": strategy, "indicator": True}], *table(number))
    assert out[1].tolist() == [fill, 0.0, 1.0]
    assert out[:, 2].tolist() == [0, 1, 0, 0, 0]


def test_marks_keep_their_values_when_numbers_are_scaled() -> None:
    number = torch.tensor([[1.0], [NAN], [5.0]])
    columns, spec = table(number, torch.tensor([[0], [1], [1]]))
    for step in ("scale", "standardise", "centre"):
        out = run([{"name": "impute", "indicator": True}, "one-hot", step], columns, spec)
        assert out[:, 1:].tolist() == [[0, 1, 0], [1, 0, 1], [0, 0, 1]]


def test_a_column_without_any_training_value_becomes_zero() -> None:
    out = run(None, *table(torch.tensor([[NAN, 1.0], [NAN, 2.0]])))
    assert out[:, 0].tolist() == [0.0, 0.0]
    for step in ("scale", "centre", "standardise"):
        out = run([step, "impute"], *table(torch.tensor([[NAN, 1.0], [NAN, 2.0]])))
        assert bool(torch.isfinite(out).all())


@pytest.mark.parametrize("step", ["scale", "standardise"])
def test_constant_features_do_not_divide_by_zero(step: str) -> None:
    # 0.1 is not exact: the computed deviation of equal values may not be zero.
    out = run([step], *table(torch.full((1000, 2), 0.1)))
    assert out.abs().max() < 1e-6


def test_missing_values_that_no_step_fills_are_refused() -> None:
    with pytest.raises(DataError, match="feature 'n1' has 2 missing values of 3") as error:
        Preprocessing.fit(["standardise"], *table(torch.tensor([[1.0, NAN], [2.0, NAN], [3.0, 1.0]])))
    assert "impute" in error.value.mend
    with pytest.raises(DataError, match="feature 'n1' has 2 missing values"):
        Preprocessing.fit(["pca", "impute"], *table(torch.tensor([[1.0, NAN], [2.0, NAN], [3.0, 1.0]])))


def test_pca_gives_uncorrelated_features_and_whitening_unit_variance() -> None:
    generator = torch.Generator().manual_seed(0)
    number = torch.randn(200, 6, generator=generator) @ torch.randn(6, 6, generator=generator) + 10
    plain = run([{"name": "pca", "num_components": 4}], *table(number)).double()
    off = torch.cov(plain.T) - torch.diag(torch.cov(plain.T).diagonal())
    assert off.abs().max() < 1e-4
    white = run([{"name": "pca", "num_components": 4, "whiten": True}], *table(number)).double()
    torch.testing.assert_close(torch.cov(white.T), torch.eye(4).double(), rtol=0, atol=1e-4)


def test_axes_point_one_way_only() -> None:
    number = torch.randn(60, 8, generator=torch.Generator().manual_seed(5))
    first = Preprocessing.fit(["pca"], *table(number)).tensors()["0.axes"]
    largest = first.gather(0, first.abs().argmax(0, keepdim=True))
    assert bool((largest > 0).all())


def test_pca_by_variance_keeps_the_fewest_axes() -> None:
    number = torch.randn(500, 3, generator=torch.Generator().manual_seed(1)) * torch.tensor([10.0, 3.0, 0.1])
    columns, spec = table(number)
    for share, wanted in ((0.5, 1), (0.99, 2), (1.0, 3)):
        made = Preprocessing.fit([{"name": "pca", "variance": share}], columns, spec)
        assert made.spec.columns["features"].shape == (wanted,)


def test_pca_of_wide_rows_equals_pca_of_the_covariance() -> None:
    wide = torch.randn(7, 40, generator=torch.Generator().manual_seed(2))
    columns, spec = table(wide)
    made = Preprocessing.fit([{"name": "pca", "num_components": 4}], columns, spec)
    _, _, axes = torch.linalg.svd(wide.double() - wide.double().mean(0), full_matrices=False)
    wanted = (wide.double() - wide.double().mean(0)) @ axes[:4].T
    got = made(dict(columns))["features"].double()
    signs = (got * wanted).sum(0).sign()
    torch.testing.assert_close(got, wanted * signs, rtol=1e-4, atol=1e-4)
    with pytest.raises(ConfigError, match="span 6 only"):
        Preprocessing.fit([{"name": "pca", "num_components": 7}], columns, spec)


def test_zca_makes_the_covariance_the_identity_and_keeps_the_shape() -> None:
    pixels = torch.randint(0, 256, (400, 1, 5, 5), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    columns, spec = images(pixels)
    out = run(["scale", {"name": "zca", "epsilon": 0.0}], columns, spec)
    assert out.shape == (400, 1, 5, 5)
    covariance = torch.cov(out.flatten(1).double().T)
    torch.testing.assert_close(covariance, torch.eye(25).double(), rtol=0, atol=1e-4)


def test_flatten_gives_features() -> None:
    columns, spec = images(PIXELS)
    made = Preprocessing.fit(["scale", "flatten", "standardise"], columns, spec)
    assert made(dict(columns))["features"].shape == (5, 24)
    assert made.spec.columns["features"].shape == (24,)


def test_none_only_changes_the_type() -> None:
    out = run([{"name": "none"}], *images(PIXELS))
    assert out.dtype == torch.float32
    assert torch.equal(out, PIXELS.float())


def test_data_without_images_and_numbers_passes_through() -> None:
    tokens = torch.arange(6).view(3, 2)
    spec = DataSpec(columns={"tokens": column_spec("tokens", tokens)}, num_rows={"train": 3})
    made = Preprocessing.fit(None, Columns({"tokens": tokens}), spec)
    assert default_steps(spec) == ()
    assert made({"tokens": tokens})["tokens"] is tokens
    assert made.spec == spec
    with pytest.raises(ConfigError, match="neither images nor numbers"):
        Preprocessing.fit(["scale"], Columns({"tokens": tokens}), spec)


def test_only_the_training_split_is_looked_at() -> None:
    number = torch.randn(100, 3, generator=torch.Generator().manual_seed(4))
    category = torch.zeros(100, 1, dtype=torch.int64)
    columns, spec = table(number, category)
    train = columns.take(torch.arange(60))
    first = Preprocessing.fit(None, train, spec)
    number[60:] = 1e6
    category[60:] = 2
    second = Preprocessing.fit(None, train, spec)
    for name, tensor in first.tensors().items():
        assert torch.equal(tensor, second.tensors()[name])
    assert [field.name for field in second.spec.columns["features"].fields] == ["n0", "n1", "n2", "k0=red"]


CHAINS: list[Any] = [
    None,
    ["scale", {"name": "standardise", "per": "feature"}],
    ["scale", {"name": "zca", "epsilon": 0.1}, "centre"],
    [{"name": "pca", "num_components": 9, "whiten": True}, "scale"],
]


@pytest.mark.parametrize("steps", CHAINS)
def test_a_restored_chain_gives_the_same_bits(steps: Any) -> None:
    data = split_data(digits(DataConfig()), DataConfig(), seed=0)
    made = Preprocessing.fit(steps, data.splits["train"], data.spec)
    document = json.loads(json.dumps(made.describe()))
    again = Preprocessing.restore(document, made.tensors(), data.spec)
    batch = data.splits["valid"].batch(torch.arange(50))
    first, second = made(batch), again(batch)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert again.spec == made.spec


def test_a_restored_table_gives_the_same_bits() -> None:
    columns, spec = table(torch.tensor([[1.0, 2.0], [NAN, 3.0], [5.0, 7.0]]), torch.tensor([[0], [1], [-1]]))
    made = Preprocessing.fit([{"name": "impute", "indicator": True}, "one-hot", "standardise"], columns, spec)
    again = Preprocessing.restore(made.describe(), made.tensors(), spec)
    assert torch.equal(again(dict(columns))["features"], made(dict(columns))["features"])


def _tampered(change: Any) -> tuple[dict[str, Any], dict[str, Tensor], DataSpec]:
    columns, spec = table(torch.tensor([[1.0], [2.0]]), torch.tensor([[0], [1]]))
    made = Preprocessing.fit(None, columns, spec)
    document, tensors = made.describe(), dict(made.tensors())
    change(document, tensors)
    return document, tensors, spec


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d, t: t.pop("2.std"), "has the tensors"),
        (lambda d, t: t.update({"7.mean": torch.zeros(1)}), "belongs to no step"),
        (lambda d, t: t.update({"2.mean": torch.zeros(9).double()}), "is torch.float64, shaped"),
        (lambda d, t: t.update({"2.mean": torch.tensor([NAN]).double()}), "not finite"),
        (lambda d, t: t.update({"2.std": torch.zeros(3).double()}), "contradict"),
        (lambda d, t: t.update({"1.code": torch.tensor([0, 99])}), "contradict"),
        (lambda d, t: t.update({"1.field": torch.tensor([0, -1])}), "contradict"),
        (lambda d, t: t.update({"0.marked": torch.tensor([5])}), "contradict"),
        (lambda d, t: d.update({"extra": 1}), "has the keys"),
        (lambda d, t: d["steps"][2].update({"epsilon": -1}), "epsilon"),
        (lambda d, t: d["steps"].pop(), "belongs to no step"),
    ],
)
def test_tampered_bundles_are_refused(change: Any, message: str) -> None:
    document, tensors, spec = _tampered(change)
    with pytest.raises(BundleError, match=message):
        Preprocessing.restore(document, tensors, spec, where="x.bundle/preprocessing.json")


@pytest.mark.parametrize(
    ("steps", "error", "message"),
    [
        ([{"name": "scales"}], UnknownNameError, "no preprocessing called 'scales'"),
        ([{"kind": "scale"}], ConfigError, "has no name"),
        ([{"name": "standardise", "epsilo": 1}], ConfigError, "no key 'epsilo'"),
        ([{"name": "scale", "low": 1, "high": 0}], ConfigError, "empty"),
        (["impute"], ConfigError, "no missing values"),
        (["one-hot"], ConfigError, "no categories"),
        (["flatten", "flatten"], ConfigError, "flat already"),
        (["flatten", {"name": "standardise", "per": "channel"}], ConfigError, "no channels"),
        ([{"name": "pca", "num_components": 100}], ConfigError, "100 components are wanted"),
        ([{"name": "pca", "num_components": 2, "variance": 0.5}], ConfigError, "how many axes"),
    ],
)
def test_steps_that_cannot_work_are_refused(steps: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Preprocessing.fit(steps, *images(PIXELS))


def test_other_refusals() -> None:
    with pytest.raises(ConfigError, match="categories that no step turns into numbers: k0"):
        Preprocessing.fit(["standardise"], *table(torch.ones(2, 1), torch.zeros(2, 1, dtype=torch.int64)))
    with pytest.raises(DataError, match="no training rows"):
        Preprocessing.fit(None, *images(PIXELS[:0]))
    with pytest.raises(DataError, match="training rows are the same"):
        Preprocessing.fit(["pca"], *images(PIXELS[:1].repeat(4, 1, 1, 1)))


def test_batches_of_another_shape_are_refused() -> None:
    made = Preprocessing.fit(None, *images(PIXELS))
    with pytest.raises(ShapeError, match=r"\(5, 4, 2, 3\)"):
        made({"image": PIXELS.permute(0, 2, 3, 1)})
    with pytest.raises(ShapeError, match="no column 'image'"):
        made({"number": torch.ones(2, 2)})
    made = Preprocessing.fit(None, *table(torch.randn(4, 3)))
    with pytest.raises(ShapeError, match=r"number is shaped \(4, 2\)"):
        made({"number": torch.ones(4, 2)})


@pytest.mark.parametrize("steps", CHAINS)
def test_inputs_are_left_alone(steps: Any) -> None:
    floats = PIXELS.float()
    columns, spec = images(floats.clone())
    if steps is CHAINS[3]:
        steps = [{"name": "pca", "num_components": 1}, "scale"]
    made = Preprocessing.fit(steps, columns, spec)
    made({"image": columns["image"]})
    assert torch.equal(columns["image"], floats)


def test_it_traces_and_transforms() -> None:
    data = split_data(digits(DataConfig()), DataConfig(), seed=0)
    made = Preprocessing.fit(["scale", "zca"], data.splits["train"], data.spec)
    batch = {"image": data.splits["train"]["image"][:4]}
    exported = torch.export.export(made, (batch,))
    torch.testing.assert_close(exported.module()(batch)["image"], made(batch)["image"])
    vmapped = torch.func.vmap(lambda image: made({"image": image.unsqueeze(0)})["image"][0])(batch["image"])
    torch.testing.assert_close(vmapped, made(batch)["image"], rtol=1e-4, atol=1e-4)


def test_it_has_neither_parameters_nor_a_state_dict() -> None:
    made = Preprocessing.fit(["scale", "standardise"], *images(PIXELS))
    assert not list(made.parameters())
    assert not made.state_dict()
    assert made.to(torch.device("cpu")) is made
