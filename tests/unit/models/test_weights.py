"""Weights from elsewhere: tables read both ways, every key accounted for, the right table found, layers adapted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers import shared_data
from lamina.core import registry
from lamina.core.errors import ConfigError, UnknownNameError, WeightsError
from lamina.core.tensorfile import pack_tensors
from lamina.data.columns import ColumnSpec, DataSpec
from lamina.models.factory import create_model, load_weights, model_values, weights_origin
from lamina.models.weights.adapt import adapt_channels
from lamina.models.weights.opening import Given, open_weights
from lamina.models.weights.table import Preparation, Rule, Template, Transform, WeightTable, get_table, tables
from lamina.models.weights.timm import preparation_of
from lamina.models.weights.words import parse_weights, weights_at
from torch_files import put, saved

# Small networks of every table: Config values that the published ones do not have, but whose names are the same.
SMALL: dict[str, dict[str, Any]] = {
    "torchvision-alexnet": {"image_size": (63, 63), "channels": (2, 3, 3, 2, 2), "hidden_size": 4, "num_classes": 5},
    "torchvision-vgg": {"image_size": (32, 32), "channels": (2, 3, 3, 2, 2), "hidden_sizes": (4, 4), "num_classes": 5},
    "torchvision-resnet": {"image_size": (32, 32), "width": 2, "num_classes": 5},
    "timm-resnet": {"image_size": (32, 32), "width": 2, "num_classes": 5},
    "akamaster-resnet": {"num_classes": 10},
    "keras-mobilenet": {"image_size": (32, 32), "width_multiplier": 0.25, "num_classes": 5},
}
BIG = {"resnet1202", "resnet110"}


def small(table: str, name: str, *, seed: int = 0) -> nn.Module:
    values = {**get_table(table).models[name], **SMALL[table]}
    model = create_model(name, seed=seed, **values)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in model.state_dict().values():  # running statistics too
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.1)
    return model


def equal(a: nn.Module, b: nn.Module) -> None:
    for (key, x), (other, y) in zip(a.state_dict().items(), b.state_dict().items(), strict=True):
        assert key == other
        assert torch.equal(x, y), key


# --- tables ----------------------------------------------------------------------------------------------------------


def test_templates() -> None:
    template = Template("blocks.{n-1}.<x>.weight")
    assert template.match("blocks.0.a.b.weight") == {"n": "1", "x": "a.b"}
    assert template.fill({"n": "1", "x": "a.b"}) == "blocks.0.a.b.weight"
    assert template.fill({"n": "0", "x": "a"}) is None
    assert Template("a.{n+1}").match("a.0") is None
    for wrong in ("blocks.01.a.weight", "blocks.x.a.weight", "blocks.0..weigh", "Xblocks.0.a.weight"):
        assert template.match(wrong) is None
    assert Template("a.b").match("axb") is None


def test_every_table_is_registered_and_serves_models_that_exist() -> None:
    assert {table.name for table in tables()} == set(SMALL) == set(registry.names("weights"))
    for table in tables():
        entry = registry.lookup("weights", table.name)
        assert entry.source.count("http") == 1
        assert entry.summary == table.summary
        for name, values in table.models.items():
            config = registry.lookup("model", name).config
            assert config is not None
            assert values.keys() <= config.model_fields.keys()


def test_no_such_table() -> None:
    with pytest.raises(UnknownNameError, match="There is no weights called 'torchvision-resnt'") as caught:
        get_table("torchvision-resnt")
    assert "torchvision-resnet" in caught.value.mend


@pytest.mark.parametrize(("table", "name"), [(t.name, name) for t in tables() for name in t.models if name not in BIG])
def test_a_table_is_read_both_ways(table: str, name: str, tmp_path: Path) -> None:
    """Our weights written as the source writes them are found to be the source's, and come back bit for bit."""
    model = small(table, name)
    theirs = get_table(table).invert(model.state_dict())
    ending = "npz" if table.startswith("keras") else "pth"
    if ending == "npz":
        import numpy as np

        np.savez(tmp_path / "w.npz", **{key: tensor.numpy() for key, tensor in theirs.items()})  # type: ignore[arg-type]
    else:
        put(tmp_path, saved({key: tensor.clone() for key, tensor in theirs.items()}))
    values = {k: v for k, v in SMALL[table].items() if k not in ("num_classes", "width_multiplier")}
    if table == "timm-resnet":
        (tmp_path / "config.json").write_text('{"architecture": "resnet", "num_classes": 5}')
    again = create_model(name, seed=1, weights=tmp_path / f"w.{ending}", **values)
    equal(model, again)
    origin = weights_origin(again)
    assert origin is not None
    assert origin.table == table
    assert origin.num_tensors == len(theirs)


