"""The transitions view: scores with their tags, and a refusal of models without a field."""

from __future__ import annotations

import io

import pytest
import torch
from rich.console import Console

from lamina.core.errors import UsageError
from lamina.data.columns import ColumnSpec, DataSpec
from lamina.explain.views import Subject, show_view
from lamina.models.factory import create_model
from unit.explain.view_case import pixels

TAGS = ("O", "B-X", "I-X")
SIZES = {"vocab_size": 9, "embedding_size": 3, "hidden_size": 2, "num_classes": 3}


def subject(model: str = "bilstm_crf") -> Subject:
    net = create_model(model, seed=0, **SIZES)
    columns = {"tags": ColumnSpec(role="tags", dtype="int64", shape=(-1,), classes=TAGS)}
    return Subject(net, name="tagger", spec=DataSpec(columns=columns, num_rows={}))


def test_scores_are_named_and_have_the_mean_zero() -> None:
    tagger = subject()
    with torch.no_grad():
        tagger.model.crf.transitions.copy_(torch.arange(9.0).view(3, 3))  # type: ignore[union-attr]
        tagger.model.crf.start[2] = -20.0  # type: ignore[union-attr,index]
    shown = show_view("transitions", tagger, most=4)
    scores = shown.document["scores"]
    assert set(scores) == {"start", *TAGS}
    assert set(scores["start"]) == set(TAGS)
    assert set(scores["O"]) == {*TAGS, "end"}
    assert scores["I-X"]["I-X"] - scores["O"]["O"] == pytest.approx(8.0, abs=1e-5)
    assert sum(value for row in scores.values() for value in row.values()) == pytest.approx(0.0, abs=1e-4)
    assert shown.document["likeliest"][0]["before"] == shown.document["likeliest"][0]["after"] == "I-X"
    least = shown.document["least_likely"][0]
    assert (least["before"], least["after"]) == ("start", "I-X")
    assert len(shown.document["likeliest"]) == 4
    assert pixels(shown.figure).std() > 5
    console = Console(file=io.StringIO(), width=120)
    console.print(shown.renderable)
    assert "start → I-X" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_model_without_a_field_is_refused() -> None:
    with pytest.raises(UsageError, match="no conditional random field") as caught:
        show_view("transitions", subject("bilstm"))
    assert "conll2000-bilstm-crf" in caught.value.mend
