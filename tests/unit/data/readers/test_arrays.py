"""Arrays, tensors and torch Datasets as data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from lamina.core.errors import DataError, DtypeError, LaminaError, ShapeError
from lamina.data.loading import load_data
from lamina.data.readers.arrays import role_of_name

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (12, 6, 7), dtype=np.uint8)
COLOUR = RANDOM.integers(0, 256, (12, 6, 7, 3), dtype=np.uint8)
TABLE = RANDOM.normal(size=(12, 5))
LABELS = np.array([3, 1, 7] * 4)


def labels_of(data: Any, split: str = "all") -> list[str]:
    return [data.spec.classes[i] for i in data.splits[split]["label"].tolist()]


@pytest.mark.parametrize("wrap", [np.asarray, torch.as_tensor, np.ndarray.tolist])
def test_images_and_labels(wrap: Any) -> None:
    data = load_data((wrap(GREY), wrap(LABELS)))
    assert (data.splits["all"]["image"][:, 0].numpy() == GREY).all()
    assert data.splits["all"]["image"].dtype == torch.uint8
    assert labels_of(data) == [str(v) for v in LABELS]
    assert data.spec.classes == ("1", "3", "7")
    assert data.fingerprint == load_data((GREY, LABELS)).fingerprint


def test_colours_either_way() -> None:
    for given in (COLOUR, COLOUR.transpose(0, 3, 1, 2)):
        data = load_data((given, LABELS))
        assert (data.splits["all"]["image"].numpy() == COLOUR.transpose(0, 3, 1, 2)).all()
        assert any("NHWC" in note or "NCHW" in note for note in data.notes)
    with pytest.raises(DataError, match="NCHW and as NHWC"):
        load_data((COLOUR[:, :3], LABELS))
    assert load_data((COLOUR[:, :3], LABELS), channels_first=False).splits["all"]["image"].shape == (12, 3, 3, 7)


def test_the_users_arrays_are_not_shared() -> None:
    given = GREY.copy()
    data = load_data((given, LABELS))
    given[:] = 0
    assert (data.splits["all"]["image"][:, 0].numpy() == GREY).all()
    tensor = torch.from_numpy(GREY.copy())
    data = load_data((tensor, LABELS))
    tensor.zero_()
    assert (data.splits["all"]["image"][:, 0].numpy() == GREY).all()


def test_ranges() -> None:
    assert load_data((GREY / 255, LABELS)).splits["all"]["image"].dtype == torch.uint8
    assert (load_data(((GREY / 255).astype(np.float32), LABELS)).splits["all"]["image"][:, 0].numpy() == GREY).all()
    halves = load_data((GREY / 600, LABELS))
    assert halves.spec.columns["image"].maximum == 1.0
    signed = load_data(((GREY / 100 - 1), LABELS))
    assert signed.spec.columns["image"].dtype == "float32"
    assert signed.spec.columns["image"].maximum is None
    deep = load_data((GREY.astype(np.uint16) * 257, LABELS))
    assert deep.spec.columns["image"].maximum == 65535.0
    assert load_data((GREY > 100, LABELS)).spec.columns["image"].maximum == 1.0


def test_tables_and_targets() -> None:
    data = load_data((TABLE, LABELS))
    assert data.spec.columns["number"].shape == (5,)
    np.testing.assert_allclose(data.splits["all"]["number"].numpy(), TABLE.astype(np.float32))
    assert labels_of(data) == [str(v) for v in LABELS]
    data = load_data((TABLE, TABLE[:, 0]))
    assert data.splits["all"]["target"].shape == (12, 1)
    assert load_data((TABLE, TABLE[:, :2])).splits["all"]["target"].shape == (12, 2)
    assert load_data((TABLE, LABELS), target="number").splits["all"]["target"].dtype == torch.float32
    assert labels_of(load_data((TABLE, LABELS.astype(float)), target="class")) == [str(v) for v in LABELS]
    assert load_data((GREY, TABLE[:, 0])).splits["all"]["target"].shape == (12, 1)
    missing = TABLE.copy()
    missing[2, 3] = np.nan
    assert bool(load_data((missing, LABELS)).splits["all"]["number"][2, 3].isnan())


def test_rows_of_pixels_only_when_said() -> None:
    rows = GREY.reshape(12, -1)
    assert "number" in load_data((rows, LABELS)).spec.columns
    data = load_data((rows, LABELS), shape=(6, 7))
    assert (data.splits["all"]["image"][:, 0].numpy() == GREY).all()


def test_splits() -> None:
    data = load_data({"train": (GREY[:8], LABELS[:8]), "val": (GREY[8:10], LABELS[8:10]), "test": (GREY[10:], None)})
    assert {k: v.num_rows for k, v in data.splits.items()} == {"train": 8, "valid": 2, "test": 2}
    assert "label" not in data.splits["test"]
    assert labels_of(data, "valid") == [str(v) for v in LABELS[8:10]]
    named = load_data({"x_train": GREY[:8], "y_train": LABELS[:8], "x_test": GREY[8:], "y_test": LABELS[8:]})
    assert {k: v.num_rows for k, v in named.splits.items()} == {"train": 8, "test": 4}
    with pytest.raises(DataError, match="'foo' is no split"):
        load_data({"foo": (GREY, LABELS)})
    with pytest.raises(DataError, match="Two splits are called 'valid'"):
        load_data({"val": (GREY, LABELS), "dev": (GREY, LABELS)})
    with pytest.raises(ShapeError, match="different shapes"):
        load_data({"train": (GREY, LABELS), "test": (GREY[:, 1:], LABELS)})
    with pytest.raises(DtypeError, match="Some splits have classes"):
        load_data({"train": (TABLE, LABELS), "test": (TABLE, TABLE[:, 0])})


def test_text_labels() -> None:
    for given in (np.array(["b", "a", "c"] * 4), np.array(["b", "a", "c"] * 4, dtype=object), ["b", "a", "c"] * 4):
        assert labels_of(load_data((TABLE, given))) == ["b", "a", "c"] * 4


def test_an_array_alone_has_no_labels() -> None:
    for given in (GREY, torch.from_numpy(GREY)):
        assert set(load_data(given).splits["all"]) == {"image"}


@pytest.mark.parametrize(
    ("source", "error", "says"),
    [
        ((GREY, LABELS[:5]), ShapeError, "12 rows of inputs but labels shaped (5,)"),
        ((GREY, np.eye(3)[LABELS % 3].astype(int)), ShapeError, "labels.argmax(1)"),
        ((GREY[0, 0], LABELS), ShapeError, "reshape(-1, 1)"),
        ((GREY[None, None, None], LABELS), ShapeError, "(N, features)"),
        ((GREY[:0], LABELS[:0]), ShapeError, "no rows"),
        ((np.array([["a"] * 3] * 12), LABELS), DtypeError, "not numbers"),
        ((np.full((12, 6, 7), np.inf), LABELS), DataError, "not finite"),
        ((np.where(TABLE > 1, np.inf, TABLE), LABELS), DataError, "column"),
        ((TABLE, np.where(LABELS == 7, np.nan, 1.0)), DataError, "row 2"),
        (([[1, 2], [3]], LABELS), DtypeError, "differ in length"),
        ((GREY,), DataError, "not (inputs, labels)"),
        ((GREY, LABELS, LABELS), DataError, "not (inputs, labels)"),
        (42, DtypeError, "from a int"),
        ({}, DataError, "No array holds inputs"),
        ({"weights": GREY, "other": GREY}, DataError, "No array holds inputs"),
        ((TABLE, [object()] * 12), DtypeError, "Python objects"),
    ],
)
def test_what_does_not_fit(source: Any, error: type[LaminaError], says: str) -> None:
    with pytest.raises(error) as caught:
        load_data(source)
    assert says in str(caught.value)
    assert caught.value.mend


def test_float_classes_must_be_whole() -> None:
    with pytest.raises(DataError, match="no whole number"):
        load_data((TABLE, TABLE[:, 0]), target="class")


# --- datasets ----------------------------------------------------------------------------------------------------------


class Pictures(Dataset[Any]):
    """As torchvision's: pictures and class numbers, with `classes`."""

    classes = ("zebra", "ant", "bee")

    def __init__(self, kind: str = "picture", rows: int = 6) -> None:
        self.kind, self.rows = kind, rows

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, place: int) -> Any:
        pixels = COLOUR[place]
        label = place % 3
        return {
            "picture": (Image.fromarray(pixels), label),
            "tensor": (torch.from_numpy(pixels).permute(2, 0, 1), torch.tensor(label)),
            "mapping": {"image": pixels, "label": label},
            "alone": pixels,
            "text": (pixels, "xyz"[label]),
            "odd": (pixels, label, 3),
            "sizes": (pixels[: 6 - place % 2], label),
            "outside": (pixels, label + 1),
        }[self.kind]


