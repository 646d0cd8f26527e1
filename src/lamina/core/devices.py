"""Device, threads, precision and memory layout: what exists here, and the rule behind each `auto`.

A rule looks at the recipe, the network and the hardware and never at a clock, so that two runs on one machine choose the
same and stay bit-identical. Each choice comes with its reason in words; a run records both in `environment.json`.
"""

from __future__ import annotations

import copy
import os
import platform
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lamina.core.errors import DeviceError

__all__ = [
    "Choice",
    "choose_device",
    "choose_layout",
    "choose_precision",
    "choose_threads",
    "describe_hardware",
    "multiply_adds",
    "use_threads",
]

# Products of weight matrices below these sizes spend their time outside the arithmetic, where bf16 and a second thread
# do not help; benchmarks/ measures the neighbourhood of both numbers.
BIG_CONVOLUTION: Final = 8_192  # weights of one kernel: 32 -> 32 channels of 3x3 is 9,216
BIG_PRODUCT: Final = 262_144  # weights of one dense layer: 512 x 512
BIG_RECURRENT: Final = (
    131_072  # recurrent weights of one layer: an LSTM of 192 units has 147,456 (benchmarks/language.py)
)
SMALL_STEP: Final = 32_000_000  # multiply-adds of a step, forward: one thread below

_CONVOLUTIONS: Final = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class Choice:
    """What was chosen and why.

    Attributes:
        value: `bf16`, `channels_last`, `cpu`, `2`, …
        reason: A clause that can stand behind "because".
    """

    value: str
    reason: str

    def describe(self) -> dict[str, str]:
        """The JSON form in `environment.json`."""
        return {"value": self.value, "reason": self.reason}


def choose_device(wanted: str | None = None) -> tuple[torch.device, Choice]:
    """The device to work on.

    Args:
        wanted: `cpu`, `cuda`, `cuda:1`, `mps` …; None or `auto`: the first accelerator, else the processor.

    Raises:
        DeviceError: No such device here.
    """
    available = _available_devices()
    if wanted in (None, "auto"):
        best = next((name for name in available if name != "cpu"), "cpu")
        reason = "it is the first accelerator found" if best != "cpu" else "no accelerator was found"
        return torch.device(best), Choice(best, reason)
    assert wanted is not None
    name = "cuda:0" if wanted == "cuda" and "cuda:0" in available else wanted
    if name not in available:
        raise DeviceError(
            f"There is no device {wanted!r} here.",
            where="--device",
            accepts="auto, " + ", ".join(available),
            mend="leave --device out" if wanted.startswith(("cuda", "mps")) else f"use --device {available[0]}",
        )
    return torch.device(name), Choice(name, "it was asked for")


def choose_threads(wanted: int | None, *, work: int | None = None, device: torch.device | None = None) -> Choice:
    """The number of processor threads for tensor arithmetic.

    Args:
        wanted: A number; None: the rule.
        work: Multiply-adds of a step's forward pass, where they are known.
        device: Where the work is done.

    Raises:
        DeviceError: Less than one thread, or more than a sane multiple of the processors.
    """
    cores = num_cores()
    if wanted is not None:
        if not 1 <= wanted <= 16 * max(cores, os.cpu_count() or 1):
            raise DeviceError(
                f"{wanted} threads cannot be used.",
                where="--threads",
                accepts=f"1 to {cores} make sense here",
                mend="leave --threads out for the rule",
            )
        return Choice(str(wanted), "it was asked for")
    if "OMP_NUM_THREADS" in os.environ:
        return Choice(str(torch.get_num_threads()), "the environment variable OMP_NUM_THREADS says so")
    if work is not None and work < SMALL_STEP and (device is None or device.type == "cpu"):
        reason = f"a step has {work:,} multiply-adds: below {SMALL_STEP:,} a second thread costs more than it brings"
        return Choice("1", reason)
    return Choice(str(cores), f"{cores} cores may be used and the work is large enough to share")


def multiply_adds(model: nn.Module, example: Tensor) -> int | None:
    """Multiply-adds of a forward pass over an example, counted on meta tensors; None where the model cannot run so."""
    try:
        outline = copy.deepcopy(model).to("meta").eval()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            outline(example.to("meta"))
    except Exception:  # a model of anybody's: whatever it does without values, the answer is "unknown"
        return None
    return int(counter.get_total_flops()) // 2


def use_threads(number: int) -> None:
    """Use that many threads inside tensor operations from now on."""
    if torch.get_num_threads() != number:
        torch.set_num_threads(number)


