"""k-nearest neighbours.

Paper: Cover, Hart (1967), "Nearest Neighbor Pattern Classification", doi:10.1109/TIT.1967.1053964; votes weighted by distance:
Dudani (1976), "The Distance-Weighted k-Nearest-Neighbor Rule", doi:10.1109/TSMC.1976.5408784.
Reported: 5.0 % test error on MNIST with l2, 3 neighbours and raw pixels (LeCun et al. 1998, section III).
Differs from the paper: Dudani's linear weights are replaced by 1 / distance; logits mix the votes with a little of the uniform
distribution, so that a class without votes has a finite logit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lamina.core.config import Config, Field
from lamina.core.errors import DataError, ShapeError, UsageError
from lamina.core.registry import register
from lamina.nn.inputs import flatten_features
from lamina.nn.neighbours import NeighbourIndex

_TIE_BREAK = 1e-4  # share of the votes that the nearest of tied classes gains; float32 logits still tell it
_LEVELS = (255, 16, 1)  # rows whose values are 0 to 255 times 1 / level are kept as bytes


class KNNConfig(Config):
    """How many neighbours vote, and how near is measured."""

    in_features: int = Field(784, description="Values per row; images are flattened.", ge=1)
    num_classes: int = Field(10, description="Classes, or numbers per row in regression.", ge=1)
    k: int = Field(3, description="Neighbours that vote; all rows where fewer are stored.", ge=1, le=1000)
    metric: Literal["l1", "l2", "cosine"] = Field(
        "l2", description="Distance: sum of absolute differences, Euclidean, or one less the cosine."
    )
    votes: Literal["uniform", "distance"] = Field(
        "uniform", description="Each neighbour has one vote, or 1 / distance votes (at distance 0 all votes)."
    )
    smoothing: float = Field(
        0.01,
        description="Share of the uniform distribution in the class probabilities, so that no logit is infinite.",
        gt=0,
        lt=1,
    )
    regression: bool = Field(False, description="Store numbers instead of labels and predict their weighted mean.")
    storage: Literal["auto", "float32"] = Field(
        "auto",
        description="auto: rows of pixels are kept as bytes where that loses nothing, a quarter of the size.",
    )


@register(
    "model",
    "knn",
    config=KNNConfig,
    source="Cover, Hart (1967), doi:10.1109/TIT.1967.1053964",
    example="lamina train mnist-knn model.k=5 model.metric=cosine",
    input="features",
    has_gradients=False,
    single_pass=True,
    regression=True,
)
class KNN(nn.Module):
    """Vote of the k stored rows nearest to the input; learns by storing rows.

    Exact: the neighbours are the k rows with the smallest distance in float64, equal distances going to the row stored
    first (`lamina.nn.neighbours` defines and proves it). Memory is bounded by processing queries and rows in chunks.
    Classes with equal votes are decided by the nearest of their neighbours.

    The stored rows are buffers (`rows`, `targets`), so they move with `.to(device)` and are in the state dict; loading one
    brings its number of rows along.

    Source: Cover, Hart (1967), doi:10.1109/TIT.1967.1053964.
    """

    rows: Tensor
    targets: Tensor
    levels: Tensor

    def __init__(
        self,
        *,
        in_features: int = 784,
        num_classes: int = 10,
        k: int = 3,
        metric: Literal["l1", "l2", "cosine"] = "l2",
        votes: Literal["uniform", "distance"] = "uniform",
        smoothing: float = 0.01,
        regression: bool = False,
        storage: Literal["auto", "float32"] = "auto",
    ) -> None:
        super().__init__()
        self.in_features = in_features
        self.num_classes = num_classes
        self.k = k
        self.metric: Literal["l1", "l2", "cosine"] = metric
        self.votes = votes
        self.smoothing = smoothing
        self.regression = regression
        self.storage = storage
        self.register_buffer("rows", torch.zeros(0, in_features))
        shape = (0, num_classes) if regression else (0,)
        self.register_buffer("targets", torch.zeros(shape, dtype=torch.float32 if regression else torch.int64))
        self.register_buffer("levels", torch.zeros((), dtype=torch.int64))  # of uint8 rows; 0: rows are float32
        self._index: tuple[tuple[Any, ...], NeighbourIndex] | None = None
        self._room: dict[str, Tensor] = {}

    def extra_repr(self) -> str:
        """What is voted on, for printing."""
        return f"in_features={self.in_features}, num_classes={self.num_classes}, k={self.k}, metric={self.metric}, rows={len(self.rows)}"

    @property
    def num_rows(self) -> int:
        """Rows stored so far."""
        return len(self.rows)

    @torch.no_grad()
    def store(self, inputs: Tensor, targets: Tensor) -> None:
        """Remember rows, behind those stored before.

        Args:
            inputs: Float (B, in_features), or images (B, C, H, W) with that many values; kept as float32 or bytes.
            targets: int64 labels (B,), or float (B, num_classes) in regression.

        Raises:
            ShapeError: Shapes do not fit the model or each other.
            DataError: A value is NaN or infinite, or a label outside the classes.
        """
        inputs = flatten_features(self, inputs, in_features=self.in_features).to(torch.float32)
        wanted = (len(inputs), self.num_classes) if self.regression else (len(inputs),)
        if tuple(targets.shape) != wanted:
            raise ShapeError(
                f"KNN got targets shaped {tuple(targets.shape)} with {len(inputs)} rows.",
                where="KNN.store, argument `targets`",
                accepts=f"{'float' if self.regression else 'int64'} tensor {wanted}",
                mend="build with regression=True to store numbers" if targets.ndim == 2 else "give one target per row",
            )
        self._check_values(inputs, targets)
        levels = int(self.levels)
        if self.storage == "auto" and (levels or not len(self.rows)):
            self._append_compact(inputs, levels)
        else:
            self._append("rows", inputs)
        self._append("targets", targets.to(self.targets.dtype))

    def learn(self, inputs: Tensor, targets: Tensor) -> Mapping[str, tuple[Tensor, Tensor | float]]:
        """Store a batch, as the engine asks of models without gradients; logs how many rows are stored by now.

        Every pass stores the rows once more, so one epoch is right.
        """
        self.store(inputs, targets)
        return {"stored_rows": (torch.tensor(float(len(self.rows))), 1.0)}

    def neighbours(self, inputs: Tensor, *, k: int | None = None) -> tuple[Tensor, Tensor]:
        """The stored rows nearest to each input.

        Args:
            inputs: As for `forward`.
            k: How many; default: the model's own, at most as many as are stored.

        Returns:
            Distances float64 (B, k), ascending, in the metric's own units, and row numbers int64 (B, k).

        Raises:
            UsageError: Nothing is stored.
        """
        inputs = flatten_features(self, inputs, in_features=self.in_features)
        if not len(self.rows):
            raise UsageError(
                "This knn has stored no rows, so nothing is near.",
                where="KNN.neighbours",
                accepts="a model that has been trained",
                mend="train it with `lamina train mnist-knn`, or call model.store(inputs, labels)",
            )
        with torch.no_grad(), torch.autocast(inputs.device.type, enabled=False):
            keys, rows = self._search().search(inputs.to(torch.float32), k=min(k or self.k, len(self.rows)))
        if self.metric == "l1":
            return keys, rows
        return (keys.sqrt() if self.metric == "l2" else keys / 2), rows

    def forward(self, inputs: Tensor) -> Tensor:
        """Logarithms of the classes' shares of the votes, or the neighbours' mean in regression.

        Args:
            inputs: Float (B, in_features), or images (B, C, H, W) with that many values.

        Returns:
            Float32 (B, num_classes): log((1 - smoothing) * share + smoothing / num_classes), so that softmax gives the
            smoothed shares; of classes with equal votes the one with the nearest neighbour gets 1e-4 more. In
            regression the mean, weighted like votes.
        """
        inputs = flatten_features(self, inputs, in_features=self.in_features)
        if inputs.is_meta:
            return inputs.new_empty(len(inputs), self.num_classes, dtype=torch.float32)
        distances, rows = self.neighbours(inputs)  # (B, k), (B, k)
        votes = self._votes(distances)  # (B, k)
        if self.regression:
            values = self.targets[rows].double()  # (B, k, T)
            return ((values * votes.unsqueeze(2)).sum(1) / votes.sum(1, keepdim=True)).float()
        labels = self.targets[rows]  # (B, k)
        totals = votes.new_zeros(len(inputs), self.num_classes).scatter_add_(1, labels, votes)  # (B, num_classes)
        shares = totals / totals.sum(1, keepdim=True)
        shares = shares + self._tie_break(shares, labels)
        shares = shares / shares.sum(1, keepdim=True)
        return ((1 - self.smoothing) * shares + self.smoothing / self.num_classes).log().float()

    def features(self, inputs: Tensor) -> Tensor:
        """The flattened input (B, in_features): distances are taken between raw rows."""
        return flatten_features(self, inputs, in_features=self.in_features)

    def stored_rows(self, rows: Tensor) -> Tensor:
        """The stored rows of the given numbers as float32 (len(rows), in_features)."""
        chosen = self.rows[rows]
        return chosen if chosen.dtype == torch.float32 else chosen.float() * self._scale()

    def check_state(self) -> None:
        """Refuse loaded rows and targets that do not belong together; a bundle from elsewhere may hold anything.

        Raises:
            DataError: Different counts, a label outside the classes, bytes without their scale.
        """
        problem = None
        if len(self.rows) != len(self.targets):
            problem = f"It has {len(self.rows)} rows and {len(self.targets)} targets."
        elif (self.rows.dtype == torch.uint8) != (int(self.levels) in _LEVELS):
            problem = f"It has rows of {self.rows.dtype} and levels of {int(self.levels)}."
        elif not self.regression and len(self.targets):
            low, high = int(self.targets.min()), int(self.targets.max())
            if low < 0 or high >= self.num_classes:
                problem = f"It has labels from {low} to {high} for {self.num_classes} classes."
        if problem is not None:
            raise DataError(
                problem,
                where="knn, stored rows",
                accepts="one target per row, labels inside the classes",
                mend="train it again, or take another bundle",
            )

    # --- storing ---------------------------------------------------------------------------------------------------

    def _check_values(self, inputs: Tensor, targets: Tensor) -> None:
        bad = ~torch.isfinite(inputs).all(dim=1)
        if self.regression:
            bad |= ~torch.isfinite(targets).all(dim=1)
        else:
            bad |= (targets < 0) | (targets >= self.num_classes)
        if bool(bad.any()):
            row = int(bad.nonzero()[0, 0])
            finite = bool(torch.isfinite(inputs[row]).all())
            label = f"the target {targets[row].tolist()}" if finite else "a value that is NaN or infinite"
            accepts = (
                "finite numbers" if self.regression else f"finite numbers and labels from 0 to {self.num_classes - 1}"
            )
            raise DataError(
                f"Row {row} of the batch has {label}.",
                where="KNN.store",
                accepts=accepts,
                mend="check the data with `lamina data PATH`, or build with more num_classes",
            )

    def _append_compact(self, inputs: Tensor, levels: int) -> None:
        """Keep rows as bytes where that loses nothing; otherwise turn what is there into float32."""
        for candidate in (levels,) if levels else _LEVELS:
            if _as_bytes(inputs[:1], candidate) is None:  # settles most cases without touching all rows
                continue
            codes = _as_bytes(inputs, candidate)
            if codes is not None:
                if not levels:
                    self.levels.fill_(candidate)
                    self.rows = self.rows.to(torch.uint8)
                self._append("rows", codes)
                return
        if levels:
            self.rows = self.stored_rows(torch.arange(len(self.rows), device=self.rows.device))
            self.levels.zero_()
        self._append("rows", inputs)

    def _append(self, name: str, values: Tensor) -> None:
        """Append to a buffer that is the front of a larger one, so that many small batches cost no more than one large one."""
        old: Tensor = getattr(self, name)
        room = self._room.get(name)
        total = len(old) + len(values)
        fits = room is not None and len(room) >= total and room.data_ptr() == old.data_ptr() and room.dtype == old.dtype
        if room is None or not fits:
            room = old.new_empty(max(total, len(old) * 3 // 2), *old.shape[1:])
            room[: len(old)] = old
            self._room[name] = room
        room[len(old) : total] = values
        setattr(self, name, room[:total])

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        for name in ("rows", "targets"):
            found = state_dict.get(prefix + name)
            own: Tensor = getattr(self, name)
            if isinstance(found, Tensor) and found.shape[1:] == own.shape[1:] and found.ndim == own.ndim:
                allowed = (torch.float32, torch.uint8) if name == "rows" else (own.dtype,)
                dtype = found.dtype if found.dtype in allowed else own.dtype
                setattr(self, name, torch.empty(found.shape, dtype=dtype, device=own.device))
        self._forget()
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    # --- searching -------------------------------------------------------------------------------------------------

    def _scale(self) -> float:
        return float(_unit(int(self.levels)))

    def _search(self) -> NeighbourIndex:
        """The index over the rows as they are now; rebuilt after anything has changed them."""
        rows = self.rows
        version = None if rows.is_inference() else rows._version
        key = (rows.data_ptr(), tuple(rows.shape), rows.dtype, rows.device, version)
        if self._index is None or self._index[0] != key:
            scale = self._scale() if rows.dtype == torch.uint8 else 1.0
            self._index = (key, NeighbourIndex(rows, metric=self.metric, scale=scale))
        return self._index[1]

    def _apply(self, *arguments: Any, **options: Any) -> KNN:
        self._forget()  # the rows are about to move
        super()._apply(*arguments, **options)  # type: ignore[no-untyped-call]
        return self

    def _forget(self) -> None:
        self._index, self._room = None, {}

    def __getstate__(self) -> dict[str, Any]:
        """What a copy takes along: not the search index, which is built again when it is needed."""
        return {**self.__dict__, "_index": None, "_room": {}}

    def _votes(self, distances: Tensor) -> Tensor:
        if self.votes == "uniform":
            return torch.ones_like(distances)
        here = distances <= 0
        return torch.where(
            here.any(1, keepdim=True), here.double(), 1 / distances.clamp(min=torch.finfo(torch.float64).tiny)
        )

    def _tie_break(self, shares: Tensor, labels: Tensor) -> Tensor:
        """What tied classes gain: at most 1e-4, less the farther their nearest neighbour is down the list."""
        k = labels.shape[1]
        ranks = torch.arange(k, device=labels.device).expand_as(labels)
        first = torch.full_like(shares, k, dtype=torch.int64).scatter_reduce_(1, labels, ranks, "amin")
        best = shares == shares.amax(1, keepdim=True)
        tied = best & (best.sum(1, keepdim=True) > 1)
        return torch.where(tied, _TIE_BREAK * (k - first) / k, 0.0)


def _as_bytes(values: Tensor, levels: int) -> Tensor | None:
    """uint8 codes that stand for exactly these values, or None where there are none."""
    codes = (values * levels).round_().clamp_(0, 255)
    return codes.to(torch.uint8) if bool((codes * _unit(levels).to(codes.device) == values).all()) else None


def _unit(levels: int) -> Tensor:
    """1 / levels in float32, as preprocessing multiplies pixels by it."""
    return torch.tensor(1.0 / levels, dtype=torch.float64).float()