GOLDEN: dict[tuple[str, str], set[str]] = {
    ("torchvision-alexnet", "alexnet"): {
        *(f"features.{n}.{p}" for n in (0, 3, 6, 8, 10) for p in ("weight", "bias")),
        *(f"classifier.{n}.{p}" for n in (1, 4, 6) for p in ("weight", "bias")),
    },
    ("torchvision-vgg", "vgg11"): {
        *(f"features.{n}.{p}" for n in (0, 3, 6, 8, 11, 13, 16, 18) for p in ("weight", "bias")),
        *(f"classifier.{n}.{p}" for n in (0, 3, 6) for p in ("weight", "bias")),
    },
    ("torchvision-vgg", "vgg11-bn"): {
        *(f"features.{n}.{p}" for n in (0, 4, 8, 11, 15, 18, 22, 25) for p in ("weight", "bias")),
        *(
            f"features.{n}.{p}"
            for n in (1, 5, 9, 12, 16, 19, 23, 26)
            for p in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        ),
        *(f"classifier.{n}.{p}" for n in (0, 3, 6) for p in ("weight", "bias")),
    },
    ("torchvision-resnet", "resnet18"): {
        "conv1.weight",
        "fc.weight",
        "fc.bias",
        *(f"layer{a}.{b}.conv{c}.weight" for a in (1, 2, 3, 4) for b in (0, 1) for c in (1, 2)),
        *(f"layer{a}.0.downsample.0.weight" for a in (2, 3, 4)),
        *(
            f"{norm}.{p}"
            for norm in (
                "bn1",
                *(f"layer{a}.{b}.bn{c}" for a in (1, 2, 3, 4) for b in (0, 1) for c in (1, 2)),
                *(f"layer{a}.0.downsample.1" for a in (2, 3, 4)),
            )
            for p in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        ),
    },
}


@pytest.mark.parametrize("key", GOLDEN)
def test_the_names_are_the_sources(key: tuple[str, str]) -> None:
    """Written down from the published state dicts, not derived from our networks."""
    table, name = key
    assert set(get_table(table).invert(small(table, name).state_dict())) == GOLDEN[key]


def test_mobilenets_names_and_layouts_are_keras() -> None:
    theirs = get_table("keras-mobilenet").invert(small("keras-mobilenet", "mobilenet-v1").state_dict())
    norm = ("gamma", "beta", "moving_mean", "moving_variance")
    blocks = range(1, 14)
    assert set(theirs) == {
        "conv1.kernel",
        "conv_preds.kernel",
        "conv_preds.bias",
        *(f"conv1_bn.{p}" for p in norm),
        *(f"conv_dw_{n}.depthwise_kernel" for n in blocks),
        *(f"conv_pw_{n}.kernel" for n in blocks),
        *(f"conv_{kind}_{n}_bn.{p}" for kind in ("dw", "pw") for n in blocks for p in norm),
    }
    assert tuple(theirs["conv1.kernel"].shape) == (3, 3, 3, 8)
    assert tuple(theirs["conv_dw_2.depthwise_kernel"].shape) == (3, 3, 16, 1)
    assert tuple(theirs["conv_pw_1.kernel"].shape) == (1, 1, 8, 16)
    assert tuple(theirs["conv_preds.kernel"].shape) == (1, 1, 256, 5)


def test_another_name_is_read_and_never_written() -> None:
    table = get_table("keras-mobilenet")
    kernel = torch.randn(3, 3, 2, 1)
    state = table.rename({"conv_dw_3.kernel": kernel}).state
    assert list(state) == ["blocks.2.depthwise.weight"]
    assert list(table.invert(state)) == ["conv_dw_3.depthwise_kernel"]
    both = table.rename({"conv_dw_3.kernel": kernel, "conv_dw_3.depthwise_kernel": kernel})
    assert both.faults == ["conv_dw_3.kernel and conv_dw_3.depthwise_kernel are both blocks.2.depthwise.weight"]


