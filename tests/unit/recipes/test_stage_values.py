"""The section `stages` of a recipe: by name or as a list, checked, with the origin of every value, in the JSON Schema."""

from __future__ import annotations

from pathlib import Path

import pytest

from lamina.core.config import check_values
from lamina.core.errors import ConfigError, LaminaError
from lamina.recipes.needs import check_body_weights
from lamina.recipes.recipe import Recipe, resolve


def write(folder: Path, stages: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(f"extends: digits\nstages:\n{stages}")
    return str(path)


def test_a_list_is_the_mapping_by_name(tmp_path: Path) -> None:
    listed = resolve(write(tmp_path, "  - {name: a, trainable: [head]}\n  - {name: b, epochs: 2}\n"))
    by_name = resolve(write(tmp_path, "  a: {trainable: [head]}\n  b: {epochs: 2}\n"))
    assert listed.values == by_name.values
    assert listed.origins == by_name.origins
    assert list(listed.recipe().stages) == ["a", "b"]


def test_every_value_has_its_origin(tmp_path: Path) -> None:
    found = resolve(
        write(tmp_path, "  a: {trainable: [head], optimizer: {lr: 0.1}}\n"), assignments=["stages.a.epochs=3"]
    )
    assert found.values["stages"]["a"]["epochs"] == 3
    origins = {key: origin for key, origin in found.origins.items() if key.startswith("stages.a.")}
    assert origins["stages.a.epochs"] == "command line"
    assert origins["stages.a.optimizer.lr"] == origins["stages.a.trainable"] == "file"
    assert origins["stages.a.layer_decay"] == "default"
    assert found.recipe().stages["a"].layer_decay == 1.0


def test_a_recipe_without_stages_has_none() -> None:
    found = resolve("digits")
    assert found.values["stages"] == {}
    assert found.origins["stages"] == "default"


@pytest.mark.parametrize(
    ("word", "key", "text"),
    [
        ("stages.a.epoch=3", "stages.a.epoch", "'epochs'"),
        ("stages.a.epochs=0", "stages.a.epochs", "below 1"),
        ("stages.a.layer_decay=1.5", "stages.a.layer_decay", "above 1"),
        ("stages.a.features=never", "stages.a.features", "choices"),
        ("stages.a.optimizer.rate=1", "stages.a.optimizer.rate", "'rate'"),
        ("stages.a.optimizer.name=adm", "stages.a.optimizer", "adam"),
        ("stages.a.schedule={name: cosin}", "stages.a.schedule", "cosine"),
        ("stages.a.schedule={name: step, gama: 1}", "stages.a.schedule.gama", "gamma"),
        ("stages.a=3", "stages.a", "not a mapping"),
    ],
)
def test_wrong_values_are_refused_where_they_were_given(word: str, key: str, text: str) -> None:
    with pytest.raises(LaminaError) as caught:
        resolve("digits", assignments=[word])
    assert caught.value.exit_status == 2
    assert caught.value.where == f"command line, key `{key}`"
    assert text in str(caught.value)


def test_the_schema_describes_a_stage() -> None:
    schema = Recipe.json_schema()
    stage = schema["$defs"]["StageConfig"]
    assert schema["properties"]["stages"]["additionalProperties"] == {"$ref": "#/$defs/StageConfig"}
    assert all(field.get("description") for field in stage["properties"].values())
    with pytest.raises(ConfigError, match=r"stages\.a\.warmup"):
        check_values({"stages": {"a": {"warmup": 1.0}}}, {**schema, "required": []}, where="")


def test_a_frozen_body_needs_weights() -> None:
    values = resolve("digits", assignments=["stages.a.trainable=[head]"]).values
    with pytest.raises(ConfigError) as caught:
        check_body_weights(values)
    assert caught.value.where == "--weights"
    assert "weights of cnn" in caught.value.accepts
    check_body_weights({**values, "weights": "somewhere"})
    check_body_weights(resolve("digits", assignments=["stages.a.epochs=1"]).values)


def test_the_command_line_changes_stages_and_adds_none(tmp_path: Path) -> None:
    # A name that is mistyped would train another stretch of the whole network behind the others.
    with pytest.raises(ConfigError, match="has no stage 'finetun'") as caught:
        resolve("photos-finetune", assignments=["stages.finetun.epochs=1"])
    assert caught.value.where == "command line, key `stages.finetun`"
    assert caught.value.accepts == "finetune, head"
    assert "did you mean 'finetune'?" in caught.value.mend
    added = resolve(write(tmp_path, "  a: {epochs: 1}\n"), assignments=["stages.a.epochs=2"])
    assert list(added.values["stages"]) == ["a"]
    assert list(resolve("digits", assignments=["stages.own.epochs=2"]).values["stages"]) == ["own"]
