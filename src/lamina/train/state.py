"""What a checkpoint's `trainer.json` says, declared once and checked whenever it is read.

Checksums tell of damage, not of another program's or a stranger's hand; every value is therefore checked before anything
is built on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from lamina.core.devices import Choice
from lamina.core.errors import CheckpointError

__all__ = ["Best", "Cursor", "PackedOptimizer", "TrainerState"]

Count = Annotated[int, Field(ge=0)]
Pair = Annotated[list[float], Field(min_length=2, max_length=2)]
_CLOSED: Final = ConfigDict(extra="forbid")
# What the rules of `auto` may have chosen.
_CHOICES: Final = {
    "precision": ("fp32", "bf16"),
    "layout": ("contiguous", "channels_last"),
    "executor": ("eager", "compiled"),
}


@dataclass
class Cursor:
    """Where training stands: the next step to take. A checkpoint holds it.

    Attributes:
        stage, epoch, batch, step: From 0; `batch` counts steps within the epoch.
        stage_step, stage_epoch: Since the stage began.
        pending: Steps were taken whose epoch's end (judging, early stopping) is still to come.
    """

    __pydantic_config__ = _CLOSED

    stage: Count = 0
    epoch: Count = 0
    batch: Count = 0
    step: Count = 0
    stage_step: Count = 0
    stage_epoch: Count = 0
    pending: bool = False


@dataclass
class Best:
    """The best judgement so far, and how long ago it was."""

    __pydantic_config__ = _CLOSED

    step: Count | None = None
    epoch: Count | None = None
    value: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    evaluations_since: Count = 0


@dataclass
class PackedOptimizer:
    """An optimizer's state without its tensors: numbers by parameter and name, and its groups."""

    __pydantic_config__ = _CLOSED

    numbers: dict[str, dict[str, Any]]
    groups: list[dict[str, Any]]


@dataclass
class Generators:
    """States of Python's and NumPy's generators without their tensors."""

    __pydantic_config__ = _CLOSED

    python: tuple[int, list[Annotated[int, Field(ge=0, lt=2**32)]], float | None]
    numpy: tuple[Literal["MT19937"], Annotated[int, Field(ge=0, le=624)], Annotated[int, Field(ge=0, le=1)], float]


@dataclass
class TrainerState:
    """Everything but tensors that an exact resume needs; see `Resumable`.

    Attributes:
        metrics_bytes: Length of `metrics.jsonl`.
        ema_updates: Of the weight average; 0 without one.
        stop: A callback wanted training to end.
    """

    __pydantic_config__ = _CLOSED

    cursor: Cursor
    best: Best
    choices: dict[str, Choice]
    optimizers: dict[str, PackedOptimizer]
    schedule: dict[str, Any]
    means: dict[str, dict[str, Pair]]
    metrics_bytes: Count
    generators: Generators
    ema_updates: Count
    stop: bool

    def document(self) -> dict[str, Any]:
        """As JSON values; `from_document` inverts it."""
        return asdict(self)

    @classmethod
    def from_document(cls, document: Mapping[str, Any], *, where: str, mend: str) -> TrainerState:
        """Check and read.

        Args:
            where: The file, for messages.
            mend: What the user should do about a fault.

        Raises:
            CheckpointError: A key is missing, unknown or of another kind.
        """

        def fault(what: str, key: str, accepts: str) -> CheckpointError:
            return CheckpointError(what, where=f"{where}, key `{key}`", accepts=accepts, mend=mend)

        parts = (
            ("", fields(cls), document),
            ("cursor.", fields(Cursor), document.get("cursor")),
            ("best.", fields(Best), document.get("best")),
        )
        for prefix, entries, values in parts:
            # Also where there is a default: a checkpoint says everything.
            missing = [entry.name for entry in entries if isinstance(values, Mapping) and entry.name not in values]
            if missing:
                key = f"{prefix}{missing[0]}"
                raise fault(f"{key} is missing.", key, "all that a checkpoint holds")
        try:
            state: TrainerState = _ADAPTER.validate_python(dict(document))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            raise fault(f"{key} is {_short(first['input'])}.", key, first["msg"].lower()) from None
        for name in _CHOICES:
            if name != "executor" and name not in state.choices:
                raise fault(f"choices.{name} is missing.", f"choices.{name}", " or ".join(_CHOICES[name]))
        for name, choice in state.choices.items():
            known = _CHOICES.get(name.partition("/")[0], (choice.value,))  # `executor/STAGE` where there are several
            if choice.value not in known:
                raise fault(f"choices.{name} is {_short(choice.value)}.", f"choices.{name}", " or ".join(known))
        return state


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


_ADAPTER: Final = TypeAdapter(TrainerState)
