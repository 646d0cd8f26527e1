"""k-nearest neighbours: what is stored, who votes, what is said."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from lamina.core.errors import DataError, DtypeError, ShapeError, UsageError
from lamina.core.tensorfile import pack_tensors
from lamina.models.factory import load_weights
from lamina.models.knn import KNN


def stored(rows: list[list[float]], labels: list[int], **options: object) -> KNN:
    model = KNN(in_features=len(rows[0]), **{"num_classes": 3, "k": 3, **options})  # type: ignore[arg-type]
    model.store(torch.tensor(rows), torch.tensor(labels))
    return model


def test_probabilities_are_smoothed_shares_of_the_votes() -> None:
    model = stored([[0.0], [1.0], [2.0], [9.0]], [0, 1, 1, 2], smoothing=0.03)
    probabilities = model(torch.tensor([[0.9]])).softmax(1)
    expected = [0.97 * share + 0.01 for share in (1 / 3, 2 / 3, 0.0)]
    assert probabilities[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_equal_votes_are_decided_by_the_nearest() -> None:
    model = stored([[0.0], [1.0], [3.0]], [2, 0, 1])
    assert model(torch.tensor([[0.1], [0.9], [2.9]])).argmax(1).tolist() == [2, 0, 1]
    two = stored([[0.0], [1.0], [2.0], [3.0]], [1, 0, 0, 1], k=4)
    assert two(torch.tensor([[0.1], [1.2]])).argmax(1).tolist() == [1, 0]
    assert two(torch.tensor([[0.1]])).softmax(1)[0].tolist() == pytest.approx([0.49835, 0.49835, 0.0033], abs=1e-4)


def test_equal_distances_go_to_the_row_stored_first() -> None:
    model = stored([[1.0], [-1.0], [1.0]], [0, 1, 2], k=1)
    distances, rows = model.neighbours(torch.tensor([[0.0]]), k=3)
    assert rows.tolist() == [[0, 1, 2]]
    assert distances.tolist() == [[1.0, 1.0, 1.0]]
    assert model(torch.tensor([[0.0]])).argmax(1).tolist() == [0]


def test_weights_by_distance() -> None:
    model = stored([[0.0], [3.0], [4.0]], [0, 1, 1], votes="distance", smoothing=1e-6)
    votes = [1 / 1.0, 1 / 2.0 + 1 / 3.0]
    assert model(torch.tensor([[1.0]])).softmax(1)[0, :2].tolist() == pytest.approx(
        [v / sum(votes) for v in votes], abs=1e-5
    )
    assert model(torch.tensor([[3.0]])).softmax(1)[0, 1] > 0.99999, "at distance 0 the row has all votes"


@pytest.mark.parametrize(("metric", "distance"), [("l1", 7.0), ("l2", 5.0), ("cosine", 1.0)])
def test_distances_are_in_the_metrics_own_units(metric: str, distance: float) -> None:
    rows = [[3.0, 4.0]] if metric != "cosine" else [[-4.0, 3.0]]
    query = [[0.0, 0.0]] if metric != "cosine" else [[3.0, 4.0]]
    model = stored(rows, [0], metric=metric)
    assert model.neighbours(torch.tensor(query))[0].item() == pytest.approx(distance, abs=1e-12)


def test_regression_predicts_the_neighbours_mean() -> None:
    model = KNN(in_features=1, num_classes=2, k=2, regression=True)
    model.store(torch.tensor([[0.0], [1.0], [8.0]]), torch.tensor([[0.0, 10.0], [2.0, 30.0], [9.0, 9.0]]))
    assert model(torch.tensor([[0.4]])).tolist() == [[1.0, 20.0]]


def test_small_batches_store_what_one_batch_stores() -> None:
    pixels = torch.randint(0, 256, (200, 6), generator=torch.Generator().manual_seed(0)).float()
    inputs, labels = pixels * torch.tensor(1 / 255), torch.arange(200) % 3
    whole, parts = KNN(in_features=6, num_classes=3), KNN(in_features=6, num_classes=3)
    whole.store(inputs, labels)
    for start in range(0, 200, 7):
        logged = parts.learn(inputs[start : start + 7], labels[start : start + 7])
    assert float(logged["stored_rows"][0]) == 200
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, parts.state_dict()[name]), name
    assert torch.equal(whole(inputs[:5]), parts(inputs[:5]))


def test_pixels_are_kept_as_bytes_without_loss() -> None:
    pixels = torch.arange(256).view(-1, 1).float()
    for levels in (255, 16):
        inputs = (pixels[: levels + 1]) * torch.tensor(1 / levels, dtype=torch.float64).float()
        model = KNN(in_features=1, num_classes=2)
        model.store(inputs, torch.zeros(len(inputs), dtype=torch.int64))
        assert model.rows.dtype == torch.uint8
        assert torch.equal(model.stored_rows(torch.arange(len(inputs))), inputs)
    assert not [name for name, buffer in model.named_buffers() if buffer.is_floating_point()]


def test_other_values_turn_bytes_into_floats() -> None:
    model = KNN(in_features=1, num_classes=2, k=1)
    model.store(torch.tensor([[0.0], [1.0]]), torch.tensor([0, 1]))
    assert model.rows.dtype == torch.uint8
    model.store(torch.tensor([[0.123456]]), torch.tensor([0]))
    assert model.rows.dtype == torch.float32
    assert model.rows[:, 0].tolist() == pytest.approx([0.0, 1.0, 0.123456])
    model.store(torch.tensor([[0.5]]), torch.tensor([1]))
    assert model(torch.tensor([[0.49]])).argmax().item() == 1


def test_a_state_dict_brings_its_rows_along(tmp_path: Path) -> None:
    model = stored([[0.0, 0.5], [1.0, 0.25], [0.3, 0.9]], [0, 1, 2])
    fresh = KNN(in_features=2, num_classes=3, k=3)
    fresh.load_state_dict(model.state_dict())
    queries = torch.rand(4, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(fresh(queries), model(queries))
    (tmp_path / "model.safetensors").write_bytes(pack_tensors(model.state_dict()))
    read = KNN(in_features=2, num_classes=3, k=3)
    load_weights(read, tmp_path)
    assert torch.equal(read(queries), model(queries))
    with pytest.raises(RuntimeError, match="size mismatch"):
        KNN(in_features=3, num_classes=3).load_state_dict(model.state_dict())


def test_the_index_follows_what_is_stored_loaded_and_moved() -> None:
    model = stored([[0.0], [1.0]], [0, 1], k=1)
    query = torch.tensor([[5.0]])
    assert model(query).argmax().item() == 1
    model.store(torch.tensor([[4.0]]), torch.tensor([2]))
    assert model(query).argmax().item() == 2
    copied = copy.deepcopy(model)
    copied.store(torch.tensor([[5.0]]), torch.tensor([0]))
    assert (copied(query).argmax().item(), model(query).argmax().item()) == (0, 2)
    model.load_state_dict(stored([[5.0]], [1]).state_dict())
    assert model(query).argmax().item() == 1
    index = model._search()
    assert model._search() is index
    model.rows.add_(16)  # bytes that stand for sixteenths
    assert model._search() is not index
    assert model.neighbours(query)[0].item() == pytest.approx(1.0)
    assert model.to(torch.device("cpu"))(query).argmax().item() == 1


def test_autocast_does_not_blur_it() -> None:
    model = stored([[1.0], [1.001], [5.0]], [0, 1, 2], k=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(torch.tensor([[1.0009]])).argmax().item() == 1


def test_nothing_stored() -> None:
    with pytest.raises(UsageError, match="stored no rows") as caught:
        KNN(in_features=2)(torch.zeros(1, 2))
    assert "model.store" in caught.value.mend
    assert KNN(in_features=2, num_classes=4)(torch.zeros(3, 2, device="meta")).shape == (3, 4)


def test_more_neighbours_than_rows_means_all_rows() -> None:
    assert stored([[0.0], [1.0]], [0, 0], k=9)(torch.tensor([[0.0]])).argmax().item() == 0


def test_what_cannot_be_stored_is_refused() -> None:
    model = KNN(in_features=2, num_classes=3)
    with pytest.raises(DataError, match="Row 1 of the batch has a value that is NaN"):
        model.store(torch.tensor([[0.0, 0.0], [0.0, float("nan")]]), torch.tensor([0, 1]))
    with pytest.raises(DataError, match="the target 3") as caught:
        model.store(torch.zeros(1, 2), torch.tensor([3]))
    assert "labels from 0 to 2" in caught.value.accepts
    with pytest.raises(ShapeError, match=r"targets shaped \(1, 1\)"):
        model.store(torch.zeros(1, 2), torch.tensor([[1]]))
    with pytest.raises(ShapeError, match="KNN got inputs shaped"):
        model.store(torch.zeros(1, 3), torch.tensor([1]))
    with pytest.raises(DtypeError):
        model.store(torch.zeros(1, 2, dtype=torch.uint8), torch.tensor([1]))
    assert model.num_rows == 0


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"targets": torch.tensor([0, 1])}, "3 rows and 2 targets"),
        ({"targets": torch.tensor([0, 1, 9])}, "labels from 0 to 9 for 3 classes"),
        ({"levels": torch.tensor(255)}, "levels of 255"),
        ({"rows": torch.zeros(3, 1, dtype=torch.uint8)}, "rows of torch.uint8 and levels of 0"),
    ],
)
def test_a_state_that_contradicts_itself_is_refused(changes: dict[str, torch.Tensor], text: str) -> None:
    state = {**stored([[0.1], [1.2], [2.3]], [0, 1, 2]).state_dict(), **changes}
    with pytest.raises(DataError, match=text):
        load_weights(KNN(in_features=1, num_classes=3), state)
