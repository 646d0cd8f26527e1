"""Windows of any series: no training window sees another split, and nothing of the future is looked at."""

from __future__ import annotations

from dataclasses import replace

import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lamina.core.errors import DataError
from lamina.data.columns import Data, DataSpec, FieldSpec, SeriesTiming, column_spec
from lamina.data.config import DataConfig
from lamina.data.preprocessing import Preprocessing
from lamina.data.series import SeriesColumns, WindowColumns, WindowLengths
from lamina.data.splits import split_data
from lamina.models.factory import create_model


def data_of(rows: int, lengths: WindowLengths, *, width: int = 2, seed: int = 0) -> Data:
    """Every value tells its row, so that windows can be followed; plus some noise for the statistics."""
    noise = torch.rand(rows, width, generator=torch.Generator().manual_seed(seed))
    values = torch.arange(rows).float().unsqueeze(1) + noise / 4
    columns = SeriesColumns(values, torch.arange(rows) * 3600, lengths=lengths)
    series = column_spec(
        "series", values, fields=tuple(FieldSpec(name=n) for n in "ab"), timing=SeriesTiming(seconds=3600)
    )
    spec = DataSpec(columns={"series": series, "time": column_spec("id", columns["time"])}, num_rows={}, ordered=True)
    return Data({"all": columns}, spec)


@given(
    rows=st.integers(12, 120),
    past=st.integers(1, 20),
    horizon=st.integers(1, 10),
    stride=st.integers(1, 4),
    valid=st.floats(0.05, 0.5),
    test=st.floats(0.0, 0.4),
    limit=st.one_of(st.none(), st.integers(1, 60)),
)
def test_windows_keep_to_their_splits(
    rows: int, past: int, horizon: int, stride: int, valid: float, test: float, limit: int | None
) -> None:
    lengths = WindowLengths(past, horizon, stride)
    config = DataConfig(valid_fraction=valid, test_fraction=test, limit=limit)
    try:
        data = split_data(data_of(rows, lengths), config, seed=0)
    except DataError:
        assume(False)
    train = data.rows["train"]
    ends = 0
    for name, columns in data.splits.items():
        assert isinstance(columns, WindowColumns)
        own = set(data.rows[name].tolist())
        assert min(own) >= ends, "splits follow each other"
        ends = max(own) + 1
        for number in range(columns.num_rows):
            window = columns.batch(torch.tensor([number]))
            before = window["past"][0, :, 0].floor().long().tolist()
            after = window["future"][0, :, 0].floor().long().tolist()
            assert before + after == list(range(before[0], before[0] + past + horizon)), "rows follow each other"
            assert set(after) <= own, "what is forecast is the split's"
            if name == "train":
                assert set(before) <= own, "training sees nothing else"
            assert window["past_time"][0].tolist() == [row * 3600 for row in before]
        firsts = columns.first.diff()
        assert bool((firsts == stride).all())
    assert train.tolist() == list(range(int(train[0]), int(train[-1]) + 1))


@given(rows=st.integers(30, 80), seed=st.integers(0, 50))
def test_scaling_sees_training_only(rows: int, seed: int) -> None:
    data = data_of(rows, WindowLengths(4, 2), seed=seed)
    config = DataConfig(valid_fraction=0.2, test_fraction=0.2)
    plain = split_data(data, config, seed=0)
    last = int(plain.rows["train"][-1]) + 1
    whole = data.splits["all"]
    assert isinstance(whole, SeriesColumns)
    changed = whole.whole.clone()
    changed[last:] = 1e6
    other = SeriesColumns(changed, whole.times, lengths=whole.lengths)
    disturbed = split_data(replace(data, splits={"all": other}), config, seed=0)
    first, second = (Preprocessing.fit((), found.splits["train"], found.spec) for found in (plain, disturbed))
    assert plain.spec == disturbed.spec
    assert first.spec == second.spec
    for key, tensor in first.tensors().items():
        assert torch.equal(tensor, second.tensors()[key])


@settings(max_examples=40)
@given(step=st.integers(0, 19), seed=st.integers(0, 20))
def test_convolutions_are_causal(step: int, seed: int) -> None:
    model = create_model(
        "cnn_forecaster", seed=seed, in_channels=2, out_channels=2, past_length=20, horizon=3, channels=4, level="none"
    )
    model.eval()
    past = torch.rand(1, 20, 2, generator=torch.Generator().manual_seed(seed))
    changed = past.clone()
    changed[:, step] += 1.0
    with torch.no_grad():
        before, after = (model.blocks(window.transpose(1, 2)) for window in (past, changed))  # type: ignore[operator]
    assert torch.equal(before[:, :, :step], after[:, :, :step])
    assert model.receptive_field >= 20


@settings(max_examples=20)
@given(seed=st.integers(0, 30), shift=st.floats(-50, 50))
def test_with_the_last_value_taken_out_a_shifted_past_shifts_the_forecast(seed: int, shift: float) -> None:
    past = torch.rand(2, 16, 3, generator=torch.Generator().manual_seed(seed)).double()
    for name in ("dlinear", "lstm_forecaster", "cnn_forecaster"):
        size = {"in_channels": 3, "out_channels": 3, "past_length": 16, "horizon": 4}
        model = create_model(name, seed=seed, level="last", **size).double().eval()
        with torch.no_grad():
            torch.testing.assert_close(model(past + shift), model(past) + shift, rtol=1e-9, atol=1e-9)
