"""Moves and disturbances do what they say; the views that use them count rightly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lamina.core import draws
from lamina.explain.disturbances import DISTURBANCES, MOVES, Draw, moved
from lamina.explain.views import show_view
from unit.explain.view_case import bar_subject, pixels

IMAGE = torch.arange(24.0).view(1, 1, 4, 6)


def draw(rows: torch.Tensor, *, number: int = 0) -> Draw:
    return Draw(draws.stream_key(0, "sample", "test", number), rows, 1.0)


def test_shifts_move_by_whole_pixels_and_repeat_the_border() -> None:
    right = moved(IMAGE, "shift-right", 2)
    torch.testing.assert_close(right[..., 2:], IMAGE[..., :-2])
    torch.testing.assert_close(right[..., :2], IMAGE[..., :1].expand(1, 1, 4, 2))
    down = moved(IMAGE, "shift-down", -1)
    torch.testing.assert_close(down[..., :-1, :], IMAGE[..., 1:, :])


def test_rotation_is_counter_clockwise_and_keeps_lengths() -> None:
    square = torch.arange(16.0).view(1, 1, 4, 4)
    torch.testing.assert_close(moved(square, "rotation", 90), square.rot90(1, (2, 3)), atol=1e-4, rtol=0)
    torch.testing.assert_close(moved(IMAGE, "rotation", 180), IMAGE.rot90(2, (2, 3)), atol=1e-4, rtol=0)
    wide = torch.zeros(1, 1, 9, 15)
    wide[..., 4, 5:10] = 1.0  # five pixels, lying; turned they stand, five pixels high
    torch.testing.assert_close(moved(wide, "rotation", 90)[0, 0, :, 7].sum(), torch.tensor(5.0), atol=1e-4, rtol=0)


def test_scaling_up_shows_the_middle() -> None:
    image = torch.zeros(1, 1, 8, 8)
    image[..., 3:5, 3:5] = 1.0
    assert moved(image, "scale", 2.0).sum() > 3 * image.sum()
    assert moved(image, "scale", 0.5).sum() < image.sum()


@pytest.mark.parametrize("kind", sorted(MOVES))
def test_the_neutral_amount_changes_nothing(kind: str) -> None:
    assert moved(IMAGE, kind, MOVES[kind].neutral) is IMAGE


@pytest.mark.parametrize("kind", sorted(DISTURBANCES))
def test_a_row_gets_the_same_disturbance_in_any_batch(kind: str) -> None:
    disturbance = DISTURBANCES[kind]
    images, rows = torch.rand(5, 3, 10, 12), torch.tensor([7, 1, 30, 2, 9])
    level = disturbance.levels[-1]
    together = disturbance.apply(images, level, draw(rows))
    alone = torch.cat([disturbance.apply(images[i : i + 1], level, draw(rows[i : i + 1])) for i in range(5)])
    assert torch.equal(together, alone)
    assert not torch.equal(together, images)
    assert together.min() >= 0
    assert together.max() <= 1
    assert torch.equal(disturbance.apply(images, level, draw(rows, number=1)), together) != disturbance.is_random
    assert not torch.equal(together[0] - images[0], together[1] - images[1])


def test_levels_mean_what_they_say() -> None:
    images, rows = torch.zeros(200, 1, 20, 20), torch.arange(200)
    covered = DISTURBANCES["occlusion"].apply(images, 0.25, draw(rows))
    assert set(covered.unique().tolist()) == {0.0, 0.5}
    assert torch.equal((covered > 0).flatten(start_dim=1).sum(dim=1), torch.full((200,), 100))
    noisy = DISTURBANCES["noise"].apply(images + 0.5, 0.1, draw(rows))
    assert float(noisy.std()) == pytest.approx(0.1, rel=0.05)
    torch.testing.assert_close(DISTURBANCES["light"].apply(images + 0.8, 0.5, draw(rows)), images + 0.4)


def test_invariance_of_a_network_that_knows_its_moves() -> None:
    shown = show_view("invariance", bar_subject(), shifts=(-2.0, 0.0, 2.0), rotations=(0.0, 90.0))
    moves = shown.document["moves"]
    assert shown.document["accuracy"] == 1.0
    assert moves["shift-right"]["accuracy"] == [1.0, 1.0, 1.0]  # a bar is a bar wherever it is
    assert moves["rotation"]["accuracy"] == [1.0, 0.0]  # and turned it is the other
    assert moves["rotation"]["same"] == [1.0, 0.0]
    np.testing.assert_array_equal(shown.arrays["rotation/accuracy"], [1.0, 0.0])
    assert pixels(shown.figure).std() > 5


def test_robustness_falls_with_the_level_and_is_keyed() -> None:
    first = show_view("robustness", bar_subject(), noise=(0.0, 0.2, 3.0), draws=2)
    noise = first.document["disturbances"]["noise"]
    assert noise["accuracy"][0] == 1.0
    assert noise["accuracy"][2] < 0.9
    assert all(
        low <= mean <= high
        for low, mean, high in zip(noise["lowest"], noise["accuracy"], noise["highest"], strict=True)
    )
    again = show_view("robustness", bar_subject(), noise=(0.0, 0.2, 3.0), draws=2)
    assert again.document == first.document
    other = show_view("robustness", bar_subject(), noise=(0.0, 0.2, 3.0), draws=2, seed=1)
    assert other.document["disturbances"] != first.document["disturbances"]
