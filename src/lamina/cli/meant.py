"""What words of `lamina train` were probably meant to be: a data file where a recipe belongs, a key without its section."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from lamina.core import registry
from lamina.core.errors import ConfigError, UsageError, nearest

__all__ = ["refuse_bare_keys", "refuse_data_as_recipe"]

_RECIPE_ENDINGS: Final = (".yaml", ".yml", ".json", "")
_DATA_ENDINGS: Final = (
    *(
        ".csv",
        ".tsv",
        ".txt",
        ".npz",
        ".npy",
        ".mat",
        ".idx",
        ".bin",
        ".gz",
        ".xz",
        ".bz2",
        ".zst",
        ".zip",
        ".tar",
        ".tgz",
    ),
    *(".parquet", ".arrow", ".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".pkl", ".pickle"),
)
# Names under which other tools know a key.
_ALSO: Final = {
    "learning_rate": "optimizer.lr",
    "batch": "training.batch_size",
    "bs": "training.batch_size",
    "momentum": "optimizer.momentum",
    "wd": "optimizer.weight_decay",
}
# Section -> kind of registered things whose options stand in it.
_OPTIONS: Final = {"optimizer": "optimizer", "model": "model", "schedule": "schedule", "loss": "loss", "task": "task"}


def refuse_data_as_recipe(word: str, *, rest: Sequence[str] = ()) -> None:
    """Refuse a data file, or an embedded dataset, where a recipe belongs.

    Args:
        rest: The other words, for the command that is suggested.

    Raises:
        UsageError: It is one.
    """
    if word in registry.names("recipe"):
        return
    path = Path(word)
    is_dataset = word in registry.names("dataset")
    is_file = path.is_file() and path.suffix.lower() not in _RECIPE_ENDINGS
    if not is_dataset and not is_file and path.suffix.lower() not in _DATA_ENDINGS:
        return
    there = "" if is_dataset or path.exists() else ", and there is no such file"
    what = "an embedded dataset" if is_dataset else "a data file"
    raise UsageError(
        f"{word} is {what}, not a recipe{there}.",
        where="command line, RECIPE",
        accepts="the name of a recipe or a YAML file; data goes behind --data",
        mend=f"did you mean `{shlex.join(['lamina', 'train', '--data', word, *rest])}`? It chooses a recipe and says which",
    )


def refuse_bare_keys(assignments: Sequence[str]) -> None:
    """Refuse `epochs=3` where `training.epochs=3` is meant.

    Raises:
        ConfigError: A key without a section that is none of the recipe's own; names the key that it probably is.
    """
    from lamina.recipes.recipe import Recipe

    own = tuple(Recipe.model_fields)
    for word in assignments:
        key, _, value = word.partition("=")
        if "." in key or not key or key in own:
            continue
        meant = _whole_key(key)
        if meant is not None:
            raise ConfigError(
                f"There is no key {key!r}.",
                where=f"command line, {word!r}",
                accepts=f"section.key=value; sections: {', '.join(own)}",
                mend=f"did you mean {meant}={shlex.quote(value)}?",
            )


def _whole_key(key: str) -> str | None:
    """The key with its section; None where nothing is near."""
    known = list(_keys())
    by_name: dict[str, str] = {}
    for section, name in known:
        by_name.setdefault(name, f"{section}.{name}")
    plain = key.casefold().replace("-", "_")
    if plain in by_name:
        return by_name[plain]
    if plain in _ALSO:
        return _ALSO[plain]
    from lamina.recipes.recipe import Recipe

    # `sed=3` is rather the recipe's own `seed`, which the usual message suggests.
    near = nearest(plain, [*by_name, *Recipe.model_fields], limit=1)
    return by_name.get(near[0]) if near else None


def _keys() -> Iterator[tuple[str, str]]:
    """(section, key) of everything that a recipe may say, what is meant most often first."""
    from lamina.data.config import DataConfig
    from lamina.train.config import TrainingConfig

    yield from (("training", name) for name in TrainingConfig.model_fields)
    yield ("optimizer", "lr")
    yield from (("data", name) for name in DataConfig.model_fields)
    for section, kind in _OPTIONS.items():
        for name in registry.names(kind):
            schema = registry.describe(kind, name).schema or {}
            yield from ((section, option) for option in schema.get("properties", {}))
