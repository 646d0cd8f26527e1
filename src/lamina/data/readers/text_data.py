"""Collected texts, labels and tags -> Data: one list of classes for all splits, the splits in the usual order."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor

from lamina.core.errors import DataError
from lamina.data.columns import Columns, ColumnSpec, Data, DataSpec, FieldSpec, Role, column_spec
from lamina.data.ragged import Ragged, RaggedColumns
from lamina.data.readers.base import FaultList, no_rows, order_classes, order_splits
from lamina.data.readers.text_source import CodeBuilder, Origins, TextBuilder

# Columns of texts that are no input but go with a row.
ROLES: Final[Mapping[str, Role]] = {"id": "id"}


class TextSplit:
    """One split while it is read: a row is added by adding to every column.

    Attributes:
        texts: Column -> texts.
        origin: Where each row came from.
        labels: Class names, as many as rows or none.
        targets: Scores, as many as rows or none.
        tags: Tag names, all words of all rows one after another.
        num_tags: Words of each row.
        groups: Further columns of names.
    """

    def __init__(self, columns: Sequence[str], collector: TextCollector) -> None:
        self.texts = {name: TextBuilder(collector.max_bytes) for name in columns}
        self.origin = Origins()
        self.labels = CodeBuilder(collector.class_index)
        self.targets = array("d")
        self.tags = CodeBuilder(collector.tag_index)
        self.num_tags = array("q")
        self.groups = {name: CodeBuilder(index) for name, index in collector.group_index.items()}

    def __len__(self) -> int:
        return len(self.origin)


class TextCollector:
    """The splits of a source while they are read.

    Args:
        reader: Its name.
        source: What was read.
        columns: Text columns that every row has.
        groups: Columns of names with the role `group`.
        max_bytes: Beyond this a column's text is moved to a temporary file and memory-mapped.
    """

    def __init__(
        self,
        reader: str,
        source: str,
        *,
        columns: Sequence[str] = ("text",),
        groups: Sequence[str] = (),
        max_bytes: int = 4096 << 20,
    ) -> None:
        self.reader, self.source, self.columns, self.max_bytes = reader, source, tuple(columns), max_bytes
        self.class_index: dict[str, int] = {}
        self.tag_index: dict[str, int] = {}
        self.group_index: dict[str, dict[str, int]] = {name: {} for name in groups}
        self.splits: dict[str, TextSplit] = {}

    def split(self, name: str) -> TextSplit:
        """The split of a name, made when it is asked for first."""
        if name not in self.splits:
            self.splits[name] = TextSplit(self.columns, self)
        return self.splits[name]

    def finish(
        self,
        *,
        faults: FaultList,
        notes: Sequence[str],
        target_name: str = "target",
        tags_name: str = "tag",
        ordered: bool = False,
        words: bool = False,
    ) -> Data:
        """Data of everything that was collected.

        Args:
            target_name: What the files call the score.
            tags_name: What the files call the column of tags.
            ordered: Rows follow each other, so that splits are stretches.
            words: Texts are lists of words, divided by line ends.

        Raises:
            DataError: There are no rows, or some rows of a split are labelled and others are not.
        """
        used = {name: self.splits[name] for name in order_splits(self.splits) if len(self.splits[name])}
        if not used:
            raise no_rows(self.source, faults)
        classes, tags = order_classes(self.class_index), order_classes(self.tag_index)
        specs: dict[str, ColumnSpec] = {
            name: ColumnSpec(
                role=ROLES.get(name, "text"), dtype="uint8", shape=(-1,), words=words and name not in ROLES
            )
            for name in self.columns
        }
        said = [*notes, *faults.notes()]
        columns: dict[str, Columns] = {}
        for name, split in used.items():
            ragged = {key: texts.ragged() for key, texts in split.texts.items()}
            fixed: dict[str, Tensor] = {}
            if self._complete(name, split, len(split.labels)):
                fixed["label"] = split.labels.codes(classes)
                specs["label"] = column_spec("label", fixed["label"], classes=classes)
            elif classes:
                said.append(f"The {name} split has no labels.")
            if self._complete(name, split, len(split.targets)):
                fixed["target"] = torch.tensor(split.targets, dtype=torch.float32).reshape(-1, 1)
                specs["target"] = column_spec("target", fixed["target"], fields=(FieldSpec(name=target_name),))
            if self._complete(name, split, len(split.num_tags)):
                lengths = torch.tensor(split.num_tags, dtype=torch.int64)
                ragged["tags"] = Ragged.of_lengths(split.tags.codes(tags), lengths)
                specs["tags"] = ColumnSpec(
                    role="tags", dtype="int64", shape=(-1,), classes=tags, fields=(FieldSpec(name=tags_name),)
                )
            for key, group in split.groups.items():
                values = order_classes(self.group_index[key])
                fixed[key] = group.codes(values)
                specs[key] = column_spec("group", fixed[key], classes=values)
            columns[name] = RaggedColumns(fixed, ragged=ragged, origin=split.origin)
        spec = DataSpec(
            columns=specs,
            num_rows={name: split.num_rows for name, split in columns.items()},
            reader=self.reader,
            ordered=ordered,
        )
        return Data(splits=columns, spec=spec, reader=self.reader, source=self.source, faults=faults.faults, notes=said)

    def _complete(self, name: str, split: TextSplit, count: int) -> bool:
        if count not in (0, len(split)):
            raise DataError(
                f"Of the {len(split)} rows of the {name} split only {count} have an answer: some of its files have none.",
                where=self.source,
                accepts="files of one split that all have labels, or all have none",
                mend="give them apart",
            )
        return count > 0
