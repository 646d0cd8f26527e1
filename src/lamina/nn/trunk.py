"""A model whose feature maps have the well-known name `features`, and whose feature vector has it too.

The files of AlexNet and VGG weights that everybody has name the convolutions `features.N` and the dense layers behind them
`classifier.N`. Every model here says `features(images)` for what stands before its head. `Trunk` is both: it holds the
convolutions under their names, and calling it goes on through the layers behind them, up to the head.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from lamina.nn.inputs import check_images

__all__ = ["Trunk", "TrunkModel"]


class Trunk(nn.Sequential):
    """Layers that make maps; a call goes on through layers that are registered elsewhere, so that their names are not of here.

    Attributes:
        behind: The layers that go on, held without being registered.
        in_channels: Channels of the images, once it stands in a model.
        image_size: Their height and width.
    """

    behind: tuple[nn.Module, ...] = ()
    in_channels: int | None = None
    image_size: tuple[int, int] = (0, 0)

    def maps(self, images: Tensor) -> Tensor:
        """The maps after the last layer held here: (B, C, H, W)."""
        return super().forward(images)  # type: ignore[no-any-return,no-untyped-call]

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> what comes out of the last layer behind: (B, F)."""
        if self.in_channels is not None:
            check_images(self, images, in_channels=self.in_channels, size=self.image_size)
        x = self.maps(images)
        for layer in self.behind:
            x = layer(x)
        return x


class TrunkModel(nn.Module):
    """Convolutions `features`, `avgpool`, `flatten`, dense layers `classifier`, and `head`; the names of torchvision but the last.

    A module that replaces one of them is the one that runs from then on. `in_channels` and `image_size` are set first.
    """

    features: Trunk
    avgpool: nn.Module
    flatten: nn.Module
    classifier: nn.Module
    head: nn.Module
    in_channels: int
    image_size: tuple[int, int]

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in ("features", "avgpool", "flatten", "classifier"):
            parts = self._modules
            trunk = parts.get("features")
            if isinstance(trunk, Trunk):
                behind = (parts.get(key) for key in ("avgpool", "flatten", "classifier"))
                trunk.behind = tuple(part for part in behind if part is not None)
                trunk.in_channels, trunk.image_size = self.in_channels, self.image_size

    def prefixes(self, first: int, end: int) -> tuple[str, ...]:
        """Of the parameters of layers `first` to `end` (without it) of `features`: what `stages` is made of."""
        layers = list(self.features.children())
        with_parameters = (place for place in range(first, end) if any(True for _ in layers[place].parameters()))
        return tuple(f"features.{place}." for place in with_parameters)

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, num_classes), logits."""
        check_images(self, images, in_channels=self.in_channels, size=self.image_size)
        return self.head(self.features(images))  # type: ignore[no-any-return]
