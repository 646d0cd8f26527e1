"""Models of the hub: through its own client, from its cache when offline, and a helpful word when neither is there."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from lamina.core.errors import MissingExtraError, WeightsError
from lamina.core.tensorfile import pack_tensors
from lamina.models.factory import create_model, weights_origin
from lamina.models.weights.hub import fetch_from_hub
from lamina.models.weights.table import get_table

CONFIG = {"architecture": "resnet18", "num_classes": 5, "pretrained_cfg": {"input_size": [3, 32, 32], "crop_pct": 0.9}}


def write_model(folder: Path) -> None:
    """What a hub's page of a small timm ResNet-18 holds."""
    folder.mkdir(parents=True)
    model = create_model("resnet18", seed=0, width=2, num_classes=5)
    theirs = get_table("timm-resnet").invert(model.state_dict())
    (folder / "model.safetensors").write_bytes(pack_tensors(theirs))
    (folder / "config.json").write_text(json.dumps(CONFIG))


class Errors(types.ModuleType):
    """The client's errors, related as there."""

    class HfHubHTTPError(OSError): ...

    class EntryNotFoundError(Exception): ...

    class LocalEntryNotFoundError(FileNotFoundError, EntryNotFoundError): ...

    class RepositoryNotFoundError(HfHubHTTPError): ...

    class GatedRepoError(RepositoryNotFoundError): ...

    class RevisionNotFoundError(HfHubHTTPError): ...

    class HFValidationError(ValueError): ...


class Client(types.ModuleType):
    """A client that serves a folder, or fails."""

    def __init__(self, folder: Path, *, failure: Exception | None = None) -> None:
        super().__init__("huggingface_hub")
        self.folder = folder
        self.failure = failure
        self.asked: list[tuple[str, str, str | None]] = []

    def hf_hub_download(self, name: str, file: str, *, revision: str | None = None) -> str:
        self.asked.append((name, file, revision))
        if self.failure is not None:
            raise self.failure
        if not (self.folder / file).is_file():
            raise Errors.EntryNotFoundError(file)
        return str(self.folder / file)

    def try_to_load_from_cache(self, name: str, file: str, *, revision: str | None = None) -> str | None:
        path = self.folder / file
        return str(path) if path.is_file() else None


def use(monkeypatch: pytest.MonkeyPatch, client: Any) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", client)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", Errors("huggingface_hub.errors") if client else None)


def test_a_model_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(tmp_path / "hub")
    client = Client(tmp_path / "hub")
    use(monkeypatch, client)
    model = create_model("resnet18", weights="timm/resnet18.tiny", width=2)
    origin = weights_origin(model)
    assert origin is not None
    assert (origin.table, origin.where) == ("timm-resnet", "hf:timm/resnet18.tiny")
    assert origin.preparation is not None
    assert (origin.preparation.size, origin.preparation.crop_fraction) == ((32, 32), 0.9)
    fetch_from_hub("a/b", revision="v1")
    assert client.asked[-1] == ("a/b", "config.json", "v1")


def test_older_pages_have_a_pickle_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    use(monkeypatch, Client(tmp_path))
    assert fetch_from_hub("a/b") == (tmp_path / "pytorch_model.bin", None)
    (tmp_path / "pytorch_model.bin").unlink()
    with pytest.raises(WeightsError, match=r"none of the files model\.safetensors, pytorch_model\.bin"):
        fetch_from_hub("a/b")


@pytest.mark.parametrize(
    ("failure", "what", "mend"),
    [
        (Errors.LocalEntryNotFoundError("offline"), "cannot be reached", "on a machine that is online"),
        (Errors.HfHubHTTPError("500"), "cannot be reached", "on a machine that is online"),
        (ConnectionError("no route"), "cannot be reached", "on a machine that is online"),
        (
            Errors.RepositoryNotFoundError("404 Client Error.\n more"),
            "no such model for you: 404 Client Error.",
            "sign in",
        ),
        (Errors.GatedRepoError("403"), "no such model for you", "sign in"),
        (Errors.RevisionNotFoundError("404"), "no such model for you", "copy the name"),
        (Errors.HFValidationError("bad"), "takes no such name", "copy the name"),
    ],
)
def test_failures_are_told(
    failure: Exception, what: str, mend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Client(tmp_path, failure=failure))
    with pytest.raises(WeightsError) as caught:
        create_model("resnet18", weights="hf:timm/resnet18.tiny@main")
    assert what in caught.value.what
    assert mend in caught.value.mend
    assert caught.value.where == "hf:timm/resnet18.tiny@main"


def test_offline_with_the_older_file_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that the cache lacks is not taken for a missing network where another one is there."""

    class Offline(Client):
        def hf_hub_download(self, name: str, file: str, *, revision: str | None = None) -> str:
            if not (self.folder / file).is_file():
                raise Errors.LocalEntryNotFoundError(file)
            return str(self.folder / file)

    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    use(monkeypatch, Offline(tmp_path))
    assert fetch_from_hub("a/b") == (tmp_path / "pytorch_model.bin", None)


def test_without_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, None)
    with pytest.raises(MissingExtraError) as caught:
        create_model("resnet18", weights="timm/resnet18.a1_in1k")
    assert "lamina[hub]" in caught.value.mend


@pytest.mark.skipif(importlib.util.find_spec("huggingface_hub") is None, reason="the hub's client is not installed")
@pytest.mark.parametrize("name", ["resnet18.tiny", "resnet18.other"])
def test_the_real_client_offline_with_its_cache(name: str, tmp_path: Path) -> None:
    cache = tmp_path / "models--timm--resnet18.tiny"
    write_model(cache / "snapshots" / "0123abc")
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("0123abc")
    script = (
        "import sys; from lamina.models.factory import create_model, weights_origin; "
        "print(weights_origin(create_model('resnet18', weights=sys.argv[1], width=2)).table)"
    )
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script, f"timm/{name}"], env=environment, capture_output=True, text=True
    )
    if name == "resnet18.tiny":
        assert done.stdout.strip() == "timm-resnet", done.stderr
    else:
        assert "WeightsError: The hub cannot be reached" in done.stderr
