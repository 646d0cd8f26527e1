"""The run folder: where a training run keeps its recipe, environment, metrics, checkpoints and bundle.

A run is created whole: the folder appears under its final name with `recipe.yaml` in it, or not at all, and an existing
one is never overwritten. What is refused before its first step is taken back. Everything that looks at a run (reports, verification, comparison) reads it through `RunFolder`
and needs neither torch nor the process that trained.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from lamina.core.config import read_yaml
from lamina.core.errors import ConfigError, RunError, StorageError
from lamina.core.files import TEMPORARY_PREFIX, atomic_folder, storage_errors, write_atomic
from lamina.core.run_documents import ENVIRONMENT, RESULT, Fields, read_document, read_lines
from lamina.core.run_lock import LOCK_NAME, run_lock

__all__ = ["RunFolder", "render_recipe"]

RUNS: Final = Path("runs")
ORIGINS: Final = ("default", "recipe", "file", "command line", "data", "python")
_CHECKPOINT: Final = re.compile(r"step-(\d{8,})")
_ACCEPTS_RUN: Final = "a folder made by `lamina train`, with recipe.yaml in it"


@dataclass(frozen=True)
class RunFolder:
    """Paths and readers of one run.

    Attributes:
        path: The folder.
        is_borrowed: It was there, empty, before the run; `take_back` leaves it there.
    """

    path: Path
    is_borrowed: bool = field(default=False, compare=False)

    @property
    def recipe_file(self) -> Path:
        """The resolved recipe, each value with its origin."""
        return self.path / "recipe.yaml"

    @property
    def environment_file(self) -> Path:
        """Versions, device, threads, seed, data fingerprint, command line, what `auto` chose and why."""
        return self.path / "environment.json"

    @property
    def metrics_file(self) -> Path:
        """One JSON line per logged step and per evaluation."""
        return self.path / "metrics.jsonl"

    @property
    def events_folder(self) -> Path:
        """TensorBoard events."""
        return self.path / "events"

    @property
    def checkpoints_folder(self) -> Path:
        """Holds `step-00001234` folders."""
        return self.path / "checkpoints"

    @property
    def bundle_folder(self) -> Path:
        """The best weights, ready to be taken away."""
        return self.path / "bundle"

    @property
    def report_file(self) -> Path:
        """The report, one HTML page."""
        return self.path / "report.html"

    @property
    def result_file(self) -> Path:
        """Final metrics; its presence means that the run is finished."""
        return self.path / "result.json"

    @property
    def split_file(self) -> Path:
        """Which row of the data went into which split, so that later judging never sees a training row as new."""
        return self.path / "split.safetensors"

    @property
    def tokenizer_file(self) -> Path:
        """The tokenizer learned when training began; a resumed run goes on with it."""
        return self.path / "tokenizer.json"

    @property
    def is_finished(self) -> bool:
        """Whether training came to its end."""
        return self.result_file.is_file()

    # --- making and opening ----------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str] | None,
        *,
        name: str,
        values: Mapping[str, Any],
        origins: Mapping[str, str],
        command: Sequence[str] = (),
    ) -> RunFolder:
        """Make a new run with its `recipe.yaml`; two processes may do this at the same time.

        Args:
            path: The folder; None: the first free `runs/<name>-<number>`.
            name: Of the recipe.
            values: The resolved recipe, plain values.
            origins: Dotted key -> where the value came from.
            command: The words of the command line, for the record.

        Raises:
            RunError: `path` exists and is not an empty folder.
            StorageError: The folder cannot be written.
        """
        text = render_recipe(values, origins, command=command)
        if path is not None:
            target = Path(path)
            if target.exists() or target.is_symlink():
                _refuse_if_used(target)
                if not _move_in(target, text):
                    raise _used(target)
                return cls(target, is_borrowed=True)
            if not _appear(target, text):
                _refuse_if_used(target)
                raise _used(target)
            return cls(target)
        number = 1 + max((_number(found, name) for found in _listing(RUNS)), default=0)
        while not _appear(RUNS / f"{name}-{number}", text):
            number += 1
        return cls(RUNS / f"{name}-{number}")

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> RunFolder:
        """An existing run.

        Raises:
            RunError: There is no such folder, or it has no `recipe.yaml`.
        """
        folder = Path(path)
        if not folder.is_dir():
            what = "is a file, not a run folder" if folder.exists() else "does not exist"
            near = ", ".join(str(found) for found in sorted(_runs_beside(folder))[:8])
            raise RunError(
                f"{folder} {what}.",
                where=str(folder),
                accepts=_ACCEPTS_RUN,
                mend=f"there are {near}" if near else "name the folder that `lamina train` printed as `run`",
            )
        if not (folder / "recipe.yaml").is_file():
            raise RunError(
                f"{folder} is not a run: it has no recipe.yaml.",
                where=str(folder),
                accepts=_ACCEPTS_RUN,
                mend="name the run folder itself, such as runs/digits-1",
            )
        return cls(folder)

    def locked(self) -> AbstractContextManager[None]:
        """A context in which nobody else trains in this folder.

        Raises:
            RunError: Somebody does; names the process.
        """
        return run_lock(self.path)

    @property
    def is_unused(self) -> bool:
        """Whether nothing was trained: no checkpoint, no line of metrics."""
        return not self.checkpoints() and not (self.metrics_file.is_file() and self.metrics_file.stat().st_size)

    def take_back(self) -> None:
        """Remove an unused run's files, so that its name is free again; nothing else, and no folder that was there before.

        A run that somebody else is training in meanwhile is left alone.
        """
        try:
            with self.locked():
                if self.is_unused:
                    self._remove_files()
        except (RunError, StorageError):
            return
        if not self.is_borrowed:
            with contextlib.suppress(OSError):  # not empty: something in it is not ours
                self.path.rmdir()

    def _remove_files(self) -> None:
        own = (self.checkpoints_folder, self.events_folder, *self.path.glob(f"{TEMPORARY_PREFIX}*"))
        for folder in own:
            if folder.is_dir() and not folder.is_symlink():
                shutil.rmtree(folder, ignore_errors=True)
        # The recipe last: a folder without one is no run.
        documents = (
            self.environment_file,
            self.metrics_file,
            self.split_file,
            self.tokenizer_file,
            self.path / "data.json",
            self.recipe_file,
        )
        for file in (*own, *documents):
            if file.is_file() or file.is_symlink():
                with contextlib.suppress(OSError):
                    file.unlink()

    # --- reading ---------------------------------------------------------------------------------------------------

    def recipe(self) -> tuple[dict[str, Any], dict[str, str]]:
        """The resolved values and the origin of each (dotted key -> origin; `file` where the comment was taken away).

        Raises:
            ConfigError: `recipe.yaml` was changed into something that is no recipe.
        """
        try:
            text = self.recipe_file.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ConfigError(
                f"The file is not UTF-8 text: byte {error.start} cannot be read.",
                where=str(self.recipe_file),
                accepts="the recipe as the training wrote it",
                mend="bring the file back, or begin a new run",
            ) from None
        values = read_yaml(text, where=str(self.recipe_file))
        return values, _origins(text)

    def section(self, name: str) -> dict[str, Any]:
        """A section of the recipe; empty where it has none.

        Raises:
            ConfigError: `recipe.yaml` holds something else there.
        """
        found = self.recipe()[0].get(name)
        if found is None:
            return {}
        if not isinstance(found, dict):
            raise ConfigError(
                f"{name} got {found!r}.",
                where=f"{self.recipe_file}, key `{name}`",
                accepts="a mapping of named values",
                mend=f"write the values below `{name}:`, as the training did",
            )
        return found

    def environment(self) -> dict[str, Any]:
        """The content of `environment.json`; empty when there is none yet.

        Raises:
            RunError: It is damaged.
        """
        mend = f"remove {self.environment_file}: a resume writes it anew, for the machine it finds"
        return self._document(self.environment_file, fields=ENVIRONMENT, mend=mend) or {}

    def result(self) -> dict[str, Any] | None:
        """The content of `result.json`; None while the run is not finished.

        Raises:
            RunError: It is damaged.
        """
        mend = (
            f"remove {self.result_file}, then lamina train --resume {shlex.quote(str(self.path))} finishes the run anew"
        )
        return self._document(self.result_file, fields=RESULT, mend=mend)

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl` in order. NaN stays NaN. A last line that was cut off by a crash is left out.

        Raises:
            RunError: Another line is not JSON, or is none of training's.
        """
        return read_lines(self.metrics_file) if self.metrics_file.is_file() else []

    def checkpoints(self) -> list[Path]:
        """Checkpoint folders in order of their steps. They appear by renaming, so that each one found is whole."""
        if not self.checkpoints_folder.is_dir():
            return []
        found = {path: _CHECKPOINT.fullmatch(path.name) for path in self.checkpoints_folder.iterdir()}
        steps = {path: int(match.group(1)) for path, match in found.items() if match and path.is_dir()}
        return sorted(steps, key=steps.__getitem__)

    # --- writing ---------------------------------------------------------------------------------------------------

    def write_environment(self, document: Mapping[str, Any]) -> None:
        """Replace `environment.json`, atomically."""
        write_atomic(self.environment_file, _json_bytes(document))

    def write_result(self, document: Mapping[str, Any]) -> None:
        """Write `result.json`, atomically: from now on the run counts as finished."""
        write_atomic(self.result_file, _json_bytes(document))

    def document(self, name: str) -> dict[str, Any] | None:
        """A JSON document of the run by its file name, such as `evaluation.json`; None where there is none."""
        return self._document(self.path / name)

    def _document(
        self, path: Path, *, fields: Fields | None = None, mend: str = "train again"
    ) -> dict[str, Any] | None:
        return read_document(path, fields=fields or {}, mend=mend) if path.is_file() else None


