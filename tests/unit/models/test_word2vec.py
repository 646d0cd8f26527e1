"""The model word2vec: what it predicts, and how it walks through text."""

from __future__ import annotations

import copy
import sys

import pytest
import torch
from torch import Tensor

from lamina.core.errors import DataError, MissingExtraError, UsageError
from lamina.data.corpus import keep_probabilities
from lamina.models.factory import create_model
from lamina.models.word2vec import Word2Vec
from lamina.nn import word2vec_kernel as kernel_module

pytest.importorskip("numba")


def topics(num_sentences: int = 400, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Sentences of ten words, each of words 3 … 7 or of words 8 … 12 only: tokens and bounds."""
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(0, 5, (num_sentences, 10), generator=generator) + 3
    words += 5 * torch.randint(0, 2, (num_sentences, 1), generator=generator)
    return words.flatten().int(), torch.arange(num_sentences + 1) * 10


def trained(model: Word2Vec, *, epochs: int = 3, threads: int = 1, parts: int = 1, rate: float = 0.1) -> list[float]:
    tokens, bounds = topics()
    model.count(torch.bincount(tokens, minlength=model.vocab_size))
    keep = keep_probabilities(model.counts, threshold=0.0)
    losses = []
    for epoch in range(epochs):
        total, number = 0.0, 0
        for rows in torch.arange(len(bounds) - 1).chunk(parts):
            begin, end = int(bounds[rows[0]]), int(bounds[rows[-1] + 1])
            found = model.walk(
                tokens[begin:end],
                bounds[int(rows[0]) : int(rows[-1]) + 2] - begin,
                first=begin,
                key=epoch,
                keep=keep,
                rate=rate,
                threads=threads,
            )
            total, number = total + found[0], number + found[1]
        losses.append(total / number)
    return losses


def build(**options: object) -> Word2Vec:
    model = create_model("word2vec", seed=0, vocab_size=13, embedding_size=12, **options)
    assert isinstance(model, Word2Vec)
    return model


@pytest.mark.parametrize("objective", ["negative-sampling", "hierarchical-softmax"])
@pytest.mark.parametrize("architecture", ["skip-gram", "cbow"])
def test_words_of_like_company_come_to_lie_near_each_other(architecture: str, objective: str) -> None:
    model = build(architecture=architecture, objective=objective)
    before = trained(model, epochs=1, rate=0.0)[0]
    losses = trained(model, epochs=5)
    assert losses[-1] < 0.85 * before
    vectors = nn_unit(model.embedding.weight.detach()[3:])
    cosines = vectors @ vectors.T
    same = (torch.arange(10) < 5).unsqueeze(0) == (torch.arange(10) < 5).unsqueeze(1)
    assert float(cosines[same].mean()) > float(cosines[~same].mean()) + 0.4
    # From words of one topic a word of it is foretold.
    foretold = model(torch.tensor([[3, 4, 5], [10, 11, 12]]))[:, 3:].argmax(1) + 3  # the words that occur
    assert int(foretold[0]) in range(3, 8)
    assert int(foretold[1]) in range(8, 13)


def nn_unit(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors, dim=1)


def test_one_thread_gives_the_same_bits_however_the_text_is_divided() -> None:
    one, other = build(), build()
    trained(one)
    trained(other, parts=7)
    assert torch.equal(one.embedding.weight, other.embedding.weight)
    assert torch.equal(one.head.weight, other.head.weight)


def test_several_threads_learn_as_well() -> None:
    alone, racing = build(), build()
    losses, raced = trained(alone, epochs=5), trained(racing, epochs=5, threads=2)
    assert raced[-1] == pytest.approx(losses[-1], rel=0.1)
    assert bool(racing.embedding.weight.isfinite().all())


def test_words_that_are_left_out_do_not_count() -> None:
    """Unknown words are not there: what stands on their two sides stands together."""
    one, other = build(), build()
    for model, tokens in ((one, [3, 1, 4, 1, 1, 5]), (other, [3, 4, 5])):
        counts = torch.zeros(13, dtype=torch.int64)
        counts[3:6] = 1
        model.count(counts)
        model.walk(
            torch.tensor(tokens, dtype=torch.int32),
            torch.tensor([0, len(tokens)]),
            first=0,
            key=1,
            keep=keep_probabilities(counts, threshold=0.0),
            rate=0.1,
        )
    assert not torch.equal(one.head.weight, torch.zeros(13, 12))
    assert torch.equal(one.embedding.weight[1], build().embedding.weight[1])
    assert torch.equal(one.head.weight[1], torch.zeros(12))


def test_probabilities_in_the_tree_add_up_to_one() -> None:
    model = build(objective="hierarchical-softmax")
    trained(model)
    probabilities = model(torch.tensor([[3, 4, 0]])).detach().exp()
    assert float(probabilities.sum()) == pytest.approx(1.0, abs=1e-5)
    assert float(probabilities[0, :3].sum()) == 0.0, "words that never occur have no leaf"


def test_padding_changes_nothing() -> None:
    model = build()
    trained(model)
    short, long = torch.tensor([[3, 4]]), torch.tensor([[3, 4, 0, 0]])
    torch.testing.assert_close(model(long), model(short))
    torch.testing.assert_close(model(long, long != 0), model(short))
    assert torch.equal(model.features(torch.zeros(1, 3, dtype=torch.int64)), torch.zeros(1, 12))


def test_initial_vectors_are_small_and_keyed_by_the_seed() -> None:
    model = build()
    assert 0.3 / 12 < float(model.embedding.weight.detach().abs().max()) <= 0.5 / 12
    assert 3 / 12 < float(build(initial_range=4.0).embedding.weight.detach().abs().max()) <= 4 / 12
    assert not bool(model.head.weight.detach().any())
    assert torch.equal(model.embedding.weight, build().embedding.weight)


def test_a_copy_and_a_loaded_state_take_their_own_counts() -> None:
    model = build(objective="hierarchical-softmax")
    trained(model)
    again = build(objective="hierarchical-softmax")
    again(torch.tensor([[3]]))  # makes its tables, of no counts
    again.load_state_dict(model.state_dict())
    inputs = torch.tensor([[3, 8]])
    assert torch.equal(again(inputs), model(inputs))
    assert torch.equal(copy.deepcopy(model)(inputs), model(inputs))


def test_what_cannot_be_is_refused() -> None:
    model = build()
    with pytest.raises(DataError, match="1 different words"):
        model.count(torch.tensor([0, 0, 0, 4] + [0] * 9))
    model.counts[4] = -2
    with pytest.raises(DataError, match="Word 4 is said to occur -2 times"):
        model.check_state()
    elsewhere = build().to("meta")
    with pytest.raises(UsageError, match="learns on the CPU"):
        elsewhere.walk(torch.ones(2).int(), torch.tensor([0, 2]), first=0, key=0, keep=torch.ones(13), rate=0.1)


def test_numba_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(MissingExtraError, match="numba") as caught:
        kernel_module.word2vec_kernel.__wrapped__()  # past its cache, which the other tests go on using
    assert "lamina[text]" in caught.value.mend
