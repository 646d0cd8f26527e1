"""Recipes for images: the digits that come along, MNIST and its family, the sign-language course, CIFAR-10."""

from __future__ import annotations

from typing import Any, Final

from lamina.recipes.recipe import declare

_MNIST: Final = (
    "MNIST or a set like it: a folder with the IDX files (train-images-idx3-ubyte[.gz], train-labels-idx1-ubyte[.gz]), "
    "a pixel CSV, or image folders of 28x28 grey images"
)
_SIGNS: Final = "small square images: a CSV with a label column and one column per pixel (Sign Language MNIST), or image folders class/file"
_CIFAR: Final = "CIFAR-10 in its binary or python batches, or image folders of 32x32 colour images, packed or not"
_CLASSIFY: Final[dict[str, Any]] = {"name": "image-classification"}
_SCALE: Final[tuple[dict[str, Any], ...]] = ({"name": "scale"},)
_STANDARDISE: Final[tuple[dict[str, Any], ...]] = ({"name": "scale"}, {"name": "standardise", "per": "channel"})

declare(
    __name__,
    "digits",
    "A small convolutional network on the 1,797 handwritten digits that come with scikit-learn: the demo.",
    source="data: Alpaydin and Kaynak (1998), Optical Recognition of Handwritten Digits, UCI",
    task=_CLASSIFY,
    data={"path": "digits", "valid_fraction": 0.15, "test_fraction": 0.2},
    preprocess=_SCALE,
    model={
        "kind": "cnn",
        "blocks": [{"channels": 16, "pool": "none"}, {"channels": 32, "pool": "max"}],
        "dense": [{"size": 64, "dropout": 0.2}],
    },
    optimizer={"name": "adam", "lr": 2e-3},
    schedule={"name": "cosine"},
    training={"epochs": 15, "batch_size": 32},
)

declare(
    __name__,
    "mnist-knn",
    "The three nearest neighbours vote, by Euclidean distance of the pixels.",
    source="LeCun, Bottou, Bengio, Haffner (1998), doi:10.1109/5.726791, section III.C: 5.0 % error on deskewed MNIST with k = 3",
    needs=_MNIST,
    task=_CLASSIFY,
    preprocess=_SCALE,
    model={"kind": "knn", "k": 3, "metric": "l2"},
    training={"epochs": 1, "batch_size": 4096},
)

declare(
    __name__,
    "mnist-linear",
    "One template per digit: linear scores with softmax and cross-entropy.",
    source="LeCun, Bottou, Bengio, Haffner (1998), doi:10.1109/5.726791, section III.C: 12.0 % error with least squares",
    needs=_MNIST,
    task=_CLASSIFY,
    preprocess=_SCALE,
    model={"kind": "linear"},
    loss={"name": "cross-entropy"},
    optimizer={"name": "adam", "lr": 2e-3},
    schedule={"name": "cosine"},
    training={"epochs": 20, "batch_size": 32},
)

declare(
    __name__,
    "mnist-svm",
    "Linear scores with the multiclass hinge loss and a little L2: a support vector machine by gradient descent.",
    source="Crammer, Singer (2001), On the Algorithmic Implementation of Multiclass Kernel-based Vector Machines",
    extends="mnist-linear",
    loss={"name": "hinge"},
    penalties=({"kind": "l2", "strength": 1e-5},),
)

declare(
    __name__,
    "mnist-mlp",
    "The network that introductory films draw: 784-16-16-10 units, 13,002 weights and biases.",
    source="Rumelhart, Hinton, Williams (1986), doi:10.1038/323533a0; LeCun et al. (1998): 4.7 % error with 784-300-10",
    needs=_MNIST,
    task=_CLASSIFY,
    preprocess=_STANDARDISE,
    model={"kind": "mlp", "hidden_sizes": [16, 16], "activation": "relu"},
    loss={"name": "cross-entropy"},
    optimizer={"name": "adam", "lr": 5e-3, "weight_decay": 1e-5},
    # Sixteen rectifiers die easily at a constant rate; the slow rise of one-cycle keeps them, its long fall does the rest.
    schedule={"name": "one-cycle"},
    training={"epochs": 20, "batch_size": 32},
)

