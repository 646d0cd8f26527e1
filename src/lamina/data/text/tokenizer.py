"""Tokenizers: text -> numbers and back, learned on the training split and frozen into the bundle.

The work is done by the `tokenizers` library (Rust, several threads): normalisation, splitting, and the models word level, BPE
(Sennrich, Haddow, Birch 2016, arXiv:1508.07909, on bytes), WordPiece (Schuster, Nakajima 2012) and unigram (Kudo 2018, arXiv:1804.10959).
What is saved is the vocabulary; everything else is built anew from the Config, so that a stranger's `tokenizer.json` can name no pattern
of its own.

Numbers: 0 is padding, 1 an unknown word, 2 the end of a row, and then the vocabulary.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import torch

from lamina.core.config import Config, Field
from lamina.core.errors import BundleError, ConfigError, DataError, MissingExtraError
from lamina.data.ragged import Ragged
from lamina.data.text.words import WordNumbers, count_words, encode_words, is_plain, most_frequent

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Inner

__all__ = ["END", "PAD", "SPECIAL", "UNKNOWN", "Tokenizer", "TokenizerConfig"]

PAD: Final = 0
UNKNOWN: Final = 1
END: Final = 2
SPECIAL: Final = ("<pad>", "<unk>", "<eos>")
_BERT: Final = ("[PAD]", "[UNK]", "[SEP]", "[CLS]", "[MASK]")
_CHUNK: Final = 4096  # texts handed to the library at a time
_MEND: Final = "save the bundle again; this one was changed or cut"


class TokenizerConfig(Config):
    """How text is normalised and cut into tokens."""

    kind: Literal["word", "character", "bpe", "wordpiece", "unigram"] = Field(
        "word", description="What a token is: a word, a character, or a piece of a word of the kind that is named."
    )
    vocab_size: int = Field(
        30_000, description="Most tokens in the vocabulary, special ones included.", ge=8, le=5_000_000
    )
    min_count: int = Field(1, description="Occurrences in the training split below which a word is unknown.", ge=1)
    lowercase: bool = Field(False, description="Make all letters small.")
    strip_accents: bool = Field(False, description="Take accents off: é becomes e.")
    remove_markup: bool = Field(False, description="Replace HTML tags such as <br /> by a space.")
    unicode: Literal["none", "nfc", "nfkc"] = Field(
        "nfc", description="Unicode normal form, so that one letter is one code."
    )
    split: Literal["whitespace", "punctuation", "lines"] = Field(
        "punctuation",
        description="Where words end: at white space; also at punctuation marks, which are words of their own; or at line ends only.",
    )
    split_chinese: bool = Field(True, description="With split=punctuation: each Chinese character is a word.")
    max_length: int | None = Field(None, description="Tokens of a row that are kept; None: all.", ge=1)
    truncate: Literal["end", "begin"] = Field("end", description="Which side of a longer row is cut off.")
    ending: str = Field(
        "", description="Text put behind every row: a line end, for models of characters.", max_length=8
    )
    end: bool = Field(False, description="Put <eos> behind every row.")
    characters: int = Field(
        0, description="Also give the first so many characters of every word; 0: none.", ge=0, le=64
    )


class Tokenizer:
    """A trained tokenizer; build it with `train` or `restore`.

    Attributes:
        config: How it works.
        vocab_size: Tokens, special ones included.
    """

    def __init__(self, config: TokenizerConfig, inner: Inner) -> None:
        self.config = config
        self._inner = inner
        self.vocab_size: int = inner.get_vocab_size()
        self._numbers: WordNumbers | None = None

    @classmethod
    def train(cls, config: TokenizerConfig, texts: Iterable[str]) -> Tokenizer:
        """Learn the vocabulary.

        Args:
            config: How.
            texts: Of the training split; walked through once.

        Raises:
            MissingExtraError: The library is not installed.
            ConfigError: The vocabulary is too small for the texts' characters.
            DataError: There is no text.
        """
        library = _library()
        texts = (f"{text}{config.ending}" for text in texts)
        special = list(_special(config))
        if config.kind == "wordpiece":
            texts = list(texts)
        inner = _outline(library, config, words={})
        trainer = _trainer(library, config, alphabet=_letters(inner, texts) if config.kind == "wordpiece" else ())
        inner.train_from_iterator(_chunked(texts), trainer=trainer)
        learned = _in_order(config, json.loads(inner.to_str())["model"])
        if len(learned["vocab"]) <= len(special):
            raise DataError(
                "The training split has no words to learn.",
                where=f"preprocess, tokenize: {config.kind}",
                accepts="texts with at least one word that occurs min_count times",
                mend="lower min_count, or check the text with `lamina data`",
            )
        inner = _outline(library, config, words=learned)
        inner.add_special_tokens(special)
        return cls(config, inner)

    @classmethod
    def of_words(cls, config: TokenizerConfig, texts: Sequence[Ragged]) -> Tokenizer:
        """The same as `train` for words divided by white space (`words.is_plain`), faster and with bounded memory."""
        counts = sum((count_words(one, config) for one in texts), Counter[str]())
        special = _special(config)
        vocabulary = most_frequent(counts, config, special)
        if len(vocabulary) <= len(special):
            raise _no_words(config)
        inner = _outline(_library(), config, words={"vocab": vocabulary})
        inner.add_special_tokens(list(special))
        return cls(config, inner)

    # --- text -> numbers ---

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of each text, cut and ended as the Config says; not padded."""
        options = self.config
        given = [f"{text}{options.ending}" for text in texts] if options.ending else list(texts)
        # The special tokens that stand in the text itself (`<unk>` in Penn Treebank) are found; none is added.
        rows = [found.ids for found in self._inner.encode_batch_fast(given, add_special_tokens=False)]
        if options.max_length is None and not options.end:
            return rows
        most = None if options.max_length is None else options.max_length - options.end
        tail = [END] * options.end
        if most is not None:
            cut = slice(0, most) if options.truncate == "end" else slice(-most, None) if most else slice(0, 0)
            rows = [row[cut] if len(row) > most else row for row in rows]
        return [row + tail for row in rows] if tail else rows

    def encode_ragged(self, texts: Ragged) -> Ragged:
        """Tokens of ragged UTF-8 texts: int32 values."""
        if is_plain(self.config):
            if self._numbers is None:
                self._numbers = WordNumbers(self._inner.get_vocab(), unknown=UNKNOWN)
            special = _special(self.config)
            return encode_words(texts, self._numbers, self.config, special=special, slowly=self.encode)
        values, lengths = [], []
        for start in range(0, len(texts), _CHUNK):
            rows = self.encode(texts.texts(range(start, min(start + _CHUNK, len(texts)))))
            lengths += [len(row) for row in rows]
            values.append(torch.tensor([token for row in rows for token in row], dtype=torch.int32))
        joined = torch.cat(values) if values else torch.empty(0, dtype=torch.int32)
        return Ragged.of_lengths(joined, torch.tensor(lengths, dtype=torch.int64))

    # --- numbers -> text ---

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of tokens; padding and ends are left out, unknown words shown as such."""
        kept = [token for token in tokens if token not in (PAD, END)]
        if self.config.kind == "character":
            return "".join(self.tokens(kept))
        if self.config.kind == "word":
            return ("\n" if self.config.split == "lines" else " ").join(self.tokens(kept))
        return str(self._inner.decode(kept, skip_special_tokens=False))

    def tokens(self, numbers: Iterable[int]) -> list[str]:
        """The vocabulary's entry of each number.

        Raises:
            DataError: A number is outside the vocabulary.
        """
        found = []
        for number in numbers:
            token = self._inner.id_to_token(int(number)) if 0 <= int(number) < self.vocab_size else None
            if token is None:
                raise DataError(
                    f"There is no token {int(number)}.",
                    where="tokens",
                    accepts=f"0 to {self.vocab_size - 1}",
                    mend="give numbers that this tokenizer made",
                )
            found.append(token)
        return found

    def number(self, token: str) -> int | None:
        """The number of a vocabulary entry; None where there is none. The text is normalised first."""
        found = self._inner.token_to_id(token)
        if found is None and self._inner.normalizer is not None:
            found = self._inner.token_to_id(self._inner.normalizer.normalize_str(token))
        return None if found is None else int(found)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """All entries in the order of their numbers."""
        return tuple(self.tokens(range(self.vocab_size)))

    # --- to and from a bundle ---

    def document(self) -> dict[str, Any]:
        """The JSON form, readable by the `tokenizers` library too."""
        return dict(json.loads(self._inner.to_str()))

    @classmethod
    def restore(
        cls, config: TokenizerConfig, document: Mapping[str, Any], *, where: str = "tokenizer.json"
    ) -> Tokenizer:
        """The inverse of `document`: only the vocabulary is taken from it, everything else must be what the Config builds.

        Raises:
            BundleError: The document is no tokenizer of this Config.
        """
        model = document.get("model")
        vocabulary = model.get("vocab") if isinstance(model, Mapping) else None
        if not isinstance(model, Mapping) or not isinstance(vocabulary, dict | list):
            raise _damaged("It has no vocabulary.", where)
        try:
            inner = _outline(_library(), config, words=model)
            for token in _special(config):
                if inner.token_to_id(token) is None:
                    raise _damaged(f"It has no token {token!r}.", where)
            inner.add_special_tokens(list(_special(config)))
            found = cls(config, inner)
            numbers = sorted(inner.get_vocab().values())
        except BundleError:
            raise
        except MissingExtraError:
            raise
        except Exception as error:  # the library raises plain Exception, whatever it dislikes
            raise _damaged(f"It cannot be built: {str(error)[:200]}.", where) from None
        if numbers != list(range(len(numbers))):
            raise _damaged("Its numbers have gaps or stand for several tokens.", where)
        if found.document() != dict(document):
            raise _damaged("It does not do what preprocessing.json says.", where)
        return found


def _no_words(config: TokenizerConfig) -> DataError:
    return DataError(
        "The training split has no words to learn.",
        where=f"preprocess, tokenize: {config.kind}",
        accepts="texts with at least one word that occurs min_count times",
        mend="lower min_count, or check the text with `lamina data`",
    )


def _damaged(what: str, where: str) -> BundleError:
    return BundleError(what, where=where, accepts="the tokenizer as `save` writes it", mend=_MEND)


def _library() -> Any:
    try:
        import tokenizers  # noqa: PLC0415 (of the extra `text`)
    except ModuleNotFoundError:
        raise MissingExtraError(
            "Text is cut into tokens by the library `tokenizers`, which is not installed.",
            where="preprocess, tokenize",
            accepts="tokenizers 0.21 or newer",
            mend="pip install 'lamina[text]'",
        ) from None
    return tokenizers


def _special(config: TokenizerConfig) -> tuple[str, ...]:
    """Special tokens in the order of their numbers; word pieces have the names that BERT gave them."""
    return _BERT if config.kind == "wordpiece" else SPECIAL


def _chunked(texts: Iterable[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    for text in texts:
        chunk.append(text)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _outline(library: Any, config: TokenizerConfig, *, words: Mapping[str, Any]) -> Inner:
    """The tokenizer that a Config describes.

    Args:
        words: The model part of a saved document; empty: nothing is known yet.
    """
    unknown = _special(config)[UNKNOWN]
    models = library.models
    vocabulary = words.get("vocab")
    if config.kind in ("word", "character"):
        model = models.WordLevel(vocabulary or {unknown: UNKNOWN}, unk_token=unknown)
    elif config.kind == "bpe":
        pairs = [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in words.get("merges", ())]
        model = models.BPE(vocabulary, pairs) if vocabulary else models.BPE()
    elif config.kind == "wordpiece":
        model = models.WordPiece(vocabulary or {unknown: UNKNOWN}, unk_token=unknown)
    else:
        model = models.Unigram([tuple(pair) for pair in vocabulary], UNKNOWN) if vocabulary else models.Unigram()
    inner = library.Tokenizer(model)
    normalizer = _normalizer(library, config)
    if normalizer is not None:
        inner.normalizer = normalizer
    inner.pre_tokenizer = _splitter(library, config)
    decoder = {"bpe": "ByteLevel", "wordpiece": "WordPiece", "unigram": "Metaspace"}.get(config.kind)
    if decoder is not None:
        inner.decoder = getattr(library.decoders, decoder)()
    found: Inner = inner
    return found


def _trainer(library: Any, config: TokenizerConfig, *, alphabet: Sequence[str]) -> Any:
    """What learns a vocabulary of this kind."""
    trainers, special = library.trainers, list(_special(config))
    common: dict[str, Any] = {"vocab_size": config.vocab_size, "special_tokens": special, "show_progress": False}
    if config.kind in ("word", "character"):
        # A few more than wanted: the special tokens may stand in the text too (`<unk>` in Penn Treebank).
        common["vocab_size"] += len(special)
        return trainers.WordLevelTrainer(min_frequency=config.min_count, **common)
    if config.kind == "bpe":
        letters = sorted(library.pre_tokenizers.ByteLevel.alphabet())
        return trainers.BpeTrainer(min_frequency=config.min_count, initial_alphabet=letters, **common)
    if config.kind == "wordpiece":
        # The library numbers letters inside words as it meets them, in an order that changes from run to run; numbered
        # beforehand, ties between merges fall the same way each time.
        common["special_tokens"] = [*special, *(f"##{letter}" for letter in alphabet)]
        return trainers.WordPieceTrainer(min_frequency=config.min_count, initial_alphabet=list(alphabet), **common)
    return trainers.UnigramTrainer(unk_token=special[UNKNOWN], **common)


def _letters(inner: Inner, texts: Iterable[str]) -> list[str]:
    """Every letter of the normalised texts, in the order of their codes."""
    normalise = inner.normalizer.normalize_str if inner.normalizer is not None else str
    found: set[str] = set()
    for text in texts:
        found |= set(normalise(text))
    return sorted(letter for letter in found if not letter.isspace())


def _in_order(config: TokenizerConfig, model: Mapping[str, Any]) -> dict[str, Any]:
    """A learned model with the special tokens first, each entry once, and ties in an order that is always the same."""
    special, vocabulary = _special(config), model["vocab"]
    if config.kind == "unigram":
        # Sums over words in an order that changes: the last digits of the scores are chance.
        rest = [(piece, round(score, 6)) for piece, score in vocabulary if piece not in special]
        rest.sort(key=lambda entry: (-entry[1], entry[0]))
        return {**model, "vocab": [*((token, 0.0) for token in special), *rest]}
    if config.kind == "bpe":
        return dict(model)
    words = [word for word in sorted(vocabulary, key=vocabulary.__getitem__) if word not in special]
    words = words[: max(0, config.vocab_size - len(special))] if config.kind != "wordpiece" else words
    return {**model, "vocab": {word: number for number, word in enumerate((*special, *words))}}


def _normalizer(library: Any, config: TokenizerConfig) -> Any:
    normalizers, steps = library.normalizers, []
    if config.remove_markup:
        steps.append(normalizers.Replace(library.Regex("<[^<>]{1,200}>"), " "))
    if config.strip_accents:
        steps += [normalizers.NFD(), normalizers.StripAccents()]
    if config.unicode != "none":
        steps.append({"nfc": normalizers.NFC, "nfkc": normalizers.NFKC}[config.unicode]())
    if config.lowercase:
        steps.append(normalizers.Lowercase())
    return normalizers.Sequence(steps) if steps else None


def _splitter(library: Any, config: TokenizerConfig) -> Any:
    split = library.pre_tokenizers
    if config.kind == "character":
        return split.Split(library.Regex(r"[\s\S]"), "isolated")
    if config.kind == "bpe":
        return split.ByteLevel(add_prefix_space=False)
    if config.kind == "unigram":
        return split.Metaspace()
    if config.split == "lines":
        return split.CharDelimiterSplit("\n")
    if config.split == "whitespace":
        return split.WhitespaceSplit()
    if config.kind == "wordpiece" or config.split_chinese:
        # White space, every punctuation mark by itself, and (by the pattern) every Chinese character.
        chinese = library.Regex("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002ebef]")
        return split.Sequence([split.Split(chinese, "isolated"), split.BertPreTokenizer()])
    return split.BertPreTokenizer()


def refuse_small(config: TokenizerConfig, texts: Ragged) -> None:
    """Refuse a vocabulary that could not hold the special tokens and one letter."""
    if config.vocab_size <= len(_special(config)) and len(texts):
        raise ConfigError(
            f"vocab_size is {config.vocab_size}; the special tokens alone are {len(_special(config))}.",
            where="preprocess, tokenize, vocab_size",
            accepts=f"{len(_special(config)) + 1} or more",
            mend="raise vocab_size",
        )
