"""Checkpoints: everything an exact resume needs, whole or not there.

A checkpoint is a folder `step-00001234` of safetensors and JSON with a manifest of sizes and checksums. It is written
under a temporary name, flushed and renamed, so that a process can die at any byte; what is left under a temporary name
is removed when the run is opened again. No pickle is involved in either direction.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lamina.core.errors import CheckpointError, StorageError
from lamina.core.files import TEMPORARY_PREFIX, atomic_folder, remove_leftovers, sha256_file, storage_errors
from lamina.core.strict_json import parse_json
from lamina.train.state import PackedOptimizer, TrainerState

FORMAT: Final = 1
_NAME: Final = re.compile(r"step-(\d{8})")
_MANIFEST: Final = "manifest.json"
_DOCUMENT: Final = "trainer.json"
_ALWAYS: Final = ("model", "optimizer", "random")
_MANIFEST_BYTES: Final = 1 << 20
_DOCUMENT_BYTES: Final = 64 << 20


@dataclass
class Snapshot:
    """The content of a checkpoint.

    Attributes:
        tensors: Group (`model`, `optimizer`, `ema`, `state`, `random`) -> name -> tensor.
        state: Cursor, optimizer settings, schedule, metric sums, early stopping, choices.
    """

    tensors: dict[str, dict[str, Tensor]]
    state: TrainerState


def folder_name(step: int) -> str:
    """`step-00001234`."""
    return f"step-{step:08d}"


def step_of(path: Path) -> int:
    """The step in a checkpoint folder's name; -1 when it is none."""
    match = _NAME.fullmatch(path.name)
    return int(match.group(1)) if match else -1


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoint folders in order of their steps."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if path.is_dir() and step_of(path) >= 0), key=step_of)


def write_checkpoint(folder: Path, step: int, snapshot: Snapshot) -> Path:
    """Write `folder/step-<step>`; one that stands there already is exchanged.

    Raises:
        StorageError: The disk is full or cannot be written; earlier checkpoints stand untouched.
    """
    path = folder / folder_name(step)
    with atomic_folder(path, replace=True) as temporary, storage_errors(path):
        for group, tensors in snapshot.tensors.items():
            stored = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
            try:
                save_file(_unshared(stored), temporary / f"{group}.safetensors")
            except SafetensorError as error:  # how the library reports a full disk
                raise StorageError(
                    f"Writing failed: {error}.",
                    where=str(path),
                    accepts="a writable path with enough free space",
                    mend="free some space, then continue with --resume; earlier checkpoints are untouched",
                ) from None
        (temporary / _DOCUMENT).write_text(_json(snapshot.state.document()), encoding="utf-8")
        manifest = {
            "format": FORMAT,
            "step": step,
            "files": {
                file.name: {"bytes": file.stat().st_size, "sha256": sha256_file(file)}
                for file in sorted(temporary.iterdir())
            },
        }
        (temporary / _MANIFEST).write_text(_json(manifest), encoding="utf-8")
    return path


def _unshared(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that share memory (tied weights) are stored once each; safetensors refuses aliases."""
    seen: set[int] = set()
    result = {}
    for name, tensor in tensors.items():
        pointer = tensor.untyped_storage().data_ptr()
        result[name] = tensor.clone() if pointer in seen else tensor
        seen.add(pointer)
    return result


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1, allow_nan=True) + "\n"


def verify_checkpoint(path: Path) -> None:
    """Check names, sizes and checksums before anything is read.

    Raises:
        CheckpointError: A file is missing, extra or changed.
    """
    manifest_path = path / _MANIFEST
    if manifest_path.is_symlink() or not manifest_path.is_file() or manifest_path.stat().st_size > _MANIFEST_BYTES:
        raise _damaged(path, "it has no manifest of a sane size")
    try:
        manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
        files = {str(name): (int(row["bytes"]), str(row["sha256"])) for name, row in manifest["files"].items()}
        version = int(manifest["format"])
        step = int(manifest["step"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(path, f"its manifest cannot be read ({type(error).__name__})") from None
    if version != FORMAT:
        raise _damaged(path, f"it has format {version}, this Lamina reads {FORMAT}")
    if step != step_of(path):
        raise _damaged(path, f"it is of step {step}")
    present = {file.name for file in path.iterdir()} - {_MANIFEST}
    if present != set(files):
        raise _damaged(path, f"it holds {sorted(present)}, its manifest says {sorted(files)}")
    for name, (size, digest) in files.items():
        file = path / name
        if file.is_symlink() or not file.is_file() or file.stat().st_size != size:
            raise _damaged(path, f"{name} has not the {size} bytes that its manifest says")
        if sha256_file(file) != digest:
            raise _damaged(path, f"the checksum of {name} does not match its manifest")


def read_checkpoint(path: Path) -> Snapshot:
    """Verify and read a checkpoint.

    Raises:
        CheckpointError: It is damaged.
    """
    verify_checkpoint(path)
    file = path / _DOCUMENT
    if not file.is_file():
        raise _damaged(path, f"it has no {_DOCUMENT}")
    document = parse_json(
        file.read_bytes(),
        where=str(file),
        mend=_mend(path),
        max_bytes=_DOCUMENT_BYTES,
        finite_only=False,  # a metric may be NaN
        error=CheckpointError,
    )
    state = TrainerState.from_document(document, where=str(file), mend=_mend(path))
    if state.cursor.step != step_of(path):
        raise _damaged(path, f"its cursor stands at step {state.cursor.step}")
    # Copies: what load_file gives is mapped from a file that a later checkpoint will remove.
    try:
        tensors = {
            file.stem: {name: tensor.clone() for name, tensor in load_file(file).items()}
            for file in sorted(path.glob("*.safetensors"))
        }
    except (SafetensorError, ValueError, KeyError) as error:
        raise _damaged(path, f"its tensors cannot be read ({error})") from None
    for group in _ALWAYS:
        if group not in tensors:
            raise _damaged(path, f"it has no {group}.safetensors")
    return Snapshot(tensors=tensors, state=state)


def _damaged(path: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"The checkpoint is damaged: {why}.",
        where=str(path),
        accepts="a checkpoint folder as Lamina wrote it",
        mend=_mend(path),
    )


def _mend(path: Path) -> str:
    return f"remove {path} to continue from the checkpoint before it"


def prune(folder: Path, *, keep: int, best: int | None) -> None:
    """Remove all but the latest `keep` checkpoints and the best one."""
    paths = list_checkpoints(folder)
    for path in paths[:-keep]:
        if step_of(path) != best:
            # Renamed first, so that a death in the middle leaves no half of a checkpoint under a checkpoint's name.
            doomed = path.with_name(f"{TEMPORARY_PREFIX}{path.name}-removed")
            shutil.rmtree(doomed, ignore_errors=True)
            with storage_errors(path):
                path.rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)


def clear_leftovers(run: Path) -> None:
    """Remove what a process that died was writing: everything under a temporary name in the run's folders."""
    for folder in (run, run / "checkpoints"):
        if folder.is_dir():
            remove_leftovers(folder)


def give_weights(model: nn.Module, weights: dict[str, Tensor], *, where: str) -> None:
    """Load a checkpoint's weights into the model of the run.

    Raises:
        CheckpointError: They are another model's.
    """
    try:
        model.load_state_dict(weights)  # asks the model, whose buffers may grow with what was learned (kNN)
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"The checkpoint's weights do not fit the model: {' '.join(str(error).split())}",
            where=where,
            accepts="the model that the run was started with",
            mend="undo the change of recipe.yaml, or begin a new run with it",
        ) from None


