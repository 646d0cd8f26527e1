"""What `predict` is given for a model of text: a text, several, pairs, or files of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from lamina.core.errors import DataError
from lamina.data.columns import Columns, DataSpec
from lamina.data.config import DataConfig
from lamina.data.loading import load_like, stop_at_faults
from lamina.data.ragged import Ragged, RaggedColumns
from lamina.data.text.encoder import TEXTS

__all__ = ["TextInputs"]

# A word with one of these at its end, and no white space, means a file.
_ENDINGS: Final = (
    ".txt",
    ".text",
    ".tsv",
    ".csv",
    ".json",
    ".jsonl",
    ".conll",
    ".conllu",
    ".gz",
    ".xz",
    ".zst",
    ".zip",
)
_LONGEST_PATH: Final = 4096
_SHOWN: Final = 60


class TextInputs:
    """Reads inputs of a model of text."""

    def __init__(self, spec: DataSpec) -> None:
        self.spec = spec
        self.names: tuple[str, ...] = tuple(name for name in TEXTS if name in spec.columns)
        self.words = spec.columns["text"].words

    def read(self, item: Any, *, where: str) -> tuple[Columns, list[str]]:
        """Columns with the texts, and a name for each: the beginning of the text, or file and line.

        Raises:
            DataError: It is neither text nor a file of texts, or a pair is wanted and one text given.
        """
        if isinstance(item, Path) or (isinstance(item, str) and self._is_file(item)):
            return self._from_file(Path(item).expanduser())
        if isinstance(item, str):
            item = (item,)
        if isinstance(item, Mapping):
            item = tuple(item.get(name) for name in self.names)
        if not isinstance(item, Sequence) or not all(isinstance(text, str) for text in item):
            raise DataError(
                f"A {type(item).__name__} is no text.",
                where=where,
                accepts=self._wanted,
                mend="give str, or the path of a file of texts",
            )
        if len(item) != len(self.names):
            raise DataError(
                f"There {'is one text' if len(item) == 1 else f'are {len(item)} texts'}.",
                where=where,
                accepts=self._wanted,
                mend="give a mapping with text and text_pair" if len(self.names) > 1 else "give one text",
            )
        texts = {name: self._as_rows(text) for name, text in zip(self.names, item, strict=True)}
        shown = " | ".join(text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…" for text in item)
        return RaggedColumns({}, ragged={name: Ragged.of_texts([text]) for name, text in texts.items()}), [shown]

    @property
    def _wanted(self) -> str:
        return "pairs of texts" if len(self.names) > 1 else "texts"

    def _as_rows(self, text: str) -> str:
        return "\n".join(text.split()) if self.words else text

    def _is_file(self, text: str) -> bool:
        if not text.strip() or len(text) > _LONGEST_PATH or "\n" in text or "\0" in text:
            return False
        path = Path(text).expanduser()
        try:
            if path.exists():
                return True
        except OSError:
            return False
        if text.split() == [text] and path.suffix.lower() in _ENDINGS:
            near = "check the path" if path.parent.is_dir() else f"there is no folder {path.parent}"
            raise DataError(
                "There is no such file.",
                where=text,
                accepts="a file of texts, or a text",
                mend=f"{near}; a text has spaces",
            )
        return False

    def _from_file(self, path: Path) -> tuple[Columns, list[str]]:
        config = DataConfig(reader=self.spec.reader or None)
        data = load_like(path, spec=self.spec, config=config)
        stop_at_faults(data, config)
        parts = list(data.splits.values())
        columns = RaggedColumns.joined(parts) if len(parts) > 1 else parts[0]
        missing = [name for name in self.names if name not in columns]
        if missing or not isinstance(columns, RaggedColumns):
            raise DataError(
                f"The file has no {', '.join(missing) or 'text'}; it has {', '.join(columns)}.",
                where=str(path),
                accepts=f"a file with {self._wanted}",
                mend="look at what was understood with `lamina data`",
            )
        names = columns.origin or [f"{path}:{row + 1}" for row in range(columns.num_rows)]
        chosen = {str(name): columns.ragged[name] for name in self.names}
        return RaggedColumns({}, ragged=chosen, origin=columns.origin), list(names)