def choose_precision(wanted: Literal["auto", "fp32", "bf16"], *, model: nn.Module, device: torch.device) -> Choice:
    """Arithmetic of the forward pass.

    bf16 keeps weights, loss and optimizer in float32 (autocast). The rule: bf16 where the hardware multiplies it natively
    and some layer is large enough for the multiplication to matter.

    Raises:
        DeviceError: bf16 was asked for where it does not exist.
    """
    native, hardware = _bf16_hardware(device)
    if wanted == "fp32":
        return Choice("fp32", "it was asked for")
    if wanted == "bf16":
        if device.type not in ("cpu", "cuda"):
            raise DeviceError(
                f"bf16 cannot be used on {device}.",
                where="training.precision",
                accepts="fp32, or auto",
                mend="training.precision=auto",
            )
        return Choice("bf16", "it was asked for" if native else f"it was asked for, though {hardware}")
    if not native:
        return Choice("fp32", hardware)
    if device.type == "cpu" and any(isinstance(module, nn.Conv3d) for module in model.modules()):
        # Seen with torch 2.13: NaN in the gradient when the memory held NaN before, on volumes of depth 2 and kernels of 3.
        reason = "the bf16 gradient of 3-d convolutions reads memory that nobody wrote where an axis is shorter than the kernel"
        return Choice("fp32", reason)
    big = _biggest_layer(model)
    if big is None:
        reason = (
            f"no layer is large enough for bf16 to pay: no convolution of {BIG_CONVOLUTION:,} weights, "
            f"no dense layer of {BIG_PRODUCT:,}, no recurrent one of {BIG_RECURRENT:,}"
        )
        return Choice("fp32", reason)
    return Choice("bf16", f"{hardware}, and {big} is large enough to gain")


def choose_layout(
    wanted: Literal["auto", "contiguous", "channels_last"], *, model: nn.Module, device: torch.device
) -> Choice:
    """Memory order of images and convolution kernels: channels last wherever there are 2-d convolutions with channels."""
    if wanted != "auto":
        return Choice(wanted, "it was asked for")
    if any(isinstance(module, nn.Conv2d) and module.out_channels > 1 for module in model.modules()):
        if device.type in ("cpu", "cuda"):
            return Choice("channels_last", "the network has 2-d convolutions, which are faster so")
        return Choice("contiguous", f"channels last is not known to be faster on {device.type}")
    return Choice("contiguous", "the network has no 2-d convolutions")


def num_cores() -> int:
    """Processors that this process may use: affinity counts, hyper-threads as torch counts them."""
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        allowed = os.cpu_count() or 1
    physical = (
        int(torch.cpu.get_capabilities().get("num_physical_cores", 0)) if hasattr(torch.cpu, "get_capabilities") else 0
    )
    return max(1, min(allowed, physical or allowed))


def describe_hardware() -> dict[str, Any]:
    """What the machine is, for `environment.json`."""
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return {
        "processor": str(capabilities.get("cpu_name") or platform.processor() or platform.machine()),
        "architecture": platform.machine(),
        "cores": num_cores(),
        "vector_instructions": torch.backends.cpu.get_cpu_capability(),
        "bf16": _bf16_hardware(torch.device("cpu"))[0],
        "devices": {name: _device_name(name) for name in _available_devices() if name != "cpu"},
    }


def _available_devices() -> list[str]:
    devices = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        devices.append("mps")
    return [*devices, "cpu"]


def _device_name(name: str) -> str:
    return torch.cuda.get_device_name(name) if name.startswith("cuda") else name


def _bf16_hardware(device: torch.device) -> tuple[bool, str]:
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        native = major >= 8
        return native, f"compute capability {major}.{minor} {'has' if native else 'has no'} bf16 products"
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        native = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))
        return native, f"the processor {'has' if native else 'has no'} bf16 instructions"
    return False, f"bf16 is not used on {device.type}"


def _biggest_layer(model: nn.Module) -> str | None:
    for name, module in model.named_modules():
        size = module.weight.numel() if isinstance(module, (nn.Linear, *_CONVOLUTIONS)) else 0
        if isinstance(module, _CONVOLUTIONS) and size >= BIG_CONVOLUTION:
            return f"the convolution {name or type(module).__name__} of {size:,} weights"
        if isinstance(module, nn.Linear) and size >= BIG_PRODUCT:
            return f"the dense layer {name or type(module).__name__} of {size:,} weights"
        recurrent = getattr(module, "weight_recurrent", None)
        if isinstance(recurrent, Tensor) and recurrent.numel() >= BIG_RECURRENT:
            return f"the recurrent layer {name or type(module).__name__} of {recurrent.numel():,} weights"
    return None
