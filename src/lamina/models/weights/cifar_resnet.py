"""The CIFAR-10 ResNets that Y. Idelbayev trained and published.

Source: Idelbayev, "Proper ResNet Implementation for CIFAR10/CIFAR100 in PyTorch", https://github.com/akamaster/pytorch_resnet_cifar10
(BSD-2-Clause). Files of torch's old serialization, `{"state_dict": …, "best_prec1": …}`, names with DataParallel's `module.`;
shortcuts of option A: every second pixel, half of the new channels' zeros before and half behind. Published errors on the
CIFAR-10 test images in %: ResNet-20 8.27, -32 7.37, -44 6.90, -56 6.61, -110 6.32, -1202 6.18.
"""

from __future__ import annotations

from typing import Final

from lamina.models.weights.table import Preparation, Rule, WeightTable, declare

__all__ = ["AKAMASTER"]

AKAMASTER: Final = declare(
    __name__,
    WeightTable(
        name="akamaster-resnet",
        summary="Idelbayev's CIFAR-10 ResNets with 20 to 1,202 layers: resnet20-12fca82f.th, …",
        source="Idelbayev, https://github.com/akamaster/pytorch_resnet_cifar10; He, Zhang, Ren, Sun (2015), arXiv:1512.03385, section 4.2",
        models={f"resnet{depth}": {"shortcut": "A", "width": 16} for depth in (20, 32, 44, 56, 110, 1202)},
        rules=(Rule("linear.<p>", "head.<p>"), Rule("<key>", "<key>")),
        preparation=Preparation(size=(32, 32), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        labels=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        num_classes=10,
        prefix="module.",
    ),
    example="lamina evaluate resnet20 --data PATH --weights resnet20-12fca82f.th",
)
