"""Word vectors learned from running text.

Source: Mikolov, Chen, Corrado, Dean (2013), arXiv:1301.3781; Mikolov et al. (2013), arXiv:1310.4546.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from lamina.core import draws
from lamina.core.config import Config, Field
from lamina.core.errors import ConfigError, DataError
from lamina.core.registry import register
from lamina.data.batching import Feed, IndexFeed
from lamina.data.columns import Columns, DataSpec
from lamina.data.corpus import CorpusFeed, keep_probabilities, word_counts
from lamina.tasks.base import (
    AnyConfig,
    Batch,
    Context,
    DirectUpdate,
    Losses,
    Outputs,
    Prediction,
    State,
    Task,
    Update,
)
from lamina.tasks.inputs import TOKENS, check_vocabulary
from lamina.tasks.metrics import Metrics
from lamina.tasks.word_evaluation import WordMetrics, pair_cosines, solve_analogies

__all__ = ["Walker", "WordVectors", "WordVectorsConfig"]

_UNKNOWN: Final = 1
_JUDGED_WORDS: Final = 20_000  # of held-out text at a time
_PAIR, _ANALOGY = 2, 4  # words of a row that is judged


class WordVectorsConfig(Config):
    """How the corpus is walked through."""

    subsample: float = Field(
        1e-3,
        description="Words whose share of the corpus is larger than this are left out at random, the more the more frequent; 0: never.",
        ge=0,
        le=1,
    )
    threads: int = Field(
        1,
        description="1: in order, the same vectors every time. More: threads race for the vectors on purpose, which is faster and "
        "never gives the same vectors twice.",
        ge=1,
        le=1024,
    )


@runtime_checkable
class Walker(Protocol):
    """A model that learns from running text by itself: `lamina.models.word2vec`."""

    counts: Tensor
    vocab_size: int
    embedding: nn.Embedding

    def count(self, counts: Tensor) -> None:
        """Take the frequencies of the words."""

    def features(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Mean vectors of rows of words."""

    def walk(
        self, tokens: Tensor, bounds: Tensor, *, first: int, key: int, keep: Tensor, rate: float, threads: int = 1
    ) -> tuple[float, int, int]:
        """Learn from sentences: sum of losses, how many were summed, words learned from."""