@pytest.mark.parametrize("kind", ["picture", "tensor", "mapping", "alone", "text"])
def test_datasets(kind: str) -> None:
    data = load_data(Pictures(kind))
    assert (data.splits["all"]["image"].numpy() == COLOUR[:6].transpose(0, 3, 1, 2)).all()
    if kind == "text":
        assert labels_of(data) == ["x", "y", "z"] * 2
    elif kind != "alone":
        assert data.spec.classes == Pictures.classes
        assert labels_of(data) == ["zebra", "ant", "bee"] * 2


def test_datasets_per_split_and_tensors() -> None:
    data = load_data({"train": Pictures(), "test": Pictures(rows=3)})
    assert {k: v.num_rows for k, v in data.splits.items()} == {"train": 6, "test": 3}
    data = load_data(TensorDataset(torch.from_numpy(GREY), torch.from_numpy(LABELS)))
    assert labels_of(data) == [str(v) for v in LABELS]
    assert set(load_data(TensorDataset(torch.from_numpy(GREY))).splits["all"]) == {"image"}


def test_streams() -> None:
    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter(zip(GREY, LABELS.tolist(), strict=True))

    assert labels_of(load_data(Stream())) == [str(v) for v in LABELS]


@pytest.mark.parametrize(
    ("dataset", "says"),
    [
        (Pictures("odd"), "not (input, label)"),
        (Pictures("sizes"), "item 1"),
        (Pictures("outside"), "outside the 3 classes"),
        (Pictures(rows=0), "empty"),
    ],
)
def test_datasets_that_do_not_fit(dataset: Any, says: str) -> None:
    with pytest.raises(LaminaError) as caught:
        load_data(dataset)
    assert says in str(caught.value)


def test_datasets_are_bounded() -> None:
    class Endless(IterableDataset[Any]):
        def __iter__(self) -> Any:
            while True:
                yield np.zeros((64, 64, 3), np.uint8), 0

    with pytest.raises(DataError, match="larger than 1 MiB"):
        load_data(Endless(), max_memory_mb=1)


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("x", "x"),
        ("X_train", "x"),
        ("train_images", "x"),
        ("image_labels", "y"),
        ("ytest", "y"),
        ("arr_0", "x"),
        ("fc1", None),
    ],
)
def test_roles_of_names(name: str, role: str | None) -> None:
    assert role_of_name(name) == role
