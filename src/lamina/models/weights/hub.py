"""Models of the Hugging Face hub, through the hub's own client.

The client (`huggingface_hub`) is optional and imported only here. It keeps what it fetched in its own cache, and works
offline with what is there.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Final

from lamina.core.errors import MissingExtraError, WeightsError

__all__ = ["fetch_from_hub"]

# The first that a model has is taken: files that cannot hold code before those that our reader takes apart.
FILES: Final = ("model.safetensors", "pytorch_model.bin")


def fetch_from_hub(name: str, *, revision: str | None = None) -> tuple[Path, Path | None]:
    """The weights file of a hub's model, and its `config.json` where it has one.

    Args:
        name: `owner/name`.
        revision: Branch, tag or commit; default: the main branch.

    Raises:
        MissingExtraError: The client is not installed.
        WeightsError: The hub cannot be reached and the cache lacks the model, it does not exist, or it has no such file.
    """
    where = f"hf:{name}" + (f"@{revision}" if revision is not None else "")
    try:
        client: Any = importlib.import_module("huggingface_hub")
        errors: Any = importlib.import_module("huggingface_hub.errors")
    except ImportError:
        raise MissingExtraError(
            "Models of the hub are fetched by its own client, which is not installed.",
            where=where,
            accepts="huggingface_hub, or a file that you fetched yourself",
            mend="pip install 'lamina[hub]'; or download model.safetensors and give its path",
        ) from None
    weights = None
    for file in FILES:
        weights = _file(client, errors, name, file, revision, where=where)
        if weights is not None:
            break
    if weights is None:
        raise WeightsError(
            f"The model has none of the files {', '.join(FILES)}.",
            where=where,
            accepts="a model of the hub with one file of weights",
            mend="download the file that it has, and give its path",
        )
    return weights, _file(client, errors, name, "config.json", revision, where=where)


def _file(client: Any, errors: Any, name: str, file: str, revision: str | None, *, where: str) -> Path | None:
    """A file of the model in the client's cache, fetched where it is not there yet; None where the model has none."""
    try:
        return Path(client.hf_hub_download(name, file, revision=revision))
    except errors.LocalEntryNotFoundError as error:  # offline, and not in the cache; before the class it belongs to
        if _has_some(client, name, revision):
            return None
        raise _unreachable(error, where) from None
    except errors.EntryNotFoundError:
        return None
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.GatedRepoError) as error:
        raise WeightsError(
            f"The hub has no such model for you: {_first_line(error)}",
            where=where,
            accepts="the name of a public model: OWNER/NAME",
            mend="copy the name from the model's page; for a private or gated one sign in with the hub's client",
        ) from None
    except errors.HFValidationError as error:
        raise WeightsError(
            f"The hub takes no such name: {_first_line(error)}",
            where=where,
            accepts="OWNER/NAME",
            mend="copy the name from the model's page",
        ) from None
    except (OSError, errors.HfHubHTTPError) as error:
        raise _unreachable(error, where) from None


def _has_some(client: Any, name: str, revision: str | None) -> bool:
    """Whether the cache holds one of the model's files, so that another one missing there does not mean no network."""
    return any(isinstance(client.try_to_load_from_cache(name, file, revision=revision), str) for file in FILES)


def _unreachable(error: Exception, where: str) -> WeightsError:
    return WeightsError(
        f"The hub cannot be reached, and its cache here does not hold the model: {_first_line(error)}",
        where=where,
        accepts="a network connection, or a model that was fetched before",
        mend="fetch the model on a machine that is online, copy its model.safetensors and config.json, and give the file's path",
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().split("\n", 1)[0] or type(error).__name__)[:200]
