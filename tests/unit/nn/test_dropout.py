"""Keyed dropout: masks as pure functions of (seed, step, layer, row), their statistics, and use without an engine."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from lamina.core.errors import ConfigError
from lamina.nn.dropout import Dropout, DropoutKeys, SpatialDropout, _hash, _lanes


def _key(first: int, row: int = 0) -> Tensor:
    return torch.tensor([first, row], dtype=torch.int32)


def _driven(layer: Dropout | SpatialDropout, first: int = 12345, row: int = 0) -> Dropout | SpatialDropout:
    layer.engine_driven = True
    layer.key = _key(first, row)
    return layer


def _mask(p: float, shape: tuple[int, ...], first: int = 12345, row: int = 0) -> Tensor:
    return _driven(Dropout(p), first, row)(torch.ones(shape)) != 0


# --- statistics -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.01, 0.1, 0.2, 0.3, 0.5, 0.9])
def test_share_of_dropped_elements(p: float) -> None:
    num = 64 * 16384
    kept = _mask(p, (64, 16384)).sum().item()
    assert abs(kept / num - (1 - p)) < 5 * math.sqrt(p * (1 - p) / num) + 1 / 65536


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("p", [0.1, 0.3, 1 / 3])
def test_expectation_is_exact(p: float, dtype: torch.dtype) -> None:
    """Kept elements are scaled by the true probability of being kept, so that scale * share of lanes kept is one."""
    layer = _driven(Dropout(p))
    out = layer(torch.ones(4, 1000, dtype=dtype))
    assert out.dtype == dtype
    scale = out.max().item()
    kept = (65536 - round(p * 65536)) / 65536
    assert layer.keep_prob == kept
    assert scale == pytest.approx(1 / kept, rel=torch.finfo(dtype).eps)


def test_lanes_are_uniform_in_both_bytes() -> None:
    lanes = _lanes(_key(99), num_rows=256, width=4096).to(torch.int64) + 32768
    assert lanes.min() >= 0
    assert lanes.max() <= 65535
    num = lanes.numel()
    for part in (lanes >> 8, lanes & 255, lanes[:, ::2] >> 8, lanes[:, 1::2] & 255):
        counts = part.flatten().bincount(minlength=256).double()
        expected = part.numel() / 256
        chi_square = ((counts - expected).square() / expected).sum().item()
        assert abs(chi_square - 255) < 5 * math.sqrt(2 * 255), chi_square
    assert num == 256 * 4096


def _signs(p_mask: Tensor) -> Tensor:
    return p_mask.double() * 2 - 1


def test_rows_are_independent() -> None:
    signs = _signs(_mask(0.5, (64, 8192)))
    correlation = (signs @ signs.T) / 8192
    off = correlation - torch.eye(64)
    assert off.abs().max().item() < 5.2 / math.sqrt(8192)  # of 2016 pairs
    assert off.square().mean().item() == pytest.approx(1 / 8192, rel=0.1)


def test_neighbouring_elements_are_independent() -> None:
    signs = _signs(_mask(0.5, (1, 1 << 20))).flatten()
    for lag in [*range(1, 20), 32, 64, 4096]:
        assert abs((signs[lag:] * signs[:-lag]).mean().item()) < 5 / math.sqrt(1 << 20), lag


def test_three_neighbours_are_independent() -> None:
    signs = _signs(_mask(0.5, (1, 1 << 20))).flatten()
    triple = signs[:-2] * signs[1:-1] * signs[2:]
    assert abs(triple.mean().item()) < 5 / math.sqrt(1 << 20)


def test_layers_and_steps_are_independent() -> None:
    model = nn.Sequential(*[Dropout(0.5) for _ in range(8)])
    keys = DropoutKeys(model, 0)
    masks = []
    for step in range(8):
        keys.refresh(step)
        masks += [_signs(layer(torch.ones(4, 4096)) != 0).flatten() for layer in model]
    signs = torch.stack(masks)
    correlation = signs @ signs.T / signs.shape[1]
    off = correlation - torch.eye(64)
    assert off.abs().max().item() < 5.2 / math.sqrt(signs.shape[1])


def test_no_mask_is_another_one_shifted() -> None:
    """Two keys must not give the same sequence from another place, not even keys whose counters overlap."""
    far = 1 + 5 * 0x9E3779B9 - (3 << 32)
    one, two = (_signs(_mask(0.5, (1, 1 << 16), first)).flatten() for first in (1, far))
    spectrum = torch.fft.rfft(one) * torch.fft.rfft(two).conj()
    assert torch.fft.irfft(spectrum).abs().max().item() / (1 << 16) < 6 / math.sqrt(1 << 16)


def test_every_bit_of_counter_and_key_reaches_every_bit() -> None:
    """Flipping one input bit flips each output bit in half of the cases (5 sigma of 2**16 cases, of 2 * 32 * 32 pairs)."""
    generator = torch.Generator().manual_seed(0)
    draw = {"dtype": torch.int32, "generator": generator}
    counters, key = torch.randint(-(1 << 31), (1 << 31) - 1, (1 << 16,), **draw), torch.randint(0, 1 << 30, (), **draw)
    golden = 0x9E3779B9 - (1 << 32)

    def words(counters: Tensor, key: Tensor) -> Tensor:
        return _hash(counters * golden + key, key)

    plain = words(counters, key)
    worst = 0.0
    for bit in range(32):
        flip = torch.tensor(1 << bit if bit < 31 else -(1 << 31), dtype=torch.int64).to(torch.int32)
        for changed in (words(counters ^ flip, key), words(counters, key ^ flip)):
            difference = plain ^ changed
            shares = torch.stack([((difference >> place) & 1).double().mean() for place in range(32)])
            worst = max(worst, (shares - 0.5).abs().max().item())
    assert worst < 5 * 0.5 / math.sqrt(1 << 16)


# --- what a mask depends on -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(12, 7), (12, 8), (12, 5, 3), (12, 5, 4, 3), (12, 2, 3, 2, 2)])
@pytest.mark.parametrize("kind", [Dropout, SpatialDropout])
def test_micro_batches_have_the_rows_of_the_whole(kind: type[Dropout | SpatialDropout], shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    whole = _driven(kind(0.4))(x)
    for size in (1, 5, 6):
        parts = [_driven(kind(0.4), row=first)(x[first : first + size]) for first in range(0, 12, size)]
        assert torch.equal(torch.cat(parts), whole), size


@pytest.mark.parametrize("shape", [(6, 5, 4, 3), (6, 8, 4, 4), (6, 1, 4, 4), (6, 3, 1, 1)])
def test_memory_format_changes_nothing_and_is_kept(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    plain = _driven(Dropout(0.5))(x)
    last = _driven(Dropout(0.5))(x.contiguous(memory_format=torch.channels_last))
    assert torch.equal(plain, last)
    assert plain.is_contiguous()
    assert last.is_contiguous(memory_format=torch.channels_last)
    strided = _driven(Dropout(0.5))(x.transpose(2, 3).contiguous().transpose(2, 3))
    assert torch.equal(plain, strided)


def test_elements_of_images_are_counted_with_channels_last() -> None:
    image = _driven(Dropout(0.5))(torch.ones(6, 5, 4, 3))
    flat = _driven(Dropout(0.5))(torch.ones(6, 4 * 3 * 5))
    assert torch.equal(image.permute(0, 2, 3, 1).reshape(6, -1), flat)


def test_seed_step_layer_and_row_all_matter() -> None:
    def first_mask(seed: int, step: int, row: int, which: str) -> Tensor:
        model = nn.ModuleDict({"a": Dropout(0.5), "b": Dropout(0.5)})
        DropoutKeys(model, seed).refresh(step, row)
        return model[which](torch.ones(1, 64))

    base = first_mask(0, 3, 0, "a")
    assert torch.equal(base, first_mask(0, 3, 0, "a"))
    for other in ((1, 3, 0, "a"), (0, 4, 0, "a"), (0, 3, 1, "a"), (0, 3, 0, "b")):
        assert not torch.equal(base, first_mask(*other)), other


def test_spatial_drops_whole_channels() -> None:
    out = _driven(SpatialDropout(0.5))(torch.ones(16, 32, 5, 4))
    per_channel = out.flatten(start_dim=2)
    assert bool((per_channel == per_channel[:, :, :1]).all())
    assert 0.4 < (per_channel[:, :, 0] != 0).float().mean() < 0.6
    assert _driven(SpatialDropout(0.5))(torch.ones(3, 8)).shape == (3, 8)
    half = _driven(SpatialDropout(0.3))(torch.ones(4, 8, 2, dtype=torch.bfloat16))
    assert half.dtype == torch.bfloat16


# --- gradients, modes, state ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("kind", [Dropout, SpatialDropout])
def test_backward(kind: type[Dropout | SpatialDropout], dtype: torch.dtype) -> None:
    x = torch.randn(6, 9, 3, 3).to(dtype).requires_grad_()
    layer = _driven(kind(0.4))
    grad = torch.randn(6, 9, 3, 3).to(dtype)
    layer(x).backward(grad)
    scale = layer(torch.ones_like(x))
    torch.testing.assert_close(x.grad, grad * scale, rtol=2 * torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("kind", [Dropout, SpatialDropout])
def test_evaluation_and_p_zero_are_identities(kind: type[Dropout | SpatialDropout]) -> None:
    x = torch.randn(3, 4, 5, 5)
    assert kind(0.5).eval()(x) is x
    assert kind(0.0)(x) is x


def test_non_finite_inputs_stay_visible() -> None:
    out = _driven(Dropout(0.5))(torch.full((4, 8), float("nan")))
    assert bool(out.isnan().all())


def test_the_key_is_not_in_the_state_dict() -> None:
    model = nn.Sequential(nn.Linear(2, 2), Dropout(0.5), SpatialDropout(0.5))
    assert set(model.state_dict()) == {"0.weight", "0.bias"}
    DropoutKeys(model, 0).refresh(1)
    assert set(model.state_dict()) == {"0.weight", "0.bias"}
    model.load_state_dict(copy.deepcopy(model.state_dict()))


def test_without_an_engine_every_pass_differs_and_the_global_seed_repeats_it() -> None:
    layer = Dropout(0.5)
    x = torch.ones(4, 64)
    torch.manual_seed(0)
    first, second = layer(x), layer(x)
    torch.manual_seed(0)
    assert torch.equal(layer(x), first)
    assert not torch.equal(first, second)
    assert not layer.key.any()


def test_driven_layers_leave_the_global_generator_alone() -> None:
    model = nn.Sequential(Dropout(0.5))
    keys = DropoutKeys(model, 0)
    before = torch.get_rng_state()
    keys.refresh(0)
    model(torch.ones(4, 8))
    assert torch.equal(before, torch.get_rng_state())


def test_release_gives_the_layers_back() -> None:
    model = nn.Sequential(Dropout(0.5))
    keys = DropoutKeys(model, 0)
    x = torch.ones(4, 64)
    assert torch.equal(model(x), model(x))
    keys.release()
    assert not torch.equal(model(x), model(x))


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5])
def test_impossible_probabilities_are_refused(p: float) -> None:
    with pytest.raises(ConfigError, match=f"p={p}"):
        Dropout(p)


# --- DropoutKeys ----------------------------------------------------------------------------------------------------


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.late = Dropout(0.5)
        self.early = SpatialDropout(0.25)
        self.plain = nn.Dropout(0.5)


def test_finds_layers_sorted_by_name() -> None:
    keys = DropoutKeys(nn.ModuleDict({"b": _Block(), "a": Dropout(0.1)}), 0)
    assert keys.names == ["a", "b.early", "b.late"]
    assert len(keys) == 3
    assert len(DropoutKeys(nn.Linear(2, 2), 0)) == 0
    DropoutKeys(nn.Linear(2, 2), 0).refresh(3)
    assert DropoutKeys(nn.Linear(2, 2), 0).values(torch.tensor(3)) == {}


@pytest.mark.parametrize("step", [0, 5, 123_456_789])
def test_refresh_and_values_agree(step: int) -> None:
    model = nn.Sequential(nn.Linear(6, 8), Dropout(0.5), nn.Linear(8, 8), SpatialDropout(0.5))
    keys = DropoutKeys(model, 3)
    x = torch.randn(5, 6)
    keys.refresh(step, 7)
    wanted = model(x)
    values = keys.values(torch.tensor(step), 7)
    assert {name: tuple(v.shape) for name, v in values.items()} == {"1.key": (2,), "3.key": (2,)}
    assert all(v.dtype == torch.int32 for v in values.values())
    keys.refresh(step + 1)
    arguments = {**dict(model.named_parameters()), **values}
    assert torch.equal(torch.func.functional_call(model, arguments, (x,)), wanted)
    keys.refresh(torch.tensor(step), 7)
    assert torch.equal(model(x), wanted)


def test_a_single_layer_is_a_model_too() -> None:
    layer = Dropout(0.5)
    keys = DropoutKeys(layer, 0)
    assert set(keys.values(torch.tensor(0))) == {"key"}
    keys.refresh(1)
    assert layer.key[0] == keys.values(torch.tensor(1))["key"][0]


def test_keys_follow_a_model_that_was_moved() -> None:
    model = nn.Sequential(Dropout(0.5))
    keys = DropoutKeys(model, 0)
    keys.refresh(1)
    wanted = model(torch.ones(2, 32))
    model[0].key = model[0].key.clone()  # as .to(device) does
    keys.refresh(1)
    assert torch.equal(model(torch.ones(2, 32)), wanted)
    keys.refresh(2)
    assert not torch.equal(model(torch.ones(2, 32)), wanted)


def test_adding_a_layer_leaves_the_masks_of_the_others() -> None:
    small = nn.ModuleDict({"b": Dropout(0.5)})
    large = nn.ModuleDict({"a": Dropout(0.5), "b": Dropout(0.5)})
    for model in (small, large):
        DropoutKeys(model, 0).refresh(4)
    assert torch.equal(small["b"](torch.ones(3, 33)), large["b"](torch.ones(3, 33)))


def test_functional_gradients_work() -> None:
    model = nn.Sequential(nn.Linear(4, 8), Dropout(0.5), nn.Linear(8, 1))
    keys = DropoutKeys(model, 0)
    x = torch.randn(6, 4)

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        values = {**parameters, **keys.values(torch.tensor(2))}
        return torch.func.functional_call(model, values, (x,)).square().sum()

    grads = torch.func.grad(loss)({name: p.detach() for name, p in model.named_parameters()})
    keys.refresh(2)
    model(x).square().sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(grads[name], parameter.grad)
