"""word2vec against its equations: losses by finite differences, and the compiled kernel against a plain walk through the text.

The walk below is the reference: float64, one word after the other, gradients by autograd from `negative_sampling_loss` and `path_loss`.
The kernel computes in float32; with the same draws it must come to the same vectors to float32 rounding (an absolute 2e-6 on vectors of
size up to 1, after some hundred steps).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from lamina.core import draws
from lamina.data.corpus import keep_probabilities
from lamina.models.word2vec import Word2Vec, negative_sampling_loss, path_loss
from lamina.nn.word2vec_kernel import alias_table

pytest.importorskip("numba")

_MASK = (1 << 64) - 1


def mixed(key: int, position: int) -> int:
    """splitmix64 (Steele, Lea, Flood 2014) of a key and a position."""
    bits = (key + 0x9E3779B97F4A7C15 * (position + 1)) & _MASK
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & _MASK
    return bits ^ (bits >> 31)


def share(bits: int) -> np.float32:
    return np.float32(bits >> 40) * np.float32(2.0**-24)


def negatives(model: Word2Vec, word: int, bits: int) -> list[int]:
    """The words drawn against `word`: different ones, and not itself."""
    table, found = alias_table(model.counts.double().numpy() ** 0.75), [word]
    for _ in range(model.negative):
        bits = (bits * 6364136223846793005 + 1442695040888963407) & _MASK
        drawn = ((bits >> 32) * model.vocab_size) >> 32
        bits = (bits * 6364136223846793005 + 1442695040888963407) & _MASK
        if share(bits) >= table.threshold[drawn]:
            drawn = int(table.other[drawn])
        if drawn not in found:
            found.append(drawn)
    return found[1:]


def windows(
    model: Word2Vec, sentence: Tensor, key: int, first: int, keep: Tensor
) -> Iterator[tuple[int, int, list[int]]]:
    """(word, its random bits, the words around it) for the words that are kept."""
    kept = [(int(word), mixed(key, first + place)) for place, word in enumerate(sentence)]
    kept = [(word, bits) for word, bits in kept if share(bits) < keep[word].numpy()]
    for place, (word, bits) in enumerate(kept):
        reach = 1 + (bits & 0xFFFFFFFF) % model.window
        around = [
            kept[other][0]
            for other in range(max(0, place - reach), min(len(kept), place + reach + 1))
            if other != place
        ]
        if around:
            yield word, bits, around


def reference_walk(
    model: Word2Vec, sentences: list[Tensor], *, key: int, keep: Tensor, rate: float
) -> tuple[Tensor, Tensor]:
    """Both matrices after walking through the sentences, float64."""
    inputs, outputs = model.embedding.weight.detach().double(), model.head.weight.detach().double()
    first = 0
    for sentence in sentences:
        for word, bits, around in windows(model, sentence, key, first, keep):
            for context in [around] if model.architecture == "cbow" else [[one] for one in around]:
                step(model, inputs, outputs, word, bits, context, rate)
        first += len(sentence)
    return inputs, outputs


def step(
    model: Word2Vec, inputs: Tensor, outputs: Tensor, word: int, bits: int, context: list[int], rate: float
) -> None:
    """Descend the loss of predicting `word` from the mean of `context`, whose words all get the gradient of the mean."""
    vector = inputs[context].mean(0).requires_grad_()
    if model.objective == "negative-sampling":
        rows = [word, *negatives(model, word, bits)]
        second = outputs[rows].requires_grad_()
        loss = negative_sampling_loss(vector, second[0], second[1:])
    else:
        nodes, turns = model._known_tables().paths.of(word)
        rows = nodes.tolist()
        second = outputs[rows].requires_grad_()
        loss = path_loss(vector, second, turns.tolist())
    gradient, of_second = torch.autograd.grad(loss, (vector, second))
    outputs[rows] -= rate * of_second
    for one in context:
        inputs[one] -= rate * gradient


@pytest.mark.parametrize("objective", ["negative-sampling", "hierarchical-softmax"])
@pytest.mark.parametrize("architecture", ["skip-gram", "cbow"])
def test_the_kernel_walks_as_the_equations_say(architecture: str, objective: str) -> None:
    generator = torch.Generator().manual_seed(1)
    sentences = [torch.randint(0, 30, (length,), generator=generator).square() // 30 for length in (40, 1, 25, 2, 60)]
    tokens = torch.cat(sentences)
    model = Word2Vec(
        vocab_size=32, embedding_size=20, architecture=architecture, objective=objective, negative=4, window=3
    )
    with torch.no_grad():
        model.embedding.weight.normal_(0.0, 0.4, generator=generator)
        model.head.weight.normal_(0.0, 0.4, generator=generator)
    model.count(torch.bincount(tokens, minlength=32))
    keep = keep_probabilities(model.counts, threshold=0.05)
    assert float(keep[model.counts > 0].min()) < 0.8, "some words are left out at random"
    key = draws.stream_key(3, "negative", 0) & 0xFFFFFFFF
    wanted = reference_walk(model, sentences, key=key, keep=keep, rate=0.05)
    before = model.embedding.weight.detach().clone()
    bounds = torch.tensor([0, *(len(one) for one in sentences)]).cumsum(0)
    total, number, learned = model.walk(tokens.int(), bounds, first=0, key=key, keep=keep, rate=0.05)
    assert float((model.embedding.weight.detach() - before).abs().max()) > 0.05, "it moved"
    torch.testing.assert_close(model.embedding.weight.detach().double(), wanted[0], rtol=0, atol=2e-6)
    torch.testing.assert_close(model.head.weight.detach().double(), wanted[1], rtol=0, atol=2e-6)
    assert 0 < learned < len(tokens)
    assert number > 0
    assert math.isfinite(total)


@pytest.mark.parametrize("objective", ["negative-sampling", "hierarchical-softmax"])
def test_the_logged_loss_is_that_of_the_equations(objective: str) -> None:
    """Of two words, at a rate of 0 and with the loss taken at the first: the loss of one prediction."""
    generator = torch.Generator().manual_seed(2)
    model = Word2Vec(vocab_size=9, embedding_size=6, objective=objective)
    with torch.no_grad():
        model.embedding.weight.normal_(generator=generator)
        model.head.weight.normal_(generator=generator)
    model.count(torch.arange(9) + 1)
    keep = keep_probabilities(model.counts, threshold=0.0)
    total, number, _ = model.walk(
        torch.tensor([4, 7], dtype=torch.int32), torch.tensor([0, 2]), first=0, key=5, keep=keep, rate=0.0
    )
    vector, second = model.embedding.weight[7].detach().double(), model.head.weight.detach().double()
    if objective == "negative-sampling":
        wanted = negative_sampling_loss(vector, second[4], second[negatives(model, 4, mixed(5, 0))])
    else:
        nodes, turns = model._known_tables().paths.of(4)
        wanted = path_loss(vector, second[nodes.tolist()], turns.tolist())
    assert number == 1
    assert total == pytest.approx(float(wanted), rel=1e-5)


def test_gradients_of_both_losses_by_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    vector, second = torch.randn(7, generator=generator).double(), torch.randn(4, 7, generator=generator).double()
    losses = {
        "negative sampling": lambda v, s: negative_sampling_loss(v, s[0], s[1:]),
        "hierarchical softmax": lambda v, s: path_loss(v, s, [0, 1, 1, 0]),
    }
    for name, loss in losses.items():
        given = (vector.clone().requires_grad_(), second.clone().requires_grad_())
        assert torch.autograd.gradcheck(loss, given), name


def test_the_losses_are_the_papers() -> None:
    vector, target = torch.tensor([1.0, 2.0]).double(), torch.tensor([0.5, -1.0]).double()
    others = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).double()
    logistic = [1 / (1 + math.exp(-score)) for score in (-1.5, -1.0, -2.0)]
    wanted = -sum(math.log(value) for value in logistic)
    assert float(negative_sampling_loss(vector, target, others)) == pytest.approx(wanted, rel=1e-12)
    # Left where the turn is 0: the probability there is s(v.n), and the two sides add up to 1.
    both = [math.exp(-float(path_loss(vector, others[:1], [turn]))) for turn in (0, 1)]
    assert both[0] == pytest.approx(1 / (1 + math.exp(-1.0)))
    assert sum(both) == pytest.approx(1.0)