declare(
    __name__,
    "mnist-mlp-sigmoid",
    "The textbook's first network: 784-30-10 sigmoid units, half squared error, plain gradient descent.",
    source="Nielsen (2015), Neural Networks and Deep Learning, chapter 1: about 95 % after 30 epochs of batches of 10",
    extends="mnist-mlp",
    preprocess=_SCALE,
    model={"kind": "mlp", "hidden_sizes": [30], "activation": "sigmoid", "initialiser": "lecun-normal"},
    loss={"name": "half-squared-error", "activation": "sigmoid"},
    optimizer={"name": "sgd", "lr": 3.0},
    schedule={"name": "constant"},
    training={"epochs": 30, "batch_size": 10, "monitor": "accuracy"},
)

declare(
    __name__,
    "mnist-lenet5",
    "LeNet-5, the convolutional network that read cheques.",
    source="LeCun, Bottou, Bengio, Haffner (1998), doi:10.1109/5.726791: 0.95 % error",
    needs=_MNIST,
    task=_CLASSIFY,
    preprocess=_STANDARDISE,
    model={"kind": "lenet5"},
    optimizer={"name": "adam", "lr": 3e-3},
    schedule={"name": "one-cycle"},
    training={"epochs": 12, "batch_size": 128},
)

declare(
    __name__,
    "sign-cnn",
    # Mirrored, a hand signs the same; a written digit or letter would not, which is why no recipe for those flips.
    "The sign-language course's network with small rotations, zooms, shifts, and the flip, which hands survive.",
    source="the sign-language course's Keras notebook on the Sign Language MNIST table; data: kaggle.com/datamunge/sign-language-mnist",
    needs=_SIGNS,
    task=_CLASSIFY,
    preprocess=_SCALE,
    augment=(
        {"name": "rotate", "degrees": 10},
        {"name": "zoom", "fraction": 0.1},
        {"name": "shift", "fraction": 0.1},
        {"name": "flip_horizontal", "prob": 0.5},
    ),
    model={"kind": "sign-cnn"},
    optimizer={"name": "adam", "lr": 1e-3},
    schedule={"name": "one-cycle"},
    training={"epochs": 40, "batch_size": 32},
)

declare(
    __name__,
    "image-cnn",
    "A small convolutional network for images of any kind: what `lamina train --data PATH` takes for most of them.",
    source="LeCun et al. (1989), doi:10.1162/neco.1989.1.4.541, with batch norm (Ioffe, Szegedy 2015, arXiv:1502.03167)",
    needs="labelled images in any format that `lamina data` reads",
    task=_CLASSIFY,
    preprocess=_STANDARDISE,
    model={
        "kind": "cnn",
        "blocks": [{"channels": 32}, {"channels": 64}],
        "dense": [{"size": 128, "dropout": 0.3}],
    },
    optimizer={"name": "adam", "lr": 1e-3},
    schedule={"name": "one-cycle"},
    training={"epochs": 15, "batch_size": 64},
)

declare(
    __name__,
    "cifar10-knn",
    "Nearest neighbours of raw pixels: what a network must beat on colour images.",
    source="data: Krizhevsky (2009), Learning Multiple Layers of Features from Tiny Images",
    extends="mnist-knn",
    needs=_CIFAR,
    model={"k": 10, "metric": "l1"},
)

declare(
    __name__,
    "cifar10-linear",
    "One colour template per class.",
    source="data: Krizhevsky (2009), Learning Multiple Layers of Features from Tiny Images",
    extends="mnist-linear",
    needs=_CIFAR,
    preprocess=({"name": "scale"}, {"name": "centre"}),
    optimizer={"lr": 5e-4},
)
