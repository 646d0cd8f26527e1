"""The word2vec update, compiled: skip-gram and CBOW, negative sampling and hierarchical softmax, in one function.

Paper: Mikolov, Chen, Corrado, Dean (2013), arXiv:1301.3781; Mikolov, Sutskever, Chen, Corrado, Dean (2013), arXiv:1310.4546.
Negatives are drawn once per window and shared by its words, so that the output vectors of a window are fetched once and stay in the
first-level cache: Ji, Satish, Li, Dubey (2016), arXiv:1604.04661. Threads race on purpose: Recht, Re, Wright, Niu (2011), arXiv:1106.5730.

What happens at a word is a function of (key, position of the word in the corpus): whether it is kept, how wide its window is and
which negatives it has. Where batches and threads divide the corpus changes none of that.

numba compiles when a kernel is first asked for; nothing is kept between processes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lamina.core.errors import MissingExtraError

__all__ = ["LOGIT_LIMIT", "AliasTable", "alias_table", "word2vec_kernel"]

LOGIT_LIMIT: Final = (
    8.0  # logits are clipped to it: beyond, the sigmoid is 0 or 1 to 4 digits, and no step is worth taking
)
_LOSS_EVERY: Final = 16  # the loss is taken at one word in so many, since a logarithm costs more than a dot product

_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX_1: Final = np.uint64(0xBF58476D1CE4E5B9)  # of splitmix64: Steele, Lea, Flood (2014), doi:10.1145/2660193.2660195
_MIX_2: Final = np.uint64(0x94D049BB133111EB)
_LCG_A: Final = np.uint64(6364136223846793005)  # Knuth's MMIX
_LCG_C: Final = np.uint64(1442695040888963407)


class AliasTable(NamedTuple):
    """Draws from a discrete distribution at the cost of one look-up (Walker 1977, doi:10.1145/355744.355749).

    Attributes:
        threshold: float32 (N,): entry i gives i where a uniform number is below it, `other[i]` otherwise.
        other: int32 (N,).
    """

    threshold: NDArray[np.float32]
    other: NDArray[np.int32]


def alias_table(weights: NDArray[np.float64]) -> AliasTable:
    """The table for weights (N,), not negative, with a positive sum."""
    size = len(weights)
    scaled = weights * (size / weights.sum())
    threshold, other = np.ones(size), np.arange(size, dtype=np.int32)
    small = [int(i) for i in np.flatnonzero(scaled < 1.0)]
    large = [int(i) for i in np.flatnonzero(scaled >= 1.0)]
    while small and large:
        less, more = small.pop(), large[-1]
        threshold[less], other[less] = scaled[less], more
        scaled[more] -= 1.0 - scaled[less]
        if scaled[more] < 1.0:
            small.append(large.pop())
    return AliasTable(threshold.astype(np.float32), other)


@lru_cache(maxsize=1)
def word2vec_kernel() -> Any:
    """The compiled function `train`; see there.

    Raises:
        MissingExtraError: numba is not installed.
    """
    try:
        import numba  # noqa: PLC0415 (half a second, and needed only here)
    except ImportError:
        raise MissingExtraError(
            "word2vec is trained by a kernel that numba compiles, and numba is not installed.",
            where="model word2vec",
            accepts="the extra `text`",
            mend="pip install 'lamina[text]'",
        ) from None

    def mixed(key: Any, position: Any) -> Any:
        """64 random bits for a position."""
        bits = key + _GOLDEN * np.uint64(position + 1)
        bits = (bits ^ (bits >> np.uint64(30))) * _MIX_1
        bits = (bits ^ (bits >> np.uint64(27))) * _MIX_2
        return bits ^ (bits >> np.uint64(31))

    mixed = numba.njit(inline="always")(mixed)

    def learn(source: Any, row: Any, outputs: Any, labels: Any, errors: Any, num: Any, rate: Any, change: Any) -> None:
        """One vector against `num` output vectors: these take their steps, the vector's own step is put into `change`."""
        size = source.shape[1]
        kind = source.dtype.type
        for k in range(num):
            score = kind(0)
            for d in range(size):
                score += source[row, d] * outputs[k, d]
            errors[k] = score
        for k in range(num):
            # The sigmoid by Lambert's continued fraction of tanh, 2e-8 exact within the limit: this loop becomes vector code.
            y = min(max(errors[k], kind(-LOGIT_LIMIT)), kind(LOGIT_LIMIT)) * kind(0.5)
            z = y * y
            above = kind(34459425) + z * (kind(4729725) + z * (kind(135135) + z * (kind(990) + z)))
            below = kind(34459425) + z * (kind(16216200) + z * (kind(945945) + z * (kind(13860) + z * kind(45))))
            errors[k] = labels[k] - kind(0.5) - kind(0.5) * y * above / below
        for d in range(size):
            change[d] = kind(0)
        for k in range(num):
            error = errors[k] * rate
            for d in range(size):
                change[d] += error * outputs[k, d]
                outputs[k, d] += error * source[row, d]

    learn = numba.njit(fastmath=True, inline="never", error_model="numpy")(learn)

    def train(
        inputs: Any,
        outputs: Any,
        tokens: Any,
        bounds: Any,
        first: Any,
        keep: Any,
        threshold: Any,
        other: Any,
        path_bounds: Any,
        path_nodes: Any,
        path_labels: Any,
        key: Any,
        window: Any,
        negative: Any,
        cbow: Any,
        rate: Any,
    ) -> Any:
        """Walk through sentences and update both matrices in place.

        Args:
            inputs: Float (V, D), C-contiguous: the word vectors.
            outputs: Float (V, D), or (V - 1, D) of inner nodes where `negative` is 0.
            tokens: int32 (N,), word numbers.
            bounds: int64 (S + 1,): sentence s is tokens[bounds[s] : bounds[s + 1]].
            first: Position of tokens[0] in the corpus.
            keep: float32 (V,): probability of keeping a word.
            threshold, other: The alias table of the negatives, (V,).
            path_bounds, path_nodes, path_labels: Of the Huffman tree: word w has the nodes path_nodes[path_bounds[w] :
                path_bounds[w + 1]], int32, and there the labels, of the matrices' type.
            key: uint64 of the epoch.
            window: Most words on either side.
            negative: Negatives per window; 0: hierarchical softmax.
            cbow: Predict the word from the mean of the window, instead of the word from each of the window.
            rate: Learning rate, of the matrices' type.

        Returns:
            (sum of losses, how many were summed, words learned from).
        """
        kind = inputs.dtype.type
        size, vocabulary = inputs.shape[1], inputs.shape[0]
        longest: Any = negative + 1
        if negative == 0:
            for word in range(vocabulary):
                longest = max(longest, path_bounds[word + 1] - path_bounds[word])
        near = np.empty((longest, size), inputs.dtype)
        targets = np.empty(longest, np.int64)
        labels = np.zeros(longest, inputs.dtype)
        errors = np.empty(longest, inputs.dtype)
        change = np.empty(size, inputs.dtype)
        mean = np.empty((1, size), inputs.dtype)
        most: Any = 0
        for s in range(len(bounds) - 1):
            most = max(most, bounds[s + 1] - bounds[s])
        words = np.empty(most, np.int64)
        seeds = np.empty(most, np.uint64)
        loss, losses, learned = 0.0, 0, 0
        for s in range(len(bounds) - 1):
            length = 0
            for place in range(bounds[s], bounds[s + 1]):
                bits = mixed(key, first + place)
                word = tokens[place]
                if np.float32(bits >> np.uint64(40)) * np.float32(1.0 / (1 << 24)) < keep[word]:
                    words[length] = word
                    seeds[length] = bits
                    length += 1
            learned += length
            for i in range(length):
                word, bits = words[i], seeds[i]
                reach = 1 + np.int64((bits & np.uint64(0xFFFFFFFF)) % np.uint64(window))
                low: Any = max(0, i - reach)
                high: Any = min(length, i + reach + 1)
                if high - low < 2:
                    continue
                if negative > 0:
                    targets[0] = word
                    labels[0] = kind(1)
                    num = 1
                    for _ in range(negative):
                        bits = bits * _LCG_A + _LCG_C
                        drawn = np.int64(((bits >> np.uint64(32)) * np.uint64(vocabulary)) >> np.uint64(32))
                        bits = bits * _LCG_A + _LCG_C
                        if np.float32(bits >> np.uint64(40)) * np.float32(1.0 / (1 << 24)) >= threshold[drawn]:
                            drawn = np.int64(other[drawn])
                        fresh = True
                        for k in range(num):
                            if targets[k] == drawn:
                                fresh = False
                        if fresh:
                            targets[num] = drawn
                            num += 1
                else:
                    begin = path_bounds[word]
                    num = path_bounds[word + 1] - begin
                    for k in range(num):
                        targets[k] = path_nodes[begin + k]
                        labels[k] = path_labels[begin + k]
                for k in range(num):
                    target = targets[k]
                    for d in range(size):
                        near[k, d] = outputs[target, d]
                measured = (first + bounds[s] + i) % _LOSS_EVERY == 0
                if cbow:
                    for d in range(size):
                        mean[0, d] = kind(0)
                    for j in range(low, high):
                        if j != i:
                            context = words[j]
                            for d in range(size):
                                mean[0, d] += inputs[context, d]
                    share = kind(1) / kind(high - low - 1)
                    for d in range(size):
                        mean[0, d] *= share
                    learn(mean, 0, near, labels, errors, num, rate, change)
                    for j in range(low, high):
                        if j != i:
                            context = words[j]
                            for d in range(size):
                                inputs[context, d] += change[d]
                    if measured:
                        losses += 1
                        for k in range(num):
                            loss -= np.log(1.0 - min(abs(float(errors[k])), 1.0 - 1e-7))
                else:
                    for j in range(low, high):
                        if j != i:
                            context = words[j]
                            learn(inputs, context, near, labels, errors, num, rate, change)
                            for d in range(size):
                                inputs[context, d] += change[d]
                            if measured:
                                losses += 1
                                for k in range(num):
                                    loss -= np.log(1.0 - min(abs(float(errors[k])), 1.0 - 1e-7))
                for k in range(num):
                    target = targets[k]
                    for d in range(size):
                        outputs[target, d] = near[k, d]
        return loss, losses, learned

    return numba.njit(fastmath=True, nogil=True, error_model="numpy")(train)
