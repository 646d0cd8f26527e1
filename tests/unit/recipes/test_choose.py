"""The recipe for data that is given alone: a rule with a reason."""

from typing import Any

import numpy as np
import pytest
import torch

from lamina.core.errors import DataError
from lamina.core.registry import names
from lamina.data.columns import Columns, ColumnSpec, Data, DataSpec, column_spec
from lamina.data.loading import load_data
from lamina.data.ragged import Ragged, RaggedColumns
from lamina.recipes.choose import choose_recipe
from lamina.recipes.session import choose_for


def images(rows: int, size: int, channels: int = 1, *, classes: int = 4) -> Data:
    array = np.zeros((rows, channels, size, size), dtype=np.uint8)
    return load_data((array, np.arange(rows) % classes), channels_first=True)


@pytest.mark.parametrize(
    ("source", "recipe"),
    [("digits", "digits"), ("iris", "iris-mlp"), ("spirals", "spirals-mlp"), ("xor", "xor-mlp")],
)
def test_embedded_data_with_a_recipe_of_its_own(source: str, recipe: str) -> None:
    chosen = choose_recipe(load_data(source))
    assert (chosen.name, source in chosen.reason) == (recipe, True)


def test_tables_by_what_their_target_is() -> None:
    assert choose_recipe(load_data("wine")).name == "tabular-mlp"
    assert "178 rows" in choose_recipe(load_data("wine")).reason
    assert choose_recipe(load_data("diabetes")).name == "tabular-regression-mlp"


def test_images_by_size_and_number() -> None:
    assert choose_recipe(images(5000, 28)).name == "mnist-lenet5"
    small = choose_recipe(images(60, 28))
    assert (small.name, len(small.values["model"]["blocks"])) == ("image-cnn", 2)
    assert "60 grey images of 28x28 in 4 classes" in small.reason
    colour = choose_recipe(images(60, 64, 3))
    assert (colour.name, len(colour.values["model"]["blocks"])) == ("image-cnn", 3)
    assert "colour" in colour.reason
    assert len(choose_recipe(images(8, 8)).values["model"]["blocks"]) == 1


def test_what_the_data_changes_has_that_origin() -> None:
    resolved = choose_for(images(60, 64, 3), {"training": {"epochs": 2}})
    assert resolved.origins["model.blocks"] == "data"
    assert resolved.origins["training.epochs"] == "command line"
    assert resolved.origins["optimizer.lr"] == "recipe"


def bare(role: Any, tensor: torch.Tensor) -> Data:
    columns = Columns({role: tensor})
    spec = DataSpec(columns={role: column_spec(role, tensor)}, num_rows={"all": len(tensor)})
    return Data(splits={"all": columns}, spec=spec, source="somewhere")


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (bare("image", torch.zeros(4, 1, 8, 8, dtype=torch.uint8)), "images without labels"),
        (bare("number", torch.zeros(4, 3)), "a table without a target"),
        (bare("tokens", torch.zeros(4, dtype=torch.uint8)), "columns tokens"),
    ],
)
def test_data_without_anything_to_predict_is_refused(data: Data, what: str) -> None:
    with pytest.raises(DataError, match=f"No recipe suits {what}") as caught:
        choose_recipe(data)
    assert "data.label" in caught.value.mend
    assert caught.value.where == "somewhere"


def test_it_chooses_only_recipes_that_exist() -> None:
    chosen = {
        choose_recipe(data).name for data in (images(5000, 28), images(9, 9), load_data("wine"), load_data("moons"))
    }
    assert chosen <= set(names("recipe"))


def texts(rows: list[str], *, classes: bool = True, ordered: bool = False) -> Data:
    labels = {"label": torch.arange(len(rows)) % 2} if classes else {}
    columns = RaggedColumns(labels, ragged={"text": Ragged.of_texts(rows)})
    specs = {"text": ColumnSpec(role="text", dtype="uint8", shape=(-1,))}
    if classes:
        specs["label"] = column_spec("label", labels["label"], classes=("0", "1"))
    spec = DataSpec(columns=specs, num_rows={"all": len(rows)}, ordered=ordered)
    return Data(splits={"all": columns}, spec=spec, source="somewhere")


def test_texts_by_their_length_and_number() -> None:
    short, long = choose_recipe(texts(["a good film"] * 10)), choose_recipe(texts(["word " * 200] * 10))
    assert (short.name, long.name) == ("sst2-cnn", "imdb-cnn")
    # Ten texts are read more often than the recipe says, sixty thousand are not.
    assert short.values == {"training": {"epochs": 20}}
    assert choose_recipe(texts(["a good film"] * 60_000)).values == {}
    assert choose_recipe(texts(["a line"] * 9, classes=False, ordered=True)).name == "shakespeare-lstm"
    with pytest.raises(DataError, match="No recipe suits texts without classes"):
        choose_recipe(texts(["a line"] * 9, classes=False))
    assert {"sst2-cnn", "imdb-cnn", "shakespeare-lstm"} <= set(names("recipe"))
