"""TextCNN: convolutions over the words of a text, and of each map its largest value.

Paper: Kim (2014), "Convolutional Neural Networks for Sentence Classification", arXiv:1408.5882.
Reported: 82.7 % on SST-2 (phrases in training, test sentences) with vectors that begin at random (CNN-rand), 87.2 % with word2vec's. Ours: docs/text-classification.md.
Differs from the paper: vectors begin at random; no bound on the norm of the head's weights; a window is centred on a word of the text, so that
padding belongs to no window and a text of a single word has one; dropout of words and of their vectors beside that of the pooled maps.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from lamina.core.config import Config, Field
from lamina.core.errors import ConfigError
from lamina.core.registry import register
from lamina.nn.dropout import Dropout, SpatialDropout
from lamina.nn.embedding import Embedding
from lamina.nn.initialisers import initialise
from lamina.nn.inputs import check_tokens


class TextCNNConfig(Config):
    """Sizes and dropout."""

    vocab_size: int = Field(20_000, description="Different tokens.", ge=2)
    num_classes: int = Field(2, description="Classes.", ge=1)
    embedding_size: int = Field(300, description="Numbers per word.", ge=1)
    widths: tuple[int, ...] = Field(
        (3, 4, 5), description="Words that a convolution sees at a time, one convolution per width.", min_length=1
    )
    num_maps: int = Field(100, description="Maps of each convolution.", ge=1)
    dropout: float = Field(0.5, description="Probability of dropping a pooled map.", ge=0, lt=1)
    word_dropout: float = Field(0.0, description="Probability of dropping a whole word.", ge=0, lt=1)
    embedding_dropout: float = Field(
        0.0, description="Probability of dropping a number of a word's vector.", ge=0, lt=1
    )
    embedding_std: float = Field(0.1, description="Standard deviation of the vectors that words begin with.", gt=0)
    initialiser: str = Field(
        "kaiming-uniform",
        description="Name of the initialiser of the convolutions; the head begins with at most 1 / sqrt(inputs), biases with zero.",
    )


class WordConvolution(nn.Conv1d):
    """A 1-d convolution for signals whose channels lie side by side, as word vectors do.

    Faster on a CPU than torch's, which first brings the words of a channel together.

    Shapes: (B, in_channels, T) -> (B, out_channels, T - kernel_size + 1), in the same order of memory.
    """

    def forward(self, input: Tensor) -> Tensor:
        """As of `torch.nn.Conv1d` without stride, padding, dilation and groups."""
        return functional.conv2d(input.unsqueeze(2), self.weight.unsqueeze(2), self.bias).squeeze(2)


@register(
    "model",
    "textcnn",
    config=TextCNNConfig,
    source="Kim (2014), arXiv:1408.5882",
    example="lamina train sst2-cnn --data FOLDER model.widths=[2,3,4,5]",
    input="tokens",
    tiny={"vocab_size": 100, "embedding_size": 8, "num_maps": 4},
)
class TextCNN(nn.Module):
    """Word vectors, convolutions of several widths side by side, the largest value of each map, the head.

    `forward` is `head(pool(features(…)))` with dropout before the head: `features` gives a hidden state per word, as every
    encoder does, `pool` the vector of a text. A position that `attention_mask` leaves out changes nothing.

    Source: Kim (2014), arXiv:1408.5882.
    """

    def __init__(
        self,
        *,
        vocab_size: int = 20_000,
        num_classes: int = 2,
        embedding_size: int = 300,
        widths: tuple[int, ...] = (3, 4, 5),
        num_maps: int = 100,
        dropout: float = 0.5,
        word_dropout: float = 0.0,
        embedding_dropout: float = 0.0,
        embedding_std: float = 0.1,
        initialiser: str = "kaiming-uniform",
    ) -> None:
        super().__init__()
        _check_widths(widths)
        self.vocab_size = vocab_size
        self.hidden_size = len(widths) * num_maps
        self.widths = tuple(widths)
        self.embedding = Embedding(vocab_size, embedding_size, std=embedding_std)
        self.word_dropout = SpatialDropout(word_dropout)
        self.embedding_dropout = Dropout(embedding_dropout)
        self.convolutions = nn.ModuleList(WordConvolution(embedding_size, num_maps, width) for width in widths)
        self.dropout = Dropout(dropout)
        self.head = nn.Linear(self.hidden_size, num_classes)
        initialise(self, initialiser, generator=torch.default_generator)

    def draw_own(self, generator: torch.Generator) -> None:
        """Let the head begin with small weights, 1 / sqrt(its inputs) at most, so that its first guesses shake no word vector."""
        if not self.head.weight.is_meta:
            bound = self.hidden_size**-0.5
            drawn = torch.empty(self.head.weight.shape).uniform_(-bound, bound, generator=generator)
            with torch.no_grad():
                self.head.weight.copy_(drawn)

    @property
    def stages(self) -> dict[str, tuple[str, ...]]:
        """Stage name -> prefixes of its modules, from the words to `head`; together they hold every parameter once."""
        return {"embedding": ("embedding.",), "convolutions": ("convolutions.",), "head": ("head.",)}

    def example_inputs(self) -> Tensor:
        """One text without values, as long as two of the widest windows."""
        return torch.empty(1, 2 * max(self.widths), dtype=torch.int64, device="meta")

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """int64 (B, T), bool (B, T) -> (B, num_classes), logits."""
        if input_ids.ndim == 2 and input_ids.shape[1] == 0:
            return self.head(self.pool(self.features(input_ids, attention_mask)))  # type: ignore[no-any-return]
        maps = self._maps(input_ids, attention_mask)
        if attention_mask is not None:
            maps = [part.masked_fill(~attention_mask.unsqueeze(1), float("-inf")) for part in maps]
        # The same numbers as head(pool(features)): the largest of what is cut off at 0 is the largest, cut off at 0.
        pooled = torch.cat([part.max(dim=2).values for part in maps], dim=1).relu()  # (B, hidden_size)
        return self.head(self.dropout(pooled))  # type: ignore[no-any-return]

    def features(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """Hidden states (B, T, hidden_size), >= 0: what the maps of all widths say of the window around each word.

        Args:
            input_ids: int64 (B, T).
            attention_mask: bool (B, T), True where there is a word; None: everywhere.
            token_type_ids: Not looked at: the words of a pair are one text here.

        Raises:
            ShapeError, DtypeError: As of `lamina.nn.inputs.check_tokens`.
        """
        if input_ids.ndim == 2 and input_ids.shape[1] == 0:  # a batch of empty texts, which no convolution takes
            return self.head.weight.new_zeros(len(input_ids), 0, self.hidden_size)
        return torch.cat(self._maps(input_ids, attention_mask), dim=1).relu().transpose(1, 2)

    def _maps(self, input_ids: Tensor, attention_mask: Tensor | None) -> list[Tensor]:
        """Of each width (B, maps, T)."""
        check_tokens(self, input_ids, attention_mask)
        vectors: Tensor = self.embedding_dropout(self.word_dropout(self.embedding(input_ids)))  # (B, T, E)
        if attention_mask is not None:
            vectors = vectors * attention_mask.unsqueeze(-1)
        before, after = (max(self.widths) - 1) // 2, max(self.widths) // 2
        signal = functional.pad(vectors, (0, 0, before, after)).transpose(1, 2)  # (B, E, before + T + after)
        maps = []
        for width, convolution in zip(self.widths, self.convolutions, strict=True):
            first = before - (width - 1) // 2
            maps.append(convolution(signal[:, :, first : first + input_ids.shape[1] + width - 1]))
        return maps

    def pool(self, states: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """The largest value over the words: (B, T, hidden_size) -> (B, hidden_size); zeros for a text without words."""
        if states.shape[1] == 0:
            return states.sum(dim=1)
        if attention_mask is not None:  # states are >= 0, so that 0 is the least
            states = states.masked_fill(~attention_mask.unsqueeze(-1), 0.0)
        return states.amax(dim=1)


def _check_widths(widths: tuple[int, ...]) -> None:
    if any(width < 1 for width in widths) or len(set(widths)) < len(widths):
        raise ConfigError(
            f"The widths are {', '.join(map(str, widths))}.",
            where="model.widths",
            accepts="different whole numbers, at least 1",
            mend="widths=[3, 4, 5]",
        )
