"""The real texts in the formats in which they are found, with the counts that their page states; skipped where they are missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from helpers import shared_data
from lamina.core.errors import UnknownNameError
from lamina.data.columns import Columns, Data
from lamina.data.loading import load_data
from lamina.data.ragged import RaggedColumns


def ragged(data: Data, split: str) -> RaggedColumns:
    columns: Columns = data.splits[split]
    assert isinstance(columns, RaggedColumns)
    return columns


def texts(data: Data, split: str, column: str = "text") -> list[str]:
    return ragged(data, split).ragged[column].texts()


def counts(data: Data, split: str) -> dict[str, int]:
    found = torch.bincount(data.splits[split]["label"], minlength=len(data.spec.classes))
    return dict(zip(data.spec.classes, found.tolist(), strict=True))


@pytest.mark.parametrize(
    ("folder", "reader", "rows"),
    [
        ("sst2", "text-table", {"train": 67_349, "valid": 872}),
        ("imdb", "text-table", {"train": 10_000}),
        ("sick", "text-table", {"train": 4500, "valid": 500}),
        ("mrpc", "text-table", {"train": 4080}),
        ("conll2000", "conll", {"train": 8936}),
        ("wnut17", "conll", {"train": 3394, "valid": 1009}),
        ("ud_ewt", "conllu", {"train": 12_544, "valid": 2001}),
        ("xquad_en", "squad", {"valid": 876}),
        ("policyqa", "squad", {"valid": 3809}),
        ("multi30k", "parallel", {"train": 29_000, "valid": 1014}),
        ("ptb", "corpus", {"train": 42_068, "valid": 3370}),
        ("tinyshakespeare", "corpus", {"all": 40_000}),
        ("wikitext2", "corpus", {"valid": 3760}),
    ],
)
def test_reader_and_rows(folder: str, reader: str, rows: Mapping[str, int]) -> None:
    data = load_data(shared_data(folder))
    assert (data.reader, data.spec.num_rows, data.faults) == (reader, rows, [])
    assert all(columns.num_rows == rows[name] for name, columns in data.splits.items())
    _CHECKS.get(folder, lambda data: None)(data)


def check_sst2(data: Data) -> None:
    assert counts(data, "train") == {"0": 67_349 - 37_569, "1": 37_569}
    assert counts(data, "valid") == {"0": 872 - 444, "1": 444}
    # The two files call their text by different names.
    assert texts(data, "train")[0] == "hide new secretions from the parental units"
    assert texts(data, "valid")[0].startswith("one long string of cliches .")
    assert data.splits["valid"].origin[0].endswith("dev.tsv:2")


def check_imdb(data: Data) -> None:
    assert counts(data, "train") == {"0": 5000, "1": 5000}
    assert "Alone.<br /><br />Set in London" in texts(data, "train")[0].replace("alone", "Alone")


def check_sick(data: Data) -> None:
    assert counts(data, "train") == {"CONTRADICTION": 665, "ENTAILMENT": 1299, "NEUTRAL": 2536}
    assert texts(data, "train")[0].endswith("is standing in the background")
    assert texts(data, "train", "text_pair")[0].startswith("A group of boys in a yard")
    scores = load_data(shared_data("sick"), target="number")
    assert scores.splits["train"]["target"][:2].flatten().tolist() == pytest.approx([4.5, 3.2])
    assert scores.spec.columns["target"].fields[0].name == "relatedness_score"
    assert "label" not in scores.spec.columns


def check_mrpc(data: Data) -> None:
    assert counts(data, "train") == {"0": 1325, "1": 2755}
    assert texts(data, "train")[0].startswith('Amrozi accused his brother, whom he called "the witness"')


def check_conll2000(data: Data) -> None:
    tags = ragged(data, "train").ragged["tags"]
    classes = data.spec.columns["tags"].classes or ()
    assert len(tags.values) == 211_727
    assert data.spec.columns["text"].words
    first = texts(data, "train")[0].split("\n")
    assert first[:3] == ["Confidence", "in", "the"]
    assert [classes[i] for i in tags.row(0)[:4].tolist()] == ["B-NP", "B-PP", "B-NP", "I-NP"]
    pos = load_data(shared_data("conll2000"), label="pos")
    assert {"NN", "IN", "DT"} < set(pos.spec.columns["tags"].classes or ())
    with pytest.raises(UnknownNameError, match="chunks"):
        load_data(shared_data("conll2000"), label="chunks")


def check_wnut17(data: Data) -> None:
    assert [len(ragged(data, split).ragged["tags"].values) for split in ("train", "valid")] == [62_730, 15_733]
    types = {name[2:] for name in data.spec.columns["tags"].classes or () if name != "O"}
    assert types == {"corporation", "creative-work", "group", "location", "person", "product"}


def check_ud(data: Data) -> None:
    assert [len(ragged(data, split).ragged["tags"].values) for split in ("train", "valid")] == [204_577, 25_147]
    assert len(data.spec.columns["tags"].classes or ()) == 17


def check_multi30k(data: Data) -> None:
    german, english = texts(data, "train")[0], texts(data, "train", "target_text")[0]
    assert german.startswith("Zwei junge weiße Männer")
    assert english.startswith("Two young, White males")
    back = load_data(shared_data("multi30k"), languages=("fr", "de"))
    assert texts(back, "train", "target_text")[0] == german


def check_ptb(data: Data) -> None:
    assert data.spec.ordered
    words = {split: sum(len(line.split()) + 1 for line in texts(data, split)) for split in ("train", "valid")}
    assert words == {"train": 929_589, "valid": 73_760}


def check_shakespeare(data: Data) -> None:
    # 40,000 line ends that the rows do not hold.
    assert sum(map(len, texts(data, "all"))) == 1_115_394 - 40_000


_CHECKS: Any = {
    "sst2": check_sst2,
    "imdb": check_imdb,
    "sick": check_sick,
    "mrpc": check_mrpc,
    "conll2000": check_conll2000,
    "wnut17": check_wnut17,
    "ud_ewt": check_ud,
    "multi30k": check_multi30k,
    "ptb": check_ptb,
    "tinyshakespeare": check_shakespeare,
}


@pytest.mark.parametrize("name", ["tabular/housing.csv", "tabular/iris.csv", "tabular/pima-indians-diabetes.csv"])
def test_tables_of_numbers_stay_tables(name: str) -> None:
    assert load_data(shared_data(name)).reader == "table"


def test_pixels_stay_pixels() -> None:
    assert load_data(shared_data("sign_mnist")).reader == "pixel-csv"