def test_transposed_kernels_give_what_keras_would() -> None:
    """A convolution written with loops over Keras's layout, beside ours after the table."""
    table = get_table("keras-mobilenet")
    kernel, depthwise = torch.randn(3, 3, 2, 4), torch.randn(3, 3, 2, 1)
    state = table.rename({"conv1.kernel": kernel, "conv_dw_1.depthwise_kernel": depthwise}).state
    image = torch.randn(1, 2, 5, 5)
    ours = nn.functional.conv2d(image, state["conv1.weight"])
    window = image[0, :, 1:4, 2:5]  # channels, height, width
    wanted = torch.einsum("chw,hwco->o", window, kernel)
    torch.testing.assert_close(ours[0, :, 1, 2], wanted)
    each = nn.functional.conv2d(image, state["blocks.0.depthwise.weight"], groups=2)
    torch.testing.assert_close(each[0, :, 1, 2], torch.einsum("chw,hwc->c", window, depthwise[..., 0]))


def test_second_names_and_layouts_that_do_not_fit() -> None:
    turn = Transform("(a, b) -> (b, a)", lambda t: t.T, lambda t: t.T, 2)
    table = WeightTable(
        name="made-up",
        summary="",
        source="",
        models={},
        rules=(Rule("a.<x>", "w.<x>"), Rule("b.<x>", "w.<x>"), Rule("m", "m", turn), Rule("old.<x>", None)),
        preparation=Preparation(size=(1, 1)),
    )
    zero = torch.zeros(3)
    found = table.rename({"a.k": zero, "b.k": zero, "m": zero, "old.x": zero, "c": zero})
    assert found.faults == ["m is shaped (3,); (a, b) -> (b, a) needs 2 axes"]
    # w.k is called a.k, so b.k is nobody's: a table is a bijection.
    assert (found.ignored, found.strangers) == (["old.x"], ["b.k", "c"])
    with pytest.raises(WeightsError, match="has no name for z"):
        table.invert({"w.k": zero, "z": zero})


# --- finding the table -------------------------------------------------------------------------------------------------


def akamaster(**changes: Tensor | None) -> dict[str, Tensor]:
    theirs = get_table("akamaster-resnet").invert(small("akamaster-resnet", "resnet20").state_dict())
    theirs = {key: tensor for key, tensor in theirs.items() if not key.endswith("num_batches_tracked")}
    theirs |= {f"module.{key.replace('__', '.')}": t for key, t in changes.items() if t is not None}
    return {
        key: t
        for key, t in theirs.items()
        if changes.get(key.removeprefix("module.").replace(".", "__"), t) is not None
    }


def test_an_old_file_without_counters_fits(tmp_path: Path) -> None:
    path = put(tmp_path, saved({"state_dict": akamaster(), "best_prec1": 91.5}, legacy=True), "resnet20.th")
    model = create_model("resnet20", seed=0, weights=path)
    origin = weights_origin(model)
    assert origin is not None
    assert origin.labels[:2] == ("airplane", "automobile")
    assert origin.notes == (
        "The weights are those under 'state_dict'.",
        "Also in the file, and not used: best_prec1 = 91.5.",
        "The prefix 'module.' of every name is left out.",
        "97 of the file's 97 tensors are taken, by the table akamaster-resnet.",
    )
    assert create_model("resnet20", weights=f"akamaster-resnet:{path}").lamina_weights.table == "akamaster-resnet"  # type: ignore[union-attr]
    assert model_values(model)[1]["num_classes"] == 10  # type: ignore[index]
    assert weights_origin(create_model("resnet20", seed=0)) is None


def test_every_key_left_over_is_listed(tmp_path: Path) -> None:
    path = put(tmp_path, saved(akamaster(linear__bias=None, extra=torch.zeros(1))))
    with pytest.raises(WeightsError) as caught:
        create_model("resnet20", weights=f"akamaster-resnet:{path}")
    assert "missing: head.bias; not known to the model: extra" in caught.value.what
    assert "by the table akamaster-resnet" in caught.value.what
    with pytest.raises(WeightsError, match="neither by our own names nor by a table") as caught:
        create_model("resnet20", weights=path)
    assert "akamaster-resnet: 115 of 116 tensors fit; missing: head.bias" in caught.value.accepts
    assert "our own names: 95 of 116 tensors fit" in caught.value.accepts


