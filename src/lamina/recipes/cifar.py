"""Recipes for CIFAR-10: the residual networks of the paper, ResNet-18, VGG-11 and a small plain network.

The defaults are made for a processor: 40 passes with a one-cycle rate that peaks at the paper's 0.1, instead of the paper's 164 with
two drops (64,000 steps on the 50,000 images), with the paper's batch size, momentum, weight decay and augmentation. `cifar10-resnet20-paper`
is the paper's own.
"""

from __future__ import annotations

from typing import Any, Final

from lamina.recipes.recipe import declare

_CIFAR: Final = "CIFAR-10 in its binary or python batches, or image folders of 32x32 colour images, packed or not"
_RESNET: Final = "He, Zhang, Ren, Sun (2015), arXiv:1512.03385, section 4.2"
_CYCLE: Final = "rate as in Smith, Topin (2017), arXiv:1708.07120"
_CLASSIFY: Final[dict[str, Any]] = {"name": "image-classification"}
_STANDARDISE: Final[tuple[dict[str, Any], ...]] = ({"name": "scale"}, {"name": "standardise", "per": "channel"})
# Section 4.2: four pixels of zeros on each side, a random 32x32 crop of the image or its mirror image.
_AUGMENT: Final[tuple[dict[str, Any], ...]] = (
    {"name": "crop", "padding": 4},
    {"name": "flip_horizontal", "prob": 0.5},
)

declare(
    __name__,
    "cifar10-resnet20",
    "ResNet-20 on CIFAR-10, in the time that a two-core processor has: 40 passes with a one-cycle rate.",
    source=f"{_RESNET}: 8.75 % error after 64,000 steps; {_CYCLE}",
    needs=_CIFAR,
    task=_CLASSIFY,
    preprocess=_STANDARDISE,
    augment=_AUGMENT,
    model={"kind": "resnet20"},
    optimizer={"name": "momentum", "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4},
    schedule={"name": "one-cycle"},
    training={"epochs": 40, "batch_size": 128, "monitor": "accuracy"},
)

declare(
    __name__,
    "cifar10-resnet20-paper",
    "ResNet-20 as in the paper: 64,000 steps of 128 images, the rate divided by ten after 32,000 and 48,000.",
    source=f"{_RESNET}: 8.75 % error",
    extends="cifar10-resnet20",
    # The paper subtracts the mean of each pixel and divides by nothing but the range.
    preprocess=({"name": "scale"}, {"name": "centre", "per": "feature"}),
    optimizer={"decay_bias": True},
    schedule={"name": "step", "unit": "step", "milestones": [32_000, 48_000], "gamma": 0.1},
    training={"steps": 64_000},
)

declare(
    __name__,
    "cifar10-resnet32",
    "ResNet-32 on CIFAR-10, 40 passes with a one-cycle rate.",
    source=f"{_RESNET}: 7.51 % error after 64,000 steps; {_CYCLE}",
    extends="cifar10-resnet20",
    model={"kind": "resnet32"},
)

declare(
    __name__,
    "cifar10-resnet44",
    "ResNet-44 on CIFAR-10, 40 passes with a one-cycle rate.",
    source=f"{_RESNET}: 7.17 % error after 64,000 steps; {_CYCLE}",
    extends="cifar10-resnet20",
    model={"kind": "resnet44"},
)

declare(
    __name__,
    "cifar10-resnet56",
    "ResNet-56 on CIFAR-10, 40 passes with a one-cycle rate.",
    source=f"{_RESNET}: 6.97 % error after 64,000 steps; {_CYCLE}",
    extends="cifar10-resnet20",
    model={"kind": "resnet56"},
)

declare(
    __name__,
    "cifar10-resnet110",
    "ResNet-110 on CIFAR-10, 40 passes; the slow rise of the one-cycle rate is the warm-up that it needs.",
    source=f"{_RESNET}: 6.43 % error after 64,000 steps, the first 400 with a tenth of the rate; {_CYCLE}",
    extends="cifar10-resnet20",
    model={"kind": "resnet110"},
)

declare(
    __name__,
    "cifar10-resnet18",
    "The ImageNet network ResNet-18 with a stem for 32x32 images: 11.2 million parameters.",
    source=f"He, Zhang, Ren, Sun (2015), arXiv:1512.03385, table 1; {_CYCLE}",
    extends="cifar10-resnet20",
    model={"kind": "resnet18", "stem": "cifar"},
    optimizer={"weight_decay": 5e-4},
    training={"epochs": 15},
)

declare(
    __name__,
    "cifar10-vgg11",
    "VGG-11 with batch norm and a small head, as it is usually cut down for 32x32 images: 9.2 million parameters.",
    source=f"Simonyan, Zisserman (2015), arXiv:1409.1556, configuration A; batch norm as in Ioffe, Szegedy (2015), arXiv:1502.03167; {_CYCLE}",
    extends="cifar10-resnet20",
    model={"kind": "vgg11-bn", "pool_size": 1, "hidden_sizes": []},
    optimizer={"lr": 0.05, "weight_decay": 5e-4},
)

declare(
    __name__,
    "cifar10-cnn",
    "A small plain network of three convolutional blocks: what a residual network is compared with.",
    source="LeCun et al. (1989), doi:10.1162/neco.1989.1.4.541, with batch norm (Ioffe, Szegedy 2015, arXiv:1502.03167)",
    extends="cifar10-resnet20",
    model={
        "kind": "cnn",
        "blocks": [{"channels": 32}, {"channels": 64}, {"channels": 128}],
        "dense": [{"size": 128, "dropout": 0.3}],
    },
    optimizer={"lr": 0.05, "weight_decay": 5e-4},
)
