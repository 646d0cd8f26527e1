"""Tagger: words and their characters, a bidirectional LSTM, and a conditional random field over the tags.

Paper: Lample, Ballesteros, Subramanian, Kawakami, Dyer (2016), "Neural Architectures for Named Entity Recognition", arXiv:1603.01360; Ma, Hovy (2016), "End-to-end Sequence Labeling via Bi-directional LSTM-CNNs-CRF", arXiv:1603.01354.
Reported: CoNLL-2003 English entity F1 90.94 (Lample et al., table 1) and 91.21 (Ma and Hovy, table 5), both with word vectors learned elsewhere; Ma and Hovy, Penn Treebank tags 97.55 accuracy (table 4).
Differs from the paper: word vectors are learned from the task's own data; unknown words are learned by dropping words at random instead of replacing those that occur once; sizes mix the two: 200 units in each direction as Ma and Hovy have (Lample et al.: 100), 50 numbers from the characters as Lample et al. (Ma and Hovy: 30).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from lamina.core.config import Config, Field
from lamina.core.errors import ConfigError, DtypeError, ShapeError
from lamina.core.registry import register
from lamina.nn.crf import CRF
from lamina.nn.dropout import Dropout
from lamina.nn.embedding import Embedding
from lamina.nn.initialisers import initialise
from lamina.nn.inputs import check_tokens
from lamina.nn.recurrent import Recurrent

_SOURCE = "Lample et al. (2016), arXiv:1603.01360; Ma, Hovy (2016), arXiv:1603.01354"
_TINY: dict[str, Any] = {"vocab_size": 50, "embedding_size": 8, "hidden_size": 6, "num_classes": 5}
_UNKNOWN = 1  # the number of words outside the vocabulary


class BiLSTMCRFConfig(Config):
    """What a tagger is built for, and of which size."""

    vocab_size: int = Field(10_000, description="Words, padding (0) and unknown words (1) included.", ge=2)
    char_vocab_size: int | None = Field(
        None, description="Characters, padding (0) included; nothing: words alone are read.", ge=2
    )
    num_classes: int = Field(9, description="Tags.", ge=1)
    embedding_size: int = Field(100, description="Numbers of a word's vector.", ge=1)
    characters: Literal["cnn", "lstm"] = Field(
        "cnn", description="What reads the characters of a word: convolutions and the maximum, or a bidirectional LSTM."
    )
    char_embedding_size: int = Field(30, description="Numbers of a character's vector.", ge=1)
    char_hidden_size: int = Field(50, description="Numbers that characters give to a word's vector.", ge=2)
    hidden_size: int = Field(200, description="Units of the LSTM in each direction.", ge=1)
    num_layers: int = Field(1, description="Layers of the LSTM.", ge=1)
    dropout: float = Field(0.5, description="Dropout of the words' vectors and of the LSTM's outputs.", ge=0, lt=1)
    word_dropout: float = Field(
        0.05,
        description="Share of words taken for unknown in training, so that those have learned something.",
        ge=0,
        lt=1,
    )
    crf: bool = Field(True, description="Sequences of tags by a conditional random field; else one softmax per word.")
    initialiser: str = Field(
        "xavier-uniform", description="Name of the initialiser of linear layers and convolutions; biases are zero."
    )


class BiLSTMConfig(BiLSTMCRFConfig):
    """The same without a conditional random field."""

    crf: bool = Field(False, description="Sequences of tags by a conditional random field; else one softmax per word.")


class BiLSTMCRF(nn.Module):
    """Vectors of words and of their characters, a bidirectional LSTM, and a score per tag; `crf` scores the sequences.

    Padding (behind the words of a row) changes nothing: the backward direction begins at the last word.

    Source: Lample et al. (2016), arXiv:1603.01360, section 2; Ma, Hovy (2016), arXiv:1603.01354, section 2.

    Attributes:
        crf: The conditional random field, None without one. The forward pass gives its emissions.
        hidden_size: Numbers per word before the head.
    """

    def __init__(
        self,
        *,
        vocab_size: int = 10_000,
        char_vocab_size: int | None = None,
        num_classes: int = 9,
        embedding_size: int = 100,
        characters: Literal["cnn", "lstm"] = "cnn",
        char_embedding_size: int = 30,
        char_hidden_size: int = 50,
        hidden_size: int = 200,
        num_layers: int = 1,
        dropout: float = 0.5,
        word_dropout: float = 0.05,
        crf: bool = True,
        initialiser: str = "xavier-uniform",
    ) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.num_classes = num_classes
        self.embedding = Embedding(vocab_size, embedding_size)
        self.word_dropout = Dropout(word_dropout)
        self.characters: CharacterCNN | CharacterLSTM | None = None
        width = embedding_size
        if char_vocab_size is not None:
            kind = CharacterCNN if characters == "cnn" else CharacterLSTM
            self.characters = kind(char_vocab_size, char_embedding_size, char_hidden_size)
            width += char_hidden_size
        self.dropout_in = Dropout(dropout)
        self.lstm = Recurrent(
            "lstm",
            input_size=width,
            hidden_size=hidden_size,
            num_layers=num_layers,
            bidirectional=True,
            dropout=dropout,
        )
        self.dropout_out = Dropout(dropout)
        self.hidden_size = 2 * hidden_size
        self.head = nn.Linear(self.hidden_size, num_classes)
        self.crf = CRF(num_classes) if crf else None
        initialise(self, initialiser, generator=torch.default_generator)

    @property
    def stages(self) -> dict[str, tuple[str, ...]]:
        """Stage name -> prefixes of its parameters, from the words to `head`."""
        letters = ("characters.",) if self.characters is not None else ()
        head = ("head.", "crf.") if self.crf is not None else ("head.",)
        return {"embedding": ("embedding.", *letters), "lstm": ("lstm.",), "head": head}

    def example_inputs(self) -> Tensor:
        """A sentence of five words without values, int64 (1, 5)."""
        return torch.empty(1, 5, dtype=torch.int64, device="meta")

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, char_ids: Tensor | None = None
    ) -> Tensor:
        """Scores of tags.

        Args:
            input_ids: int64 (B, T).
            attention_mask: Bool (B, T), True at real words, which come first; default: everywhere.
            char_ids: int64 (B, T, W), 0 behind a word's characters; where the model reads characters.

        Returns:
            Logits (B, T, num_classes), the emissions of `crf` where there is one; anything in the padding.
        """
        x = self.features(input_ids, attention_mask, char_ids=char_ids)
        kind = x.device.type if x.device.type in ("cpu", "cuda") else "cpu"
        if not torch.is_autocast_enabled(kind):
            return self.head(x)  # type: ignore[no-any-return]
        # The scores of a sequence are summed: rounded to bf16, each of them would be off by up to a two hundred and fiftieth.
        with torch.autocast(kind, enabled=False):
            return self.head(x.float())  # type: ignore[no-any-return]

    def features(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        *,
        char_ids: Tensor | None = None,
    ) -> Tensor:
        """Hidden states (B, T, hidden_size); arguments as of `forward`, `token_type_ids` is not read."""
        check_tokens(self, input_ids, attention_mask)
        if self.training and self.word_dropout.p > 0:
            kept = self.word_dropout(torch.ones(input_ids.shape, device=input_ids.device)) > 0
            input_ids = input_ids.where(kept, _UNKNOWN)
        x = self.embedding(input_ids)  # (B, T, E)
        if self.characters is not None:
            letters = self.characters(self._checked_characters(char_ids, input_ids))
            x = torch.cat([x, letters.to(x.dtype)], dim=2)  # (B, T, E + C)
        x, _ = self.lstm(self.dropout_in(x), mask=attention_mask, need_state=False)  # (B, T, 2 H)
        return self.dropout_out(x)  # type: ignore[no-any-return]

    def _checked_characters(self, char_ids: Tensor | None, input_ids: Tensor) -> Tensor:
        name = type(self).__name__
        if char_ids is None:
            raise ConfigError(
                f"{name} reads characters and got none.",
                where=f"{name}.forward, argument `char_ids`",
                accepts="int64 tensor (batch, words, characters)",
                mend="give char_ids, or build with char_vocab_size=None for words alone",
            )
        if char_ids.ndim != 3 or char_ids.shape[:2] != input_ids.shape:
            raise ShapeError(
                f"{name} got characters shaped {tuple(char_ids.shape)} for words shaped {tuple(input_ids.shape)}.",
                where=f"{name}.forward, argument `char_ids`",
                accepts="int64 tensor (batch, words, characters)",
                mend="give a row of characters per word",
            )
        if char_ids.dtype not in (torch.int64, torch.int32):
            raise DtypeError(
                f"{name} got characters of {str(char_ids.dtype).removeprefix('torch.')}.",
                where=f"{name}.forward, argument `char_ids`",
                accepts="int64 tensor (batch, words, characters)",
                mend="char_ids.long()",
            )
        return char_ids


class CharacterCNN(nn.Module):
    """A vector per word from its characters: convolutions of three and the maximum over the word.

    Source: Ma, Hovy (2016), arXiv:1603.01354, section 2.1; dos Santos, Zadrozny (2014), "Learning Character-level Representations for Part-of-Speech Tagging".

    Shapes: int64 (B, T, W) -> (B, T, hidden_size); zeros where a word has no characters.
    """

    def __init__(self, vocab_size: int, embedding_size: int, hidden_size: int) -> None:
        super().__init__()
        self.embedding = Embedding(vocab_size, embedding_size, std=0.3)
        # Borders of the word are where the convolution meets zeros: beginnings and endings are known as such.
        self.convolution = nn.Conv1d(embedding_size, hidden_size, 3, padding=1)

    def forward(self, char_ids: Tensor) -> Tensor:
        """(B, T, W) -> (B, T, hidden_size)."""
        batch, length, width = char_ids.shape
        flat = char_ids.reshape(batch * length, width)
        real = (flat != 0).unsqueeze(2)
        x = self.embedding(flat) * real  # (B T, W, E)
        x = self.convolution(x.transpose(1, 2)).transpose(1, 2)  # (B T, W, H)
        # Rectified, so that places behind the word, set to zero, never are the maximum.
        largest: Tensor = (x.relu() * real).amax(dim=1)
        return largest.view(batch, length, -1)


class CharacterLSTM(nn.Module):
    """A vector per word from its characters: both ends of a bidirectional LSTM.

    Source: Lample et al. (2016), arXiv:1603.01360, section 4.1.

    Shapes: int64 (B, T, W) -> (B, T, hidden_size), half of it from each direction; zeros where a word has no characters.
    """

    def __init__(self, vocab_size: int, embedding_size: int, hidden_size: int) -> None:
        super().__init__()
        self.embedding = Embedding(vocab_size, embedding_size, std=0.3)
        self.lstm = Recurrent("lstm", input_size=embedding_size, hidden_size=(hidden_size + 1) // 2, bidirectional=True)
        self.hidden_size = hidden_size

    def forward(self, char_ids: Tensor) -> Tensor:
        """(B, T, W) -> (B, T, hidden_size)."""
        batch, length, width = char_ids.shape
        flat = char_ids.reshape(batch * length, width)
        mask = flat != 0
        _, state = self.lstm(self.embedding(flat), mask=mask)
        ends: Tensor = state["hidden"].flatten(1)[:, : self.hidden_size]  # (B T, 2, H / 2) -> (B T, H)
        return ends.reshape(batch, length, -1)


@register(
    "model",
    "bilstm_crf",
    config=BiLSTMCRFConfig,
    source=_SOURCE,
    example="lamina train conll2000-bilstm-crf --data PATH",
    input="input_ids",
    tiny=_TINY,
)
def bilstm_crf(**fields: Any) -> BiLSTMCRF:
    """Words and characters, a bidirectional LSTM and a conditional random field: a tag for every word.

    Source: Lample et al. (2016), arXiv:1603.01360; Ma, Hovy (2016), arXiv:1603.01354.
    """
    return BiLSTMCRF(**fields)


@register(
    "model",
    "bilstm",
    config=BiLSTMConfig,
    source="Ling et al. (2015), arXiv:1508.02096; Plank, Søgaard, Goldberg (2016), arXiv:1604.05529",
    example="lamina train ud-pos-bilstm --data PATH",
    input="input_ids",
    tiny=_TINY,
)
def bilstm(**fields: Any) -> BiLSTMCRF:
    """Words and characters, a bidirectional LSTM and one softmax per word: for tags that hardly depend on each other.

    Source: Ling et al. (2015), arXiv:1508.02096; Plank, Søgaard, Goldberg (2016), arXiv:1604.05529.
    """
    return BiLSTMCRF(**fields)
