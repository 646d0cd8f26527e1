"""Preprocessing: steps fitted on the training split only, run as pure tensor code, carried in the bundle.

A `Preprocessing` turns a batch of compact tensors into what a model reads: `image` float32 (N, C, H, W), or `features`
float32 (N, F) in place of `number` and `category`; `input_ids` and `attention_mask` in place of `text`; `signal` (N, C, T) and `volume` (N, C, D, H, W) as images. Everything else in
the batch passes through.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, cast

import torch
from torch import Tensor, nn

from lamina.core import registry
from lamina.core.errors import BundleError, ConfigError, DataError, ShapeError
from lamina.data.columns import Columns, ColumnSpec, DataSpec, Role
from lamina.data.preprocess.affine import Centre, FlattenStep, Nothing, PerConfig, Scale, ScaleConfig, Standardise
from lamina.data.preprocess.flow import CHUNK_ELEMENTS, Affine, Chunk, Chunks, Flow, Operation, Step, no_rows
from lamina.data.preprocess.series import check_series_steps, prepare_windows, series_chunks, series_spec
from lamina.data.preprocess.tables import Impute, ImputeConfig, OneHot
from lamina.data.preprocess.whitening import Pca, PcaConfig, Zca, ZcaConfig
from lamina.data.text.encoder import TEXTS, TextEncoder
from lamina.data.text.tokenizer import TokenizerConfig

__all__ = [
    "Centre",
    "FlattenStep",
    "Impute",
    "ImputeConfig",
    "Nothing",
    "OneHot",
    "Pca",
    "PcaConfig",
    "PerConfig",
    "Preprocessing",
    "Scale",
    "ScaleConfig",
    "Standardise",
    "Step",
    "Zca",
    "ZcaConfig",
    "default_steps",
]

_WITH_CHANNELS: Final[tuple[Literal["image", "signal", "volume"], ...]] = ("image", "signal", "volume")
_INPUTS: Final = (*_WITH_CHANNELS, "number", "category")
_MENDS: Final = {
    "image": "resize or crop the images; NHWC arrays: images.permute(0, 3, 1, 2)",
    "signal": "cut or resample the signals; channels last: signals.transpose(1, 2)",
    "volume": "cut or resample the volumes; channels last: volumes.movedim(-1, 1)",
}


def default_steps(spec: DataSpec) -> tuple[dict[str, Any], ...]:
    """The steps used where none are given: scale for images and volumes, standardise for signals and time series; for tables impute, one-hot, standardise."""
    if "image" in spec.columns or "volume" in spec.columns:
        return ({"name": "scale"},)
    if "signal" in spec.columns or "past" in spec.columns:
        return ({"name": "standardise"},)
    if "text" in spec.columns:
        return ({"name": TextEncoder.name},)
    if "number" in spec.columns or "category" in spec.columns:
        return ({"name": "impute"}, {"name": "one-hot"}, {"name": "standardise"})
    return ()


class Preprocessing(nn.Module):
    """A chain of fitted steps; build it with `fit` or `restore`.

    It is a module so that its constants follow `.to(device)` and are found by compilation and export; it has neither
    parameters nor entries in a state dict.

    Attributes:
        input_spec: The data's spec, before.
        spec: The spec of what comes out.
        steps: The fitted steps.
    """

    def __init__(self, steps: Sequence[Step], input_spec: DataSpec, *, text: TextEncoder | None = None) -> None:
        super().__init__()
        self.input_spec = input_spec
        self.steps = tuple(steps)
        self.text = text
        self._flow = _first_flow(input_spec)
        flow, operations = self._flow, list[Operation]()
        for step in self.steps:
            assert flow is not None
            operations += step.operations(flow)
            flow = step.output(flow)
        if flow is not None and flow.categories:
            names = ", ".join(field.name for field in flow.categories[:8])
            raise ConfigError(
                f"The table has categories that no step turns into numbers: {names}.",
                where="preprocess",
                accepts="one-hot among the steps",
                mend="add {name: one-hot}, or leave preprocess out for the default steps",
            )
        series: DataSpec | None = None
        if flow is not None and flow.kind == "past":
            check_series_steps(self.steps)
            series = series_spec(input_spec, flow, operations)
        # Folded and derived in float64, then float32 once: a restored chain gives the same bits.
        self.operations = nn.ModuleList(operation.float() for operation in _folded(operations))
        self.spec = series or _output_spec(input_spec, flow)
        if text is not None:
            kept = {name: column for name, column in self.spec.columns.items() if name not in TEXTS}
            self.spec = self.spec.model_copy(update={"columns": {**text.output(input_spec), **kept}})

    @classmethod
    def fit(
        cls,
        steps: Sequence[Mapping[str, Any] | str] | None,
        columns: Columns,
        spec: DataSpec,
        *,
        tokenizer: Mapping[str, Any] | None = None,
    ) -> Preprocessing:
        """Fit steps on the training split.

        Args:
            steps: Each a mapping with `name` and the step's options, or a name. None or empty: `default_steps(spec)`;
                `[{"name": "none"}]` keeps values as they are.
            columns: The training split. No other rows are looked at.
            spec: The data's spec.
            tokenizer: As `tokenizer()` gave it; nothing is learned where it is given.

        Raises:
            UnknownNameError: No step has that name.
            ConfigError: Unknown or impossible options, or steps that do not fit the data.
            DataError: No rows, or missing values that no step fills.
        """
        chosen, tokenize = _divided(steps or default_steps(spec), spec)
        first = _first_flow(spec)
        if columns.num_rows == 0 and (first is not None or tokenize is not None):
            raise no_rows()
        text = TextEncoder.fit(tokenize, columns, spec, known=tokenizer) if tokenize is not None else None
        if first is None:
            if chosen:
                raise ConfigError(
                    f"The data has neither images nor numbers for the step {chosen[0].name!r}; it has {', '.join(spec.columns)}.",
                    where="preprocess",
                    accepts="the step tokenize" if text is not None else "no steps",
                    mend="leave that step out" if text is not None else "leave preprocess out",
                )
            return cls((), spec, text=text)
        if first.kind == "past":
            check_series_steps(chosen)
        flow, done = first, list[Operation]()
        for step in chosen:
            step.check(flow)
            step.fit(flow, _chunks(columns, first, done))
            done += step.operations(flow)
            flow = step.output(flow)
        if first.kind == "features" and not any(isinstance(step, Impute) for step in chosen):
            _refuse_missing(columns, first)
        return cls(chosen, spec, text=text)

    def encode(self, columns: Columns) -> Columns:
        """What is done once per row, before any batch: texts become tokens (`EncodedColumns`, whose `raw` gives them back)."""
        return self.text.encode(columns) if self.text is not None else columns

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Preprocess a batch; the given tensors are not changed.

        Args:
            batch: Has `image` (B, C, H, W), `signal` (B, C, T) or `volume` (B, C, D, H, W) of any number type, or `number` float
                (B, F) and `category` int64 (B, K).

        Returns:
            The batch with `image`, `signal` or `volume` float32 of the same shape, or with `features` float32 (B, F') in their place.

        Raises:
            ShapeError: A column is missing or has another shape than in training.
        """
        if self.text is not None:
            batch = self.text.batch(batch)
        if self._flow is None:
            return dict(batch)
        if self._flow.kind == "past":
            return prepare_windows(self.operations, batch, self._flow)
        result = {name: tensor for name, tensor in batch.items() if name not in _INPUTS}
        values, categories = _inputs(batch, self._flow)
        values = values.to(torch.float32)
        for operation in self.operations:
            values, categories = operation(values, categories)
        result["features" if values.ndim == 2 else self._flow.kind] = values
        return result

    def count_unknown(self, columns: Columns) -> dict[str, int]:
        """How many values of each categorical field are missing or were never seen in training; such give zeros."""
        if self.text is not None:
            return {"text": self.text.count_unknown(columns)}
        encoder = next((step for step in self.steps if isinstance(step, OneHot)), None)
        if encoder is None or "category" not in columns or self._flow is None:
            return {}
        counts = {}
        for number, field in enumerate(self._flow.categories):
            known = encoder.state["code"][encoder.state["field"] == number]
            counts[field.name] = int((~torch.isin(columns["category"][:, number], known)).sum())
        return counts

    def describe(self) -> dict[str, Any]:
        """The JSON form: the steps in order with their options; with `tensors` it is all that `restore` needs."""
        steps = [{"name": step.name, **step.config.values()} for step in self.steps]
        return {"steps": steps if self.text is None else [self.text.describe(), *steps]}

    def tokenizer(self) -> dict[str, Any] | None:
        """The bundle's tokenizer.json; None where there is no text."""
        return self.text.tokenizer.document() if self.text is not None else None

    def tensors(self) -> dict[str, Tensor]:
        """What the steps learned, named `<number of the step>.<what>`, on the CPU."""
        states = [] if self.text is None else [self.text.tensors()]
        states += [step.state for step in self.steps]
        return {
            f"{number}.{name}": tensor for number, state in enumerate(states) for name, tensor in sorted(state.items())
        }

    @classmethod
    def restore(
        cls,
        document: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        spec: DataSpec,
        *,
        tokenizer: Mapping[str, Any] | None = None,
        where: str = "preprocessing",
    ) -> Preprocessing:
        """The inverse of `describe`, `tensors` and `tokenizer`: the same outputs, bit for bit.

        Raises:
            BundleError: Document and tensors do not fit each other or the spec.
        """
        listed = document.get("steps")
        if not isinstance(listed, Sequence) or set(document) != {"steps"} or isinstance(listed, str):
            raise BundleError(
                f"The preprocessing has the keys {sorted(map(str, document))}.",
                where=where,
                accepts="one list called `steps`",
                mend="save the bundle again; this one was changed or cut",
            )
        states: dict[int, dict[str, Tensor]] = {number: {} for number in range(len(listed))}
        for key, tensor in tensors.items():
            prefix, _, name = key.partition(".")
            if not prefix.isdecimal() or int(prefix) not in states:
                raise BundleError(
                    f"The tensor {key!r} belongs to no step.",
                    where=where,
                    accepts=f"tensors named 0.… to {len(listed) - 1}.…" if listed else "no tensors",
                    mend="save the bundle again; this one was changed or cut",
                )
            states[int(prefix)][name] = tensor
        try:
            chosen, tokenize = _divided(listed, spec)
            text, first_state = None, 0
            if tokenize is not None:
                text = TextEncoder.restore(tokenize, tokenizer, states[0], spec, where=where)
                first_state = 1
            flow = _first_flow(spec)
            for number, step in enumerate(chosen, start=first_state):
                if flow is None:
                    raise BundleError(
                        f"The data has neither images nor numbers for the step {step.name!r}.",
                        where=where,
                        accepts="no steps",
                        mend="save the bundle again; this one was changed or cut",
                    )
                step.check(flow)
                step.restore(flow, states[number], where=where)
                flow = step.output(flow)
            return cls(chosen, spec, text=text)
        except ConfigError as error:
            raise BundleError(error.what, where=where, accepts=error.accepts, mend=error.mend) from error


