"""Impute and one-hot: what tables need before a network can read them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from lamina.core.config import Config, Field
from lamina.core.registry import register
from lamina.data.columns import FieldSpec
from lamina.data.preprocess.flow import CHUNK_ELEMENTS, Chunks, Flow, Layout, Operation, Step, moments, refuse


class ImputeConfig(Config):
    """What stands in for missing values."""

    strategy: Literal["mean", "median", "most-frequent"] = Field(
        "mean", description="Which value of the training rows stands in for a missing number."
    )
    category: Literal["none", "most-frequent"] = Field(
        "none",
        description="What stands in for a missing category: none of them (one-hot gives zeros), or the most frequent.",
    )
    indicator: bool = Field(
        False, description="Add a 0/1 feature for each number that is missing somewhere in training: was it missing?"
    )


class FillNumbers(Operation):
    """NaN -> the fill value of the feature; marks for chosen features appended."""

    fill: Tensor
    marked: Tensor

    def __init__(self, fill: Tensor, marked: Tensor) -> None:
        super().__init__()
        self.constant("fill", fill)
        self.constant("marked", marked)

    def forward(self, values: Tensor, categories: Tensor) -> tuple[Tensor, Tensor]:
        """(B, F) -> (B, F + marks)."""
        values = values.to(self.fill.dtype)
        missing = values.isnan()
        filled = torch.where(missing, self.fill, values)
        if self.marked.numel() == 0:
            return filled, categories
        marks = missing.index_select(1, self.marked).to(filled.dtype)
        return torch.cat([filled, marks], dim=1), categories


class FillCategories(Operation):
    """-1 -> the most frequent category of the field."""

    most: Tensor

    def __init__(self, most: Tensor) -> None:
        super().__init__()
        self.constant("most", most)

    def forward(self, values: Tensor, categories: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K) -> (B, K)."""
        return values, torch.where(categories < 0, self.most, categories)


class Encode(Operation):
    """A 0/1 feature per known category, appended to the values."""

    field: Tensor
    code: Tensor

    def __init__(self, field: Tensor, code: Tensor) -> None:
        super().__init__()
        self.constant("field", field)
        self.constant("code", code)

    def forward(self, values: Tensor, categories: Tensor) -> tuple[Tensor, Tensor]:
        """(B, F), (B, K) -> (B, F + marks), (B, 0)."""
        marks = categories.index_select(1, self.field) == self.code
        return torch.cat([values, marks.to(values.dtype)], dim=1), categories[:, :0]


@register(
    "preprocessing",
    "impute",
    config=ImputeConfig,
    source="scikit-learn `SimpleImputer` and `MissingIndicator`",
    example="lamina train housing-mlp 'preprocess=[{name: impute, strategy: median}, {name: standardise}]'",
)
class Impute(Step):
    """Put a value of the training rows in the place of missing ones."""

    Config = ImputeConfig
    name = "impute"

    def check(self, flow: Flow) -> None:
        """Refuse images."""
        if flow.kind != "features":
            raise refuse(self, "Images have no missing values.", accepts="tables", mend="leave the step out")

    def fit(self, flow: Flow, chunks: Chunks) -> None:
        """A fill value per feature (0 without any value in training), which features get a mark, the frequent categories."""
        options = self.options()
        found = moments(chunks, (0,))
        if options.strategy == "mean":
            fill = found.mean
        else:
            fill = _column_by_column(flow, chunks, _median if options.strategy == "median" else _most_frequent)
        num_rows = sum(len(values) for values, _ in chunks())
        numeric = torch.tensor(flow.numeric, dtype=torch.bool) if flow.numeric else torch.ones_like(fill).bool()
        marked = torch.nonzero((found.count < num_rows) & numeric).flatten() if options.indicator else torch.arange(0)
        self.state = {"fill": fill, "marked": marked, "category": _frequent_categories(flow, chunks)}

    def layout(self, flow: Flow) -> Layout:
        """How many marks there are is the data's."""
        return {
            "fill": (torch.float64, flow.shape),
            "marked": (torch.int64, (-1,)),
            "category": (torch.int64, (len(flow.categories),)),
        }

    def is_consistent(self, flow: Flow) -> bool:
        """Marks of features that exist, categories that exist."""
        sizes = torch.tensor([len(field.classes or ()) for field in flow.categories], dtype=torch.int64)
        return _in_range(self.state["marked"], flow.shape[0]) and bool((self.state["category"] < sizes).all())

    def operations(self, flow: Flow) -> Sequence[Operation]:
        """Fill numbers, and categories where wanted."""
        made: list[Operation] = [FillNumbers(self.state["fill"], self.state["marked"])]
        if self.options().category == "most-frequent" and flow.categories:
            made.append(FillCategories(self.state["category"]))
        return made

    def output(self, flow: Flow) -> Flow:
        """Marks are appended and keep their values in later scaling."""
        marked = self.state["marked"].tolist()
        marks = tuple(FieldSpec(name=f"{flow.fields[i].name} is missing") for i in marked)
        fields = (*flow.fields, *marks)
        numeric = (*(flow.numeric or (True,) * flow.shape[0]), *(False for _ in marks))
        return replace(flow, shape=(len(fields),), fields=fields, numeric=numeric)


