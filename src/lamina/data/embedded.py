"""Data found on every machine: scikit-learn's small tables, its digits and photographs.

Each is a function of a DataConfig registered as `dataset`; nothing is downloaded. Splits are drawn afterwards.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lamina.core.registry import register
from lamina.data.columns import Columns, ColumnSpec, Data, DataSpec, FieldSpec, column_spec
from lamina.data.config import DataConfig


def embedded_data(
    name: str, tensors: dict[str, Tensor], specs: dict[str, ColumnSpec], *, notes: tuple[str, ...] = ()
) -> Data:
    """Data with the one split `all`, as the embedded sets and the generators give it."""
    columns = Columns(tensors)
    spec = DataSpec(columns=specs, num_rows={"all": columns.num_rows}, reader="embedded")
    return Data(splits={"all": columns}, spec=spec, reader="embedded", source=name, notes=list(notes))


@register(
    "dataset",
    "digits",
    source="scikit-learn `load_digits`: the test part of Alpaydin and Kaynak (1998), Optical Recognition of Handwritten Digits, UCI",
    example="lamina train digits",
    task="image-classification",
)
def digits(config: DataConfig) -> Data:
    """1,797 handwritten digits, 8 by 8 pixels with 17 grey levels, 10 classes."""
    from sklearn.datasets import load_digits  # noqa: PLC0415

    found = load_digits()
    images = torch.from_numpy(found.images).to(torch.uint8).unsqueeze(1)  # (1797, 1, 8, 8), 0..16
    labels = torch.from_numpy(found.target).to(torch.int64)
    specs = {
        "image": column_spec("image", images, maximum=16.0),
        "label": column_spec("label", labels, classes=tuple(str(name) for name in found.target_names)),
    }
    notes = ("Pixels are whole numbers from 0 to 16, not to 255.",)
    return embedded_data("digits", {"image": images, "label": labels}, specs, notes=notes)


@register(
    "dataset",
    "iris",
    source="Fisher (1936), doi:10.1111/j.1469-1809.1936.tb02137.x; scikit-learn `load_iris`",
    example="lamina train iris-mlp",
    task="tabular-classification",
)
def iris(config: DataConfig) -> Data:
    """150 flowers of three species, four lengths in centimetres each."""
    from sklearn.datasets import load_iris  # noqa: PLC0415

    return _classes_table("iris", load_iris())


@register(
    "dataset",
    "wine",
    source="Forina et al. (1991), Wine, UCI; scikit-learn `load_wine`",
    example="lamina train --data wine",
    task="tabular-classification",
)
def wine(config: DataConfig) -> Data:
    """178 wines of three growers, 13 chemical measurements each."""
    from sklearn.datasets import load_wine  # noqa: PLC0415

    return _classes_table("wine", load_wine())


@register(
    "dataset",
    "breast_cancer",
    source="Street, Wolberg, Mangasarian (1993), doi:10.1117/12.148698; scikit-learn `load_breast_cancer`",
    example="lamina train --data breast_cancer",
    task="tabular-classification",
)
def breast_cancer(config: DataConfig) -> Data:
    """569 tumours, malignant or benign, 30 measurements of cell nuclei each."""
    from sklearn.datasets import load_breast_cancer  # noqa: PLC0415

    return _classes_table("breast_cancer", load_breast_cancer())


@register(
    "dataset",
    "diabetes",
    source="Efron, Hastie, Johnstone, Tibshirani (2004), arXiv:math/0406456; scikit-learn `load_diabetes`",
    example="lamina train --data diabetes",
    task="tabular-regression",
)
def diabetes(config: DataConfig) -> Data:
    """442 patients, ten measurements each; the target is the progression of the disease after a year."""
    from sklearn.datasets import load_diabetes  # noqa: PLC0415

    # The scaled version is scaled over all rows, those to be judged on included; ours is scaled on training rows.
    found = load_diabetes(scaled=False)
    number = torch.from_numpy(found.data).to(torch.float32)
    target = torch.from_numpy(found.target).to(torch.float32).unsqueeze(1)
    specs = {
        "number": column_spec("number", number, fields=_fields(found.feature_names)),
        "target": column_spec("target", target, fields=_fields(["progression"])),
    }
    notes = ("Features are in their own units (not scaled over all rows, as scikit-learn gives them by default).",)
    return embedded_data("diabetes", {"number": number, "target": target}, specs, notes=notes)


@register(
    "dataset",
    "photographs",
    source="scikit-learn `load_sample_images`: by Alexey Kljatov and the Wikimedia user Сергей Тройняк, CC BY",
    example="lamina data photographs",
    task="image-classification",
)
def photographs(config: DataConfig) -> Data:
    """Two colour photographs, a temple in China and a flower, 427 by 640 pixels."""
    from sklearn.datasets import load_sample_images  # noqa: PLC0415

    found = load_sample_images()
    images = torch.stack([torch.from_numpy(image.copy()) for image in found.images])  # (2, 427, 640, 3)
    images = images.permute(0, 3, 1, 2).contiguous()
    labels = torch.arange(len(images))
    names = tuple(Path(name).stem for name in found.filenames)
    specs = {"image": column_spec("image", images), "label": column_spec("label", labels, classes=names)}
    return embedded_data("photographs", {"image": images, "label": labels}, specs)


def _classes_table(name: str, found: Any) -> Data:
    number = torch.from_numpy(found.data).to(torch.float32)
    labels = torch.from_numpy(found.target).to(torch.int64)
    specs = {
        "number": column_spec("number", number, fields=_fields(found.feature_names)),
        "label": column_spec("label", labels, classes=tuple(str(name) for name in found.target_names)),
    }
    return embedded_data(name, {"number": number, "label": labels}, specs)


def _fields(names: Any) -> tuple[FieldSpec, ...]:
    return tuple(FieldSpec(name=str(name)) for name in names)
