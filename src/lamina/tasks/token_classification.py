"""A tag for every word: named entities, chunks, parts of speech.

Tags such as `B-PER` mark entities (`tasks/spans.py` says how); then precision, recall and F1 are of entities, counted as the shared tasks'
scorer conlleval does. Other tags are classes of words, and what counts is their accuracy.

Source: the task `token-classification` of the model hubs; Tjong Kim Sang, Buchholz (2000), "Introduction to the CoNLL-2000 Shared Task:
Chunking"; Collobert et al. (2011), arXiv:1103.0398.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Final, Literal

import torch
from torch import Tensor, nn

from lamina.core.config import Config, Field
from lamina.core.errors import ConfigError, DataError, ShapeError
from lamina.core.registry import register
from lamina.data.batching import BucketFeed, Feed
from lamina.data.columns import Columns, DataSpec
from lamina.data.ragged import LENGTH, RaggedColumns
from lamina.nn.crf import CRF, Allowed, viterbi
from lamina.tasks.base import (
    AnyConfig,
    Batch,
    Context,
    GradientUpdate,
    Losses,
    Outputs,
    Prediction,
    State,
    Task,
    Update,
)
from lamina.tasks.inputs import ANY_LENGTH, ROWS, check_vocabulary, output_shape, row_name, run_model
from lamina.tasks.metrics import Metrics
from lamina.tasks.spans import TagSet, detect_scheme
from lamina.tasks.tagging_metrics import TaggingMetrics

__all__ = ["TokenClassification", "TokenClassificationConfig", "entities_of"]

_UNKNOWN: Final = 1  # what preprocessing makes of a word outside the vocabulary
_LINE_END: Final = ord("\n")


class TokenClassificationConfig(Config):
    """How tags are understood and decided."""

    scheme: Literal["auto", "bio", "iob1", "bioes", "io", "ioe", "none"] = Field(
        "auto",
        description="How tags mark entities: auto, by their letters; none: they mark none, and are classes of words (parts of speech).",
    )
    constrained: bool = Field(
        True, description="Decide only for sequences of tags that the scheme allows (I-PER only within a person)."
    )
    strict: bool = Field(
        False,
        description="Count only entities that are marked as bio or bioes say (seqeval's strict mode); else as conlleval does, where `O I-PER` marks one too.",
    )


@register(
    "task",
    "token-classification",
    config=TokenClassificationConfig,
    source="Tjong Kim Sang, Buchholz (2000), the CoNLL-2000 shared task; Lample et al. (2016), arXiv:1603.01360",
    example="lamina train conll2000-bilstm-crf --data PATH",
    input="input_ids",
)
class TokenClassification(Task):
    """A tag for every word of a sentence.

    Reads `input_ids`, `attention_mask`, `char_ids` where there are any, and `tags`. A model with a `crf` is trained by the
    likelihood of whole sequences and decoded with them, any other by one softmax per word.

    Args:
        config: A TokenClassificationConfig.
        spec: The data's spec; its column `tags` names the tags.

    Attributes:
        classes: Names of the tags in index order.
        tag_set: The same as a scheme; None where they mark no entities.

    Raises:
        DataError: The data has no tags.
        ConfigError: The tags are not of the scheme.
    """

    name: ClassVar[str] = "token-classification"
    Config = TokenClassificationConfig
    config: TokenClassificationConfig

    def __init__(self, config: AnyConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        self.classes = _tags(spec)
        self.tag_set = _tag_set(self.classes, self.config.scheme)
        self._allowed = self.tag_set.allowed if self.tag_set is not None and self.config.constrained else None

    def describe_scheme(self) -> str:
        """How the tags are understood, as a sentence."""
        if self.tag_set is None:
            return f"The {len(self.classes)} tags are classes of words; they mark no entities."
        types = ", ".join(self.tag_set.types[:12])
        return f"The {len(self.classes)} tags mark entities by the scheme {self.tag_set.scheme}: {types}."

    # --- checks ---

    def check(self, spec: DataSpec, model: nn.Module) -> None:
        """Refuse a model that does not give a number per tag and word; one pass on meta tensors."""
        if "input_ids" not in spec.columns:
            raise DataError(
                f"The preprocessed data has no tokens; it has {', '.join(spec.columns) or 'nothing'}.",
                where=self.name,
                accepts="sentences of words with a tag each",
                mend="look at what the file holds with `lamina data`",
            )
        check_vocabulary(model, spec, where=self.name)
        output = output_shape(model, spec, where=self.name)
        crf = getattr(model, "crf", None)
        if (
            len(output) != 3
            or output[2] != len(self.classes)
            or (crf is not None and crf.num_tags != len(self.classes))
        ):
            raise ShapeError(
                f"{type(model).__name__} gives outputs shaped {output} for {ROWS} sentences of {ANY_LENGTH} words; the data has {len(self.classes)} tags.",
                where=f"{self.name}, model and column 'tags'",
                accepts=f"({ROWS}, {ANY_LENGTH}, {len(self.classes)})",
                mend=f"set model.num_classes={len(self.classes)}, or leave it out to have it filled in from the data",
            )

    def check_columns(self, columns: Columns) -> None:
        """Refuse tags outside the set, rows whose tags and words differ in number, and tags of another scheme; one scan."""
        tokens = columns.ragged.get("tokens") if isinstance(columns, RaggedColumns) else None
        columns = columns.raw
        if not isinstance(columns, RaggedColumns) or "tags" not in columns.ragged:
            raise DataError(
                f"The data has no tags; it has {', '.join(columns) or 'no columns'}.",
                where="column 'tags'",
                accepts="a tag per word",
                mend="name the column of the tags with data.label=…",
            )
        tags = columns.ragged["tags"]
        values, lengths = tags.values, tags.lengths
        outside = (values < 0) | (values >= len(self.classes))
        if bool(outside.any()):
            place = int(outside.nonzero()[0, 0])
            row = int(torch.searchsorted(tags.offsets, place, right=True)) - 1
            raise DataError(
                f"Word {place - int(tags.offsets[row]) + 1} has the tag {int(values[place])}, which is outside the tags; {int(outside.sum())} words have such.",
                where=row_name(columns, row),
                accepts=f"0 to {len(self.classes) - 1}, for {', '.join(map(repr, self.classes[:12]))}",
                mend="name all tags in the spec, or leave the row out",
            )
        words = _num_words(columns)
        if words is not None:
            differ = (words != lengths).nonzero()
            if len(differ):
                row = int(differ[0, 0])
                raise DataError(
                    f"The row has {int(words[row])} words and {int(lengths[row])} tags; {len(differ)} rows differ so.",
                    where=row_name(columns, row),
                    accepts="one tag per word",
                    mend="give every word a tag; `O` or `_` where there is nothing to say",
                )
        if tokens is not None:
            more = (tokens.lengths > lengths.clamp(min=1)).nonzero()
            if len(more):
                row = int(more[0, 0])
                raise DataError(
                    f"The {int(lengths[row])} words of the row are {int(tokens.lengths[row])} tokens; {len(more)} rows are such.",
                    where=row_name(columns, row),
                    accepts="one token per word",
                    mend="write words that contain <unk>, <pad> or <eos> in another way, such as [unk]",
                )
        self._refuse_other_scheme(columns, values, lengths)

    def _refuse_other_scheme(self, columns: RaggedColumns, values: Tensor, lengths: Tensor) -> None:
        """BIO and IOB1 have the same letters: where most entities begin with I, it is IOB1, and BIO would forbid them."""
        if self.tag_set is None or self.tag_set.scheme != "bio" or self.config.scheme != "auto":
            return
        improper = self.tag_set.improper(values, lengths)
        count, begun = int(improper.sum()), int((self.tag_set.letters[values] == 1).sum())
        if count > begun:
            place = int(improper.nonzero()[0, 0])
            row = int(torch.searchsorted(columns.ragged["tags"].offsets, place, right=True)) - 1
            raise DataError(
                f"The tag {self.classes[int(values[place])]!r} begins an entity; {count:,} entities begin so, {begun:,} with B.",
                where=row_name(columns, row),
                accepts="the scheme bio (IOB2), in which every entity begins with B",
                mend="set task.scheme=iob1, where I begins an entity and B only one right behind another",
            )

    # --- what a batch means ---

    def forward(self, model: nn.Module, batch: Batch, ctx: Context) -> Outputs:
        """`logits` (B, T, K) and `mask` (B, T); when not training also the decided tags, and the likelihood of the true ones."""
        mask = batch["attention_mask"]
        outputs = {"logits": run_model(model, batch), "mask": mask}
        crf = getattr(model, "crf", None)
        if not ctx.training:
            outputs |= self._decided(crf, outputs["logits"], mask)
            if "tags" in batch:
                outputs["log_likelihood"] = _log_likelihood(crf, outputs["logits"], batch)
        return outputs

    def _decided(self, crf: CRF | None, logits: Tensor, mask: Tensor) -> Outputs:
        """`predicted` tags and their `probability`, both (B, T)."""
        allowed = _on(self._allowed, logits.device)
        if crf is not None:
            predicted = crf.decode(logits, mask, allowed=allowed)
            probs = crf.marginals(logits, mask, allowed=allowed)
        else:
            log_probs = _wide(logits).log_softmax(dim=2)
            probs = log_probs.exp()
            predicted = (
                viterbi(log_probs, mask, allowed=allowed) if allowed is not None else log_probs.argmax(dim=2) * mask
            )
        return {"predicted": predicted, "probability": probs.gather(2, predicted.unsqueeze(2)).squeeze(2)}

    def updates(self, model: nn.Module) -> Sequence[Update]:
        """One update: descend the negative log-likelihood of the tags, per word."""
        crf = getattr(model, "crf", None)

        def loss(batch: Batch, ctx: Context, state: State) -> tuple[Losses, State]:
            outputs = self.forward(model, batch, ctx)
            losses = Losses()
            found = _log_likelihood(crf, outputs["logits"], batch)
            losses.add("cross_entropy", -found.sum(), _tagged(batch).sum())
            return losses, state

        # Batches have many lengths, and a program would be compiled for each.
        return (GradientUpdate("train", model, loss, compilable=False),)

    def feed(self, columns: Columns, *, batch_size: int, seed: int, training: bool, **options: Any) -> Feed:
        """Rows of like length together in training, in order in judging."""
        if not training or not isinstance(columns, RaggedColumns):
            return super().feed(columns, batch_size=batch_size, seed=seed, training=training, **options)
        lengths = columns.ragged["tags"].lengths
        return BucketFeed(columns, lengths=lengths, batch_size=batch_size, seed=seed, **options)

    # --- judging ---

    def metrics(self) -> Metrics:
        """Metrics of words, and of entities where the tags mark some."""
        return TaggingMetrics(self.classes, tag_set=self.tag_set, strict=self.config.strict)

    def judge(self, outputs: Outputs, batch: Batch, metrics: Metrics) -> None:
        """Record decided and true tags, and the likelihood of the true ones."""
        assert isinstance(metrics, TaggingMetrics)
        metrics.update(
            outputs["predicted"],
            batch["tags"],
            mask=outputs["mask"],
            lengths=batch[f"tags{LENGTH}"],
            log_likelihood=outputs["log_likelihood"],
            seen=_tagged(batch).sum(dim=1),
            unknown=batch["input_ids"] == _UNKNOWN,
        )

    @property
    def monitor(self) -> tuple[str, str]:
        """F1 of the entities, or the accuracy of tags that mark none."""
        return ("f1" if self.tag_set is not None else "accuracy", "max")

    # --- predicting ---

    def input_columns(self) -> Iterable[str]:
        """The words."""
        return ("text",)

    def decode(self, outputs: Outputs) -> list[Prediction]:
        """Per row `tokens`, each with `tag` and its `probability`, and where tags mark any, `entities` by type, start and end in words.

        `complete` adds the words, and counts in characters.
        """
        rows: list[Prediction] = []
        columns = (outputs["mask"].sum(dim=1), outputs["predicted"], outputs["probability"])
        for count, tags, probs in zip(*(column.tolist() for column in columns), strict=True):
            decided = zip(tags[:count], probs[:count], strict=True)
            tokens = [{"tag": self.classes[tag], "probability": probability} for tag, probability in decided]
            rows.append(self._with_entities({"tokens": tokens}))
        return rows

    def complete(self, predictions: list[Prediction], columns: Columns, first_row: int) -> list[Prediction]:
        """Add each token's `word`, and to entities their `text`; `start` and `end` then count characters.

        They are places in the row's words divided by one space. Words that were cut off a long row have the tag None.
        """
        if not isinstance(columns, RaggedColumns) or "text" not in columns.ragged:
            return predictions
        texts = columns.ragged["text"].texts(range(first_row, first_row + len(predictions)))
        completed = []
        for prediction, text in zip(predictions, texts, strict=True):
            words = text.split("\n") if text else []
            tokens: list[dict[str, Any]] = prediction["tokens"][: len(words)]
            tokens += [{"tag": None, "probability": None}] * (len(words) - len(tokens))
            named = [{"word": word, **token} for word, token in zip(words, tokens, strict=True)]
            completed.append(self._with_entities({**prediction, "tokens": named}, words))
        return completed

    def _with_entities(self, prediction: Prediction, words: Sequence[str] | None = None) -> Prediction:
        if self.tag_set is None:
            return prediction
        tags = [token["tag"] for token in prediction["tokens"]]
        numbers = torch.tensor([-1 if tag is None else self.classes.index(tag) for tag in tags], dtype=torch.int64)
        return {**prediction, "entities": entities_of(self.tag_set, numbers, words, strict=self.config.strict)}


def entities_of(
    tag_set: TagSet, tags: Tensor, words: Sequence[str] | None = None, *, strict: bool = False
) -> list[dict[str, Any]]:
    """The entities of one row, JSON-ready.

    Args:
        tags: int64 (T,).
        words: Of the row; with them `start` and `end` count characters of the words joined by spaces, else words.

    Example:
        >>> tag_set = TagSet(("O", "B-LOC", "I-LOC"), "bio")
        >>> entities_of(tag_set, torch.tensor([0, 1, 2]), ["in", "New", "York"])
        [{'type': 'LOC', 'text': 'New York', 'start': 3, 'end': 11}]
    """
    spans = tag_set.spans(tags.to(torch.int64), torch.tensor([len(tags)]), strict=strict).tolist()
    if words is None:
        return [{"type": tag_set.types[kind], "start": first, "end": end} for first, end, kind in spans]
    starts, place = [], 0
    for word in words:
        starts.append(place)
        place += len(word) + 1
    text = " ".join(words)
    found = []
    for first, end, kind in spans:
        begin, stop = starts[first], starts[end - 1] + len(words[end - 1])
        found.append({"type": tag_set.types[kind], "text": text[begin:stop], "start": begin, "end": stop})
    return found


# --- inside ----------------------------------------------------------------------------------------------------------


def _tags(spec: DataSpec) -> tuple[str, ...]:
    column = spec.columns.get("tags")
    tags = (column.classes or ()) if column is not None else ()
    if len(tags) < 2:
        raise DataError(
            f"The data has {f'only the tag {tags[0]!r}' if tags else 'no tags'}; it has the columns {', '.join(spec.columns)}.",
            where="column 'tags'",
            accepts="sentences of words with a tag each, of two or more different tags",
            mend="give CoNLL columns or CoNLL-U; `lamina data` shows what was understood",
        )
    return tags


def _tag_set(tags: tuple[str, ...], scheme: str) -> TagSet | None:
    if scheme == "none":
        return None
    found = detect_scheme(tags)
    if scheme == "auto":
        return None if found is None else TagSet(tags, found)
    # BIO and IOB1 have the same letters, and only the user may know which it is.
    alike = ("bio", "iob1") if scheme in ("bio", "iob1") else (scheme,)
    if found not in alike:
        counts = Counter(tag[0] for tag in tags)
        letters = ", ".join(sorted(counts))
        raise ConfigError(
            f"The tags are not of the scheme {scheme}: they are {', '.join(tags[:12])}.",
            where="task.scheme",
            accepts=f"{found or 'none'}, by their first letters {letters}",
            mend=f"task.scheme={found or 'none'}, or leave it out",
        )
    assert scheme in ("bio", "iob1", "bioes", "io", "ioe")
    return TagSet(tags, scheme)  # type: ignore[arg-type]


def _targets(batch: Batch) -> Tensor:
    """The tags at the places of the tokens, (B, T): rows may have been cut to fewer tokens, or filled up to one."""
    tags, width = batch["tags"], batch["input_ids"].shape[1]
    if tags.shape[1] >= width:
        return tags[:, :width]
    return nn.functional.pad(tags, (0, width - tags.shape[1]))


def _wide(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


def _tagged(batch: Batch) -> Tensor:
    """Bool (B, T), tokens that have a tag: all but the one that stands for a row without words."""
    mask = batch["attention_mask"]
    lengths = batch.get(f"tags{LENGTH}")
    if lengths is None:
        return mask
    return mask & (torch.arange(mask.shape[1], device=mask.device) < lengths.unsqueeze(1))


def _log_likelihood(crf: CRF | None, logits: Tensor, batch: Batch) -> Tensor:
    """Of the true tags of each row, (B,)."""
    mask, targets = _tagged(batch), _targets(batch)
    if crf is not None:
        return crf.log_likelihood(logits, targets, mask)
    found = _wide(logits).log_softmax(dim=2).gather(2, targets.unsqueeze(2)).squeeze(2)
    return (found * mask).sum(dim=1)


def _on(allowed: Allowed | None, device: torch.device) -> Allowed | None:
    return None if allowed is None else Allowed(*(tensor.to(device) for tensor in allowed))


def _num_words(columns: RaggedColumns) -> Tensor | None:
    """Words of each row, int64 (N,): one more than line ends, none in an empty text; None without text."""
    text = columns.ragged.get("text")
    if text is None:
        return None
    before = torch.cat([torch.zeros(1, dtype=torch.int64), (text.values == _LINE_END).cumsum(0)])
    return before[text.offsets[1:]] - before[text.offsets[:-1]] + (text.lengths > 0)
