"""Every registered model keeps the rules that models keep; new ones are found and tried by themselves."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lamina.core import registry
from lamina.core.errors import ConfigError, DtypeError, LaminaError, ShapeError
from lamina.explain.views import Subject, example_inputs, show_view
from lamina.models.factory import create_model, model_values

NAMES = registry.names("model")
FOUNDATION = {"cnn", "knn", "lenet5", "linear", "mlp", "perceptron", "sign-cnn"}
VISION = {
    *("alexnet", "alexnet-2012", "mobilenet-v1"),
    *(f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "-bn")),
    *(f"resnet{depth}" for depth in (18, 34, 50, 101, 152)),
}
BATCH = 5


def capabilities(name: str) -> dict[str, Any]:
    return registry.lookup("model", name).capabilities


def build(name: str, **options: Any) -> nn.Module:
    """A model of its tiny Config, where it has one, else of the default one."""
    return create_model(name, **{**capabilities(name).get("tiny", {}), **options})


def meta(name: str, **options: Any) -> nn.Module:
    """The model as users build it, without values."""
    with torch.device("meta"):
        return create_model(name, **options)


def numbers(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def batch(model: nn.Module, *, rows: int = BATCH, seed: int = 0) -> Tensor:
    """Random inputs of the shape that the model says it reads."""
    example = example_inputs(Subject(model))
    assert isinstance(example, Tensor)
    generator = torch.Generator().manual_seed(seed)
    if not example.is_floating_point():
        return torch.randint(
            0, min(getattr(model, "vocab_size", 2), 100), (rows, *example.shape[1:]), generator=generator
        )
    return torch.rand(rows, *example.shape[1:], generator=generator)


def ready(name: str, **options: Any) -> nn.Module:
    """A model as tests build it; one that learns directly has learnt a batch."""
    model = build(name, seed=0, **options)
    if not capabilities(name).get("has_gradients", True):
        targets = torch.arange(20) % 3
        model.learn(batch(model, rows=20, seed=1), targets)  # type: ignore[operator]
    return model


def test_the_sweep_is_not_empty() -> None:
    assert set(NAMES) >= FOUNDATION | VISION
    assert sum("tiny" in capabilities(name) for name in NAMES) >= len(VISION)


@pytest.mark.parametrize("name", [name for name in NAMES if "tiny" in capabilities(name)])
def test_the_tiny_one_is_the_same_network_with_fewer_numbers(name: str) -> None:
    """What the other tests build costs next to nothing; that no stage is missing in it is a matter of stages."""
    whole, tiny = meta(name), build(name)
    assert numbers(tiny) < 500_000
    assert numbers(tiny) < numbers(whole)
    assert list(tiny.stages) == list(whole.stages)  # type: ignore[call-overload]


@pytest.mark.parametrize("name", NAMES)
def test_it_is_documented(name: str) -> None:
    entry = registry.lookup("model", name)
    assert entry.summary.endswith((".", ")"))
    assert entry.source
    assert entry.fidelity, "its module lacks the line `Differs from the paper:`"
    assert entry.example
    assert "Source:" in (inspect.getdoc(entry.target) or "")
    header = inspect.getdoc(importlib.import_module(entry.module)) or ""
    for part in ("Paper:", "Reported:", "Differs from the paper:"):
        assert part in header, part
    assert entry.config is not None
    for key, info in entry.config.model_fields.items():
        assert info.description, key
        assert key not in ("name", "spec", "seed", "weights"), "create_model has an argument of that name"


@pytest.mark.parametrize("name", NAMES)
def test_it_is_built_from_its_config_again(name: str) -> None:
    model = ready(name)
    built = model_values(model)
    assert built is not None
    assert built[0] == name
    again = create_model(name, **built[1])
    again.load_state_dict(model.state_dict(), strict=True)
    inputs = batch(model)
    assert torch.equal(model.eval()(inputs), again.eval()(inputs))


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_fixes_the_weights(name: str) -> None:
    one, same = build(name, seed=7), build(name, seed=7)
    for (key, a), (_, b) in zip(one.state_dict().items(), same.state_dict().items(), strict=True):
        assert torch.equal(a, b), key


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_gradient_or_it_learns_directly(name: str) -> None:
    model = build(name, seed=0).train()
    inputs = batch(model, rows=20)
    if capabilities(name).get("has_gradients", True):
        assert not hasattr(model, "learn")
        outputs = model(inputs)
        crf = getattr(model, "crf", None)
        if crf is not None:  # scores of whole sequences, with parameters of its own
            (
                -crf(outputs, torch.arange(outputs.shape[:2].numel()).view(outputs.shape[:2]) % outputs.shape[2])
            ).sum().backward()
        else:
            scores = outputs.flatten(0, -2)  # of rows, or of every token
            nn.functional.cross_entropy(scores, torch.arange(len(scores)) % scores.shape[1]).backward()
        without = [key for key, p in model.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
        assert not without
    else:
        before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
        logged = model.learn(inputs, torch.arange(20) % 3)  # type: ignore[operator]
        assert logged
        after = model.state_dict()
        assert any(before[key].shape != after[key].shape or not torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("name", NAMES)
def test_in_evaluation_a_row_does_not_depend_on_the_batch(name: str) -> None:
    model = ready(name).eval()
    inputs = batch(model)
    with torch.no_grad():
        together = model(inputs)
        alone = torch.cat([model(row[None]) for row in inputs])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_logits_features_and_head(name: str) -> None:
    model = ready(name).eval()
    inputs = batch(model)
    outputs, features = model(inputs), model.features(inputs)  # type: ignore[operator]
    if capabilities(name).get("input") == "past":  # forecasts; the level of a window is put back behind the head
        assert outputs.shape == (BATCH, model.horizon, model.out_channels)
        assert outputs.dtype == torch.float32
        assert len(features) == BATCH
        return
    assert outputs.shape == (
        BATCH,
        *inputs.shape[1 : outputs.ndim - 1],
        getattr(model, "num_classes", outputs.shape[-1]),
    )
    assert outputs.dtype == torch.float32
    assert not bool(torch.isnan(outputs).any())
    if capabilities(name).get("has_gradients", True):
        if features.ndim == 3 and hasattr(model, "pool"):  # hidden states of tokens, of which the head reads one vector
            features = model.pool(features)  # type: ignore[operator]
        torch.testing.assert_close(model.head(features), outputs)  # type: ignore[operator]
        assert outputs.requires_grad


@pytest.mark.parametrize("name", [name for name in NAMES if capabilities(name).get("input") == "image"])
def test_stages_cover_every_parameter_once_and_end_with_the_head(name: str) -> None:
    model = build(name)
    stages = getattr(model, "stages", None)
    if stages is None:
        assert name in FOUNDATION, "transfer learning freezes by stages"
        return
    assert list(stages)[-1] == "head"
    assert all(prefix.endswith(".") for prefixes in stages.values() for prefix in prefixes)
    for key, _ in model.named_parameters():
        found = [stage for stage, prefixes in stages.items() if key.startswith(prefixes)]
        assert len(found) == 1, (key, found)
        assert (found == ["head"]) == key.startswith("head."), key
    assert all(any(key.startswith(prefixes) for key, _ in model.named_parameters()) for prefixes in stages.values())


@pytest.mark.parametrize("name", NAMES)
def test_layout_and_precision_change_little(name: str) -> None:
    model = ready(name).eval()
    inputs = batch(model)
    with torch.no_grad():
        outputs = model(inputs)
        if inputs.ndim == 4:
            last = model.to(memory_format=torch.channels_last)(inputs.contiguous(memory_format=torch.channels_last))  # type: ignore[call-overload]
            torch.testing.assert_close(last, outputs, rtol=1e-4, atol=1e-5)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            coarse = model(inputs)
    torch.testing.assert_close(coarse.float(), outputs, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_traced_without_reading_values(name: str) -> None:
    model = build(name, seed=0).eval()
    document = show_view("layers", Subject(model)).document
    assert document["num_parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert document["layers"]
    assert sum(row["num_total"] for row in document["layers"]) == document["num_total"]


@pytest.mark.parametrize("name", NAMES)
def test_bad_configs_are_refused(name: str) -> None:
    config = registry.lookup("model", name).config
    assert config is not None
    with pytest.raises(ConfigError, match="no key") as caught:
        create_model(name, num_clases=3)
    if "num_classes" in config.model_fields:
        assert "num_classes" in caught.value.mend
    tried = 0
    for key, schema in config.json_schema()["properties"].items():
        for bound, step in (("minimum", -1), ("maximum", 1), ("exclusiveMinimum", 0), ("exclusiveMaximum", 0)):
            if bound in schema:
                tried += 1
                with pytest.raises(ConfigError) as caught:
                    create_model(name, **{key: schema[bound] + step})
                assert key in caught.value.what
        with pytest.raises(LaminaError):
            create_model(name, **{key: object()})
    assert tried


@pytest.mark.parametrize("name", NAMES)
def test_wrong_inputs_are_refused_with_the_mend(name: str) -> None:
    model = ready(name).eval()
    inputs = batch(model)
    wrong = [inputs[:, :-1] if inputs.ndim == 2 else inputs[:, :, :-1], inputs[0]]
    if not inputs.is_floating_point():  # tokens, of which there may be any number
        wrong = [inputs[0], inputs.unsqueeze(0)]
    elif capabilities(name).get("any_length"):  # signals of any length, but of so many channels
        wrong = [inputs[:, :-1], inputs[0]]
    if inputs.ndim == 4:
        wrong.append(inputs.permute(0, 2, 3, 1))
    for given in wrong:
        with pytest.raises(ShapeError) as caught:
            model(given)
        assert str(tuple(given.shape)) in caught.value.what
        assert caught.value.mend
        assert "forward" in caught.value.where
    with pytest.raises(DtypeError, match="uint8"):
        model((inputs * 255).to(torch.uint8))


@pytest.mark.parametrize(
    "name", [name for name in NAMES if "regression" in (registry.lookup("model", name).capabilities)]
)
def test_models_for_regression_give_as_many_numbers_as_asked(name: str) -> None:
    config = registry.lookup("model", name).config
    assert config is not None
    options = {"regression": True} if "regression" in config.model_fields else {}
    model = build(name, seed=0, num_classes=2, **options)
    inputs = batch(model)
    if not capabilities(name).get("has_gradients", True):
        model.learn(inputs, torch.rand(BATCH, 2))  # type: ignore[operator]
    assert model(inputs).shape == (BATCH, 2)
