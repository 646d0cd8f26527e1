"""Give a model of your own a name and a Config, so that recipes, runs and bundles can name it.

Run: python examples/own_model.py

Nothing of Lamina is needed inside the model: it is an ordinary module that returns logits. Registering it is what lets
`create_model` build it from values, check them, and fill in what the data says (the number of classes here).
"""

from __future__ import annotations

from torch import Tensor, nn

import lamina as lm
from lamina.core.config import Config, Field
from lamina.core.registry import register


class RowReaderConfig(Config):
    """Sizes of the network."""

    in_channels: int = Field(1, description="Channels of the images.", ge=1)
    image_size: tuple[int, int] = Field((8, 8), description="Height and width of the images.")
    hidden_size: int = Field(48, description="Width of the recurrent state.", ge=1)
    num_classes: int = Field(10, description="Classes.", ge=2)


@register(
    "model",
    "row-reader",
    config=RowReaderConfig,
    source="Le, Jaitly, Hinton (2015), arXiv:1504.00941, read images pixel by pixel; here row by row",
    input="image",
)
class RowReader(nn.Module):
    """Reads an image row by row with a GRU and decides after the last row."""

    def __init__(
        self,
        *,
        in_channels: int = 1,
        image_size: tuple[int, int] = (8, 8),
        hidden_size: int = 48,
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        self.in_channels, self.image_size = in_channels, image_size
        self.gru = nn.GRU(in_channels * image_size[1], hidden_size, batch_first=True)
        self.head = nn.Linear(hidden_size, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, num_classes), logits."""
        return self.head(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        """The state after the last row, (B, hidden_size)."""
        rows = images.permute(0, 2, 1, 3).flatten(start_dim=2)  # (B, C, H, W) -> (B, H, C * W)
        _, state = self.gru(rows)  # (1, B, hidden_size)
        return state[0]


def main() -> None:
    """Train it on the embedded digits like any other model."""
    model = lm.create_model("row-reader", hidden_size=64, seed=0)
    run = lm.fit(
        model,
        lm.load_data("digits"),
        task="image-classification",
        epochs=12,
        seed=0,
        optimizer={"name": "adam", "lr": 5e-3},
    )
    print(f"validation accuracy {run.metrics['valid/accuracy']:.3f}")


if __name__ == "__main__":
    main()
