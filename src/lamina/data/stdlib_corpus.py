"""Running text found on every machine: the source and the documentation strings of Python's standard library.

A row is a line, as of any corpus. Which file belongs to which split depends on the files' names only, so that Python's minor releases
differ little; a split's files follow each other in the order of their names.
"""

from __future__ import annotations

import ast
import sysconfig
from pathlib import Path
from typing import Final, Literal

from lamina.core import draws
from lamina.core.config import Config, Field
from lamina.core.errors import DataError
from lamina.core.registry import register
from lamina.data.columns import Columns, ColumnSpec, Data, DataSpec
from lamina.data.config import DataConfig
from lamina.data.ragged import Ragged, RaggedColumns

__all__ = ["StdlibConfig", "stdlib"]

_SPLITS: Final = 3  # train, valid, test; a file at least for each
_FILES: Final = 10  # at least, of limited text: larger ones than this share are left out
_LEFT_OUT: Final = frozenset(
    (
        *("test", "tests", "idlelib", "site-packages", "dist-packages", "__pycache__", "lib2to3", "turtledemo"),
        *("pydoc_data", "encodings", "ensurepip"),  # tables rather than programs
    )
)


class StdlibConfig(Config):
    """Which text of the standard library."""

    part: Literal["source", "docstrings"] = Field(
        "source", description="Whole files, or their documentation strings only."
    )
    max_bytes: int | None = Field(
        1_000_000,
        description="About so much text: files, none of more than a tenth of it, are drawn until it is reached; None: all.",
        ge=10_000,
    )
    valid_fraction: float = Field(0.05, description="Share of the text for validation.", gt=0, lt=0.5)
    test_fraction: float = Field(0.05, description="Share of the text for the test.", gt=0, lt=0.5)


@register(
    "dataset",
    "stdlib",
    config=StdlibConfig,
    source="The Python standard library of the interpreter that runs, PSF licence",
    example="lamina train stdlib-lstm",
    task="text-generation",
)
def stdlib(config: DataConfig, options: StdlibConfig | None = None) -> Data:
    """The text of Python's standard library, a row per line, divided into splits by file.

    Tests, the editor IDLE, installed packages and files that are tables are left out.

    Raises:
        DataError: This Python has no source files (a frozen or zipped interpreter).
    """
    options = options or StdlibConfig()
    root = Path(sysconfig.get_paths()["stdlib"])
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.py"))
    names = [name for name in names if _is_wanted(Path(name))]
    drawn = sorted(names, key=lambda name: (draws.stream_key(0, "split", "stdlib", name), name))
    texts: dict[str, list[str]] = {}
    sizes: dict[str, int] = {}
    total = 0
    for name in drawn:
        lines = _lines_of(root / name, options.part)
        size = sum(len(line.encode()) + 1 for line in lines)
        if not lines or (options.max_bytes is not None and size > options.max_bytes // _FILES):
            continue
        texts[name], sizes[name] = lines, size
        total += size
        if options.max_bytes is not None and total >= options.max_bytes:
            break
    if len(texts) < _SPLITS:
        raise DataError(
            "This Python comes without the source files of its standard library.",
            where=str(root),
            accepts="a folder with at least three .py files that are not empty",
            mend="use an ordinary installation of Python, or give a text file of your own",
        )
    parts = _divided(sizes, total, {"valid": options.valid_fraction, "test": options.test_fraction})
    splits: dict[str, Columns] = {name: _columns(sorted(files), texts) for name, files in parts.items()}
    spec = DataSpec(
        columns={"text": ColumnSpec(role="text", dtype="uint8", shape=(-1,))},
        num_rows={name: columns.num_rows for name, columns in splits.items()},
        reader="embedded",
        ordered=True,
    )
    version = sysconfig.get_python_version()
    what = "Documentation strings" if options.part == "docstrings" else "Source text"
    notes = [
        f"{what} of {len(texts)} files of the standard library of Python {version}, {total:,} bytes; another version has other text."
    ]
    return Data(splits=splits, spec=spec, reader="embedded", source="stdlib", notes=notes)


def _is_wanted(name: Path) -> bool:
    return _LEFT_OUT.isdisjoint(name.parts) and not name.parts[0].startswith("config-")


def _lines_of(path: Path, part: str) -> list[str]:
    """The file's text line by line; nothing where it is not valid UTF-8 or Python."""
    try:
        text = path.read_bytes().decode("utf-8")
        if part == "docstrings":
            owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
            nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, owners)]
            text = "\n\n".join(doc for node in nodes if (doc := ast.get_docstring(node)))
    except (UnicodeDecodeError, SyntaxError):
        return []
    # By line feeds alone: form feeds stand inside the library's files and are no line ends.
    lines = text.replace("\r\n", "\n").replace("\0", "").split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    return [*lines, ""] if lines else []  # an empty line parts the files


def _divided(sizes: dict[str, int], total: int, shares: dict[str, float]) -> dict[str, list[str]]:
    """Each file to the split that lacks most of its share; none stays empty."""
    lacking = {name: share * total for name, share in {"train": 1 - sum(shares.values()), **shares}.items()}
    parts: dict[str, list[str]] = {name: [] for name in lacking}
    for number, (file, size) in enumerate(sizes.items()):
        empty = [name for name, files in parts.items() if not files]
        is_needed = len(sizes) - number <= len(empty)
        chosen = max(empty if is_needed else lacking, key=lambda name: lacking[name])
        parts[chosen].append(file)
        lacking[chosen] -= size
    return parts


def _columns(files: list[str], texts: dict[str, list[str]]) -> RaggedColumns:
    lines = [line for file in files for line in texts[file]]
    origin = [f"{file}:{number}" for file in files for number in range(1, len(texts[file]) + 1)]
    return RaggedColumns({}, ragged={"text": Ragged.of_texts(lines)}, origin=origin)
