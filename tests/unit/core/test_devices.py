"""The rules of auto: each from recipe and hardware, each with its reason."""

import pytest
import torch
from torch import nn

from lamina.core import devices
from lamina.core.devices import (
    Choice,
    choose_device,
    choose_layout,
    choose_precision,
    choose_threads,
    describe_hardware,
    multiply_adds,
    num_cores,
    use_threads,
)
from lamina.core.errors import DeviceError
from lamina.nn.recurrent import Recurrent

CPU = torch.device("cpu")


def conv(channels: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, channels, 3), nn.Conv2d(channels, channels, 3))


def test_devices_that_do_not_exist_are_refused_with_those_that_do() -> None:
    device, choice = choose_device("cpu")
    assert (device, choice) == (CPU, Choice("cpu", "it was asked for"))
    for wanted in ("cuda:7", "tpu", "quantum"):
        with pytest.raises(DeviceError) as caught:
            choose_device(wanted)
        assert wanted in caught.value.what
        assert "cpu" in caught.value.accepts
        assert "--device" in caught.value.mend
    assert choose_device("auto")[0] == choose_device(None)[0]


def test_threads_follow_the_work_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(devices, "num_cores", lambda: 8)
    assert choose_threads(None, work=1000).value == "1"
    assert "1,000 multiply-adds" in choose_threads(None, work=1000).reason
    assert choose_threads(None, work=10**9).value == "8"
    assert choose_threads(None, work=None).value == "8"
    assert choose_threads(None, work=1000, device=torch.device("meta")).value == "8"
    assert choose_threads(3, work=1000) == Choice("3", "it was asked for")
    for wrong in (0, -1, 100_000):
        with pytest.raises(DeviceError, match="cannot be used"):
            choose_threads(wrong)
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert "OMP_NUM_THREADS" in choose_threads(None, work=10**9).reason
    assert choose_threads(3).value == "3"


def test_threads_are_used() -> None:
    before = torch.get_num_threads()
    use_threads(before)
    assert torch.get_num_threads() == before
    assert num_cores() >= 1


def test_multiply_adds_are_counted_without_values_and_unknown_where_the_model_reads_them() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 64, 10))
    assert multiply_adds(model, torch.empty(2, 1, 8, 8)) == 2 * (8 * 8 * 4 * 9 + 256 * 10)
    assert next(model.parameters()).device == CPU
    assert model.training

    class Reader(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if float(x.sum()) > 0 else -x

    assert multiply_adds(Reader(), torch.empty(1, 3)) is None


def test_precision_follows_hardware_and_the_largest_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_bf16_hardware", lambda device: (True, "the processor has bf16 instructions"))
    assert choose_precision("auto", model=conv(64), device=CPU).value == "bf16"
    assert "convolution 1" in choose_precision("auto", model=conv(64), device=CPU).reason
    assert choose_precision("auto", model=conv(8), device=CPU).value == "fp32"
    volumes = choose_precision("auto", model=nn.Conv3d(64, 64, 3), device=CPU)
    assert (volumes.value, "3-d convolutions" in volumes.reason) == ("fp32", True)
    assert choose_precision("bf16", model=nn.Conv3d(64, 64, 3), device=CPU).value == "bf16"
    assert choose_precision("auto", model=nn.Linear(784, 16), device=CPU).value == "fp32"
    assert choose_precision("auto", model=nn.Linear(1024, 512), device=CPU).value == "bf16"
    assert choose_precision("auto", model=Recurrent("lstm", input_size=8, hidden_size=128), device=CPU).value == "fp32"
    recurrent = choose_precision("auto", model=Recurrent("lstm", input_size=8, hidden_size=192), device=CPU)
    assert (recurrent.value, "the recurrent layer layers.0 of 147,456" in recurrent.reason) == ("bf16", True)
    assert choose_precision("fp32", model=conv(64), device=CPU).value == "fp32"
    monkeypatch.setattr(devices, "_bf16_hardware", lambda device: (False, "the processor has no bf16 instructions"))
    assert choose_precision("auto", model=conv(64), device=CPU) == Choice(
        "fp32", "the processor has no bf16 instructions"
    )
    assert choose_precision("bf16", model=conv(64), device=CPU).value == "bf16"
    with pytest.raises(DeviceError, match="bf16 cannot be used on mps"):
        choose_precision("bf16", model=conv(64), device=torch.device("mps"))


def test_layout_follows_two_dimensional_convolutions() -> None:
    assert choose_layout("auto", model=conv(8), device=CPU).value == "channels_last"
    assert choose_layout("auto", model=nn.Linear(4, 4), device=CPU).value == "contiguous"
    assert choose_layout("auto", model=conv(8), device=torch.device("mps")).value == "contiguous"
    assert choose_layout("contiguous", model=conv(8), device=CPU) == Choice("contiguous", "it was asked for")


def test_hardware_is_described_in_plain_values() -> None:
    found = describe_hardware()
    assert found["cores"] == num_cores()
    assert isinstance(found["bf16"], bool)
    assert found["processor"]