# --- optimizer and generators to tensors and JSON -------------------------------------------------------------------


def pack_optimizer(optimizer: torch.optim.Optimizer, prefix: str) -> tuple[dict[str, Tensor], PackedOptimizer]:
    """An optimizer's state as named tensors and JSON; `unpack_optimizer` inverts it."""
    state = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, dict[str, Any]] = {}
    for index, row in state["state"].items():
        for name, value in row.items():
            if isinstance(value, Tensor):
                tensors[f"{prefix}.{index}.{name}"] = value
            else:
                numbers.setdefault(str(index), {})[name] = value
    groups = [
        {key: (float(value) if isinstance(value, Tensor) else value) for key, value in group.items()}
        for group in state["param_groups"]
    ]
    return tensors, PackedOptimizer(numbers, groups)


def unpack_optimizer(
    optimizer: torch.optim.Optimizer, prefix: str, tensors: dict[str, Tensor], packed: PackedOptimizer
) -> None:
    """Give an optimizer the packed state back, with tensors in the memory layout of their parameters.

    Raises:
        CheckpointError: The parameters are not the ones that were saved, or the settings not this optimizer's.
    """

    def other(what: str, accepts: str = "the model and optimizer that the run was started with") -> CheckpointError:
        return CheckpointError(
            what,
            where=f"checkpoint, optimizer of the update {prefix!r}",
            accepts=accepts,
            mend="resume with the run's own recipe",
        )

    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Any]] = {}

    def row_of(index: str) -> dict[str, Any]:
        if not index.isdecimal() or int(index) >= len(parameters):
            raise other(f"The checkpoint has optimizer state for parameter {index}; the model has {len(parameters)}.")
        return state.setdefault(int(index), {})

    for key, tensor in tensors.items():
        owner, _, rest = key.partition(".")
        if owner != prefix:
            continue
        index, _, name = rest.partition(".")
        row = row_of(index)
        parameter = parameters[int(index)]
        if tensor.shape != parameter.shape and tensor.numel() != 1:  # as large as the parameter, or a counter
            raise other(
                f"The checkpoint's {name} of parameter {index} is shaped {tuple(tensor.shape)}, the parameter "
                f"{tuple(parameter.shape)}."
            )
        # A fused step over tensors of unlike strides would take another path than the uninterrupted run's.
        row[name] = (
            torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor) if tensor.shape == parameter.shape else tensor
        )
    for index, numbers in packed.numbers.items():
        row_of(index).update(numbers)
    fresh = optimizer.state_dict()["param_groups"]
    if [group["params"] for group in fresh] != [group.get("params") for group in packed.groups]:
        raise other("The optimizer's parameter groups differ from the checkpoint's.")
    groups = []
    for group, own in zip(packed.groups, fresh, strict=True):
        values = {
            key: (tuple(value) if isinstance(value, list) and key != "params" else value)
            for key, value in group.items()
        }
        for key, value in values.items():
            if key not in own or not _alike(value, own[key]):
                raise other(
                    f"The checkpoint's optimizer has the setting {key}={value!r}.",
                    f"{key} as the run was started with: {own[key]!r}" if key in own else f"settings {', '.join(own)}",
                )
        groups.append({**own, **values})  # a newer torch may have settings that the checkpoint does not know
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _alike(first: Any, second: Any) -> bool:
    """Whether two settings are of one kind: numbers, texts, tuples of such, …"""
    if isinstance(first, tuple) and isinstance(second, tuple):
        return len(first) == len(second) and all(map(_alike, first, second))
    numbers = (int, float, Tensor)
    if isinstance(first, numbers) and isinstance(second, numbers):
        return isinstance(first, bool) == isinstance(second, bool)
    return first is None or second is None or type(first) is type(second)
