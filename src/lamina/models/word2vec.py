"""word2vec.

Paper: Mikolov, Chen, Corrado, Dean (2013), "Efficient Estimation of Word Representations in Vector Space", arXiv:1301.3781;
Mikolov, Sutskever, Chen, Corrado, Dean (2013), "Distributed Representations of Words and Phrases and their Compositionality", arXiv:1310.4546.
Reported: 61 % of the analogy questions with 300 dimensions, 5 negatives and a billion words of news (second paper, table 1).
Differs from the paper: the negatives of a window are drawn once and shared by its words (arXiv:1604.04661), and leave out the word
itself; logits are clipped to ±8. As in the code that was released with the papers, and unlike their equations: the chance of
keeping a word is (sqrt(f / t) + 1) t / f, and CBOW gives each word of a window the whole gradient of their mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lamina.core import draws
from lamina.core.config import Config, Field
from lamina.core.errors import DataError, UsageError
from lamina.core.registry import register
from lamina.nn.huffman import Paths, huffman_paths
from lamina.nn.inputs import check_tokens
from lamina.nn.word2vec_kernel import AliasTable, alias_table, word2vec_kernel

__all__ = ["Word2Vec", "Word2VecConfig", "negative_sampling_loss", "path_loss"]

_EXPONENT = 0.75  # of the frequencies from which negatives are drawn
_PARTS = 4  # pieces of a batch per thread, so that none waits long for the others


class Word2VecConfig(Config):
    """Sizes, and what is predicted how."""

    vocab_size: int = Field(10_000, description="Words, special tokens included.", ge=2, le=20_000_000)
    embedding_size: int = Field(100, description="Numbers per word.", ge=1, le=10_000)
    architecture: Literal["skip-gram", "cbow"] = Field(
        "skip-gram",
        description="skip-gram: from each word of a window the one in the middle; cbow: from the mean of them all.",
    )
    objective: Literal["negative-sampling", "hierarchical-softmax"] = Field(
        "negative-sampling",
        description="Tell the word from drawn ones, or find it in a Huffman tree of all words.",
    )
    negative: int = Field(5, description="Words drawn per window, with negative sampling.", ge=1, le=1000)
    window: int = Field(5, description="Most words on either side; how many is drawn for each word.", ge=1, le=1000)
    initial_range: float = Field(
        0.5,
        description="Vectors begin between minus and plus this, divided by embedding_size. CBOW gains from more: the mean of a window "
        "of small vectors says nothing at first.",
        gt=0,
        le=100,
    )


class _Tables(NamedTuple):
    """What the kernel needs of the word counts."""

    negatives: AliasTable
    paths: Paths


@register(
    "model",
    "word2vec",
    config=Word2VecConfig,
    source="Mikolov, Chen, Corrado, Dean (2013), arXiv:1301.3781; Mikolov et al. (2013), arXiv:1310.4546",
    example="lamina train word2vec-sg --data corpus.txt",
    input="tokens",
    has_gradients=False,
)
class Word2Vec(nn.Module):
    """Vectors of words, learned by predicting words from their neighbours.

    `embedding` holds the word vectors. `head` holds the second vector of each word, by which it is predicted; with hierarchical
    softmax a vector per inner node of the Huffman tree (one row more than there are nodes at most). `counts` is how often each word
    occurs in the corpus: negatives and the tree come from it.

    It learns by a compiled kernel (`walk`), whose steps are those of gradient descent on `negative_sampling_loss` or `path_loss`.

    Source: Mikolov, Chen, Corrado, Dean (2013), arXiv:1301.3781; Mikolov et al. (2013), arXiv:1310.4546.
    """

    counts: Tensor

    def __init__(
        self,
        *,
        vocab_size: int = 10_000,
        embedding_size: int = 100,
        architecture: Literal["skip-gram", "cbow"] = "skip-gram",
        objective: Literal["negative-sampling", "hierarchical-softmax"] = "negative-sampling",
        negative: int = 5,
        window: int = 5,
        initial_range: float = 0.5,
    ) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.num_classes = vocab_size
        self.embedding_size = embedding_size
        self.architecture = architecture
        self.objective = objective
        self.negative = negative
        self.window = window
        self.embedding = _Vectors(vocab_size, embedding_size, reach=initial_range / embedding_size)
        self.head = nn.Linear(embedding_size, vocab_size, bias=False)
        self.register_buffer("counts", torch.zeros(vocab_size, dtype=torch.int64))
        self.after_initialise()
        self._tables: _Tables | None = None

    def extra_repr(self) -> str:
        """What it predicts how, for printing."""
        return f"{self.architecture}, {self.objective}, window={self.window}, negative={self.negative}"

    @torch.no_grad()
    def after_initialise(self) -> None:
        """The vectors by which words are predicted begin at zero."""
        self.head.weight.zero_()

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Logits of the word in the middle of a window.

        Args:
            input_ids: int64 (B, T), the words around it; 0 is padding.
            attention_mask: bool (B, T); default: all that is not padding.

        Returns:
            (B, vocab_size). With hierarchical softmax they are the logarithms of probabilities, and a word that never occurred has a
            large negative one.
        """
        mean = self.features(input_ids, attention_mask)  # (B, D)
        if self.objective == "negative-sampling":
            return self.head(mean)  # type: ignore[no-any-return]
        return self._tree(self.head(mean))

    def features(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """The mean vector of the words, (B, T) -> (B, embedding_size); zero where there are none."""
        check_tokens(self, input_ids, attention_mask)
        mask = (input_ids != 0) if attention_mask is None else attention_mask
        vectors = self.embedding(input_ids) * mask.unsqueeze(2)  # (B, T, D)
        return vectors.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)  # type: ignore[no-any-return]

    def _tree(self, scores: Tensor) -> Tensor:
        """Log-probabilities of words from the scores of the nodes, (B, V) -> (B, V)."""
        if scores.is_meta:
            return scores
        paths = self._known_tables().paths
        lengths = torch.from_numpy(np.diff(paths.bounds)).to(scores.device)
        words = torch.repeat_interleave(torch.arange(len(lengths), device=scores.device), lengths)
        signs = torch.from_numpy(1.0 - 2.0 * paths.turns.astype(np.float32)).to(scores)
        steps = nn.functional.logsigmoid(scores[:, torch.from_numpy(paths.nodes).long().to(scores.device)] * signs)
        found = scores.new_full(scores.shape, -1e4)
        known = lengths > 0
        found[:, known] = torch.zeros_like(scores).index_add(1, words, steps)[:, known]
        return found

    # --- learning ---

    def count(self, counts: Tensor) -> None:
        """Take the frequencies of the words, int64 (vocab_size,); negatives and the tree follow from them.

        Raises:
            DataError: There are fewer than two different words.
        """
        if int((counts > 0).sum()) < 2:
            raise DataError(
                f"The corpus has {int((counts > 0).sum())} different words that are in the vocabulary.",
                where="model word2vec",
                accepts="at least two",
                mend="give more text, or lower min_count of the step tokenize",
            )
        self.counts.copy_(counts)
        self._tables = None

    @torch.no_grad()
    def walk(
        self, tokens: Tensor, bounds: Tensor, *, first: int, key: int, keep: Tensor, rate: float, threads: int = 1
    ) -> tuple[float, int, int]:
        """Learn from sentences, word by word.

        Args:
            tokens: int32 (N,) on the CPU.
            bounds: int64 (S + 1,): sentence s is tokens[bounds[s] : bounds[s + 1]]; windows do not reach beyond it.
            first: Position of tokens[0] in the corpus, by which draws are keyed.
            key: Of the epoch, from `core.draws.stream_key`.
            keep: float32 (vocab_size,), probability of keeping each word; 0: it is not there.
            rate: Learning rate.
            threads: More than one race for the same vectors on purpose: faster, and never twice the same.

        Returns:
            Sum of losses, number of losses (a sample), and words learned from.

        Raises:
            UsageError: The model is not on the CPU.
            MissingExtraError: numba is not installed.
        """
        if self.embedding.weight.device.type != "cpu":
            raise UsageError(
                f"word2vec learns on the CPU; the model is on {self.embedding.weight.device}.",
                where="model word2vec, training",
                accepts="the device cpu",
                mend="--device cpu",
            )
        tables, kernel = self._known_tables(), word2vec_kernel()
        inputs, outputs = self.embedding.weight.detach().numpy(), self.head.weight.detach().numpy()
        kind = inputs.dtype.type
        labels = (1 - tables.paths.turns).astype(inputs.dtype)
        ends, words = bounds.numpy(), tokens.numpy()
        negative = self.negative if self.objective == "negative-sampling" else 0

        def part(begin: int, end: int) -> tuple[float, int, int]:
            found: tuple[float, int, int] = kernel(
                inputs,
                outputs,
                words,
                ends[begin : end + 1],
                first,
                keep.numpy(),
                *tables.negatives,
                tables.paths.bounds,
                tables.paths.nodes,
                labels,
                np.uint64(key & 0xFFFFFFFF),
                self.window,
                negative,
                self.architecture == "cbow",
                kind(rate),
            )
            return found

        if threads == 1:
            return part(0, len(ends) - 1)
        cuts = np.unique(np.searchsorted(ends, np.linspace(0, ends[-1], threads * _PARTS + 1)))
        with ThreadPoolExecutor(threads) as pool:
            found = list(pool.map(part, cuts[:-1].tolist(), cuts[1:].tolist()))
        return sum(f[0] for f in found), sum(f[1] for f in found), sum(f[2] for f in found)

    def learn(self, inputs: Tensor, targets: Tensor | None = None) -> Mapping[str, tuple[Tensor, Tensor | float]]:
        """Learn from rows of tokens, each a sentence, as the engine asks of models without gradients.

        Args:
            inputs: int64 (B, T), 0 is padding.
            targets: Not looked at: what is to be predicted stands in the rows.
        """
        check_tokens(self, inputs)
        rows = inputs.cpu()
        if not bool(self.counts.any()):
            self.count(torch.bincount(rows.flatten(), minlength=self.vocab_size))
        keep = torch.ones(self.vocab_size)
        bounds = torch.arange(len(rows) + 1) * rows.shape[1]
        key = draws.stream_key(0, "negative")
        total, number, _ = self.walk(rows.flatten().int(), bounds, first=0, key=key, keep=keep, rate=0.025)
        return {"loss": (torch.tensor(total), float(max(number, 1)))}

    def _known_tables(self) -> _Tables:
        if self._tables is None:
            counts: NDArray[np.int64] = self.counts.cpu().numpy()
            paths = huffman_paths(counts if self.objective == "hierarchical-softmax" else counts[:0])
            weights = counts.astype(np.float64) ** _EXPONENT
            self._tables = _Tables(alias_table(weights if counts.any() else np.ones(len(counts))), paths)
        return self._tables

    def check_state(self) -> None:
        """Refuse loaded counts below zero; a bundle from elsewhere may hold anything.

        Raises:
            DataError: There are such.
        """
        self._tables = None
        if bool((self.counts < 0).any()):
            raise DataError(
                f"Word {int((self.counts < 0).nonzero()[0, 0])} is said to occur {int(self.counts.min())} times.",
                where="word2vec, counts",
                accepts="0 or more",
                mend="train it again, or take another bundle",
            )

    def _load_from_state_dict(self, *arguments: Any) -> None:
        self._tables = None
        super()._load_from_state_dict(*arguments)

    def example_inputs(self) -> Tensor:
        """What it reads, without values."""
        return torch.empty(1, 2 * self.window, dtype=torch.int64, device="meta")


