"""Data from another file means what its names say, not what its indices are."""

import pytest
import torch

from lamina.core.errors import DataError
from lamina.data.columns import Columns, DataSpec, FieldSpec, column_spec
from lamina.tasks.alignment import align_columns


def labelled(classes, labels, origin=None):
    tensor = torch.tensor(labels)
    spec = DataSpec(columns={"label": column_spec("label", tensor, classes=tuple(classes))}, num_rows={})
    return Columns({"label": tensor}, origin=origin), spec


def aligned(wanted, found, **more):
    return align_columns(found[0], found=found[1], wanted=wanted[1], **more)


def test_a_subset_and_permutation_of_the_classes_is_matched_by_name():
    wanted = labelled(["cat", "dog", "owl"], [])
    found = labelled(["owl", "cat"], [0, 0, 1])
    assert aligned(wanted, found)["label"].tolist() == [2, 2, 0]


def test_the_same_spec_costs_nothing():
    wanted = labelled(["cat", "dog"], [0, 1])
    assert aligned(wanted, wanted) is wanted[0]


def test_classes_without_rows_may_be_unknown():
    assert aligned(labelled(["cat"], []), labelled(["bat", "cat"], [1, 1]))["label"].tolist() == [0, 0]


def test_unknown_classes_are_listed_with_rows_and_place():
    found = labelled(["Cat", "dog", "yak"], [1, 0, 2, 0], origin=["a:1", "a:2", "a:3", "a:4"])
    with pytest.raises(DataError) as caught:
        aligned(labelled(["cat", "dog"], []), found)
    text = str(caught.value)
    assert "'Cat' (2 rows), 'yak' (1 rows)" in text
    assert "a:2" in text
    assert "rename 'Cat' to 'cat'" in text


def test_labels_are_needed_to_judge():
    with pytest.raises(DataError, match=r"data\.label="):
        align_columns(
            Columns({"image": torch.zeros(1)}),
            found=DataSpec(columns={}, num_rows={}),
            wanted=labelled(["a"], [])[1],
            needed=("label",),
        )


def table(numbers=(), categories=(), targets=(), rows=2):
    """Number fields count up from 10 by name, category fields give (name, classes, codes)."""
    columns, specs = {}, {}
    for key, names in (("number", numbers), ("target", targets)):
        if names:
            columns[key] = torch.stack([torch.full((rows,), 10.0 * (ord(name[0]) - 96)) for name in names], dim=1)
            specs[key] = column_spec(key, columns[key], fields=tuple(FieldSpec(name=name) for name in names))
    if categories:
        columns["category"] = torch.tensor([codes for _, _, codes in categories]).T
        fields = tuple(FieldSpec(name=name, classes=tuple(classes)) for name, classes, _ in categories)
        specs["category"] = column_spec("category", columns["category"], fields=fields)
    return Columns(columns), DataSpec(columns=specs, num_rows={})


def test_numbers_and_targets_follow_their_names_and_extra_ones_are_left_out():
    wanted = table(numbers=["a", "b"], targets=["t", "u"])
    found = table(numbers=["c", "b", "a"], targets=["u", "t"])
    result = aligned(wanted, found)
    assert result["number"][0].tolist() == [10.0, 20.0]
    assert result["target"][0].tolist() == [200.0, 210.0]


def test_a_missing_feature_is_named_with_the_nearest():
    with pytest.raises(DataError, match="no 'bmi'") as caught:
        aligned(table(numbers=["age", "bmi"]), table(numbers=["age", "BMI"]))
    assert "is 'BMI' the same?" in str(caught.value)


def test_a_feature_read_as_something_else_is_said():
    with pytest.raises(DataError, match="'a' was read as category; in training it held numbers"):
        aligned(table(numbers=["a"]), table(numbers=["b"], categories=[("a", ["x"], [0, 0])]))


def test_categories_follow_their_names_and_new_values_count_as_missing():
    wanted = table(categories=[("colour", ["red", "green"], []), ("size", ["s", "l"], [])])
    found = table(
        categories=[("size", ["l", "s"], [0, 1, -1]), ("colour", ["blue", "green", "red"], [0, 1, 2])], rows=3
    )
    assert aligned(wanted, found)["category"].tolist() == [[-1, 1], [1, 0], [0, -1]]


def images(largest, maximum=None):
    pixels = torch.zeros(3, 1, 2, 2, dtype=torch.uint8)
    pixels[1] = largest
    return Columns({"image": pixels}), DataSpec(
        columns={"image": column_spec("image", pixels, maximum=maximum)}, num_rows={}
    )


def test_pixels_of_another_range_are_refused():
    with pytest.raises(DataError, match="up to 255; in training they went up to 16"):
        aligned(images(16, maximum=16), images(255))
    with pytest.raises(DataError, match="up to 16; in training they went up to 255"):
        aligned(images(255), images(16, maximum=16))
    # What stays within the training range may be the same data written elsewhere without that note.
    assert aligned(images(16, maximum=16), images(15)) is not None
    assert aligned(images(255), images(255)) is not None


def test_a_few_dark_images_of_a_small_range_are_the_same_range():
    """Of digits of 0 to 16, few rows may reach 15 only: the reader then takes 15 for the largest value."""
    for declared in (15, 8):
        assert aligned(images(16, maximum=16), images(declared, maximum=declared)) is not None
    for declared in (7, 1):
        with pytest.raises(DataError, match="in training they went up to 16"):
            aligned(images(16, maximum=16), images(declared, maximum=declared))


def sized(*shape):
    pixels = torch.zeros(2, *shape, dtype=torch.uint8)
    return Columns({"image": pixels}, origin=["a.csv:2", "a.csv:3"]), DataSpec(
        columns={"image": column_spec("image", pixels)}, num_rows={}
    )


def test_images_of_another_size_are_refused_with_a_mend_that_works():
    with pytest.raises(DataError, match="8x8 with 1 channel; in training they were 28x28 with 1 channel") as caught:
        aligned(sized(1, 28, 28), sized(1, 8, 8))
    assert "resize the images to 28x28" in caught.value.mend
    assert "permute" not in str(caught.value)
    assert caught.value.where == "a.csv:2"
    with pytest.raises(DataError, match="28x28 with 3 channels") as caught:
        aligned(sized(1, 28, 28), sized(3, 28, 28))
    assert "convert the images to 1 channel" in caught.value.mend
