"""create_model: what it fills in, what it remembers, what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import lamina.models.cnn
import lamina.models.knn
import lamina.models.lenet
import lamina.models.linear
import lamina.models.mlp
import lamina.models.perceptron  # noqa: F401 (registers)
from lamina.core.errors import ConfigError, ShapeError, UnknownNameError, WeightsError
from lamina.core.tensorfile import pack_tensors
from lamina.data.columns import ColumnSpec, DataSpec
from lamina.models.factory import create_model, load_weights, model_values


def spec(**columns: ColumnSpec) -> DataSpec:
    return DataSpec(columns=columns, num_rows={"train": 10})


def image(*shape: int) -> ColumnSpec:
    return ColumnSpec(role="image", dtype="float32", shape=shape)


LABEL = ColumnSpec(role="label", dtype="int64", classes=("a", "b", "c"))
TARGET = ColumnSpec(role="target", dtype="float32", shape=(2,))
FEATURES = ColumnSpec(role="number", dtype="float32", shape=(13,))


@pytest.mark.parametrize(
    ("name", "columns", "inputs", "outputs"),
    [
        ("lenet5", {"image": image(3, 32, 40), "label": LABEL}, (2, 3, 32, 40), 3),
        ("cnn", {"image": image(1, 16, 16), "label": LABEL}, (2, 1, 16, 16), 3),
        ("sign-cnn", {"image": image(1, 28, 28), "label": LABEL}, (2, 1, 28, 28), 3),
        ("mlp", {"image": image(3, 8, 8), "label": LABEL}, (2, 3, 8, 8), 3),
        ("linear", {"features": FEATURES, "label": LABEL}, (2, 13), 3),
        ("perceptron", {"features": FEATURES, "label": LABEL}, (2, 13), 3),
        ("mlp", {"features": FEATURES, "target": TARGET}, (2, 13), 2),
        ("linear", {"features": FEATURES, "target": TARGET}, (2, 13), 2),
    ],
)
def test_what_is_left_open_comes_from_the_data(
    name: str, columns: dict[str, ColumnSpec], inputs: tuple[int, ...], outputs: int
) -> None:
    model = create_model(name, spec(**columns), seed=0).eval()
    assert model(torch.zeros(inputs)).shape == (2, outputs)
    built = model_values(model)
    assert built is not None
    again = create_model(built[0], seed=0, **built[1])
    assert model_values(again) == built
    for (key, a), (_, b) in zip(model.state_dict().items(), again.state_dict().items(), strict=True):
        assert torch.equal(a, b), key


def test_knn_of_regression() -> None:
    model = create_model("knn", spec(features=FEATURES, target=TARGET), k=1)
    model.store(torch.zeros(1, 13), torch.tensor([[1.0, 2.0]]))  # type: ignore[operator]
    assert model(torch.ones(1, 13)).tolist() == [[1.0, 2.0]]


def test_what_the_user_says_wins() -> None:
    model = create_model("mlp", spec(image=image(1, 8, 8), label=LABEL), num_classes=7, hidden_sizes=[5])
    assert model(torch.zeros(1, 64)).shape == (1, 7)
    assert model_values(model) is not None
    assert model_values(nn.Linear(1, 1)) is None


def test_values_are_plain() -> None:
    _, values = model_values(create_model("sign-cnn")) or ("", {})
    assert values["blocks"][1]["dropout"] == 0.2
    assert type(values["blocks"]) is list
    assert isinstance(values["blocks"][0], dict)


def test_the_seed_decides_the_weights_and_nothing_else() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = create_model("lenet5", seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    same, other = create_model("lenet5", seed=3), create_model("lenet5", seed=4)
    for a, b, c in zip(one.parameters(), same.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert a.ndim < 2 or not torch.equal(a, c)


def test_without_a_seed_torchs_generator_decides() -> None:
    torch.manual_seed(1)
    one = create_model("mlp")
    torch.manual_seed(1)
    assert torch.equal(one.head.weight, create_model("mlp").head.weight)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "columns", "options", "error", "text"),
    [
        ("lenet", {}, {}, UnknownNameError, "did you mean 'lenet5'"),
        ("mlp", {}, {"hiden_sizes": (3,)}, ConfigError, "did you mean 'hidden_sizes'"),
        ("mlp", {}, {"in_features": 0}, ConfigError, "model.in_features"),
        (
            "lenet5",
            {"features": FEATURES, "label": LABEL},
            {},
            ConfigError,
            "lenet5 reads images; this data has features",
        ),
        ("lenet5", {"image": image(1, 8, 8), "label": LABEL}, {}, ShapeError, ">= 12"),
        ("lenet5", {"image": image(1, 28, 28), "target": TARGET}, {}, ConfigError, "decides between classes"),
        ("cnn", {"image": image(3, -1, -1), "label": LABEL}, {}, ShapeError, "differ in size"),
    ],
)
def test_what_cannot_be_built(
    name: str, columns: dict[str, ColumnSpec], options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error) as caught:
        create_model(name, spec(**columns) if columns else None, **options)
    assert text in str(caught.value)


def test_weights_from_a_file_a_folder_and_a_mapping(tmp_path: Path) -> None:
    model = create_model("mlp", seed=0)
    file = tmp_path / "model.safetensors"
    file.write_bytes(pack_tensors(model.state_dict()))
    for weights in (file, str(file), tmp_path, model.state_dict()):
        assert torch.equal(create_model("mlp", seed=1, weights=weights).head.weight, model.head.weight)  # type: ignore[union-attr]


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    state = create_model("mlp", seed=0).state_dict()
    with pytest.raises(WeightsError) as caught:
        create_model("linear", weights=state)
    assert "not known to the model: body.linear1.weight, body.linear1.bias" in caught.value.what
    with pytest.raises(WeightsError, match=r"missing: body\.linear1\.weight"):
        create_model("mlp", weights=create_model("linear").state_dict())
    with pytest.raises(WeightsError, match=r"shapes differ: body\.linear1\.weight \(16, 784\) for \(16, 12\)"):
        create_model("mlp", weights=state, in_features=12)
    with pytest.raises(WeightsError, match="no file"):
        create_model("mlp", weights=tmp_path / "nothing.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(pack_tensors(state)[:1000])
    with pytest.raises(WeightsError):
        create_model("mlp", weights=tmp_path / "cut.safetensors")
    with pytest.raises(WeightsError, match="28 in all"):
        load_weights(create_model("linear"), {f"key{i}": torch.zeros(1) for i in range(28)})


def test_a_size_that_must_be_a_pair_says_so() -> None:
    with pytest.raises(ConfigError) as caught:
        create_model("resnet20", image_size=48)
    assert caught.value.accepts.startswith("a list of 2: integer, integer")