def test_shapes_are_named_on_both_sides(tmp_path: Path) -> None:
    path = put(tmp_path, saved(akamaster(linear__weight=torch.zeros(10, 65))))
    with pytest.raises(WeightsError) as caught:
        create_model("resnet20", weights=f"akamaster-resnet:{path}")
    assert "linear.weight is head.weight and (10, 65) for (10, 64)" in caught.value.what
    path = put(tmp_path, saved(akamaster(linear__bias=torch.zeros(10, dtype=torch.int64))))
    with pytest.raises(WeightsError, match=r"linear\.bias holds torch\.int64, head\.bias torch\.float32"):
        create_model("resnet20", weights=f"akamaster-resnet:{path}")


def test_weights_of_another_depth_name_their_model(tmp_path: Path) -> None:
    theirs = get_table("akamaster-resnet").invert(small("akamaster-resnet", "resnet32").state_dict())
    with pytest.raises(WeightsError) as caught:
        create_model("resnet20", weights=put(tmp_path, saved(theirs)))
    assert caught.value.mend == "these are weights of resnet32"


def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    path = put(tmp_path, saved(akamaster(linear__bias=torch.full((10,), float("nan")))))
    with pytest.raises(WeightsError, match=r"'linear\.bias' holds NaN or infinity"):
        create_model("resnet20", weights=path)


def test_a_table_that_does_not_serve_the_model(tmp_path: Path) -> None:
    path = put(tmp_path, saved(akamaster()))
    with pytest.raises(WeightsError, match="torchvision-vgg has no weights for resnet20") as caught:
        create_model("resnet20", weights=f"torchvision-vgg:{path}")
    assert "vgg16-bn" in caught.value.accepts


def test_config_values_that_the_weights_need(tmp_path: Path) -> None:
    path = put(tmp_path, saved(akamaster()))
    with pytest.raises(WeightsError, match=r"model\.width is 8; these weights need 16"):
        create_model("resnet20", weights=f"akamaster-resnet:{path}", width=8)
    theirs = get_table("torchvision-resnet").invert(small("torchvision-resnet", "resnet18").state_dict())
    path = put(tmp_path, saved(theirs))
    with pytest.raises(WeightsError, match=r"model\.version is v1; these weights need v1\.5") as caught:
        create_model("resnet18", weights=f"torchvision-resnet:{path}", version="v1", width=2)
    assert str(path) in caught.value.where


def test_our_own_names_fit_without_a_table(tmp_path: Path) -> None:
    model = small("akamaster-resnet", "resnet20")
    path = put(tmp_path, pack_tensors(model.state_dict()), "model.safetensors")
    again = create_model("resnet20", seed=1, weights=path)
    equal(model, again)
    origin = weights_origin(again)
    assert origin is not None
    assert (origin.table, origin.preparation, origin.labels) == ("", None, ())
    for given in (model.state_dict(), tmp_path, open_weights(path)):
        equal(model, create_model("resnet20", seed=1, weights=given))
    mlp = create_model("mlp", seed=0)
    load_weights(mlp, put(tmp_path, saved(create_model("mlp", seed=3).state_dict())))
    equal(mlp, create_model("mlp", seed=3))


def test_timm_claims_a_file_by_its_config(tmp_path: Path) -> None:
    theirs = get_table("timm-resnet").invert(small("timm-resnet", "resnet18").state_dict())
    path = put(tmp_path, pack_tensors(theirs), "model.safetensors")
    plain = weights_origin(create_model("resnet18", weights=path, width=2))
    assert plain is not None
    assert plain.table == "torchvision-resnet"
    (tmp_path / "config.json").write_text(
        '{"architecture": "resnet18", "num_classes": 5, "label_names": ["a", "b", "c", "d", "e"], "pretrained_cfg": '
        '{"input_size": [3, 64, 96], "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "crop_pct": 0.9, '
        '"interpolation": "bicubic"}}'
    )
    for word in (path, tmp_path, f"timm-resnet:{path}"):
        model = create_model("resnet18", weights=word, width=2)
        origin = weights_origin(model)
        assert origin is not None
        assert origin.table == "timm-resnet"
        assert origin.labels == ("a", "b", "c", "d", "e")
        assert origin.preparation == Preparation(
            size=(64, 96), mean=(0.5,) * 3, std=(0.25,) * 3, crop_fraction=0.9, interpolation="bicubic"
        )
        assert model_values(model)[1]["image_size"] == [64, 96]  # type: ignore[index]


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"pretrained_cfg": 3},
        {"mean": "x", "std": [0, 0, 0], "crop_pct": -1, "interpolation": "lanczos", "input_size": [3, 0, 0]},
        {"crop_pct": True, "label_names": ["a", "a"]},
        {"label_names": [1]},
    ],
)
def test_odd_configs_change_nothing(config: dict[str, Any]) -> None:
    default = get_table("timm-resnet").preparation
    found, labels = preparation_of(config, default)
    if config.get("crop_pct") is not True:
        assert found == default
    assert labels == ()


