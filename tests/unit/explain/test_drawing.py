"""What the views' pictures share."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from lamina.explain.drawing import as_picture, draw, largest, shorten, show_image, show_map, to_shares
from lamina.explain.views import ViewResult
from unit.explain.view_case import pixels


def test_long_names_keep_both_ends() -> None:
    assert shorten("short") == "short"
    assert shorten("n02123045 tabby cat, indoors", 12) == "n0212…ndoors"
    assert len(shorten("x" * 100, 16)) == 16


def test_a_figure_is_drawn_when_it_is_first_asked_for() -> None:
    asked = []

    def figure() -> bytes:
        asked.append(1)
        return b"png"

    shown = ViewResult({}, "", figure)
    assert shown.draws
    assert not asked
    assert shown.figure == shown.figure == b"png"
    assert len(asked) == 1
    assert not ViewResult({}, "").draws


def test_shares_lie_between_the_ends() -> None:
    assert to_shares(np.array([-1.0, 0.0, 3.0])).tolist() == [0.0, 0.25, 1.0]
    assert to_shares(np.array([-1.0, 5.0, 20.0]), low=0.0, high=10.0).tolist() == [0.0, 0.5, 1.0]
    assert to_shares(np.full(3, 7.0)).tolist() == [0.0, 0.0, 0.0]
    ends = np.array([[[0.0]], [[-1.0]]]), np.array([[[2.0]], [[1.0]]])
    assert to_shares(np.ones((2, 1, 1)), low=ends[0], high=ends[1]).ravel().tolist() == [0.5, 1.0]


def test_the_largest_magnitude_is_finite_and_never_zero() -> None:
    assert largest(np.array([1.0, -3.0, np.nan, np.inf])) == 3.0
    assert largest(np.zeros(3)) == 1.0


@pytest.mark.parametrize(("shape", "picture"), [((2, 7), (2, 1, 7)), ((3, 4, 5), (3, 4, 5)), ((1, 6, 4, 5), (1, 4, 5))])
def test_lines_images_and_volumes_become_pictures(shape: tuple[int, ...], picture: tuple[int, ...]) -> None:
    values = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    assert as_picture(values).shape == picture
    if len(shape) == 4:
        np.testing.assert_array_equal(as_picture(values)[0], values[0, 3])


def test_a_picture_holds_what_is_painted_and_names_of_any_kind() -> None:
    def paint(figure: object) -> None:
        axes = figure.subplots(1, 3)  # type: ignore[attr-defined]
        show_image(axes[0], np.stack([np.ones((4, 4)), np.zeros((4, 4)), np.zeros((4, 4))]))
        show_map(axes[1], np.eye(4), scale=1.0, signed=True)
        show_map(axes[2], np.eye(4), scale=0.0, signed=False)
        axes[0].set_title("$\\frac{ 猫 $")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = pixels(draw(paint, width=4, height=2, title="$x_ a title " * 12, note="a note " * 40)).astype(int)
    assert found.std() > 5
    assert ((found[..., 0] == 255) & (found[..., 1] == 0)).sum() > 1000, "the red image"
    assert (found[0] == 255).all(), "nothing touches the upper edge"
    assert (found[-1] == 255).all(), "nothing touches the lower edge"
    assert (found[:, [0, -1]] == 255).all(), "nothing touches the sides"
