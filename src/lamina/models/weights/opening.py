"""From the word behind `--weights` to tensors: files, bundles, models of the hub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from lamina.core.bundle import PREPROCESSING_PREFIX
from lamina.core.errors import LaminaError, WeightsError
from lamina.core.strict_json import parse_json
from lamina.core.weightfile import read_weight_file
from lamina.models.weights.hub import fetch_from_hub
from lamina.models.weights.words import parse_weights

__all__ = ["Given", "open_weights"]

_MAX_CONFIG_BYTES: Final = 1 << 20
_IN_FOLDER: Final = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class Given:
    """Weights before a table is found for them.

    Attributes:
        tensors: By the names in the file.
        where: File or hub name, for messages.
        table: Name of the table that the user gave.
        config: The source's own `config.json` beside the weights; None where there is none.
        notes: Sentences about the reading.
    """

    tensors: Mapping[str, Tensor]
    where: str
    table: str | None = None
    config: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()


def open_weights(weights: str | Path | Mapping[str, Tensor], *, where: str | Path = "weights") -> Given:
    """Read weights from wherever they are.

    Args:
        weights: A file, a folder with `model.safetensors` (a bundle), `TABLE:FILE`, `timm/NAME`, `hf:OWNER/NAME`, or tensors
            by name.
        where: Where tensors by name come from, for messages.

    Raises:
        WeightsError: See `read_weight_file` and `fetch_from_hub`.
        MissingExtraError: The hub's client is needed and missing.
    """
    if isinstance(weights, Mapping):
        return Given(dict(weights), str(where))
    word = parse_weights(str(weights))
    if word.hub is not None:
        path, config = fetch_from_hub(word.hub, revision=word.revision)
        name = word.text.partition(":")[2] if word.table is not None else word.text
    else:
        path = Path(word.path)
        if path.is_dir():
            path = next((path / name for name in _IN_FOLDER if (path / name).is_file()), path / _IN_FOLDER[0])
        config, name = path.parent / "config.json", str(path)
    file = read_weight_file(path)
    # A bundle keeps what its preprocessing learned beside the weights.
    tensors = {key: tensor for key, tensor in file.tensors.items() if not key.startswith(PREPROCESSING_PREFIX)}
    return Given(tensors, name, word.table, _config(config), file.notes)


def _config(path: Path | None) -> Mapping[str, Any] | None:
    """A `config.json` as the model hubs have them; None for a bundle's, for none, and for what cannot be read."""
    if path is None or not path.is_file() or path.stat().st_size > _MAX_CONFIG_BYTES:
        return None
    try:
        found = parse_json(path.read_bytes(), where=str(path), mend="", max_bytes=_MAX_CONFIG_BYTES, error=WeightsError)
    except (LaminaError, OSError):
        return None
    return found if "architecture" in found or "pretrained_cfg" in found else None
