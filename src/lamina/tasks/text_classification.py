"""Texts, or pairs of texts, of one class each.

Source: the task `text-classification` of the model hubs; Kim (2014), arXiv:1408.5882; of pairs Bowman, Angeli, Potts, Manning (2015), arXiv:1508.05326.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn

from lamina.core.errors import DataError
from lamina.core.registry import register
from lamina.data.batching import BucketFeed, Feed
from lamina.data.columns import Columns, DataSpec
from lamina.data.ragged import RaggedColumns
from lamina.tasks.classification import Classification, ClassificationConfig
from lamina.tasks.inputs import TOKENS, check_vocabulary


@register(
    "task",
    "text-classification",
    config=ClassificationConfig,
    source="Kim (2014), arXiv:1408.5882; of pairs Bowman et al. (2015), arXiv:1508.05326",
    example="lamina train sst2-cnn --data FOLDER",
    input="text",
)
class TextClassification(Classification):
    """One of several classes per text, or per pair of texts.

    The model is given `input_ids` and, where its forward pass takes them, `attention_mask` and `token_type_ids`. Batches hold
    texts of like lengths, so that little of them is padding.
    """

    name: ClassVar[str] = "text-classification"

    def check(self, spec: DataSpec, model: nn.Module) -> None:
        """Refuse data without texts, and a model that does not fit the vocabulary or the classes."""
        if TOKENS not in spec.columns:
            has_text = "text" in spec.columns
            raise DataError(
                "The texts were not made tokens."
                if has_text
                else f"The data has no texts; it has {', '.join(spec.columns) or 'nothing'}.",
                where=f"task {self.name}",
                accepts="texts, one per row",
                mend="begin preprocess with {name: tokenize}"
                if has_text
                else "say which column holds the text, or look at what was read with `lamina data`",
            )
        check_vocabulary(model, spec, where=f"{self.name}, model and tokenizer")
        super().check(spec, model)

    def feed(self, columns: Columns, *, batch_size: int, seed: int, training: bool, **options: Any) -> Feed:
        """Texts of like lengths together in training, rows in order in judging."""
        if not training or not isinstance(columns, RaggedColumns) or "tokens" not in columns.ragged:
            return super().feed(columns, batch_size=batch_size, seed=seed, training=training, **options)
        lengths = columns.ragged["tokens"].lengths
        return BucketFeed(columns, lengths=lengths, batch_size=batch_size, seed=seed, **options)
