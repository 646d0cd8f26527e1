"""A model with weights from elsewhere as a bundle: the source's images and classes, and what cannot be judged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lamina.core.errors import WeightsError
from lamina.data.columns import Columns, ColumnSpec, DataSpec
from lamina.data.preprocessing import Preprocessing
from lamina.models.factory import create_model
from lamina.models.weights.table import Preparation, get_table
from lamina.recipes.from_weights import other_preparation, tell_weights
from lamina.tasks.bundle import load_bundle
from lamina.tasks.pretrained import bundle_from_weights
from torch_files import put, saved


def theirs(table: str, name: str, **values: object) -> dict[str, torch.Tensor]:
    return get_table(table).invert(create_model(name, seed=0, **values).state_dict())


def test_a_bundle_with_the_sources_classes_is_kept_like_any_other(tmp_path: Path) -> None:
    bundle = bundle_from_weights("resnet20", put(tmp_path, saved(theirs("akamaster-resnet", "resnet20"))))
    assert bundle.labels[:3] == ("airplane", "automobile", "bird")
    picture = tmp_path / "p.png"
    Image.fromarray(np.arange(32 * 32 * 3, dtype=np.uint8).reshape(32, 32, 3)).save(picture)
    wanted = bundle.predict(picture)
    bundle.save(tmp_path / "b.zip")
    assert load_bundle(tmp_path / "b.zip").predict(picture) == wanted


def test_photographs_are_fitted_as_the_source_fits_them(tmp_path: Path) -> None:
    path = put(tmp_path, saved(theirs("torchvision-resnet", "resnet18", width=2, num_classes=4)))
    bundle = bundle_from_weights("resnet18", path, width=2)
    image = bundle.spec.columns["image"]
    assert (image.shape, image.resize, image.crop_fraction) == ((3, 224, 224), "crop", 0.875)
    assert bundle.labels == ("0", "1", "2", "3")
    # Short side 256, the middle 224x224: what is outside is not looked at.
    pixels = np.full((256, 300, 3), 255, dtype=np.uint8)
    pixels[16:240, 38:262] = 0
    Image.fromarray(pixels).save(tmp_path / "framed.png")
    Image.new("RGB", (300, 256)).save(tmp_path / "black.png")
    framed, black = bundle.predict([tmp_path / "framed.png", tmp_path / "black.png"])
    assert framed["probabilities"] == black["probabilities"]


def test_weights_without_a_head_are_not_judged(tmp_path: Path) -> None:
    arrays = theirs("keras-mobilenet", "mobilenet-v1", width_multiplier=0.25, last_block=12)
    np.savez(tmp_path / "m.npz", **{key: t.numpy() for key, t in arrays.items() if "preds" not in key})  # type: ignore[arg-type]
    with pytest.raises(WeightsError, match="have no head: what it said would be random") as caught:
        bundle_from_weights("mobilenet-v1", tmp_path / "m.npz")
    assert "photos-transfer" in caught.value.mend
    np.savez(tmp_path / "m.npz", **{key: t.numpy() for key, t in arrays.items()})  # type: ignore[arg-type]
    assert len(bundle_from_weights("mobilenet-v1", tmp_path / "m.npz").labels) == 1000


def test_weights_of_our_own_do_not_say_what_images_they_want() -> None:
    state = create_model("resnet20", seed=0).state_dict()
    with pytest.raises(WeightsError, match="do not say what images") as caught:
        bundle_from_weights("resnet20", create_given(state))
    assert "bundle or run" in caught.value.mend


def create_given(state: dict[str, torch.Tensor]) -> object:
    from lamina.models.weights.opening import Given

    return Given(state, "w.safetensors")


SPEC = DataSpec(columns={"image": ColumnSpec(role="image", dtype="uint8", shape=(3, 4, 4))}, num_rows={"train": 2})
ROWS = Columns({"image": torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)})
IMAGENET = Preparation(size=(4, 4), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
SIGNED = Preparation(size=(4, 4), low=-1.0, high=1.0)


@pytest.mark.parametrize(
    ("wanted", "steps", "differs"),
    [
        (IMAGENET, IMAGENET.steps(), False),
        (SIGNED, SIGNED.steps(), False),
        (IMAGENET, SIGNED.steps(), True),
        (SIGNED, IMAGENET.steps(), True),
        (SIGNED, ({"name": "scale"},), True),
        (IMAGENET, ({"name": "scale"}, {"name": "normalise", "mean": [0.5], "std": [0.25]}), True),
        (IMAGENET, ({"name": "scale"}, {"name": "normalise", "mean": [0.47], "std": [0.23]}), False),
        (IMAGENET, ({"name": "scale"}, {"name": "flatten"}), False),
    ],
)
def test_other_preparations_are_noticed(
    wanted: Preparation, steps: tuple[dict[str, object], ...], differs: bool
) -> None:
    found = other_preparation(wanted, Preprocessing.fit(steps, ROWS, SPEC))
    assert (found is not None) == differs
    if found is not None:
        assert "preprocess" in found


class Heard:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def test_a_head_for_other_classes_is_noticed(tmp_path: Path) -> None:
    path = put(tmp_path, saved(theirs("akamaster-resnet", "resnet20")))
    names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    image = ColumnSpec(role="image", dtype="uint8", shape=(3, 32, 32))
    rows = Columns({"image": torch.zeros(1, 3, 32, 32, dtype=torch.uint8), "label": torch.zeros(1, dtype=torch.int64)})
    cifar = get_table("akamaster-resnet").preparation.steps()
    for classes, new_head, warns in (
        (names, False, False),
        (names[::-1], False, True),
        (names[::-1], True, False),
    ):
        label = ColumnSpec(role="label", dtype="int64", classes=classes)
        spec = DataSpec(columns={"image": image, "label": label}, num_rows={"train": 1})
        heard = Heard()
        model = create_model("resnet20", spec, seed=0, weights=path, new_head=new_head)
        tell_weights(model, Preprocessing.fit(cifar, rows, spec), heard)
        assert len(heard.notes) > 1
        assert [text[:18] for text in heard.warnings] == (["The head was train"] if warns else [])
        tell_weights(create_model("resnet20", seed=0), Preprocessing.fit(cifar, rows, spec), heard)
