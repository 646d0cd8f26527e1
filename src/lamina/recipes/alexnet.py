"""AlexNet from scratch, trained as the paper trained it as far as the data goes."""

from __future__ import annotations

from lamina.recipes.recipe import declare

declare(
    __name__,
    "alexnet",
    "AlexNet from scratch on photographs; below some thousands of them photos-transfer does better.",
    source="Krizhevsky, Sutskever, Hinton (2012), NIPS 25, section 5: 37.5 % top-1 error on ImageNet 2010 after 90 passes; "
    "single tower: Krizhevsky (2014), arXiv:1404.5997",
    needs="photographs in folders by class (class/file, or train/class/file and val/class/file), thousands of them",
    task={"name": "image-classification"},
    data={"shape": [224, 224]},
    # Section 4.1 and 5: the mean of each pixel is subtracted; crops of 224 out of 256, and their mirror images. The shift of the
    # colours along their principal components is left out.
    preprocess=({"name": "scale"}, {"name": "centre", "per": "feature"}),
    augment=({"name": "crop", "padding": 16}, {"name": "flip_horizontal", "prob": 0.5}),
    model={"kind": "alexnet"},
    optimizer={"name": "momentum", "lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4},
    # "Divide the learning rate by 10 when the validation error rate stopped improving."
    schedule={"name": "reduce-on-plateau", "gamma": 0.1, "patience": 5},
    training={"epochs": 90, "batch_size": 128},
)
