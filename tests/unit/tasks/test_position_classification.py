"""Classification of signals and volumes: preprocessing, checks, inputs of prediction, judging of other files, bundles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lamina.core.errors import ConfigError, DataError, DtypeError, LaminaError, ShapeError
from lamina.data.columns import Columns, ColumnSpec, DataSpec
from lamina.data.inputs import read_inputs
from lamina.data.inspection import inspect_data
from lamina.data.loading import load_data, load_like
from lamina.data.preprocessing import Preprocessing, default_steps
from lamina.models.factory import create_model
from lamina.recipes.choose import choose_recipe
from lamina.tasks.classification import ClassificationConfig
from lamina.tasks.position_classification import TimeSeriesClassification, VolumeClassification

LABEL = ColumnSpec(role="label", dtype="int64", classes=("a", "b"))


def spec_of(kind: str, shape: tuple[int, ...], dtype: str = "float32", **more: object) -> DataSpec:
    role = "series" if kind == "signal" else "volume"
    column = ColumnSpec(role=role, dtype=dtype, shape=shape, **more)  # type: ignore[arg-type]
    return DataSpec(columns={kind: column, "label": LABEL}, num_rows={"train": 8})


def columns_of(kind: str, tensor: Tensor) -> Columns:
    return Columns({kind: tensor, "label": torch.arange(len(tensor)) % 2})


# --- preprocessing ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "shape"), [("signal", (3, 20)), ("volume", (2, 4, 5, 6))])
def test_standardise_per_channel(kind: str, shape: tuple[int, ...]) -> None:
    offset = torch.arange(shape[0]).view(-1, *(1,) * (len(shape) - 1))
    values = (torch.randn(50, *shape, generator=torch.Generator().manual_seed(0)) + offset) * (1 + offset)
    spec = spec_of(kind, shape)
    fitted = Preprocessing.fit([{"name": "standardise"}], columns_of(kind, values), spec)
    out = fitted({kind: values, "row": torch.arange(50)})
    dims = (0, *range(2, len(shape) + 1))
    torch.testing.assert_close(out[kind].mean(dims), torch.zeros(shape[0]), atol=1e-5, rtol=0)
    torch.testing.assert_close(out[kind].var(dims, correction=0), torch.ones(shape[0]), atol=1e-4, rtol=0)
    assert fitted.tensors()["0.mean"].shape == (shape[0],)
    assert fitted.spec.columns[kind].shape == shape
    assert fitted.spec.columns[kind].role == spec.columns[kind].role
    again = Preprocessing.restore(fitted.describe(), fitted.tensors(), spec)
    assert torch.equal(again({kind: values})[kind], out[kind])


def test_per_feature_and_flatten() -> None:
    values = torch.rand(30, 2, 7)
    spec = spec_of("signal", (2, 7))
    steps = [{"name": "scale"}, {"name": "centre", "per": "feature"}, {"name": "flatten"}]
    fitted = Preprocessing.fit(steps, columns_of("signal", values), spec)
    out = fitted({"signal": values})
    assert set(out) == {"features"}
    torch.testing.assert_close(out["features"].mean(0), torch.zeros(14), atol=1e-6, rtol=0)
    assert fitted.spec.columns["features"].shape == (14,)


def test_bytes_are_scaled_by_their_type() -> None:
    values = torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1, 1).expand(3, 1, 2, 2, 2)
    spec = spec_of("volume", (1, 2, 2, 2), "uint8")
    assert default_steps(spec) == ({"name": "scale"},)
    assert default_steps(spec_of("signal", (1, 4))) == ({"name": "standardise"},)
    fitted = Preprocessing.fit(None, columns_of("volume", values.contiguous()), spec)
    assert fitted({"volume": values})["volume"][:, 0, 0, 0, 0].tolist() == pytest.approx([0.0, 0.2, 1.0])


def test_other_shapes_are_refused() -> None:
    fitted = Preprocessing.fit(None, columns_of("signal", torch.rand(8, 2, 5)), spec_of("signal", (2, 5)))
    with pytest.raises(ShapeError) as caught:
        fitted({"signal": torch.rand(3, 5, 2)})
    assert "signals.transpose(1, 2)" in caught.value.mend
    with pytest.raises(ConfigError, match="Rows of features have no size"):
        Preprocessing.fit(
            [{"name": "resize", "size": [2, 2]}], columns_of("signal", torch.rand(8, 2, 5)), spec_of("signal", (2, 5))
        )


# --- tasks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "kind", "shape", "model"),
    [
        (TimeSeriesClassification, "signal", (2, 30), "cnn1d"),
        (VolumeClassification, "volume", (1, 8, 9, 10), "cnn3d"),
        (TimeSeriesClassification, "signal", (2, 30), "mlp"),
        (VolumeClassification, "volume", (1, 8, 9, 10), "linear"),
        (VolumeClassification, "volume", (1, 8, 9, 10), "knn"),
    ],
)
def test_models_that_fit(task, kind: str, shape: tuple[int, ...], model: str) -> None:
    spec = spec_of(kind, shape)
    network = create_model(model, spec, seed=0)
    checked = task(ClassificationConfig(), spec)
    if model != "knn":
        checked.check(spec, network)
        assert checked.forward(network, {kind: torch.rand(3, *shape)}, None)["logits"].shape == (3, 2)
    assert kind in checked.input_columns()


def test_data_of_another_kind_is_refused() -> None:
    images = DataSpec(
        columns={"image": ColumnSpec(role="image", dtype="uint8", shape=(1, 8, 8)), "label": LABEL}, num_rows={}
    )
    with pytest.raises(DataError) as caught:
        TimeSeriesClassification(ClassificationConfig(), images).check(images, create_model("mlp", images))
    assert "holds images, no signals" in caught.value.what
    assert "data.reader=signal" in caught.value.mend
    spec = spec_of("volume", (1, 8, 8, 8))
    task, other = VolumeClassification(ClassificationConfig(), spec), create_model("cnn3d", volume_size=(9, 9, 9))
    with pytest.raises(ShapeError, match="got volumes shaped"):
        task.check(spec, other)


def test_the_recipe_is_chosen_and_the_data_described() -> None:
    for name, recipe in (("signals", "signal-cnn1d"), ("volumes", "volume-cnn3d")):
        data = load_data(name)
        assert choose_recipe(data).name == recipe
        own = load_data((data.splits["all"][name[:-1]][:30], data.splits["all"]["label"][:30]), reader=name[:-1])
        assert choose_recipe(own).name == recipe
        document = inspect_data(own)
        found = document["statistics"][name[:-1]]
        assert found["min"] < found["max"]
        assert document["duplicates"]["exact"]["rows"] == 0
    unlabelled = load_data({"signals": np.zeros((4, 9))}, reader="signal")
    with pytest.raises(DataError, match="signals without labels"):
        choose_recipe(unlabelled)


# --- inputs of prediction ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "rows"),
    [((3, 20), 1), ((20, 3), 1), ((5, 3, 20), 5), ((5, 20, 3), 5)],
)
def test_arrays_of_signals(shape: tuple[int, ...], rows: int) -> None:
    array = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    columns, names = read_inputs(array, spec_of("signal", (3, 20)))
    assert columns["signal"].shape == (rows, 3, 20)
    assert columns["signal"].dtype == torch.float32
    wanted = array if shape[-1] == 20 else np.moveaxis(array, -1, -2)
    np.testing.assert_array_equal(columns["signal"].numpy().reshape(-1), wanted.reshape(-1))
    assert len(names) == rows


def test_one_channel_may_be_left_out_and_several_arrays_be_given() -> None:
    spec = spec_of("signal", (1, 20))
    assert read_inputs(np.zeros(20), spec)[0]["signal"].shape == (1, 1, 20)
    columns, names = read_inputs([np.zeros((2, 20)), torch.zeros(1, 20)], spec)
    assert columns["signal"].shape == (3, 1, 20)
    assert names == ["input 0 0", "input 0 1", "input 1"]
    volume = spec_of("volume", (1, 4, 5, 6), "uint8")
    columns, _ = read_inputs(np.zeros((4, 5, 6), dtype=np.uint8), volume)
    assert (columns["volume"].shape, columns["volume"].dtype) == ((1, 1, 4, 5, 6), torch.uint8)


@pytest.mark.parametrize(
    ("array", "spec", "error", "text"),
    [
        (np.zeros((2, 3, 19)), spec_of("signal", (3, 20)), ShapeError, "shaped (2, 3, 19)"),
        (np.zeros((2, 5, 5)), spec_of("signal", (5, 5)), ShapeError, "channels second and last"),
        (np.full((3, 20), np.inf), spec_of("signal", (3, 20)), DataError, "not finite"),
        (np.array([["x"] * 20] * 3), spec_of("signal", (3, 20)), DtypeError, "holds <U1"),
        (np.full((1, 4, 4, 4), 300), spec_of("volume", (1, 4, 4, 4), "uint8"), DataError, "from 300 to 300"),
        (np.full((1, 4, 4, 4), 0.5), spec_of("volume", (1, 4, 4, 4), "uint8"), DataError, "from 0.5 to 0.5"),
        (np.full((1, 4, 4, 4), 7), spec_of("volume", (1, 4, 4, 4), "float32", maximum=1.0), DataError, "from 7 to 7"),
        ("nowhere.npz", spec_of("signal", (3, 20)), LaminaError, "nowhere.npz"),
    ],
)
def test_inputs_that_are_refused(array: object, spec: DataSpec, error: type[LaminaError], text: str) -> None:
    with pytest.raises(error) as caught:
        read_inputs(array, spec)
    assert text in caught.value.what
    assert caught.value.mend


def test_files_are_read_as_the_model_reads(tmp_path: Path) -> None:
    spec = spec_of("signal", (1, 12))
    values = np.random.default_rng(0).normal(size=(4, 12)).round(3)
    plain = tmp_path / "plain.csv"
    plain.write_text("\n".join(",".join(map(str, row)) for row in values))
    columns, names = read_inputs(plain, spec)
    np.testing.assert_allclose(columns["signal"][:, 0].numpy(), values, rtol=1e-6)
    assert names[0].endswith("plain.csv:1")
    labelled = tmp_path / "labelled.csv"
    header = ",".join(["label", *(f"t{i}" for i in range(12))])
    labelled.write_text("\n".join([header, *(",".join(["b", *map(str, row)]) for row in values)]))
    assert torch.equal(read_inputs(str(labelled), spec)[0]["signal"], columns["signal"])
    np.savez(tmp_path / "x.npz", x=values.reshape(4, 12, 1))
    assert torch.equal(read_inputs(tmp_path / "x.npz", spec)[0]["signal"], columns["signal"])
    data = load_like(labelled, spec=spec)
    assert data.splits["all"]["label"].tolist() == [0] * 4
    with pytest.raises(ShapeError, match="A row has 12 columns"):
        read_inputs(plain, spec_of("signal", (1, 14)))
    np.savez(tmp_path / "y.npz", x=np.zeros((4, 5, 6, 7)), y=np.zeros(4, dtype=int))
    assert load_like(tmp_path / "y.npz", spec=spec_of("volume", (1, 5, 6, 7))).splits["all"]["volume"].shape[1] == 1
