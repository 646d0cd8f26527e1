"""Recipes for photographs: a new head on a network that has learned elsewhere, careful fine-tuning, and from scratch beside them."""

from __future__ import annotations

from typing import Any, Final

from lamina.recipes.recipe import declare

_PHOTOS: Final = (
    "photographs in folders by class (class/file, or train/class/file and val/class/file), from some tens per class on"
)
_WEIGHTS: Final = (
    "for mobilenet-v1 a .npz of the arrays of Keras's MobileNet (1.0, 224); for "
    "resnet18 (model.kind=resnet18) torchvision's resnet18-f37072fd.pth or the model.safetensors of timm's resnet18; or a "
    "bundle or run of the same model"
)
_CLASSIFY: Final[dict[str, Any]] = {"name": "image-classification"}
_GENTLE: Final[tuple[dict[str, Any], ...]] = (
    {"name": "flip_horizontal", "prob": 0.5},
    {"name": "zoom", "fraction": 0.1},
    {"name": "shift", "fraction": 0.05},
)

declare(
    __name__,
    "photos-transfer",
    "A new head on a MobileNet that knows ImageNet: seconds, from tens of photographs per class.",
    source="Donahue et al. (2014), DeCAF, arXiv:1310.1531; Yosinski, Clune, Bengio, Lipson (2014), arXiv:1411.1792; "
    "MobileNet: Howard et al. (2017), arXiv:1704.04861",
    needs=_PHOTOS,
    needs_weights=_WEIGHTS,
    example="lamina train photos-transfer --data PATH --weights FILE",
    task=_CLASSIFY,
    data={"shape": [224, 224], "valid_fraction": 0.2},
    # As MobileNet's and Keras's others; the weights know better where they say how their images were prepared.
    preprocess=({"name": "as-weights", "low": -1.0, "high": 1.0},),
    augment=_GENTLE,
    model={"kind": "mobilenet-v1"},
    new_head=True,
    # With few photographs a head is sure of itself too soon: soft labels, and time enough to settle.
    loss={"name": "cross-entropy", "label_smoothing": 0.2},
    optimizer={"name": "adamw", "lr": 0.03, "weight_decay": 0.05},
    schedule={"name": "cosine"},
    training={"epochs": 120, "batch_size": 32, "checkpoint_every": 50},
    stages={"head": {"trainable": ["head"], "augment": False}},
)

declare(
    __name__,
    "photos-finetune",
    "The same, then all of the network with small rates that fall towards the input, after a warm-up.",
    source="Howard, Ruder (2018), arXiv:1801.06146; Kumar, Raghunathan, Jones, Ma, Liang (2022), arXiv:2202.10054 (the head first)",
    extends="photos-transfer",
    example="lamina train photos-finetune --data PATH --weights FILE",
    training={"epochs": 5},
    stages={
        "head": {"epochs": 120},
        "finetune": {
            "optimizer": {"lr": 3e-5},
            "warmup": 0.2,
            "layer_decay": 0.8,
            "freeze_batch_norm": True,
        },
    },
)

declare(
    __name__,
    "sports-cnn",
    "A small network from scratch on photographs of three sports: what transfer learning is measured against.",
    source="LeCun et al. (1989), doi:10.1162/neco.1989.1.4.541, with batch norm (Ioffe, Szegedy 2015, arXiv:1502.03167)",
    needs=_PHOTOS,
    task=_CLASSIFY,
    data={"shape": [64, 64], "valid_fraction": 0.2},
    preprocess=({"name": "scale"}, {"name": "standardise", "per": "channel"}),
    augment=(
        {"name": "rotate", "degrees": 10},
        {"name": "zoom", "fraction": 0.2},
        {"name": "shift", "fraction": 0.1},
        {"name": "flip_horizontal", "prob": 0.5},
    ),
    model={
        "kind": "cnn",
        "blocks": [{"channels": 32}, {"channels": 48}, {"channels": 64}, {"channels": 96}],
        "dense": [{"size": 64, "dropout": 0.5}],
    },
    optimizer={"name": "adamw", "lr": 2e-3, "weight_decay": 0.05},
    schedule={"name": "one-cycle"},
    training={"epochs": 60, "batch_size": 16},
)
