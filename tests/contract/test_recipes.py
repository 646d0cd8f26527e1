"""Every registered recipe: described, resolvable, refused when a value is wrong."""

from __future__ import annotations

import pytest

from lamina.cli.train import split_words
from lamina.core.errors import LaminaError
from lamina.core.registry import Entry, describe, entries, names
from lamina.recipes.needs import check_data_path
from lamina.recipes.recipe import CHOICES, STEPS, Recipe, known_values, resolve

RECIPES = entries("recipe")
PROMISED = {
    "digits",
    "mnist-knn",
    "mnist-linear",
    "mnist-svm",
    "mnist-mlp",
    "mnist-mlp-sigmoid",
    "mnist-lenet5",
    "sign-cnn",
    "cifar10-knn",
    "cifar10-linear",
    "iris-mlp",
    "housing-mlp",
    "diabetes-mlp",
    "xor-perceptron",
    "xor-mlp",
    "spirals-mlp",
}


def by_name(entry: Entry) -> str:
    return entry.name


def test_the_promised_recipes_are_there() -> None:
    assert set(names("recipe")) >= PROMISED
    assert len(RECIPES) == len(names("recipe"))


@pytest.mark.parametrize("entry", RECIPES, ids=by_name)
def test_is_described(entry: Entry) -> None:
    assert entry.summary.endswith(".")
    assert len(entry.summary) < 120
    assert entry.source, "a recipe names the text or paper whose experiment it is"
    command, verb, *words = entry.example.split()
    assert (command, verb) == ("lamina", "train")
    recipe, _ = split_words([word for word in words if word not in ("--data", "PATH", "--weights", "FILE")])
    assert recipe == entry.name


@pytest.mark.parametrize("entry", RECIPES, ids=by_name)
def test_resolves_to_registered_things_and_checked_values(entry: Entry) -> None:
    resolved = resolve(entry.name)
    recipe = resolved.recipe()
    assert recipe.name == entry.name
    for section, (kind, key) in CHOICES.items():
        values = getattr(recipe, section)
        if values is not None:
            assert describe(kind, values[key])
    for section, kind in STEPS.items():
        for step in getattr(recipe, section):
            assert describe(kind, step["name"])
    assert Recipe.from_values(recipe.values()) == recipe


@pytest.mark.parametrize("entry", RECIPES, ids=by_name)
def test_brings_data_or_says_what_it_needs(entry: Entry) -> None:
    values = known_values(entry.name)
    path = values.get("data", {}).get("path")
    if path is not None:
        assert path in names("dataset")
        assert "PATH" not in entry.example
        return
    assert "PATH" in entry.example
    with pytest.raises(LaminaError) as caught:
        check_data_path(resolve(entry.name).values)
    assert caught.value.exit_status == 2
    assert caught.value.accepts == values["needs"]
    assert entry.name in caught.value.mend


@pytest.mark.parametrize("entry", RECIPES, ids=by_name)
@pytest.mark.parametrize("word", ["training.epoch=1", "optimizer.lr=fast", "model.kind=no-such-model", "sed=1"])
def test_refuses_wrong_values(entry: Entry, word: str) -> None:
    with pytest.raises(LaminaError) as caught:
        resolve(entry.name, assignments=[word])
    assert caught.value.exit_status == 2
    assert "command line" in caught.value.where
    assert caught.value.mend
