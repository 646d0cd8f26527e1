"""The conditional random field against every sequence written out, in float64. Tolerance 1e-12: sums of at most 3^5 terms."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from lamina.nn.crf import CRF, Allowed, viterbi
from lamina.tasks.spans import TagSet

LENGTHS = (5, 1, 3, 4)
TAGS = 3


def field(seed: int) -> tuple[CRF, Tensor, Tensor, Tensor]:
    """A field with random scores, emissions (B, T, K), tags and mask."""
    generator = torch.Generator().manual_seed(seed)
    crf = CRF(TAGS).double()
    with torch.no_grad():
        for parameter in crf.parameters():
            parameter.normal_(0.0, 1.5, generator=generator)
    emissions = torch.randn(len(LENGTHS), max(LENGTHS), TAGS, dtype=torch.float64, generator=generator)
    tags = torch.randint(0, TAGS, emissions.shape[:2], generator=generator)
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS).unsqueeze(1)
    return crf, emissions.requires_grad_(), tags, mask


def score(crf: CRF, emissions: Tensor, path: tuple[int, ...]) -> Tensor:
    """s(y) by its definition: emissions (T, K) of the real places."""
    total = crf.start[path[0]] + crf.end[path[-1]]
    for place, tag in enumerate(path):
        total = total + emissions[place, tag]
    for before, after in itertools.pairwise(path):
        total = total + crf.transitions[before, after]
    return total


def paths(length: int, allowed: Allowed | None = None) -> list[tuple[int, ...]]:
    found = []
    for path in itertools.product(range(TAGS), repeat=length):
        fits = allowed is None or (
            bool(allowed.start[path[0]])
            and bool(allowed.end[path[-1]])
            and all(bool(allowed.transitions[pair]) for pair in itertools.pairwise(path))
        )
        if fits:
            found.append(path)
    return found


BIO = TagSet(("O", "B-X", "I-X"), "bio").allowed


@pytest.mark.parametrize("allowed", [None, BIO], ids=["free", "bio"])
@pytest.mark.parametrize("seed", range(3))
def test_likelihood_and_gradients(seed: int, allowed: Allowed | None) -> None:
    crf, emissions, tags, mask = field(seed)
    if allowed is not None:
        tags = viterbi(torch.randn((*tags.shape, TAGS)), mask, allowed=allowed)
    expected = []
    for row, length in enumerate(LENGTHS):
        every = torch.stack([score(crf, emissions[row], path) for path in paths(length, allowed)])
        own = score(crf, emissions[row], tuple(tags[row, :length].tolist()))
        expected.append(own - every.logsumexp(0))
    wanted = torch.stack(expected)
    found = crf.log_likelihood(emissions, tags, mask, allowed=allowed)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    weights = torch.tensor([1.0, 2.0, -1.0, 0.5], dtype=torch.float64)
    sources = (emissions, *crf.parameters())
    ours = torch.autograd.grad((found * weights).sum(), sources)
    theirs = torch.autograd.grad((wanted * weights).sum(), sources)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)
    assert not bool(ours[0][~mask].any())


@pytest.mark.parametrize("allowed", [None, BIO], ids=["free", "bio"])
@pytest.mark.parametrize("seed", range(3))
def test_best_path_and_marginals(seed: int, allowed: Allowed | None) -> None:
    crf, emissions, _, mask = field(seed)
    decoded = crf.decode(emissions, mask, allowed=allowed)
    marginals = crf.marginals(emissions, mask, allowed=allowed)
    for row, length in enumerate(LENGTHS):
        every = paths(length, allowed)
        scores = torch.stack([score(crf, emissions[row], path) for path in every])
        assert tuple(decoded[row, :length].tolist()) == every[int(scores.argmax())]
        assert not bool(decoded[row, length:].any())
        wanted = torch.zeros(max(LENGTHS), TAGS, dtype=torch.float64)
        for path, probability in zip(every, scores.softmax(0), strict=True):
            for place, tag in enumerate(path):
                wanted[place, tag] += probability
        torch.testing.assert_close(marginals[row], wanted, rtol=0, atol=1e-12)


def test_marginals_are_the_gradient_of_the_normaliser() -> None:
    crf, emissions, tags, mask = field(7)
    (gradient,) = torch.autograd.grad(crf.log_likelihood(emissions, tags, mask).sum(), emissions)
    chosen = torch.nn.functional.one_hot(tags, TAGS) * mask.unsqueeze(2)
    torch.testing.assert_close(crf.marginals(emissions, mask), chosen - gradient, rtol=0, atol=1e-12)
