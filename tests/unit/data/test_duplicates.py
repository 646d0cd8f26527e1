"""Duplicates and leaks: planted ones are found, others are not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lamina.data import duplicates
from lamina.data.columns import Columns, Data, DataSpec, FieldSpec, column_spec
from lamina.data.decoded_ahead import LoadedColumns, RowLoader
from lamina.data.duplicates import find_duplicates, find_leaks, image_vectors, input_columns, leaks_of, row_hashes


def data_of(splits: dict[str, dict[str, Tensor]], **classes: tuple[str, ...]) -> Data:
    first = next(iter(splits.values()))
    roles = {"image": "image", "number": "number", "category": "category", "tokens": "tokens", "target": "target"}
    specs = {}
    for name, tensor in first.items():
        fields = ()
        if name in ("number", "category"):
            fields = tuple(FieldSpec(name=f"f{i}", classes=tuple("abc")) for i in range(tensor.shape[1]))
        role = roles.get(name, "label")
        specs[name] = column_spec(role, tensor, fields=fields, classes=classes.get(name))  # type: ignore[arg-type]
    columns = {name: Columns(tensors) for name, tensors in splits.items()}
    return Data(splits=columns, spec=DataSpec(columns=specs, num_rows={n: c.num_rows for n, c in columns.items()}))


def random_images(num: int, *, seed: int = 0, size: int = 20, channels: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 200, (num, channels, size, size), generator=generator, dtype=torch.uint8)


def test_planted_leaks_are_found_with_their_places() -> None:
    train, test = random_images(50), random_images(20, seed=1)
    test[7] = train[31]  # exact
    test[3] = (train[40].float() * 0.8 + 30).round().byte()  # other brightness and contrast
    labels = {"train": torch.arange(50) % 5, "test": torch.arange(20) % 5}
    labels["test"][7] = labels["train"][31]
    labels["test"][3] = (labels["train"][40] + 1) % 5
    data = data_of(
        {"train": {"image": train, "label": labels["train"]}, "test": {"image": test, "label": labels["test"]}}
    )
    data.splits["test"].origin = [f"test.csv:{i + 2}" for i in range(20)]
    leaks = leaks_of(find_duplicates(data))
    assert [(leak["splits"], leak["rows"], leak["kind"], leak["labels_agree"]) for leak in leaks] == [
        (["train", "test"], [31, 7], "exact", True),
        (["train", "test"], [40, 3], "near", False),
    ]
    assert leaks[0]["origins"] == ["train row 31", "test.csv:9"]
    assert (
        "row 3 of test (test.csv:5) nearly equals row 40 of train (train row 40), with another label"
        in leaks[1]["message"]
    )
    assert [leak["kind"] for leak in find_leaks(data)] == ["exact"]
    assert len(find_leaks(data, exact_only=False)) == 2


def test_a_row_in_three_splits_leaks_between_each_pair() -> None:
    number = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    data = data_of({"train": {"number": number}, "valid": {"number": number[4:5]}, "test": {"number": number[4:6]}})
    assert [leak["splits"] + leak["rows"] for leak in find_leaks(data)] == [
        ["train", "valid", 4, 0],
        ["train", "test", 4, 0],
        ["valid", "test", 0, 0],
        ["train", "test", 5, 1],
    ]


def test_groups_within_a_split() -> None:
    images = random_images(30)
    images[[5, 17, 29]] = images[2].clone()
    images[11] = images[10]
    found = find_duplicates(data_of({"all": {"image": images}}))
    assert [group.tolist() for group in found.groups()] == [[2, 5, 17, 29], [10, 11]]
    assert len(found.pairs) == 0
    assert find_leaks(data_of({"all": {"image": images}})) == []


def test_nan_equals_nan_and_minus_zero_equals_zero() -> None:
    nan = float("nan")
    number = torch.tensor([[nan, 0.0], [1.0, 2.0], [nan, -0.0], [2.0, 1.0]])
    found = find_duplicates(data_of({"all": {"number": number}}))
    assert [group.tolist() for group in found.groups()] == [[0, 2]]


def test_all_inputs_count() -> None:
    number, category = torch.ones(4, 2), torch.tensor([[0], [1], [0], [-1]])
    found = find_duplicates(data_of({"all": {"number": number, "category": category}}))
    assert [group.tolist() for group in found.groups()] == [[0, 2]]


def test_hashes_tell_small_differences_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(0, 2, (20000, 40), generator=generator, dtype=torch.uint8)
    assert len(torch.unique(row_hashes([rows]))) == len(torch.unique(rows, dim=0))
    swapped = torch.tensor([[1, 2], [2, 1]])
    assert len(torch.unique(row_hashes([swapped]))) == 2
    assert len(torch.unique(row_hashes([swapped[:1], swapped[1:]]))) == 1
    assert row_hashes([swapped, swapped.flip(1)])[0] != row_hashes([swapped.flip(1), swapped])[0]


def test_rows_that_only_share_a_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "row_hashes", lambda tensors: next(iter(tensors))[:, 0].long() * 0)
    number = torch.tensor([[1.0], [2.0], [1.0]])
    found = find_duplicates(data_of({"all": {"number": number}}), near=False)
    assert [group.tolist() for group in found.groups()] == [[0, 2]]


def test_near_rows_of_tables() -> None:
    generator = torch.Generator().manual_seed(1)
    number = torch.randn(300, 6, generator=generator).double()
    number[200] = number[10] + 1e-4
    number[201] = number[20] + 1e-2
    number[202] = number[30] + 1e-5
    category = torch.randint(0, 3, (300, 2), generator=generator)
    category[[200, 201]] = category[[10, 20]]
    category[202] = (category[30] + 1) % 3
    found = find_duplicates(data_of({"all": {"number": number.float(), "category": category}}))
    assert found.pairs.tolist() == [[10, 200]]


def test_missing_values_are_near_missing_values_only() -> None:
    number = torch.tensor([[1.0, float("nan")], [1.00001, float("nan")], [1.00001, 0.0], [3.0, 1.0], [5.0, 4.0]])
    found = find_duplicates(data_of({"all": {"number": number}}))
    assert found.pairs.tolist() == [[0, 1]]


def test_flat_and_unlike_images_are_not_near() -> None:
    images = random_images(200)
    images[:5] = torch.arange(5, dtype=torch.uint8).view(-1, 1, 1, 1)
    images[10] = 255 - images[11]
    images[12] = images[13].roll(3, dims=2)
    assert len(find_duplicates(data_of({"all": {"image": images}})).pairs) == 0


def test_colours_are_not_compared_but_structure_is() -> None:
    images = random_images(40, channels=3, size=32)
    images[30] = images[3].flip(0)
    found = find_duplicates(data_of({"all": {"image": images}}))
    assert found.pairs.tolist() == [[3, 30]]


def test_the_pruned_search_finds_what_comparing_all_pairs_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_BLOCK", 64)
    monkeypatch.setattr(duplicates, "_TILE", 100)
    generator = torch.Generator().manual_seed(2)
    centres = torch.randn(60, 1, 16, 16, generator=generator).repeat_interleave(8, dim=0)
    images = centres + 0.12 * torch.randn(480, 1, 16, 16, generator=generator)
    vectors = image_vectors(images, 16)
    for least in (0.99, 0.98, 0.9):
        cosine = (vectors.double() @ vectors.double().T).triu(1)
        assert bool(((cosine - least).abs() > 1e-6).all()), "no pair so near the border that rounding decides"
        wanted = torch.nonzero(cosine >= least).tolist()
        got = duplicates.near_vectors(vectors, least=least, notes=[])
        assert sorted(got.tolist()) == wanted
        assert wanted


@pytest.mark.parametrize("width", [2, 3, 40])
def test_the_bounds_lose_no_pair_where_they_are_tight(width: int) -> None:
    """In few dimensions the bound is the cosine itself, and angles differ by as much as they may."""
    vectors = torch.randn(600, width, generator=torch.Generator().manual_seed(width))
    vectors[:, 3:] *= 0.01
    vectors = torch.nn.functional.normalize(vectors, dim=1)
    for least in (0.99, 0.95):
        cosine = (vectors.double() @ vectors.double().T).triu(1)
        sure = (cosine - least).abs() > 1e-6
        got = torch.zeros_like(cosine, dtype=torch.bool)
        got[duplicates.near_vectors(vectors, least=least, notes=[]).unbind(1)] = True
        assert bool((got == (cosine >= least))[sure].all())
        assert int(got.sum()) > 100


def test_images_alike_from_afar_only_are_not_near() -> None:
    images = random_images(30, size=16).repeat_interleave(4, dim=2).repeat_interleave(4, dim=3) // 2 + 60
    fine = torch.tensor([[50, -50], [-50, 50]]).repeat(32, 32)
    images[20] = (images[3].int() + fine).byte()
    assert len(find_duplicates(data_of({"all": {"image": images}})).pairs) == 0
    images[20] = (images[3].int() + fine // 25).byte()
    assert find_duplicates(data_of({"all": {"image": images}})).pairs.tolist() == [[3, 20]]


def test_too_many_pairs_stop_the_search_and_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "MAX_PAIRS", 10)
    monkeypatch.setattr(duplicates, "MAX_NEAR_ROWS", 40)
    base = random_images(1).float() / 2
    images = (base + torch.arange(60).view(-1, 1, 1, 1)).byte()
    images = torch.cat([images, random_images(10, seed=3)])
    found = find_duplicates(data_of({"all": {"image": images}}))
    assert any("more than 10 near pairs" in note for note in found.notes)
    assert any("among 40 rows drawn from 70" in note for note in found.notes)
    monkeypatch.setattr(duplicates, "MAX_NEAR_ROWS", 1000)
    number = torch.arange(100).view(-1, 1) * 1e-6
    number[-1] = 10.0
    assert any("more than 10" in note for note in find_duplicates(data_of({"all": {"number": number}})).notes)


def test_a_stream_of_tokens_has_no_duplicates() -> None:
    data = data_of({"all": {"tokens": torch.zeros(10, dtype=torch.uint8)}})
    assert input_columns(data) == []
    assert find_duplicates(data).notes
    sequences = data_of({"all": {"tokens": torch.zeros(4, 3, dtype=torch.int64)}})
    assert find_duplicates(sequences).num_groups == 1


class _Stored(RowLoader):
    def __init__(self, images: Tensor) -> None:
        self.images, self.shape, self.dtype = images, tuple(images.shape), images.dtype

    def load(self, rows: list[int]) -> Tensor:  # type: ignore[override]
        return self.images[rows]


def test_images_that_stay_in_their_files() -> None:
    images = random_images(30)
    images[20] = images[4]
    images[21] = images[5] // 2
    data = data_of({"train": {"image": images[:10]}, "test": {"image": images[10:]}})
    for name, columns in data.splits.items():
        data.splits[name] = LoadedColumns({}, loaders={"image": _Stored(columns["image"])}, max_bytes=1)
    assert [(leak["rows"], leak["kind"]) for leak in leaks_of(find_duplicates(data))] == [
        ([4, 10], "exact"),
        ([5, 11], "near"),
    ]
    assert find_leaks(data) == [], "training does not read every image for this"