def _divided(steps: Sequence[Mapping[str, Any] | str], spec: DataSpec) -> tuple[list[Step], TokenizerConfig | None]:
    """The steps of images and numbers, and what is done with texts, which comes first.

    Raises:
        ConfigError: There is no text to tokenize, it is tokenized twice, or not first.
    """
    chosen = _build(steps)
    texts = [place for place, step in enumerate(chosen) if isinstance(step, TokenizerConfig)]
    is_text = "text" in spec.columns
    if texts != [0] * is_text:
        raise ConfigError(
            f"`{TextEncoder.name}` is among the steps {len(texts)} times, at {texts}; the data has {', '.join(spec.columns)}.",
            where="preprocess",
            accepts=f"{TextEncoder.name} once, as the first step"
            if is_text
            else f"no {TextEncoder.name}, which is for texts",
            mend=f"begin with {{name: {TextEncoder.name}}}" if is_text else f"leave {TextEncoder.name} out",
        )
    first = chosen[0] if texts else None
    assert first is None or isinstance(first, TokenizerConfig)
    return [step for step in chosen if isinstance(step, Step)], first


def _build(steps: Sequence[Mapping[str, Any] | str]) -> list[Step | TokenizerConfig]:
    chosen: list[Step | TokenizerConfig] = []
    for number, given in enumerate(steps):
        values = {"name": given} if isinstance(given, str) else given
        place = f"preprocess, step {number}"
        if not isinstance(values, Mapping) or not isinstance(values.get("name"), str):
            raise ConfigError(
                f"The step {given!r} has no name.",
                where=place,
                accepts="a mapping with `name` and options: {name: scale}",
                mend="write name: before the step's name",
            )
        entry = registry.lookup("preprocessing", str(values["name"]), where=place)
        options = {key: value for key, value in values.items() if key != "name"}
        where = f"{place}, {values['name']}"
        if entry.name == TextEncoder.name:
            chosen.append(TokenizerConfig.from_values(options, where=where))
            continue
        cls = cast("type[Step]", entry.target)
        chosen.append(cls(cls.Config.from_values(options, where=where)))
    return chosen