@register(
    "preprocessing",
    "one-hot",
    source="scikit-learn `OneHotEncoder`",
    example="lamina train --data table.csv 'preprocess=[{name: impute}, {name: one-hot}]'",
)
class OneHot(Step):
    """Turn each categorical field into a 0/1 feature per category seen in training; unknown and missing give zeros."""

    name = "one-hot"

    def check(self, flow: Flow) -> None:
        """Refuse images."""
        if flow.kind != "features":
            raise refuse(self, "Images have no categories.", accepts="tables", mend="leave the step out")

    def fit(self, flow: Flow, chunks: Chunks) -> None:
        """Which categories of each field occur in training."""
        counts = _category_counts(flow, chunks)
        pairs = [
            (field, code) for field, count in enumerate(counts) for code in torch.nonzero(count).flatten().tolist()
        ]
        self.state = {
            "field": torch.tensor([field for field, _ in pairs], dtype=torch.int64),
            "code": torch.tensor([code for _, code in pairs], dtype=torch.int64),
        }

    def layout(self, flow: Flow) -> Layout:
        """How many categories there are is the data's."""
        return {"field": (torch.int64, (-1,)), "code": (torch.int64, (-1,))}

    def is_consistent(self, flow: Flow) -> bool:
        """Fields and categories that exist."""
        field, code = self.state["field"], self.state["code"]
        if len(field) != len(code) or not _in_range(field, len(flow.categories)):
            return False
        return all(
            0 <= c < len(flow.categories[f].classes or ()) for f, c in zip(field.tolist(), code.tolist(), strict=True)
        )

    def operations(self, flow: Flow) -> Sequence[Operation]:
        """One comparison for all fields; nothing without any."""
        return [Encode(self.state["field"], self.state["code"])] if flow.categories else []

    def output(self, flow: Flow) -> Flow:
        """Marks are appended and keep their values in later scaling."""
        pairs = zip(self.state["field"].tolist(), self.state["code"].tolist(), strict=True)
        marks = tuple(
            FieldSpec(name=f"{flow.categories[field].name}={(flow.categories[field].classes or ())[code]}")
            for field, code in pairs
        )
        fields = (*flow.fields, *marks)
        numeric = (*(flow.numeric or (True,) * flow.shape[0]), *(False for _ in marks))
        return replace(flow, shape=(len(fields),), fields=fields, numeric=numeric, categories=())


def _in_range(indices: Tensor, size: int) -> bool:
    return bool(((indices >= 0) & (indices < size)).all())


def _column_by_column(flow: Flow, chunks: Chunks, statistic: Callable[[Tensor], Tensor]) -> Tensor:
    """A statistic of the present values of each column; as many columns at a time as a chunk's memory holds."""
    num_rows = sum(len(values) for values, _ in chunks())
    block = max(1, 4 * CHUNK_ELEMENTS // max(num_rows, 1))
    result = torch.zeros(flow.shape[0], dtype=torch.float64)
    for start in range(0, flow.shape[0], block):
        columns = torch.cat([values[:, start : start + block] for values, _ in chunks()])
        for offset in range(columns.shape[1]):
            column = columns[:, offset]
            present = column[~column.isnan()]
            if len(present):
                result[start + offset] = statistic(present)
    return result


def _median(present: Tensor) -> Tensor:
    ordered = present.sort().values
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def _most_frequent(present: Tensor) -> Tensor:
    """The smallest of the most frequent values."""
    values, counts = torch.unique(present, return_counts=True)
    most: Tensor = values[counts.argmax()]
    return most


def _category_counts(flow: Flow, chunks: Chunks) -> list[Tensor]:
    """How often each category of each field occurs."""
    totals = [torch.zeros(len(field.classes or ()), dtype=torch.int64) for field in flow.categories]
    for _, categories in chunks():
        for field, total in enumerate(totals):
            codes = categories[:, field]
            total += torch.bincount(codes[codes >= 0], minlength=len(total))
    return totals


def _frequent_categories(flow: Flow, chunks: Chunks) -> Tensor:
    counts = _category_counts(flow, chunks)
    return torch.tensor([int(count.argmax()) if len(count) else -1 for count in counts], dtype=torch.int64)
