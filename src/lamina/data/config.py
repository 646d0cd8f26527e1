"""The `data` section of a recipe. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, WithJsonSchema
from pydantic import Field as PydanticField

from lamina.core.config import Config, Field


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


# `data.label=4` is read as a number by YAML; it names a column all the same.
ColumnName = Annotated[
    str, BeforeValidator(_as_text), WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "integer"}]})
]
Encoding = Literal[
    "utf-8",
    "utf-16",
    "latin-1",
    "cp1252",
    "cp1250",
    "cp1251",
    "koi8-r",
    "gb18030",
    "big5",
    "shift_jis",
    "euc-jp",
    "euc-kr",
]
Byte = Annotated[int, PydanticField(ge=0, le=255)]


class DataConfig(Config):
    """What to read and how to divide it."""

    path: str | None = Field(None, description="File, folder or archive, or the name of an embedded dataset.")
    options: dict[str, Any] = Field(
        {}, description="Options of an embedded generator, such as noise=0.2; `lamina show NAME` lists them."
    )
    reader: str | None = Field(None, description="Name of the reader; found from the content by default.")
    label: ColumnName | None = Field(
        None, description="Column that holds the label or target: its header, or its number from 0."
    )
    target: Literal["class", "number"] | None = Field(
        None, description="Whether a table's target is a class or a number; by default seen from its values."
    )
    text: ColumnName | None = Field(
        None, description="Column that holds the text, or the words: its header, or its number from 0."
    )
    text_pair: ColumnName | None = Field(
        None, description="With data.text, the column that holds the second text of a pair."
    )
    languages: tuple[str, str] | None = Field(
        None, description="Of parallel text, the language to translate from and the one to translate to: [de,en]."
    )
    scheme: Literal["auto", "bio", "bioes", "io", "none"] = Field(
        "auto",
        description="How tags mark spans. auto: seen from the tags, and only tags that no scheme knows are faults; a scheme that "
        "is stated also makes tags that cannot follow each other faults; none: tags are plain classes.",
    )
    encoding: Encoding | None = Field(
        None, description="Encoding of texts; by default UTF-8, or UTF-16 where a byte-order mark says so."
    )
    header: bool | None = Field(
        None, description="Whether a table begins with a header line; by default seen from its content."
    )
    shape: tuple[int, ...] | None = Field(
        None, description="Image shape (height, width) or (height, width, channels) of pixel rows; a square by default."
    )
    resize: Literal["crop", "stretch", "letterbox"] = Field(
        "crop",
        description="Image files of other sizes than data.shape: crop scales to cover it and cuts out the middle, stretch "
        "ignores the proportions, letterbox scales to fit inside and fills the rest.",
    )
    crop_fraction: float = Field(
        1.0,
        description="With resize=crop, how much of the covering middle is kept; 0.875 is a short side of 256, 224 cut out.",
        gt=0,
        le=1,
    )
    fill: tuple[Byte, ...] = Field(
        (0,),
        description="With resize=letterbox, the colour around the image: one grey value or [red,green,blue], 0 to 255.",
        min_length=1,
        max_length=4,
    )
    interpolation: Literal["bilinear", "bicubic"] = Field(
        "bilinear", description="How image files are scaled; smaller ones are smoothed first either way (antialiasing)."
    )
    channels_first: bool | None = Field(
        None, description="Whether array images are NCHW (true) or NHWC (false); needed only where both readings fit."
    )
    limit: int | None = Field(
        None,
        description="Use at most this many training rows, drawn by seed, stratified by class; of rows in an order (a time series) "
        "the latest.",
        ge=1,
    )
    valid_fraction: float = Field(
        0.2,
        description="Share of the training rows held out for validation where no validation split is given.",
        ge=0,
        lt=1,
    )
    test_fraction: float = Field(
        0.0, description="Share of the rows held out for a test where no test split is given.", ge=0, lt=1
    )
    split: Literal["auto", "given", "random", "kfold", "group"] = Field(
        "auto", description="auto: splits as given, the missing validation split drawn at random, stratified by class."
    )
    folds: int = Field(5, description="Number of folds with split=kfold or group.", ge=2)
    fold: int = Field(0, description="Which fold is the validation split, from 0.", ge=0)
    group: ColumnName | None = Field(
        None, description="Column whose values must not be divided between splits; also judged value by value."
    )
    boundaries: tuple[int | str, ...] = Field(
        (),
        description="Of rows in an order: where training, validation and test end, as row numbers or, of a time series, dates; "
        "rows from the last on are left out.",
        max_length=3,
    )
    time: ColumnName | None = Field(
        None, description="Column of a time series that holds the time stamps; found from its content by default."
    )
    gaps: Literal["stop", "ignore", "previous", "interpolate"] = Field(
        "stop",
        description="What missing time stamps and empty cells of a time series do: stop; be passed over as if nothing were "
        "missing; be filled with the value before, or on a line between the neighbours.",
    )
    past_length: int | None = Field(
        None,
        description="Rows of a time series that a model sees; by default three times the horizon.",
        ge=1,
        le=100_000,
    )
    horizon: int | None = Field(
        None, description="Rows of a time series that are forecast; by default one season.", ge=1, le=100_000
    )
    stride: int = Field(1, description="Rows from the beginning of one window to the next.", ge=1)
    season: int | None = Field(
        None,
        description="Rows after which a time series repeats itself; by default a day, a week of days or a year, by the step.",
        ge=1,
        le=100_000,
    )
    balance: Literal["none", "sample", "weight"] = Field(
        "none", description="sample: draw classes equally often; weight: weigh the loss by inverse class frequency."
    )
    max_memory_mb: int = Field(
        4096,
        description="Data larger than this (MiB) is memory-mapped or decoded ahead instead of held in memory.",
        ge=1,
    )
    on_fault: Literal["stop", "skip"] = Field(
        "stop",
        description="What a row that cannot be used does: stop with an error that names it, or be left out and reported.",
    )