# --- other channels, other classes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6, 7])
def test_equal_channels_give_the_same_sum(channels: int) -> None:
    kernel, grey = torch.randn(4, 3, 3, 3), torch.randn(2, 1, 8, 8)
    wanted = nn.functional.conv2d(grey.expand(-1, 3, -1, -1), kernel)
    adapted = adapt_channels(kernel, channels)
    if channels in (1, 3, 6):
        torch.testing.assert_close(nn.functional.conv2d(grey.expand(-1, channels, -1, -1), adapted), wanted)
    assert adapted.shape == (4, channels, 3, 3)
    if channels > 1:
        torch.testing.assert_close(adapted[:, channels - 1], kernel[:, (channels - 1) % 3] * 3 / channels)


def test_the_first_layer_is_adapted_only_where_asked(tmp_path: Path) -> None:
    path = put(tmp_path, saved(akamaster()))
    with pytest.raises(WeightsError, match=r"conv1\.weight \(16, 3, 3, 3\) for \(16, 1, 3, 3\)|neither") as caught:
        create_model("resnet20", weights=path, in_channels=1)
    assert "adapt_channels=True" in caught.value.mend
    model = create_model("resnet20", weights=path, in_channels=1, adapt_channels=True)
    origin = weights_origin(model)
    assert origin is not None
    assert origin.notes[-1] == "conv1.weight is adapted from 3 to 1 channels: the kernels are added."
    colour = create_model("resnet20", weights=path).eval()
    grey = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(model.eval()(grey), colour(grey.expand(-1, 3, -1, -1)))
    wide = create_model("resnet20", weights=path, in_channels=6, adapt_channels=True).eval()
    torch.testing.assert_close(wide(grey.expand(-1, 6, -1, -1)), colour(grey.expand(-1, 3, -1, -1)))


def test_the_head_is_replaced_only_where_asked(tmp_path: Path) -> None:
    path = put(tmp_path, saved(akamaster()))
    with pytest.raises(WeightsError) as caught:
        create_model("resnet20", weights=path, num_classes=3)
    assert "linear.weight is head.weight and (10, 64) for (3, 64)" in caught.value.accepts
    assert "new_head=True" in caught.value.mend
    model = create_model("resnet20", seed=0, weights=path, num_classes=3, new_head=True)
    origin = weights_origin(model)
    assert origin is not None
    assert origin.labels == ()
    assert origin.num_tensors == 95
    assert "The head is new: head.weight (3, 64), head.bias (3,)." in origin.notes
    fresh = create_model("resnet20", seed=0, num_classes=3)
    assert torch.equal(model.head.weight, fresh.head.weight)  # type: ignore[union-attr]
    assert not torch.equal(model.conv1.weight, fresh.conv1.weight)  # type: ignore[union-attr]
    # Also where the number of classes is the same: they are other classes.
    same = create_model("resnet20", seed=0, weights=path, new_head=True)
    assert torch.equal(same.head.weight, create_model("resnet20", seed=0).head.weight)  # type: ignore[union-attr]
    # And with our own names.
    own = create_model(
        "resnet20", seed=0, weights=small("akamaster-resnet", "resnet20").state_dict(), num_classes=3, new_head=True
    )
    assert own.head.out_features == 3  # type: ignore[union-attr]


def test_classes_and_channels_of_the_data_are_used(tmp_path: Path) -> None:
    image = ColumnSpec(role="image", dtype="float32", shape=(3, 40, 24))
    label = ColumnSpec(role="label", dtype="int64", classes=("a", "b"))
    spec = DataSpec(columns={"image": image, "label": label}, num_rows={})
    model = create_model("resnet20", spec, seed=0, weights=put(tmp_path, saved(akamaster())), new_head=True)
    assert model(torch.zeros(2, 3, 40, 24)).shape == (2, 2)


# --- words ------------------------------------------------------------------------------------------------------------------