def _json_bytes(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


# --- appearing under a name that nobody else has -------------------------------------------------------------------


def _appear(target: Path, text: str) -> bool:
    """Make `target` with its recipe in one step; False when somebody else has the name already."""
    try:
        # Renaming a folder onto one that holds anything fails, so that of two processes only one gets the name.
        with atomic_folder(target) as fresh:
            write_atomic(fresh / "recipe.yaml", text.encode())
    except StorageError:
        if os.path.lexists(target):
            return False
        raise
    return True


def _move_in(target: Path, text: str) -> bool:
    """Give an existing folder its recipe; False when somebody else has done so meanwhile."""
    ready = target / f"{TEMPORARY_PREFIX}recipe-{os.getpid()}-{secrets.token_hex(4)}"
    final = target / "recipe.yaml"
    write_atomic(ready, text.encode())
    try:
        with storage_errors(final):
            try:
                os.link(ready, final)  # unlike a rename it fails where the name is taken: of two processes one wins
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
                    raise
                with run_lock(target):  # a file system without links
                    if final.exists():
                        return False
                    write_atomic(final, text.encode())
    finally:
        with contextlib.suppress(OSError):
            ready.unlink()
    return True


def _refuse_if_used(target: Path) -> None:
    if not target.is_dir() or any(
        not found.name.startswith(TEMPORARY_PREFIX) and found.name != LOCK_NAME for found in target.iterdir()
    ):
        raise _used(target)


def _used(target: Path) -> RunError:
    is_run = (target / "recipe.yaml").is_file()
    finished = (target / "result.json").is_file()
    state = "holds a finished run" if finished else "holds a run" if is_run else "is not an empty folder"
    return RunError(
        f"{target} {state} and is not overwritten.",
        where="--run",
        accepts="a folder that does not exist yet, or an empty one",
        mend=f"lamina train --resume {shlex.quote(str(target))} continues it; or choose another folder"
        if is_run and not finished
        else "choose another folder, or leave --run out for the next free one",
    )


def _listing(folder: Path) -> Iterator[Path]:
    return iter(folder.iterdir()) if folder.is_dir() else iter(())


def _number(path: Path, name: str) -> int:
    match = re.fullmatch(re.escape(name) + r"-(\d+)", path.name)
    return int(match.group(1)) if match else 0


def _runs_beside(folder: Path) -> list[Path]:
    parents = [folder.parent, RUNS] if folder.parent != RUNS else [RUNS]
    return [path for parent in parents for path in _listing(parent) if (path / "recipe.yaml").is_file()]


# --- recipe.yaml: values with their origins ------------------------------------------------------------------------


def render_recipe(values: Mapping[str, Any], origins: Mapping[str, str], *, command: Sequence[str] = ()) -> str:
    """Values as YAML with a comment behind each that says where it came from; `read_yaml` reads the values back.

    >>> print(render_recipe({"seed": 3, "model": {"kind": "mlp"}}, {"seed": "command line", "model.kind": "recipe"}), end="")
    # The resolved recipe: `lamina train THIS_FILE` repeats the run. The comments say where each value comes from.
    seed: 3  # command line
    model:
      kind: mlp  # recipe
    """
    head = [
        "# The resolved recipe: `lamina train THIS_FILE` repeats the run. The comments say where each value comes from."
    ]
    if command:
        head.append("# " + shlex.join(command).replace("\n", " "))
    return "\n".join([*head, *_lines(values, origins, "", 0)]) + "\n"


def _lines(values: Mapping[str, Any], origins: Mapping[str, str], prefix: str, depth: int) -> Iterator[str]:
    indent = "  " * depth
    for key, value in values.items():
        path = f"{prefix}{key}"
        comment = f"  # {origins[path]}" if path in origins else ""
        if isinstance(value, Mapping) and value:
            yield f"{indent}{_inline(key)}:"
            yield from _lines(value, origins, f"{path}.", depth + 1)
        elif isinstance(value, (list, tuple)) and any(isinstance(item, Mapping) for item in value):
            yield f"{indent}{_inline(key)}:{comment}"
            yield from (f"{indent}  - {_inline(item)}" for item in value)
        else:
            yield f"{indent}{_inline(key)}: {_inline(value)}{comment}"


def _inline(value: Any) -> str:
    """A value on one line of YAML; control characters and line ends are escaped."""
    plain = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(
        plain, default_flow_style=True, allow_unicode=True, width=float("inf"), sort_keys=False
    ).removesuffix("\n")
    text = text.removesuffix("\n...")
    return json.dumps(plain, ensure_ascii=False) if "\n" in text else text


def _origins(text: str) -> dict[str, str]:
    """Dotted key -> origin, from the comments behind the values; a value without one came from a file."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        return {}
    return dict(_node_origins(root, text.splitlines(), ""))


def _node_origins(node: yaml.MappingNode, lines: Sequence[str], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in node.value:
        path = f"{prefix}{key.value}"
        if isinstance(value, yaml.MappingNode) and value.value:
            yield from _node_origins(value, lines, f"{path}.")
            continue
        # A list in block style ends where the next key begins; its comment stands behind its own key.
        block = isinstance(value, yaml.SequenceNode) and not value.flow_style
        mark = key.end_mark if block else value.end_mark
        rest = lines[mark.line][mark.column :] if mark.line < len(lines) else ""
        comment = rest.partition("#")[2].strip()
        yield path, comment if comment in ORIGINS else "file"
