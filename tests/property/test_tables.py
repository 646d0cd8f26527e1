"""Tables: what is written is read back; whatever bytes arrive give data or a four-part error."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lamina.core.errors import LaminaError
from lamina.data.columns import Data
from lamina.data.config import DataConfig
from lamina.data.readers.sources import Source
from lamina.data.readers.table_csv import TableReader

numbers = st.one_of(st.none(), st.floats(-1e6, 1e6, width=32), st.integers(-1000, 1000).map(lambda i: i + 0.5))
words = st.one_of(st.none(), st.sampled_from(["red", "deep blue", 'a "quoted" one', "x,y;z", "Zürich", "line\nbreak"]))
rows = st.lists(st.tuples(numbers, words, st.sampled_from(["yes", "no", "may be"])), min_size=2, max_size=30)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables") / "table.csv"


@given(table=rows, delimiter=st.sampled_from([",", ";", "\t", "|"]), line_end=st.sampled_from(["\n", "\r\n"]))
def test_what_is_written_is_read(path: Path, table: list[tuple], delimiter: str, line_end: str) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=line_end)
    writer.writerow(["size", "colour", "answer"])
    writer.writerows([["" if n is None else repr(float(n)), w or "", a] for n, w, a in table])
    path.write_bytes(text.getvalue().encode())
    if all(n is None for n, _, _ in table) and all(w is None for _, w, _ in table):
        return
    data = TableReader().read(Source(path), DataConfig())
    assert not data.faults
    columns = data.splits["all"]
    assert [data.spec.classes[i] for i in columns["label"].tolist()] == [a for _, _, a in table]
    if "number" in columns:
        wanted = np.array([np.nan if n is None else n for n, _, _ in table], dtype=np.float32)
        np.testing.assert_array_equal(columns["number"][:, 0].numpy(), wanted)
    if "category" in columns:
        classes = data.spec.columns["category"].fields[0].classes or ()
        got = [classes[i] if i >= 0 else None for i in columns["category"][:, 0].tolist()]
        assert got == [w for _, w, _ in table]


pieces = st.sampled_from([b",", b";", b"\t", b" ", b"\n", b"\r\n", b'"', b"#", b"1", b"2.5", b"-", b"nan", b"inf", b"abc",
                          b"\xff", b"\x00", b"\xef\xbb\xbf", b"1e999", b"label", b"_", "é".encode()])  # fmt: skip


@settings(max_examples=200)
@given(content=st.lists(pieces, max_size=60).map(b"".join))
@example(content=b"a,b\n1,2\n")
@example(content=b"\xff\xfe")
@example(content=b"\xff\xfea")
def test_whatever_arrives_is_data_or_a_four_part_error(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    source = Source(path)
    reader = TableReader()
    assert 0 <= reader.sniff(source).confidence <= 1
    try:
        data = reader.read(source, DataConfig())
    except LaminaError as caught:
        parts = (caught.what, caught.where, caught.accepts, caught.mend)
    else:
        parts = ("fine",)
        _check(data)
    assert all(parts)


def _check(data: Data) -> None:
    for columns in data.splits.values():
        assert columns.num_rows > 0
        for name, tensor in columns.items():
            assert not torch.isinf(tensor.double()).any(), name
