"""torchvision's state dicts of AlexNet, VGG and ResNet.

Source: torchvision, `torchvision/models/{alexnet,vgg,resnet}.py` and the weights' `meta` and `transforms` there,
https://github.com/pytorch/vision (BSD-3-Clause). Their networks are our single-tower AlexNet (Krizhevsky 2014, arXiv:1404.5997),
VGG (Simonyan, Zisserman 2014, arXiv:1409.1556) and ResNet v1.5 (He et al. 2015, arXiv:1512.03385).
"""

from __future__ import annotations

from typing import Final

from lamina.models.weights.table import Preparation, Rule, WeightTable, declare

__all__ = ["ALEXNET", "IMAGENET", "RESNET", "VGG"]

_URL: Final = "https://github.com/pytorch/vision"
# The recipe of the weights called IMAGENET1K_V1: short side 256, the middle 224x224.
IMAGENET: Final = Preparation(
    size=(224, 224), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), crop_fraction=0.875
)
_SAME: Final = Rule("<key>", "<key>")

ALEXNET: Final = declare(
    __name__,
    WeightTable(
        name="torchvision-alexnet",
        summary="torchvision's AlexNet (one tower): alexnet-owt-7be5be79.pth.",
        source=f"torchvision, models/alexnet.py, {_URL}; Krizhevsky (2014), arXiv:1404.5997",
        models={"alexnet": {"groups": 1, "padding": 2, "norm": "none"}},
        rules=(Rule("classifier.6.<p>", "head.<p>"), _SAME),
        preparation=IMAGENET,
    ),
    example="lamina inspect alexnet --weights alexnet-owt-7be5be79.pth",
)

VGG: Final = declare(
    __name__,
    WeightTable(
        name="torchvision-vgg",
        summary="torchvision's VGG with 11, 13, 16 or 19 layers, with and without batch norm: vgg16-397923af.pth, …",
        source=f"torchvision, models/vgg.py, {_URL}; Simonyan, Zisserman (2014), arXiv:1409.1556",
        models={f"vgg{depth}{norm}": {} for depth in (11, 13, 16, 19) for norm in ("", "-bn")},
        rules=(Rule("classifier.6.<p>", "head.<p>"), _SAME),
        preparation=IMAGENET,
    ),
    example="lamina inspect vgg16 --weights vgg16-397923af.pth",
)

RESNET: Final = declare(
    __name__,
    WeightTable(
        name="torchvision-resnet",
        summary="torchvision's ResNet with 18, 34, 50, 101 or 152 layers: resnet18-f37072fd.pth, …",
        source=f"torchvision, models/resnet.py, {_URL}; He, Zhang, Ren, Sun (2015), arXiv:1512.03385",
        models={
            f"resnet{depth}": {"version": "v1.5", "shortcut": "B", "stem": "imagenet"}
            for depth in (18, 34, 50, 101, 152)
        },
        rules=(Rule("fc.<p>", "head.<p>"), _SAME),
        preparation=IMAGENET,
    ),
    example="lamina inspect resnet18 --weights resnet18-f37072fd.pth",
)