def _first_flow(spec: DataSpec) -> Flow | None:
    """What a row of the data is before the first step; None when there is nothing to preprocess."""
    for kind in _WITH_CHANNELS:
        column = spec.columns.get(kind)
        if column is not None:
            return Flow(kind, column.shape, bounds=_pixel_bounds(column))
    if "past" in spec.columns:
        return Flow("past", spec.columns["past"].shape)
    number, category = spec.columns.get("number"), spec.columns.get("category")
    if number is None and category is None:
        return None
    fields = number.fields if number is not None else ()
    width = number.shape[0] if number is not None else 0
    return Flow("features", (width,), fields=fields, categories=category.fields if category is not None else ())


def _pixel_bounds(image: ColumnSpec) -> tuple[float, float] | None:
    if image.maximum is not None:
        return 0.0, image.maximum
    return {"uint8": (0.0, 255.0), "uint16": (0.0, 65535.0), "bool": (0.0, 1.0)}.get(image.dtype)


def _inputs(batch: Mapping[str, Tensor], flow: Flow) -> Chunk:
    """The tensors that flow: values, and categories (B, K), possibly of width 0."""
    if flow.has_channels:
        image = _required(batch, flow.kind)
        wanted = len(flow.shape) + 1
        if image.ndim != wanted or any(w not in (-1, s) for w, s in zip(flow.shape, image.shape[1:], strict=True)):
            raise _shape_error(flow.kind, image, flow.shape, _MENDS[flow.kind])
        return image, image.new_empty((len(image), 0), dtype=torch.int64)
    number = _required(batch, "number") if flow.shape[0] else None
    categories = _required(batch, "category") if flow.categories else None
    reference = number if number is not None else categories
    assert reference is not None
    if number is None:
        number = reference.new_empty((len(reference), 0), dtype=torch.float32)
    if categories is None:
        categories = reference.new_empty((len(reference), 0), dtype=torch.int64)
    for name, tensor, width in (("number", number, flow.shape[0]), ("category", categories, len(flow.categories))):
        if tensor.ndim != 2 or tensor.shape[1] != width:
            raise _shape_error(name, tensor, (width,), "give the columns of the training table, in its order")
    return number, categories


