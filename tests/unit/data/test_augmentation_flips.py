"""Whether flips keep the classes: by their names, and by the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers import shared_data
from lamina.core import draws
from lamina.core.run import RunFolder
from lamina.data.augment.meaning import Flip, check_flips, flips_of, suspicious_names
from lamina.data.augmentation import Augmentation
from lamina.data.columns import Columns, DataSpec, column_spec
from lamina.data.loading import load_data
from lamina.recipes.recipe import resolve
from lamina.recipes.session import Silence, train_run


def data_of(shapes: dict[str, Tensor], *, count: int = 30) -> tuple[DataSpec, Columns]:
    """Noisy copies of one picture (H, W) per class."""
    pictures = torch.stack([picture for picture in shapes.values() for _ in range(count)]).float().unsqueeze(1) * 200
    noise = draws.uniform(5, torch.arange(pictures.numel(), dtype=torch.int32)).view(pictures.shape) * 40
    images = (pictures + noise).to(torch.uint8)
    labels = torch.arange(len(shapes)).repeat_interleave(count)
    spec = DataSpec(
        columns={
            "image": column_spec("image", images),
            "label": column_spec("label", labels, classes=tuple(shapes)),
        },
        num_rows={"train": len(images)},
    )
    return spec, Columns({"image": images, "label": labels})


def check(steps: list[dict[str, Any]], spec: DataSpec, columns: Columns | None) -> dict[str, Flip]:
    return {flip.step: flip for flip in check_flips(Augmentation(steps, spec), spec, columns)}


def six_and_nine() -> dict[str, Tensor]:
    six = torch.zeros(8, 8)
    six[0:7, 2] = six[3, 2:6] = six[6, 2:6] = six[3:7, 5] = 1.0
    return {"6": six, "9": six.rot90(2, (0, 1)), "0": torch.ones(8, 8) - torch.eye(8)}


def test_a_six_turned_over_is_a_nine() -> None:
    spec, columns = data_of(six_and_nine())
    found = check([{"name": "rotate", "degrees": 180}], spec, columns)["rotate"]
    assert found.verdict == "changes"
    assert found.warns
    assert {(own, other) for own, other, _ in found.moves} == {("6", "9"), ("9", "6")}
    assert "6 becomes 9 (100%)" in found.sentence()
    assert "6 and 9 may change places" in found.sentence()
    assert found.describe()["moves"][0]["share"] == 1.0


def test_names_are_not_needed_where_the_data_speaks() -> None:
    left = torch.zeros(8, 8)
    left[3:5, :] = left[2:6, 0:2] = 1.0
    spec, columns = data_of({"to the left": left, "to the right": left.flip(1)})
    found = check([{"name": "flip_horizontal"}, {"name": "flip_vertical"}], spec, columns)
    assert found["flip_horizontal"].verdict == "changes"
    assert found["flip_vertical"].verdict == "keeps"
    assert not found["flip_vertical"].warns
    assert "survive" in found["flip_vertical"].sentence()


def test_names_alone_are_a_reason_where_there_is_nothing_to_look_at() -> None:
    spec, _ = data_of(six_and_nine())
    found = check([{"name": "flip_vertical"}], spec, None)["flip_vertical"]
    assert found.verdict == "unknown"
    assert found.warns
    spec, _ = data_of({"cat": torch.ones(8, 8), "dog": torch.zeros(8, 8)})
    found = check([{"name": "flip_vertical"}], spec, None)["flip_vertical"]
    assert not found.warns
    assert "nothing speaks against it" in found.sentence()


@pytest.mark.parametrize(
    ("step", "classes", "says"),
    [
        ("flip_vertical", "0123456789", "6 and 9 may change places"),
        ("rotate", "0123456789", "6 and 9 may change places"),
        ("flip_horizontal", "0123456789", "2 and 5 may change places"),
        ("flip_horizontal", "bd", "b and d may change places"),
        ("flip_vertical", "MWA", "M and W may change places"),
        ("flip_horizontal", "ABC", "B, C become signs"),
    ],
)
def test_digits_and_letters(step: str, classes: str, says: str) -> None:
    assert says in "; ".join(suspicious_names(step, tuple(classes)))


def test_symmetric_letters_and_words_are_no_reason() -> None:
    assert suspicious_names("flip_horizontal", tuple("AHIMOTUVWXY")) == ()
    assert suspicious_names("flip_horizontal", ("cat", "dog", "B")) == ()


def test_flips_are_found_inside_policies_and_small_turns_are_none() -> None:
    spec, _ = data_of(six_and_nine())
    steps = [{"name": "rotate", "degrees": 20}, {"name": "one_of", "steps": ["blur", "flip_vertical"]}]
    assert flips_of(Augmentation(steps, spec)) == ("flip_vertical",)
    assert flips_of(Augmentation([{"name": "flip_vertical", "prob": 0}], spec)) == ()


def test_written_digits_do_not_survive_flips() -> None:
    data = load_data("digits")
    steps = [{"name": "flip_horizontal"}, {"name": "flip_vertical"}, {"name": "rotate", "degrees": 180}]
    found = check(steps, data.spec, data.splits["all"])
    assert all(flip.warns and flip.kept > 0.9 and flip.kept_flipped < 0.6 for flip in found.values())
    assert ("6", "9") in {(own, other) for own, other, _ in found["rotate"].moves}


def test_hands_that_sign_digits_become_the_other_hand_not_another_digit() -> None:
    data = load_data(str(shared_data("sign_digits")))
    found = check([{"name": "flip_horizontal"}], data.spec, next(iter(data.splits.values())))["flip_horizontal"]
    assert found.names
    assert found.verdict == "unlike"
    assert not found.warns


def test_training_warns_of_flips_that_change_classes(tmp_path: Path) -> None:
    class Ears(Silence):
        def __init__(self) -> None:
            self.heard: list[str] = []

        def warn(self, text: str) -> None:
            self.heard.append(text)

    for step, warned in (("flip_vertical", True), ("rotate", False)):
        resolved = resolve(
            "mnist-linear", data="digits", assignments=[f"augment=[{step}]", "training.epochs=1", "data.limit=400"]
        )
        ears = Ears()
        run = RunFolder.create(tmp_path / step, name=step, values=resolved.values, origins=resolved.origins)
        train_run(run, listener=ears)
        assert any("flip_vertical" in text and "becomes" in text for text in ears.heard) == warned
