"""The task word-vectors: what it refuses, how it judges."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lamina.core.errors import ConfigError, DataError, ShapeError
from lamina.data.columns import Columns, ColumnSpec, DataSpec
from lamina.data.ragged import Ragged, RaggedColumns
from lamina.models.factory import create_model
from lamina.models.word2vec import Word2Vec
from lamina.tasks.base import Context
from lamina.tasks.word_evaluation import WordMetrics, pair_cosines, solve_analogies, spearman
from lamina.tasks.word_vectors import WordVectors, WordVectorsConfig


def spec(vocab_size: int = 9) -> DataSpec:
    column = ColumnSpec(role="tokens", dtype="int64", shape=(-1,), vocab_size=vocab_size)
    return DataSpec(columns={"input_ids": column}, num_rows={})


def task(**options: Any) -> WordVectors:
    return WordVectors(WordVectorsConfig(**options), spec())


def model() -> Word2Vec:
    built = create_model("word2vec", seed=0, vocab_size=9, embedding_size=2)
    assert isinstance(built, Word2Vec)
    # king - man + woman = queen; 0, 1 and 2 are special tokens.
    words = {"man": (1, 0), "woman": (1, 1), "king": (2, 0.1), "queen": (2, 1.3), "apple": (-1, 0.2), "pear": (-1, 0)}
    with torch.no_grad():
        built.embedding.weight[3:] = torch.tensor(list(words.values()))
        built.embedding.weight[:3] = 50.0
    built.count(torch.tensor([0, 0, 0, 5, 4, 3, 2, 1, 1]))
    return built


def rows(tokens: list[list[int]]) -> dict[str, torch.Tensor]:
    ids = torch.tensor(tokens)
    return {"input_ids": ids, "attention_mask": ids != 0}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=30))
def test_spearman_is_scipys(pairs: list[tuple[int, int]]) -> None:
    stats = pytest.importorskip("scipy.stats")
    first, second = torch.tensor(pairs).double().T
    if len(set(first.tolist())) < 2 or len(set(second.tolist())) < 2:
        assert spearman(first, second) == 0.0
        return
    wanted = stats.spearmanr(first.numpy(), second.numpy()).statistic
    assert spearman(first, second) == pytest.approx(float(wanted), abs=1e-12)


def test_words_of_the_question_are_no_answers() -> None:
    vectors = model().embedding.weight.detach()
    question = torch.tensor([[3, 5, 4]])
    assert solve_analogies(vectors, question, allowed=torch.arange(9) > 2).tolist() == [6]
    assert solve_analogies(vectors, question).tolist() == [0], "nothing says that special tokens are no words"
    assert pair_cosines(vectors, torch.tensor([[7, 8], [3, 8]])).tolist() == pytest.approx([0.9806, -1.0], abs=1e-4)


def test_analogies_are_judged_by_section_and_unknown_ones_counted() -> None:
    judge, built, metrics = task(), model(), WordMetrics(("family", "gram1"))
    batch = {**rows([[3, 5, 4, 6], [3, 4, 5, 6], [7, 8, 3, 4], [3, 1, 4, 6]]), "section": torch.tensor([0, 0, 1, 1])}
    judge.judge(judge.forward(built, batch, Context()), batch, metrics)
    assert metrics.finish() == {"accuracy": pytest.approx(2 / 3), "vocabulary_coverage": 0.75}
    details = metrics.details()
    assert details["rows"] == 4
    assert details["left_out"] == 1
    assert details["left_out_rows"] == [3]
    family, grammar = details["sections"]
    assert family == {"section": "family", "questions": 2, "judged": 2, "correct": 2, "accuracy": 1.0}
    assert (grammar["questions"], grammar["judged"], grammar["correct"]) == (2, 1, 0)
    assert details["semantic"]["accuracy"] == 1.0
    assert details["syntactic"]["accuracy"] == 0.0


def test_pairs_are_ranked_and_unknown_ones_counted() -> None:
    judge, built, metrics = task(), model(), WordMetrics()
    batch = {**rows([[7, 8], [3, 4], [3, 7], [3, 1]]), "target": torch.tensor([[9.0], [5.0], [1.0], [2.0]])}
    judge.judge(judge.forward(built, batch, Context()), batch, metrics)
    assert metrics.finish() == {"spearman": 1.0, "vocabulary_coverage": 0.75}
    assert metrics.details() == {"rows": 4, "left_out": 1, "left_out_rows": [3]}
    none = WordMetrics()
    batch = {**rows([[1, 8]]), "target": torch.tensor([[9.0]])}
    judge.judge(judge.forward(built, batch, Context()), batch, none)
    with pytest.raises(DataError, match="Of 1 pairs none has all its words"):
        none.finish()


def test_predictions_are_mean_vectors_of_known_words() -> None:
    judge, built = task(), model()
    found = judge.decode(judge.forward(built, rows([[3, 4, 0], [1, 1, 1], [5, 1, 0]]), Context()))
    assert found[0] == {"vector": [1.0, 0.5], "known_words": 2}
    assert found[1] == {"vector": [0.0, 0.0], "known_words": 0}
    assert found[2]["vector"] == pytest.approx([2.0, 0.1])


def test_held_out_text_is_judged_without_learning() -> None:
    pytest.importorskip("numba")
    judge, built, metrics = task(), model(), WordMetrics()
    with torch.no_grad():
        built.embedding.weight.div_(50)
    before = built.embedding.weight.detach().clone()
    columns = RaggedColumns({}, ragged={"tokens": Ragged.of_rows([[3, 4, 5, 1, 6]] * 9, dtype=torch.int32)})
    feed = judge.feed(columns, batch_size=2, seed=0, training=False)
    for number in range(len(feed)):
        raw = feed.batch(0, number)
        batch = {**raw, "input_ids": raw["tokens"].long(), "attention_mask": raw["tokens"] >= 0}
        judge.judge(judge.forward(built, batch, Context()), batch, metrics)
    # Nothing is foretold by zeros: log 2 for the word and each drawn one, of which equal ones are left out.
    assert 2 * 0.69 < metrics.finish()["loss"] < 6 * 0.694
    assert metrics.details() == {}
    assert torch.equal(built.embedding.weight, before)


def test_what_does_not_fit_is_refused() -> None:
    judge = task()
    with pytest.raises(ConfigError, match="does not learn word vectors"):
        judge.check(spec(), torch.nn.Linear(2, 2))
    with pytest.raises(ShapeError, match="knows 9 tokens; the tokenizer makes 20"):
        judge.check(spec(20), model())
    with pytest.raises(DataError, match="preprocessed data has image"):
        judge.check(DataSpec(columns={"image": ColumnSpec(role="image", dtype="float32")}, num_rows={}), model())
    with pytest.raises(DataError, match="rows of 3 words"):
        judge.forward(model(), {**rows([[3, 4, 5]]), "target": torch.ones(1, 1)}, Context())
    with pytest.raises(ConfigError, match="drop_last"):
        judge.feed(Columns({}), batch_size=2, seed=0, training=True, drop_last=True)
    assert judge.cautions() == ()
    assert "another run will not give the same" in task(threads=3).cautions()[0]
    assert judge.monitor == ("loss", "min")
