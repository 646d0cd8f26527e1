"""The conditional random field: padding, precision, meta tensors, errors."""

from __future__ import annotations

import pytest
import torch

from lamina.core.errors import ShapeError
from lamina.nn.crf import CRF, viterbi
from lamina.tasks.spans import TagSet


def field() -> CRF:
    crf = CRF(4)
    with torch.no_grad():
        for parameter in crf.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(parameter.numel()))
    return crf


def test_without_transitions_it_is_a_softmax_per_place() -> None:
    emissions, tags = torch.randn(3, 6, 4), torch.randint(0, 4, (3, 6))
    crf = CRF(4)
    wanted = emissions.log_softmax(2).gather(2, tags.unsqueeze(2)).sum((1, 2))
    torch.testing.assert_close(crf(emissions, tags), wanted)
    assert torch.equal(crf.decode(emissions), emissions.argmax(2))
    torch.testing.assert_close(crf.marginals(emissions), emissions.softmax(2))


def test_padding_changes_nothing_whatever_is_in_it() -> None:
    crf, emissions, tags = field(), torch.randn(2, 5, 4), torch.randint(0, 4, (2, 5))
    mask = torch.tensor([[True] * 3 + [False] * 2, [True] * 5])
    alone = crf(emissions[:1, :3], tags[:1, :3])
    emissions[0, 3:] = 1e4
    torch.testing.assert_close(crf(emissions, tags, mask)[:1], alone)
    assert torch.equal(crf.decode(emissions, mask)[:1, :3], crf.decode(emissions[:1, :3]))
    torch.testing.assert_close(crf.marginals(emissions, mask)[:1, :3], crf.marginals(emissions[:1, :3]))


def test_a_row_without_words_has_the_likelihood_one() -> None:
    crf, emissions, tags = field(), torch.randn(2, 3, 4), torch.randint(0, 4, (2, 3))
    mask = torch.tensor([[False] * 3, [True] * 3])
    found = crf(emissions, tags, mask)
    assert found[0] == 0
    assert found[1] < 0
    assert not bool(crf.decode(emissions, mask)[0].any())


def test_under_autocast_it_computes_in_float32() -> None:
    crf, emissions, tags = field(), torch.randn(2, 40, 4), torch.randint(0, 4, (2, 40))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        coarse = crf(emissions, tags)
        assert coarse.dtype == torch.float32
    torch.testing.assert_close(coarse, crf(emissions, tags), rtol=1e-6, atol=0)
    assert crf(emissions.bfloat16(), tags).dtype == torch.float32


def test_shapes_without_values() -> None:
    crf = CRF(4).to("meta")
    emissions = torch.empty(2, 7, 4, device="meta")
    mask, tags = torch.ones(2, 7, dtype=torch.bool, device="meta"), torch.zeros(2, 7, dtype=torch.int64, device="meta")
    assert crf(emissions, tags, mask).shape == (2,)
    assert crf.decode(emissions, mask).shape == (2, 7)
    assert crf.marginals(emissions, mask).shape == (2, 7, 4)


def test_constrained_decoding_gives_proper_sequences_of_any_scores() -> None:
    tag_set = TagSet(("O", "B-X", "I-X", "E-X", "S-X", "B-Y", "I-Y", "E-Y", "S-Y"), "bioes")
    log_probs = torch.randn(50, 9, 9, generator=torch.Generator().manual_seed(0)).log_softmax(2)
    mask = torch.arange(9) < torch.arange(50).remainder(9).add(1).unsqueeze(1)
    free = (log_probs.argmax(2) * mask)[mask]
    lengths = mask.sum(1)
    assert bool(tag_set.improper(free, lengths).any())
    allowed = tag_set.allowed
    assert allowed is not None
    decided = viterbi(log_probs, mask, allowed=allowed)
    assert not bool(tag_set.improper(decided[mask], lengths).any())
    last = decided.gather(1, (lengths - 1).unsqueeze(1)).squeeze(1)
    assert bool(allowed.end[last].all())


def test_shapes_that_do_not_fit_are_refused() -> None:
    crf = CRF(4)
    with pytest.raises(ShapeError, match=r"emissions shaped \(2, 3, 5\)") as caught:
        crf.decode(torch.zeros(2, 3, 5))
    assert "num_tags=5" in caught.value.mend
    with pytest.raises(ShapeError, match=r"tags shaped \(2, 4\)"):
        crf(torch.zeros(2, 3, 4), torch.zeros(2, 4, dtype=torch.int64))
    with pytest.raises(ShapeError, match=r"mask shaped \(3, 2\)"):
        crf.decode(torch.zeros(2, 3, 4), torch.ones(3, 2, dtype=torch.bool))
