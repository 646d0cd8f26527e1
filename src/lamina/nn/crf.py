"""Linear-chain conditional random field: which sequence of tags, not which tag at each place.

A sequence y of tags for the scores x (*emissions*) of a network gets the score

    s(y) = start[y_1] + sum_t x[t, y_t] + sum_t transitions[y_t, y_(t+1)] + end[y_T]

and the probability exp(s(y)) / Z, Z being the sum over all sequences. Z and the marginals come from the forward-backward recursions, the
best sequence from Viterbi's. All of them go through time once, with whole batches of all tags at each step, in float32 or wider.

Source: Lafferty, McCallum, Pereira (2001), "Conditional Random Fields"; on top of networks: Huang, Xu, Yu (2015), arXiv:1508.01991; Lample et al. (2016), arXiv:1603.01360.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

from lamina.core.config import Config, Field
from lamina.core.errors import ShapeError
from lamina.core.registry import register

__all__ = ["CRF", "Allowed", "CRFConfig", "viterbi"]

# Score of what is not allowed: its exponential is 0 in every precision, and differences with it stay finite, which -inf does not.
_FORBIDDEN: Final = -1e4


class Allowed(NamedTuple):
    """Which tags may follow each other.

    Attributes:
        start: Bool (K,): tags with which a sequence may begin.
        end: Bool (K,): tags with which it may end.
        transitions: Bool (K, K): [i, j] is whether j may follow i.
    """

    start: Tensor
    end: Tensor
    transitions: Tensor


class CRFConfig(Config):
    """Options of a conditional random field."""

    num_tags: int = Field(9, description="Different tags.", ge=1)


@register(
    "layer",
    "crf",
    config=CRFConfig,
    source="Lafferty, McCallum, Pereira (2001), Conditional Random Fields; Lample et al. (2016), arXiv:1603.01360",
    example="CRF(9).log_likelihood(emissions, tags, mask)",
)
class CRF(nn.Module):
    """A linear-chain conditional random field over the scores of a network.

    Padding must stand behind the real places of a row; what is in it changes nothing. A row without any real place has the
    likelihood 1.

    Args:
        num_tags: K.

    Attributes:
        transitions: (K, K): [i, j] is added where tag j follows tag i.
        start, end: (K,): added for the first and the last tag of a sequence.

    All begin with zero, where the field is the same as one softmax per place.

    Example:
        >>> crf = CRF(3)
        >>> emissions = torch.tensor([[[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
        >>> crf.decode(emissions)
        tensor([[0, 1]])

    Source: Lafferty, McCallum, Pereira (2001), "Conditional Random Fields"; Lample et al. (2016), arXiv:1603.01360, section 2.2.
    """

    def __init__(self, num_tags: int) -> None:
        super().__init__()
        self.num_tags = num_tags
        self.transitions = nn.Parameter(torch.zeros(num_tags, num_tags))
        self.start = nn.Parameter(torch.zeros(num_tags))
        self.end = nn.Parameter(torch.zeros(num_tags))

    def extra_repr(self) -> str:
        """The number of tags, for printing."""
        return f"num_tags={self.num_tags}"

    def forward(self, emissions: Tensor, tags: Tensor, mask: Tensor | None = None) -> Tensor:
        """The same as `log_likelihood`."""
        return self.log_likelihood(emissions, tags, mask)

    def log_likelihood(
        self, emissions: Tensor, tags: Tensor, mask: Tensor | None = None, *, allowed: Allowed | None = None
    ) -> Tensor:
        """Logarithm of each row's probability of its tags, (B,), float32 or wider.

        Args:
            emissions: Float (B, T, K).
            tags: int64 (B, T); anything from 0 to K - 1 in the padding.
            mask: Bool (B, T), True at real places; default: everywhere.
            allowed: Sequences that are not get the probability 0.

        Raises:
            ShapeError: The shapes do not fit.
        """
        emissions, mask = self._checked(emissions, mask, tags)
        # No products of matrices, so that autocast changes nothing from here on.
        start, transitions, end = self._scores(emissions, allowed)
        scores = _score(emissions, tags, mask, start, transitions, end)
        last = _forward(emissions, mask, start, transitions)[-1]
        result = scores - (last + end).logsumexp(dim=1)
        return torch.where(mask[:, 0], result, torch.zeros_like(result))

    def decode(self, emissions: Tensor, mask: Tensor | None = None, *, allowed: Allowed | None = None) -> Tensor:
        """The most probable tags of each row, int64 (B, T), 0 in the padding; arguments as in `log_likelihood`."""
        emissions, mask = self._checked(emissions, mask)
        start, transitions, end = self._scores(emissions, allowed)
        return viterbi(emissions, mask, start=start, transitions=transitions, end=end)

    def marginals(self, emissions: Tensor, mask: Tensor | None = None, *, allowed: Allowed | None = None) -> Tensor:
        """Probability of each tag at each place, (B, T, K), whatever stands elsewhere; 0 in the padding."""
        emissions, mask = self._checked(emissions, mask)
        start, transitions, end = self._scores(emissions, allowed)
        before = torch.stack(_forward(emissions, mask, start, transitions), dim=1)  # (B, T, K)
        after = torch.stack(_backward(emissions, mask, transitions, end), dim=1)
        return (before + after).softmax(dim=2) * mask.unsqueeze(2)

    def _scores(self, emissions: Tensor, allowed: Allowed | None) -> tuple[Tensor, Tensor, Tensor]:
        """start, transitions and end, with what is not allowed made improbable, in the emissions' type."""
        dtype = emissions.dtype
        start, transitions, end = (p.to(dtype) for p in (self.start, self.transitions, self.end))
        if allowed is None:
            return start, transitions, end
        return (
            start.masked_fill(~allowed.start, _FORBIDDEN),
            transitions.masked_fill(~allowed.transitions, _FORBIDDEN),
            end.masked_fill(~allowed.end, _FORBIDDEN),
        )

    def _checked(self, emissions: Tensor, mask: Tensor | None, tags: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Emissions in float32 or wider, and the mask."""
        shape = tuple(emissions.shape)
        if len(shape) != 3 or shape[2] != self.num_tags or shape[1] == 0:
            raise ShapeError(
                f"CRF got emissions shaped {shape}.",
                where="CRF, argument `emissions`",
                accepts=f"float tensor (batch, time, {self.num_tags}), one place at least",
                mend=f"build with num_tags={shape[2]}"
                if len(shape) == 3 and shape[1]
                else "give scores of every tag at every place",
            )
        for name, tensor in (("tags", tags), ("mask", mask)):
            if tensor is not None and tuple(tensor.shape) != shape[:2]:
                raise ShapeError(
                    f"CRF got {name} shaped {tuple(tensor.shape)} with emissions shaped {shape}.",
                    where=f"CRF, argument `{name}`",
                    accepts=f"{name} {shape[:2]}",
                    mend="give one value per place of the emissions",
                )
        if mask is None:
            mask = torch.ones(shape[:2], dtype=torch.bool, device=emissions.device)
        return emissions if emissions.dtype == torch.float64 else emissions.float(), mask


def viterbi(
    emissions: Tensor,
    mask: Tensor,
    *,
    start: Tensor | None = None,
    transitions: Tensor | None = None,
    end: Tensor | None = None,
    allowed: Allowed | None = None,
) -> Tensor:
    """The sequence of tags with the largest score per row.

    Args:
        emissions: Float (B, T, K): scores, or log-probabilities of a softmax.
        mask: Bool (B, T), True at real places, which come first.
        start, transitions, end: Scores as in `CRF`; zero by default.
        allowed: What may follow what, where no scores say it: a softmax per place is made to give proper sequences so.

    Returns:
        int64 (B, T), 0 in the padding. Of equal sequences one is chosen, always the same.

    Source: Viterbi (1967), doi:10.1109/TIT.1967.1054010.
    """
    num_tags = emissions.shape[2]
    start = emissions.new_zeros(num_tags) if start is None else start
    end = emissions.new_zeros(num_tags) if end is None else end
    transitions = emissions.new_zeros(num_tags, num_tags) if transitions is None else transitions
    if allowed is not None:
        start = start.masked_fill(~allowed.start, _FORBIDDEN)
        end = end.masked_fill(~allowed.end, _FORBIDDEN)
        transitions = transitions.masked_fill(~allowed.transitions, _FORBIDDEN)
    steps, real = emissions.unbind(1), mask.unsqueeze(2).unbind(1)
    stay = torch.arange(num_tags, device=emissions.device)
    best, pointers = start + steps[0], list[Tensor]()  # (B, K)
    for emission, is_real in zip(steps[1:], real[1:], strict=True):
        score, pointer = (best.unsqueeze(2) + transitions).max(dim=1)  # over the tag before
        best = torch.where(is_real, score + emission, best)
        pointers.append(torch.where(is_real, pointer, stay))  # padding repeats the last real tag
    tag = (best + end).argmax(dim=1, keepdim=True)  # (B, 1)
    path = [tag]
    for pointer in reversed(pointers):
        tag = pointer.gather(1, tag)
        path.append(tag)
    return torch.cat(path[::-1], dim=1) * mask


def _score(emissions: Tensor, tags: Tensor, mask: Tensor, start: Tensor, transitions: Tensor, end: Tensor) -> Tensor:
    """s(y) of the given tags, (B,)."""
    emitted = emissions.gather(2, tags.unsqueeze(2)).squeeze(2) * mask
    moved = transitions[tags[:, :-1], tags[:, 1:]] * mask[:, 1:]
    last = tags.gather(1, (mask.sum(dim=1, keepdim=True) - 1).clamp(min=0)).squeeze(1)
    return start[tags[:, 0]] + emitted.sum(dim=1) + moved.sum(dim=1) + end[last]


def _forward(emissions: Tensor, mask: Tensor, start: Tensor, transitions: Tensor) -> list[Tensor]:
    """For each place, log of the summed scores of all beginnings that end there with each tag: T times (B, K).

    In the padding the last real place's value is kept.
    """
    steps, real = emissions.unbind(1), mask.unsqueeze(2).unbind(1)
    found = [start + steps[0]]
    for emission, is_real in zip(steps[1:], real[1:], strict=True):
        before = found[-1]
        after = (before.unsqueeze(2) + transitions).logsumexp(dim=1) + emission  # (B, K, K) -> (B, K)
        found.append(torch.where(is_real, after, before))
    return found


def _backward(emissions: Tensor, mask: Tensor, transitions: Tensor, end: Tensor) -> list[Tensor]:
    """For each place, log of the summed scores of all continuations behind each tag there: T times (B, K)."""
    steps, real = emissions.unbind(1), mask.unsqueeze(2).unbind(1)
    found = [end.expand(len(emissions), -1)]
    for emission, is_real in zip(steps[:0:-1], real[:0:-1], strict=True):
        behind = (found[-1] + emission).unsqueeze(1) + transitions
        found.append(torch.where(is_real, behind.logsumexp(dim=2), found[-1]))
    return found[::-1]
