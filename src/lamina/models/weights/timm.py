"""timm's ResNets, as the library and its hub pages keep them.

Source: Wightman (2019), PyTorch Image Models, `timm/models/resnet.py`, https://github.com/huggingface/pytorch-image-models
(Apache-2.0). The keys are torchvision's; what differs from weights to weights is how images are prepared, and that stands
in the `config.json` beside them. Stems, shortcuts and pooling of other variants (resnet18d, resnet50c, …) are other
networks: their keys are left over, and named.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lamina.models.weights.table import Preparation, Rule, WeightTable, declare

__all__ = ["RESNET", "preparation_of"]

# Of most of its ResNets; each file's own config.json decides.
_COMMON: Final = Preparation(
    size=(224, 224),
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    crop_fraction=0.95,
    interpolation="bicubic",
)

RESNET: Final = declare(
    __name__,
    WeightTable(
        name="timm-resnet",
        summary="timm's ResNet with 18, 34, 50, 101 or 152 layers, prepared as the config.json beside the file says.",
        source="Wightman (2019), PyTorch Image Models, timm/models/resnet.py, https://github.com/huggingface/pytorch-image-models",
        models={
            f"resnet{depth}": {"version": "v1.5", "shortcut": "B", "stem": "imagenet"}
            for depth in (18, 34, 50, 101, 152)
        },
        rules=(Rule("fc.<p>", "head.<p>"), Rule("<key>", "<key>")),
        preparation=_COMMON,
        needs_config=True,
    ),
    example="lamina predict resnet18 photo.jpg --weights timm/resnet18.a1_in1k",
)


def preparation_of(config: Mapping[str, Any], default: Preparation) -> tuple[Preparation, tuple[str, ...]]:
    """Preparation and class names from timm's `config.json`; what it does not say, or says oddly, is as in `default`."""
    found = config.get("pretrained_cfg")
    facts: Mapping[str, Any] = found if isinstance(found, dict) else config
    size = _numbers(facts.get("input_size"), 3)
    mean, std = _numbers(facts.get("mean"), 3), _numbers(facts.get("std"), 3)
    crop = facts.get("crop_pct")
    scaling = facts.get("interpolation")
    usable = isinstance(crop, int | float) and 0 < crop <= 1
    names = config.get("label_names") or facts.get("label_names")
    labels = tuple(names) if isinstance(names, list) and all(isinstance(name, str) and name for name in names) else ()
    return (
        Preparation(
            size=(int(size[1]), int(size[2])) if size and min(size) >= 1 else default.size,
            mean=mean or default.mean,
            std=std if std and min(std) > 0 else default.std,
            crop_fraction=float(crop) if usable and crop is not None else default.crop_fraction,
            interpolation="bicubic"
            if scaling == "bicubic"
            else "bilinear"
            if scaling == "bilinear"
            else default.interpolation,
        ),
        labels if len(set(labels)) == len(labels) else (),
    )


def _numbers(value: Any, count: int) -> tuple[float, ...]:
    fits = isinstance(value, list) and len(value) == count and all(isinstance(v, int | float) for v in value)
    return tuple(float(v) for v in value) if fits else ()
