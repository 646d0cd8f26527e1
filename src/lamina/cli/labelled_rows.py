"""The labelled rows that `lamina inspect` shows a view: of a path, or of the run that a bundle comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lamina.cli.evaluate import choose_rows

if TYPE_CHECKING:
    from lamina.core.run import RunFolder
    from lamina.data.columns import Columns, Data
    from lamina.tasks.bundle import Bundle


def labelled_rows(
    bundle: Bundle, run: RunFolder | None, *, path: str | None, split: str | None
) -> tuple[Columns, str] | None:
    """The rows in the model's own order of classes and features, and the split they are; None where nothing names data.

    Nothing is divided here: the data of the run itself is divided as the run saved it, and its test split is taken, else
    the validation split; other data as it is given.

    Raises:
        DataError: The data cannot be read, or does not fit the model.
        UsageError: There is no such split.
    """
    from lamina.data.config import DataConfig
    from lamina.data.loading import load_data, load_like
    from lamina.data.splits import restore_split
    from lamina.recipes.build import saved_split
    from lamina.recipes.session import recipe_of_run
    from lamina.tasks.alignment import align_columns

    config = DataConfig()
    if run is not None:
        recorded = recipe_of_run(run).data
        # Another file may well have another format; the run's own reader was named for its own file.
        changes: dict[str, Any] = {
            "limit": None,
            **({"reader": None, "options": {}} if path not in (None, recorded.path) else {}),
        }
        config = recorded.model_copy(update=changes)
        path = path or recorded.path
    if path is None:
        return None
    saved = saved_split(run) if run is not None else None
    data = load_data(path, config=config) if saved is not None else None
    if data is not None and saved is not None and run is not None and _is_own(run, data):
        data = restore_split(data, saved)
    else:
        data = load_like(path, spec=bundle.spec, config=config)
    chosen, columns = choose_rows(data, split)
    roles = ("image", "series", "volume", "number", "category", "label", "target")
    needed = [name for name, column in bundle.spec.columns.items() if column.role in roles]
    return align_columns(columns, found=data.spec, wanted=bundle.spec, needed=needed), chosen


def _is_own(run: RunFolder, data: Data) -> bool:
    return bool(run.environment().get("data_fingerprint") == data.fingerprint)
