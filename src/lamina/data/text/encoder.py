"""What happens to text before a model reads it: tokens once per row, then padded batches with masks.

Tokens are made once for a whole split (`encode`), because every epoch would make the same ones; a batch of raw text, as
`predict` has it, is tokenized on the way (`batch`), to the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor

from lamina.core.errors import BundleError, ConfigError, DataError, ShapeError
from lamina.core.registry import register
from lamina.data.columns import Columns, ColumnSpec, DataSpec
from lamina.data.ragged import LENGTH, Ragged, RaggedColumns, texts_of
from lamina.data.text.tokenizer import END, UNKNOWN, Tokenizer, TokenizerConfig, refuse_small

__all__ = ["MADE", "TEXTS", "EncodedColumns", "TextEncoder", "mask_of"]

TEXTS: Final = ("text", "text_pair")
_CHARACTERS: Final = "characters"  # name of the tensor that holds the characters' codes
MADE: Final = ("tokens", "types", "chars")  # ragged columns that stand in place of the texts


class EncodedColumns(RaggedColumns):
    """Rows whose texts were made tokens. `raw` gives the columns as they were read."""

    def __init__(self, raw: RaggedColumns, *, made: Mapping[str, Ragged]) -> None:
        kept = {name: rows for name, rows in raw.ragged.items() if name not in TEXTS}
        super().__init__(raw.fixed, ragged={**kept, **made}, origin=raw.origin)
        self._raw = raw
        self._made = dict(made)

    @property
    def raw(self) -> Columns:
        """The columns with their texts."""
        return self._raw

    def take(self, rows: Tensor) -> EncodedColumns:
        """The chosen rows (int64 indices), copied, in the given order."""
        return EncodedColumns(self._raw.take(rows), made={name: made.take(rows) for name, made in self._made.items()})


@register(
    "preprocessing",
    "tokenize",
    config=TokenizerConfig,
    source="Sennrich, Haddow, Birch (2016), arXiv:1508.07909 (BPE); Schuster, Nakajima (2012), doi:10.1109/ICASSP.2012.6289079 "
    "(WordPiece); Kudo (2018), arXiv:1804.10959 (unigram)",
    example="lamina train sst2-lstm --data PATH 'preprocess=[{name: tokenize, kind: bpe, vocab_size: 8000}]'",
)
class TextEncoder:
    """Cut texts into tokens: words, characters, BPE, WordPiece or unigram, with a vocabulary learned on the training split.

    Build it with `fit` or `restore`.

    Attributes:
        config: Options of the tokenizer; of data whose texts are lists of words, `split` is `lines`.
        tokenizer: As learned on the training split.
        alphabet: int64, codes of the characters known, in order; number 2 is the first (with `characters`).
    """

    name: Final = "tokenize"
    Config: Final = TokenizerConfig

    def __init__(self, config: TokenizerConfig, tokenizer: Tokenizer, alphabet: Tensor, spec: DataSpec) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self.alphabet = alphabet
        self._pairs = "text_pair" in spec.columns
        # In running text an empty line is nothing; elsewhere a row needs one token at least.
        self._fills = not spec.ordered

    @classmethod
    def fit(
        cls,
        config: TokenizerConfig,
        columns: Columns,
        spec: DataSpec,
        *,
        known: Mapping[str, Any] | None = None,
    ) -> TextEncoder:
        """Learn the vocabulary from the training split.

        Args:
            known: A tokenizer's document to use instead.

        Raises:
            BundleError: `known` is damaged.
            ConfigError: The options do not fit the data.
            DataError: There are no words.
        """
        config = _fitting(config, spec)
        if not isinstance(columns, RaggedColumns):
            raise DataError(
                "The texts are not ragged columns.",
                where="preprocess, tokenize",
                accepts="rows that a reader of text made",
                mend="give RaggedColumns(…, ragged={'text': Ragged.of_texts([…])})",
            )
        names = [name for name in TEXTS if name in columns.ragged]
        refuse_small(config, columns.ragged[names[0]])
        texts = (text for name in names for text in columns.ragged[name].texts())
        tokenizer = Tokenizer.train(config, texts) if known is None else Tokenizer.restore(config, known)
        alphabet = torch.empty(0, dtype=torch.int64)
        if config.characters:
            codes = {ord(letter) for text in columns.ragged[names[0]].texts() for letter in set(text) - {"\n"}}
            alphabet = torch.tensor(sorted(codes), dtype=torch.int64)
        return cls(config, tokenizer, alphabet, spec)

    # --- what comes out ---

    def output(self, spec: DataSpec) -> dict[str, ColumnSpec]:
        """The columns that stand in place of the texts."""
        vocab_size = self.tokenizer.vocab_size
        made = {"input_ids": ColumnSpec(role="tokens", dtype="int64", shape=(-1,), vocab_size=vocab_size)}
        if self.config.characters:
            size = len(self.alphabet) + 2
            shape = (-1, self.config.characters)
            made["char_ids"] = ColumnSpec(role="tokens", dtype="int64", shape=shape, vocab_size=size)
        return made

    def encode(self, columns: Columns) -> Columns:
        """Tokens in place of texts, once for all rows; columns without raw text are given back as they are."""
        if not isinstance(columns, RaggedColumns) or "text" not in columns.ragged:
            return columns
        return EncodedColumns(columns, made=self._made(columns.ragged))

    def batch(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tokens and masks of a gathered batch, encoded or raw.

        Returns:
            The batch with `input_ids` int64 (B, T), `attention_mask` bool (B, T), for pairs `token_type_ids` int64 (B, T), with
            characters `char_ids` int64 (B, T, characters), in place of text or tokens.

        Raises:
            ShapeError: There is neither text nor tokens.
        """
        device = next(iter(batch.values())).device
        given = dict(batch)
        if "tokens" not in given:
            texts = self._texts_of(given)
            rows = torch.arange(len(texts["text"]))
            for name, ragged in self._made(texts).items():
                given[name] = ragged.padded(rows).to(device)
                given[f"{name}{LENGTH}"] = ragged.lengths.to(device)
        left = {f"{name}{LENGTH}" for name in (*TEXTS, *MADE)} | {*TEXTS, *MADE}
        result = {name: tensor for name, tensor in given.items() if name not in left}
        result["input_ids"] = given["tokens"].long()
        result["attention_mask"] = mask_of(given[f"tokens{LENGTH}"], given["tokens"].shape[1])
        for made, name in (("types", "token_type_ids"), ("chars", "char_ids")):
            if made in given:
                result[name] = given[made].long()
        return result

    def count_unknown(self, columns: Columns) -> int:
        """How many tokens are unknown words."""
        encoded = self.encode(columns)
        assert isinstance(encoded, RaggedColumns)
        return int((encoded.ragged["tokens"].values == UNKNOWN).sum())

    # --- to and from a bundle ---

    def describe(self) -> dict[str, Any]:
        """The step as a recipe has it."""
        return {"name": self.name, **self.config.values()}

    def tensors(self) -> dict[str, Tensor]:
        """What is kept besides the tokenizer."""
        return {_CHARACTERS: self.alphabet} if self.config.characters else {}

    @classmethod
    def restore(
        cls,
        config: TokenizerConfig,
        document: Mapping[str, Any] | None,
        tensors: Mapping[str, Tensor],
        spec: DataSpec,
        *,
        where: str,
    ) -> TextEncoder:
        """The inverse of `describe`, `tensors` and the tokenizer's `document`.

        Raises:
            BundleError: A part is missing or damaged.
        """
        mend = "save the bundle again; this one was changed or cut"
        if document is None:
            raise BundleError(
                "There is no tokenizer for the step 'tokenize'.", where=where, accepts="a tokenizer.json", mend=mend
            )
        wanted = {_CHARACTERS} if config.characters else set()
        alphabet = tensors.get(_CHARACTERS, torch.empty(0, dtype=torch.int64))
        fits = alphabet.dtype == torch.int64 and alphabet.ndim == 1 and bool((alphabet.diff() > 0).all())
        if set(tensors) != wanted or not fits:
            raise BundleError(
                f"The step 'tokenize' has the tensors {sorted(tensors)}.",
                where=where,
                accepts=f"{_CHARACTERS}: int64, rising" if wanted else "no tensors",
                mend=mend,
            )
        config = _fitting(config, spec)
        return cls(config, Tokenizer.restore(config, document, where=where), alphabet, spec)

    # --- inside ---

    def _texts_of(self, batch: Mapping[str, Tensor]) -> dict[str, Ragged]:
        names = TEXTS if self._pairs else TEXTS[:1]
        for name in names:
            if name not in batch or f"{name}{LENGTH}" not in batch:
                raise ShapeError(
                    f"The batch has no column {name!r}; it has {', '.join(batch) or 'none'}.",
                    where="preprocessing",
                    accepts=f"a batch with {name!r} and {name}{LENGTH!r}, as in training",
                    mend="give texts: a list of str, or a file",
                )
        return {name: Ragged.of_texts(texts_of(batch[name], batch[f"{name}{LENGTH}"])) for name in names}

    def _made(self, texts: Mapping[str, Ragged]) -> dict[str, Ragged]:
        first = self.tokenizer.encode_ragged(texts["text"])
        if not self._pairs:
            made = {"tokens": self._filled(first)}
            if self.config.characters:
                made["chars"] = self._characters(texts["text"], made["tokens"].lengths)
            return made
        second = self.tokenizer.encode_ragged(texts["text_pair"])
        rows: list[Tensor] = []
        types: list[Tensor] = []
        end = torch.tensor([END], dtype=torch.int32)
        for number in range(len(first)):
            halves = [torch.cat([one.row(number), end]) for one in (first, second)]
            rows.append(torch.cat(halves))
            types.append(torch.repeat_interleave(torch.arange(2, dtype=torch.int8), torch.tensor([*map(len, halves)])))
        lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
        empty = torch.empty(0, dtype=torch.int32)
        return {
            "tokens": Ragged.of_lengths(torch.cat([empty, *rows]), lengths),
            "types": Ragged.of_lengths(torch.cat([empty.to(torch.int8), *types]), lengths),
        }

    def _filled(self, rows: Ragged) -> Ragged:
        """A row without any token becomes one unknown word."""
        lengths = rows.lengths
        if not self._fills or bool((lengths > 0).all()):
            return rows
        longer = lengths.clamp(min=1)
        values = torch.full((int(longer.sum()),), UNKNOWN, dtype=rows.values.dtype)
        values[torch.repeat_interleave(lengths > 0, longer)] = rows.values
        return Ragged.of_lengths(values, longer)

    def _characters(self, texts: Ragged, lengths: Tensor) -> Ragged:
        """The first characters of every word, padded with 0: int16 (words, characters)."""
        width = self.config.characters
        number = {code: place + 2 for place, code in enumerate(self.alphabet.tolist())}
        known: dict[str, list[int]] = {}
        rows: list[list[int]] = []
        for text, count in zip(texts.texts(), lengths.tolist(), strict=True):
            words = [word for word in text.split("\n") if word][:count]
            for word in words:
                if word not in known:
                    codes = [number.get(ord(letter), UNKNOWN) for letter in word[:width]]
                    known[word] = codes + [0] * (width - len(codes))
                rows.append(known[word])
            rows += [[UNKNOWN] + [0] * (width - 1)] * (count - len(words))
        values = torch.tensor(rows, dtype=torch.int16).view(-1, width)
        return Ragged.of_lengths(values, lengths)


def mask_of(lengths: Tensor, width: int) -> Tensor:
    """True where a padded batch (B, width) holds real positions; bool."""
    return torch.arange(width, device=lengths.device) < lengths.unsqueeze(1)


def _fitting(config: TokenizerConfig, spec: DataSpec) -> TokenizerConfig:
    """The options as this data needs them."""
    text = spec.columns["text"]
    if text.words:
        if config.kind != "word":
            raise ConfigError(
                f"Rows of words with a tag each are read word by word; kind is {config.kind!r}.",
                where="preprocess, tokenize, kind",
                accepts="word",
                mend="kind: word",
            )
        return config.model_copy(update={"split": "lines", "remove_markup": False})
    if config.characters:
        raise ConfigError(
            "Characters beside words are there for rows that are lists of words.",
            where="preprocess, tokenize, characters",
            accepts="0, for running text",
            mend="leave characters out; kind: character reads text letter by letter",
        )
    return config