@register(
    "task",
    "word-vectors",
    config=WordVectorsConfig,
    source="Mikolov, Chen, Corrado, Dean (2013), arXiv:1301.3781",
    example="lamina train word2vec-sg --data corpus.txt",
    input="tokens",
)
class WordVectors(Task):
    """A vector per word of a corpus, such that words in like company have like vectors.

    Training walks through the corpus in its order; `training.batch_size` counts words, and so do the rows per second. It is judged on held-out
    text (`loss`), on pairs of words with a score (`spearman`) and on analogies (`accuracy`).

    Raises:
        ConfigError: The options are out of bounds.
    """

    Config = WordVectorsConfig
    config: WordVectorsConfig
    name: ClassVar[str] = "word-vectors"

    def __init__(self, config: AnyConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        self._counts: Tensor | None = None
        self._keep: Tensor | None = None

    # --- checks ---

    def check(self, spec: DataSpec, model: nn.Module) -> None:
        """Refuse data that is no running text, and models that do not learn from it."""
        if TOKENS not in spec.columns or "text_pair" in self.spec.columns:
            raise DataError(
                f"The preprocessed data has {', '.join(spec.columns) or 'nothing'}.",
                where=self.name,
                accepts="running text: a column `text`, made into words by the step tokenize",
                mend="give a file of text; data.reader=corpus reads its lines",
            )
        _walker(model)
        check_vocabulary(model, spec, where=self.name)

    def cautions(self) -> Sequence[str]:
        """That threads race, where they do."""
        if self.config.threads == 1:
            return ()
        return (
            f"{self.config.threads} threads race for the word vectors (task.threads): another run will not give the same ones; "
            "task.threads=1 does.",
        )

    # --- training ---

    def feed(self, columns: Columns, *, batch_size: int, seed: int, training: bool, **options: Any) -> Feed:
        """Stretches of the corpus in order; rows of pairs or analogies where such are judged."""
        if training:
            if options.pop("drop_last", False) or options:
                raise ConfigError(
                    f"A corpus is walked through as it is; the options {', '.join(options) or 'drop_last'} are for rows of their own.",
                    where="training",
                    accepts="nothing of the kind",
                    mend="leave them out",
                )
            column = self.spec.columns[TOKENS]
            self._counts = word_counts(columns, vocab_size=column.vocab_size or 1)
            self._keep = keep_probabilities(self._counts, threshold=self.config.subsample)
            return CorpusFeed(columns, batch_size=batch_size)
        if "section" in columns or "target" in columns:
            return IndexFeed(columns, batch_size=batch_size, seed=seed, shuffle=False)
        return CorpusFeed(columns, batch_size=_JUDGED_WORDS)

    def updates(self, model: nn.Module) -> Sequence[Update]:
        """One update: walk through a stretch."""
        walker = _walker(model)

        def apply(batch: Batch, ctx: Context, state: State) -> tuple[Losses, State]:
            assert self._counts is not None
            assert self._keep is not None
            if not torch.equal(walker.counts.cpu(), self._counts):
                walker.count(self._counts)
            total, number, _ = walker.walk(
                batch[TOKENS][0].int(),
                batch["bounds"],
                first=int(batch["first"]),
                key=draws.stream_key(ctx.seed, "negative", ctx.epoch),
                keep=self._keep,
                rate=float(ctx.schedule["lr"]),
                threads=self.config.threads,
            )
            losses = Losses()
            # A short stretch may hold no word whose loss is taken: then the loss of no word is logged as 0.
            losses.add("loss", torch.tensor(total), max(number, 1))
            return losses, state

        return (DirectUpdate("train", model, apply, scheduled=True),)

    # --- judging and predicting ---

    def forward(self, model: nn.Module, batch: Batch, ctx: Context) -> Outputs:
        """What is judged of a batch.

        Returns:
            `vector` float (B, D), the mean vector of the row's words, and `known` int64 (B,), how many of them are known. For pairs with
            a score also `cosine` (B,), for analogies `answer` (B,), for running text the sum of losses `total` and how many, both (1,).
        """
        walker = _walker(model)
        tokens, mask = batch[TOKENS], batch["attention_mask"]
        if "bounds" in batch:
            # Judged as it would be learned from, at a rate of 0; the draws are the same each time.
            total, number, _ = walker.walk(
                tokens[0].int().cpu(),
                batch["bounds"].cpu(),
                first=int(batch["first"]),
                key=draws.stream_key(0, "negative", "judging"),
                keep=(walker.counts > 0).float().cpu(),
                rate=0.0,
            )
            return {"total": torch.tensor([total]), "number": torch.tensor([float(number)])}
        known = mask & (tokens != _UNKNOWN)
        outputs = {"vector": walker.features(tokens, known), "known": known.sum(1)}
        vectors = walker.embedding.weight
        if "section" in batch:
            rows = _rows_of(tokens, _ANALOGY)
            allowed = walker.counts > 0
            outputs["answer"] = solve_analogies(vectors, rows[:, :3], allowed=allowed if bool(allowed.any()) else None)
        elif "target" in batch:
            outputs["cosine"] = pair_cosines(vectors, _rows_of(tokens, _PAIR))
        return outputs

    def metrics(self) -> Metrics:
        """For whatever comes to be judged."""
        return WordMetrics()

    def judge(self, outputs: Outputs, batch: Batch, metrics: Metrics) -> None:
        """Record the loss of running text, the cosines of pairs, or the answers to analogies."""
        assert isinstance(metrics, WordMetrics)
        if "total" in outputs:
            metrics.record(total=outputs["total"].double(), number=outputs["number"].double())
        elif "answer" in outputs:
            correct = outputs["answer"] == _rows_of(batch[TOKENS], _ANALOGY)[:, 3]
            metrics.record(correct=correct, section=batch["section"], known=outputs["known"] == _ANALOGY)
        elif "cosine" in outputs:
            score, known = batch["target"][:, 0].double(), outputs["known"] == _PAIR
            metrics.record(cosine=outputs["cosine"].double(), score=score, known=known)

    def decode(self, outputs: Outputs) -> list[Prediction]:
        """Per row `vector`, the mean of its words' vectors, and `known_words`."""
        rows = zip(outputs["vector"].tolist(), outputs["known"].tolist(), strict=True)
        return [{"vector": vector, "known_words": known} for vector, known in rows]

    @property
    def monitor(self) -> tuple[str, str]:
        """The loss of held-out text, where there is some."""
        return ("loss", "min")


def _walker(model: nn.Module) -> Walker:
    if not isinstance(model, Walker):
        raise ConfigError(
            f"{type(model).__name__} does not learn word vectors from running text by itself.",
            where="model.kind",
            accepts="word2vec",
            mend="model.kind=word2vec",
        )
    return model


def _rows_of(tokens: Tensor, width: int) -> Tensor:
    """Rows that must have `width` words each."""
    if tokens.shape[1] != width:
        raise DataError(
            f"There are rows of {tokens.shape[1]} words.",
            where="word vectors, data to be judged",
            accepts="two words with a score per row, or four words per analogy",
            mend="check the file with `lamina data`",
        )
    return tokens
