"""Whatever the texts are, they come back from the forms in which they are written, and hostile bytes never crash a reader."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lamina.core.errors import LaminaError
from lamina.data.loading import load_data
from lamina.data.ragged import RaggedColumns
from lamina.data.readers.base import FaultList
from lamina.data.readers.sources import Source
from lamina.data.readers.tag_schemes import LETTERS, is_in_scheme, misplaced
from lamina.data.readers.text_rows import split_rows
from lamina.data.readers.text_source import BLOCK_BYTES, read_lines

CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0\r")
TEXT = st.text(CHARACTERS, max_size=30)
SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SETTINGS
@given(rows=st.lists(st.lists(TEXT, min_size=2, max_size=2), max_size=8), delimiter=st.sampled_from("\t,;|"))
@example(rows=[['a"', 'b"\n"'], ["", '"']], delimiter=",")
def test_quoted_cells_come_back(rows: list[list[str]], delimiter: str) -> None:
    class Lines:
        def __init__(self) -> None:
            self.written: list[str] = []

        def write(self, text: str) -> None:
            self.written.append(text)

    target = Lines()
    csv.writer(target, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    lines = "".join(target.written).split("\n")[:-1]
    faults = FaultList()
    found = [row for _, row in split_rows(enumerate(lines, 1), delimiter, quoted=True, where="", faults=faults)]
    assert found == [row for row in rows if any(cell.strip() for cell in row)]
    assert not faults.faults


@SETTINGS
@given(
    lines=st.lists(st.text(CHARACTERS.filter(lambda c: c != "\n"), max_size=20), min_size=1, max_size=8),
    junk=st.integers(0, 8),
)
def test_an_unclosed_quote_costs_one_row(lines: list[str], junk: int) -> None:
    good = [f"{number}\t" + line.replace('"', "") + "x" for number, line in enumerate(lines)]
    place = min(junk, len(good))
    faults = FaultList()
    mixed = [*good[:place], 'bad\t"never closed', *good[place:]]
    found = [row for _, row in split_rows(enumerate(mixed, 1), "\t", quoted=True, where="", faults=faults)]
    assert [row[0] for row in found] == [row.split("\t")[0] for row in good]
    assert [fault.row for fault in faults.faults] == [place + 1]


@SETTINGS
@given(content=st.binary(max_size=300), ending=st.sampled_from(["\n", "\r\n"]), stretch=st.booleans())
def test_lines_are_those_of_the_bytes(tmp_path: Path, content: bytes, ending: str, stretch: bool) -> None:
    path = tmp_path / "a.txt"
    # A file longer than a block is cut at the right places.
    head = (b"x" * 1000 + b"\n") * (BLOCK_BYTES // 1001 + 9) if stretch else b""
    body = b"e" + content.replace(b"\n", ending.encode()).replace(b"\xff\xfe", b"").replace(b"\xfe\xff", b"")
    path.write_bytes(head + body)
    if b"\n" not in head + body:
        return
    faults = FaultList()
    found = list(read_lines(Source(path).files[0], faults=faults))
    expected = (head + body).split(b"\n")
    expected = expected if expected[-1] else expected[:-1]
    assert [number for number, _ in found] == list(range(1, len(expected) + 1))
    for (_, line), raw in zip(found, expected, strict=True):
        if line is not None:
            assert line.encode() == raw.removesuffix(b"\r")
    bad = [fault.row for fault in faults.faults]
    assert bad == [number for number, line in found if line is None]
    for fault in faults.faults:
        offset = (
            int(fault.message.split("byte ")[-1].split()[0])
            if "zero" in fault.message
            else int(fault.message.split()[1])
        )
        start = sum(len(raw) + 1 for raw in expected[: (fault.row or 1) - 1])
        assert start <= offset < start + len(expected[(fault.row or 1) - 1])


@SETTINGS
@given(
    content=st.binary(max_size=200)
    | st.text(st.sampled_from('ab"\t,\n{}[]:1.-_#BIO \r|'), max_size=200).map(str.encode),
    name=st.sampled_from(["a.tsv", "a.csv", "a.txt", "a.jsonl", "a.json", "a.conllu", "train.de", "a"]),
    reader=st.sampled_from(
        [None, "text-table", "text-lines", "corpus", "conll", "conllu", "squad", "parallel", "text-files"]
    ),
)
def test_hostile_bytes_give_our_errors(tmp_path: Path, content: bytes, name: str, reader: str | None) -> None:
    (tmp_path / name).write_bytes(content)
    try:
        data = load_data(tmp_path / name, reader=reader, on_fault="skip")
    except LaminaError:
        return
    finally:
        (tmp_path / name).unlink()
    for columns in data.splits.values():
        if isinstance(columns, RaggedColumns):
            for column, rows in columns.ragged.items():
                assert column == "tags" or len(rows.texts()) == columns.num_rows


@SETTINGS
@given(
    texts=st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip), min_size=1, max_size=6
    )
)
def test_texts_come_back_from_json(tmp_path: Path, texts: list[str]) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        "".join(json.dumps({"label": number % 2, "text": text}) + "\n" for number, text in enumerate(texts))
    )
    columns = load_data(path, reader="text-table", text="text", label="label").splits["all"]
    assert isinstance(columns, RaggedColumns)
    assert columns.ragged["text"].texts() == texts


@SETTINGS
@given(
    types=st.lists(st.sampled_from("AB"), max_size=6),
    lengths=st.lists(st.integers(1, 4), max_size=6),
    gaps=st.booleans(),
)
def test_tags_of_spans_are_in_their_scheme(types: list[str], lengths: list[int], gaps: bool) -> None:
    bio: list[str] = []
    bioes: list[str] = []
    for kind, length in zip(types, lengths, strict=False):
        bio += [f"{'I' if place else 'B'}-{kind}" for place in range(length)]
        inner = [f"I-{kind}"] * max(length - 2, 0)
        bioes += [f"S-{kind}"] if length == 1 else [f"B-{kind}", *inner, f"E-{kind}"]
        if gaps:
            bio.append("O")
            bioes.append("O")
    for tags, scheme in ((bio, "bio"), (bioes, "bioes")):
        assert misplaced(tags, scheme) == []
        assert all(is_in_scheme(tag, scheme) for tag in tags)
        # Taking a tag that begins something away leaves one that cannot stand there.
        for place, tag in enumerate(tags[:-1]):
            if tag[0] == "B" and tags[place + 1][0] in LETTERS[scheme].replace("B", "").replace("S", ""):
                assert place in {at - 1 for at in misplaced([*tags[:place], "O", *tags[place + 1 :]], scheme)}