class _Vectors(nn.Embedding):
    """Word vectors whose numbers begin between minus and plus `reach`."""

    def __init__(self, num_embeddings: int, embedding_dim: int, *, reach: float) -> None:
        self.reach = reach  # before the base class draws
        super().__init__(num_embeddings, embedding_dim)

    def reset_parameters(self) -> None:
        """Draw anew from torch's global generator."""
        self.draw_own(torch.default_generator)

    @torch.no_grad()
    def draw_own(self, generator: torch.Generator) -> None:
        """Draw the vectors; nothing where they are only counted (meta tensors)."""
        if not self.weight.is_meta:
            drawn = torch.rand(self.weight.shape, generator=generator, dtype=torch.float32)
            self.weight.copy_((drawn - 0.5) * (2 * self.reach))


def negative_sampling_loss(vector: Tensor, target: Tensor, negatives: Tensor) -> Tensor:
    """-log s(v.t) - sum over n of log s(-v.n), with the logistic function s: equation 4 of arXiv:1310.4546 for one pair.

    Args:
        vector: (D,), of the word from which is predicted, or the mean of a window.
        target: (D,), second vector of the word that stands there.
        negatives: (K, D), second vectors of drawn words.
    """
    log_sigmoid = nn.functional.logsigmoid
    return -log_sigmoid(vector @ target) - log_sigmoid(-(negatives @ vector)).sum()


def path_loss(vector: Tensor, nodes: Tensor, turns: Sequence[int]) -> Tensor:
    """Minus the logarithm of the word's probability in the tree: equation 3 of arXiv:1310.4546 for one pair.

    Args:
        vector: (D,), as for `negative_sampling_loss`.
        nodes: (L, D), vectors of the nodes from the root to the word.
        turns: At each node 0 (left) or 1 (right).
    """
    signs = 1.0 - 2.0 * torch.tensor(turns, dtype=vector.dtype)
    return -nn.functional.logsigmoid(signs * (nodes @ vector)).sum()
