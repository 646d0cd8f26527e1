"""Views of words: neighbours, analogy, projection."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch
from rich.console import Console

from lamina.core.errors import ConfigError, UsageError
from lamina.data.columns import ColumnSpec, DataSpec
from lamina.data.preprocessing import Preprocessing
from lamina.data.ragged import Ragged, RaggedColumns
from lamina.explain.views import Subject, show_view
from lamina.models.factory import create_model

pytest.importorskip("tokenizers")

# The more frequent first, as the tokenizer orders them.
WORDS = {"man": (1.0, 0.0), "woman": (1.0, 1.0), "king": (2.0, 0.1), "queen": (2.0, 1.3), "apple": (-1.0, 0.2), "pear": (-1.0, 0.0)}  # fmt: skip


def subject(kind: str = "word2vec", *, tokens: str = "word") -> Subject:
    text = [" ".join([word] * (len(WORDS) - place)) for place, word in enumerate(WORDS)]
    columns = RaggedColumns({}, ragged={"text": Ragged.of_texts(text)})
    spec = DataSpec(
        columns={"text": ColumnSpec(role="text", dtype="uint8", shape=(-1,))}, num_rows={"all": len(text)}, ordered=True
    )
    steps = [{"name": "tokenize", "kind": tokens, "split": "whitespace", "lowercase": True}]
    preprocessing = Preprocessing.fit(steps, columns, spec)
    size = preprocessing.spec.columns["input_ids"].vocab_size
    if kind != "word2vec":
        return Subject(torch.nn.Linear(2, 2), spec=preprocessing.spec, preprocessing=preprocessing)
    model = create_model("word2vec", seed=0, vocab_size=size, embedding_size=2)
    if tokens == "word":
        with torch.no_grad():
            model.embedding.weight[3:] = torch.tensor(list(WORDS.values()))
            model.counts[3:] = torch.tensor([6, 5, 4, 3, 2, 1])
    return Subject(model, name="tiny", spec=preprocessing.spec, preprocessing=preprocessing)


def test_neighbours_are_those_with_the_largest_cosine() -> None:
    shown = show_view("neighbours", subject(), words="Apple man", most=2)
    apple, man = shown.document["words"]
    assert [one["word"] for one in apple["neighbours"]] == ["pear", "woman"]
    assert apple["count"] == 2
    assert apple["neighbours"][0]["cosine"] == pytest.approx(1 / 1.04**0.5)
    assert man["neighbours"][0]["word"] == "king"
    assert shown.arrays["cosine"].shape == (2, 2)
    assert shown.figure is not None
    assert shown.figure.startswith(b"\x89PNG")
    assert [row["word"] for row in show_view("neighbours", subject()).document["words"]] == ["man"]


def test_analogies_leave_the_words_of_the_question_out() -> None:
    shown = show_view("analogy", subject(), question="man king woman", most=3)
    document = shown.document
    assert document["answers"][0]["word"] == "queen"
    assert not {one["word"] for one in document["answers"]} & {"man", "king", "woman"}
    assert document["unrestricted"]["word"] in ("woman", "queen", "king")
    assert shown.arrays["vectors"].shape == (4, 2)
    np.testing.assert_allclose(np.linalg.norm(shown.arrays["vectors"], axis=1), 1.0, rtol=1e-6)
    assert shown.figure is not None


def test_projections_have_a_point_per_word() -> None:
    shown = show_view("projection", subject())
    assert shown.document["words"] == list(WORDS)
    assert shown.arrays["pca"].shape == shown.arrays["tsne"].shape == (6, 2)
    assert shown.document["perplexity"] == pytest.approx(5 / 3)
    assert sum(shown.document["explained_variance"]) == pytest.approx(1.0)
    assert shown.figure is not None
    again = show_view("projection", subject())
    assert again.document == shown.document
    few = show_view("projection", subject(), words="man king man woman queen apple", method="pca")
    assert few.document["words"] == ["man", "king", "woman", "queen", "apple"]
    assert set(few.document["points"]) == {"pca"}


@pytest.mark.parametrize("name", ["neighbours", "analogy", "projection"])
def test_what_cannot_be_shown_is_refused(name: str) -> None:
    options = {"question": "man king woman"} if name == "analogy" else {}
    with pytest.raises(UsageError, match="no embedding with a row per word"):
        show_view(name, subject("linear"), **options)
    with pytest.raises(UsageError, match="not text made into words"):
        show_view(name, Subject(torch.nn.Linear(2, 2)), **options)
    with pytest.raises(UsageError, match="not text made into words"):
        show_view(name, subject(tokens="character"), **options)
    word = {"question": "man king womman"} if name == "analogy" else {"words": "womman king man apple pear queen"}
    with pytest.raises(UsageError, match="'womman' is not in the vocabulary") as caught:
        show_view(name, subject(), **word)
    assert "'woman'" in caught.value.mend
    with pytest.raises(ConfigError, match="wrds"):
        show_view(name, subject(), wrds="man")


def test_too_little_is_refused() -> None:
    with pytest.raises(UsageError, match="has 2 words"):
        show_view("analogy", subject(), question="man king")
    with pytest.raises(UsageError, match="There are 2 words"):
        show_view("projection", subject(), words="man king")


def test_documents_are_json_and_tables_can_be_printed() -> None:
    for name, options in (("neighbours", {}), ("analogy", {"question": "man king woman"}), ("projection", {})):
        shown = show_view(name, subject(), **options)
        json.dumps(shown.document, allow_nan=False)
        console = Console(file=io.StringIO(), width=120)
        console.print(shown.renderable)
        assert "king" in console.file.getvalue() or name == "neighbours"  # type: ignore[attr-defined]