def test_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.th").write_bytes(b"")
    assert weights_at("w.th").text == str(tmp_path / "w.th")
    assert weights_at("akamaster-resnet:w.th").text == f"akamaster-resnet:{tmp_path / 'w.th'}"
    for word in ("timm/resnet18.a1_in1k", "hf:timm/resnet18.a1_in1k", "hf:a/b@v1.0"):
        assert weights_at(word).hub == word.removeprefix("hf:").partition("@")[0]
        assert parse_weights(weights_at(word).text) == parse_weights(word)
    assert parse_weights("hf:a/b@v1.0").revision == "v1.0"
    (tmp_path / "timm").mkdir()
    (tmp_path / "timm" / "w").write_bytes(b"")
    assert weights_at("timm/w").path == str(tmp_path / "timm" / "w")


@pytest.mark.parametrize(
    ("word", "what", "mend"),
    [
        ("none.pth", "There is no file none.pth", "a safetensors file or a bundle"),
        ("microsoft/resnet-18", "There is no file", "hf:microsoft/resnet-18 takes it from the hub"),
        ("hf:resnet", "is no name of the hub", "copy the name"),
        ("hf:../../etc", "is no name of the hub", "copy the name"),
        ("hf:a/b@../../x", "is no name of the hub", "copy the name"),
        ("hf:a/b@", "is no name of the hub", "copy the name"),
        ("akamaster-resnet:", "There is no file", "a safetensors file or a bundle"),
    ],
)
def test_words_that_mean_nothing(word: str, what: str, mend: str) -> None:
    with pytest.raises(ConfigError) as caught:
        weights_at(word)
    assert what in caught.value.what
    assert mend in caught.value.mend


def test_a_mistyped_table_is_suggested(tmp_path: Path) -> None:
    path = put(tmp_path, b"")
    with pytest.raises(ConfigError, match="no weight table called 'akamaster'") as caught:
        weights_at(f"akamaster:{path}")
    assert caught.value.mend == f"did you mean akamaster-resnet:{path}?"


# --- the real files ------------------------------------------------------------------------------------------------------------


def test_mobilenets_backbone_takes_every_array() -> None:
    folder = shared_data("pretrained_mobilenet")
    path = folder / "mobilenet_v1_1.0_224_imagenet_to_pw12_fp16.npz"
    model = create_model("mobilenet-v1", seed=0, weights=path, image_size=(64, 64))
    origin = weights_origin(model)
    assert origin is not None
    assert origin.num_tensors == 125
    assert origin.notes[-1] == "The source has no head.weight, head.bias: begun anew."
    values = model_values(model)
    assert values is not None
    assert (values[1]["last_block"], values[1]["width_multiplier"]) == (12, 1.0)
    assert model.features(torch.zeros(1, 3, 64, 64)).shape == (1, 1024)  # type: ignore[operator]
    assert (
        sum(len(t.flatten()) for key, t in model.state_dict().items() if "num_batches" not in key and "head" not in key)
        == 2_162_880
    )
    assert isinstance(origin.preparation, Preparation)
    assert origin.preparation.steps() == ({"name": "scale", "low": -1.0, "high": 1.0},)
    # A recipe states every default; the thirteenth block is nobody's wish.
    again = create_model("mobilenet-v1", seed=0, weights=Given(dict(open_weights(path).tensors), "x"), last_block=13)
    assert model_values(again)[1]["last_block"] == 12  # type: ignore[index]


@pytest.mark.parametrize(
    ("name", "file", "tensors"), [("resnet20", "resnet20-12fca82f.th", 97), ("resnet56", "resnet56-4bfd9763.th", 277)]
)
def test_the_published_cifar_resnets_load(name: str, file: str, tensors: int) -> None:
    origin = weights_origin(create_model(name, seed=0, weights=shared_data("pretrained_cifar10_resnet") / file))
    assert origin is not None
    assert origin.num_tensors == tensors
    assert f"sha256 begins with {file.partition('-')[2][:8]}, as the name says." in origin.notes


def test_a_file_beside_is_suggested(tmp_path: Path) -> None:
    (tmp_path / "resnet20.pth").write_bytes(b"x")
    with pytest.raises(ConfigError) as caught:
        weights_at(str(tmp_path / "resnet2.pth"))
    assert f"did you mean {tmp_path / 'resnet20.pth'}?" in caught.value.mend