def _required(batch: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in batch:
        raise ShapeError(
            f"The batch has no column {name!r}; it has {', '.join(batch) or 'none'}.",
            where="preprocessing",
            accepts=f"a batch with {name!r}, as in training",
            mend="look at what the file holds with `lamina data`",
        )
    return batch[name]


def _shape_error(name: str, tensor: Tensor, shape: tuple[int, ...], mend: str) -> ShapeError:
    wanted = ", ".join(["batch", *(str(size) for size in shape)])
    return ShapeError(
        f"{name} is shaped {tuple(tensor.shape)}.",
        where=f"preprocessing, column {name!r}",
        accepts=f"({wanted}), as in training",
        mend=mend,
    )


def _chunks(columns: Columns, flow: Flow, operations: Sequence[Operation]) -> Chunks:
    """The training split in float64 chunks of bounded size, after the operations so far."""
    chain = _folded(operations)
    size = max(1, CHUNK_ELEMENTS // max(flow.width, 1))
    if flow.kind == "past":
        return series_chunks(columns, chain, flow, size=size)
    names = [name for name in ([flow.kind] if flow.has_channels else ("number", "category")) if name in columns]

    def chunks() -> Iterator[Chunk]:
        for piece in _pieces(columns, names, size):
            values, categories = _inputs(piece, flow)
            values = values.to(torch.float64)
            for operation in chain:
                values, categories = operation(values, categories)
            yield values, categories

    return chunks


def _pieces(columns: Columns, names: Sequence[str], size: int) -> Iterator[Mapping[str, Tensor]]:
    if not columns.in_memory:
        yield from columns.chunks(size)
        return
    for start in range(0, columns.num_rows, size):  # views, not copies
        yield {name: columns[name][start : start + size] for name in names}


def _folded(operations: Sequence[Operation]) -> list[Operation]:
    """Neighbouring multiply-adds joined into one."""
    folded: list[Operation] = []
    for operation in operations:
        if folded and isinstance(operation, Affine) and isinstance(folded[-1], Affine):
            folded[-1] = operation.after(folded[-1])
        else:
            folded.append(operation)
    return folded


def _refuse_missing(columns: Columns, flow: Flow) -> None:
    if "number" not in columns:
        return
    missing = torch.zeros(flow.shape[0], dtype=torch.int64)
    for piece in _pieces(columns, ["number"], max(1, CHUNK_ELEMENTS // max(flow.width, 1))):
        missing += piece["number"].isnan().sum(0)
    if bool(missing.any()):
        worst = int(missing.argmax())
        raise DataError(
            f"The {flow.name(worst)} has {int(missing[worst])} missing values of {columns.num_rows}, and no step fills them.",
            where="preprocess",
            accepts="impute among the steps",
            mend="add {name: impute}, or leave preprocess out for the default steps",
        )


def _output_spec(spec: DataSpec, flow: Flow | None) -> DataSpec:
    if flow is None:
        return spec
    columns = {name: column for name, column in spec.columns.items() if name not in _INPUTS}
    if flow.has_channels:
        role: Role = "series" if flow.kind == "signal" else "volume" if flow.kind == "volume" else "image"
        made = {flow.kind: ColumnSpec(role=role, dtype="float32", shape=flow.shape)}
    else:
        made = {"features": ColumnSpec(role="number", dtype="float32", shape=flow.shape, fields=flow.fields)}
    return spec.model_copy(update={"columns": {**made, **columns}})
