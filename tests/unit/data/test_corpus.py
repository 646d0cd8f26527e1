"""Running text as word2vec reads it, and phrases."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lamina.core.errors import ConfigError, DataError
from lamina.data.corpus import CorpusFeed, find_phrases, join_phrases, keep_probabilities, word_counts
from lamina.data.ragged import Ragged, RaggedColumns


def corpus(rows: list[list[int]]) -> RaggedColumns:
    return RaggedColumns({}, ragged={"tokens": Ragged.of_rows(rows, dtype=torch.int32)})


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(3, 9), max_size=7), min_size=1, max_size=12), st.integers(0, 15))
def test_stretches_hold_the_corpus_once_in_order(rows: list[list[int]], size: int) -> None:
    words = [word for row in rows for word in row]
    if not words:
        with pytest.raises(ConfigError, match="no words"):
            CorpusFeed(corpus(rows), batch_size=size)
        return
    feed = CorpusFeed(corpus(rows), batch_size=size)
    assert torch.equal(feed.rows(0), torch.arange(len(words)))
    ends, seen, position = set(), [], 0
    for number in range(len(feed)):
        batch = feed.batch(3, number)
        tokens, bounds = batch["tokens"][0].tolist(), batch["bounds"].tolist()
        assert batch["tokens_length"].tolist() == [len(tokens)]
        assert int(batch["first"]) == position
        assert batch["row"].tolist() == list(range(position, position + len(tokens)))
        assert bounds[0] == 0
        assert bounds[-1] == len(tokens)
        assert bounds == sorted(bounds)
        ends |= {position + bound for bound in bounds}
        seen += tokens
        position += len(tokens)
        assert len(tokens) == (size or len(words)) or number == len(feed) - 1
    assert seen == words
    wanted = {sum(map(len, rows[:place])) for place in range(len(rows) + 1)}
    assert wanted <= ends, "no window reaches from one row into another"


def test_special_tokens_and_words_elsewhere_do_not_count() -> None:
    counts = word_counts(corpus([[0, 1, 2, 3, 3], [5]]), vocab_size=6)
    assert counts.tolist() == [0, 0, 0, 2, 0, 1]
    with pytest.raises(DataError, match="the token 7; the vocabulary has 6"):
        word_counts(corpus([[3], [7]]), vocab_size=6)


def test_frequent_words_are_kept_as_the_released_code_keeps_them() -> None:
    counts = torch.tensor([0, 10, 990])
    keep = keep_probabilities(counts, threshold=0.01)
    share = 0.99 / 0.01
    assert keep.tolist() == pytest.approx([0.0, 1.0, (share**0.5 + 1) / share])
    assert keep_probabilities(counts, threshold=0.0).tolist() == [0.0, 1.0, 1.0]
    assert keep_probabilities(torch.zeros(3, dtype=torch.int64), threshold=0.01).tolist() == [0.0] * 3


def test_phrases_score_as_in_the_paper() -> None:
    sentences = [["new", "york", "is", "big"], ["new", "york", "or", "paris"], ["is", "new"]]
    found = find_phrases(sentences, discount=1, threshold=0.0)
    # "new york" occurs twice, new three times, york twice, among 10 words.
    assert found == {("new", "york"): pytest.approx((2 - 1) / (3 * 2) * 10)}
    assert find_phrases(sentences, discount=1, threshold=2.0) == {}
    with pytest.raises(ConfigError, match="threshold -1"):
        find_phrases([], threshold=-1)


def test_phrases_are_joined_from_the_left_and_again_in_the_next_pass() -> None:
    def sentences() -> list[list[str]]:
        return [["the", "new", "york", "times"], ["york", "new", "a"], ["b", "times", "the"]] * 10

    once = list(join_phrases(sentences, discount=5, threshold=1.0))
    twice = list(join_phrases(sentences, passes=2, discount=5, threshold=1.0))
    assert once[0] == ["the_new", "york_times"]
    assert twice[0] == ["the_new_york_times"]
    assert list(join_phrases(sentences, passes=0)) == sentences()
    assert [word for sentence in once for word in "_".join(sentence).split("_")] == [w for s in sentences() for w in s]


def test_memory_of_counting_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lamina.data.corpus._MOST_COUNTED", 12)
    sentences = [["a", "b"]] * 30 + [[f"w{number}"] for number in range(50)] + [["a", "b"]]
    found = find_phrases(sentences, discount=1, threshold=0.0)
    assert set(found) == {("a", "b")}
