"""Bundles and runs that were damaged, tampered with, or are none."""

from __future__ import annotations

import json
import os
import shutil
import struct
import zipfile
from pathlib import Path
from typing import Final

from e2e.bad_input_case import Cases, Ground, edit, png, reseal


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))


def _bomb(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 2**40) + path.read_bytes()[8:])
    reseal(folder)


def _other_widths(folder: Path) -> None:
    values = json.loads((folder / "config.json").read_text())
    values["model"]["config"]["hidden_sizes"] = [16, 17]
    reseal(folder, model=values["model"])


def _other_model(folder: Path) -> None:
    reseal(folder, model={"name": "mlpp", "config": {}})


def _link(folder: Path) -> None:
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to("/etc/hostname")


def _fewer_labels(folder: Path) -> None:
    (folder / "labels.json").write_text(json.dumps({"classes": ["0", "1"], "targets": []}))
    reseal(folder)


def _zip(ground: Ground, *, cut: int = 0, more: dict[str, bytes] | None = None) -> list[str]:
    with zipfile.ZipFile(ground.folder / "b.zip", "w", zipfile.ZIP_STORED) as archive:
        for path in sorted((ground.images / "bundle").iterdir()):
            archive.write(path, path.name)
        for name, content in (more or {}).items():
            archive.writestr(name, content)
    path = ground.folder / "b.zip"
    path.write_bytes(path.read_bytes()[: path.stat().st_size - cut])
    return ["predict", "b.zip", ground.write("p.png", png())]


def _run(ground: Ground, *words: str, remove: str = "", old: str = "", new: str = "") -> list[str]:
    folder = ground.run("table")
    if remove:
        path = folder / remove
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if old:
        edit(folder / "recipe.yaml", old, new)
    return list(words)


def _unfinished(ground: Ground, *words: str, damage: str = "") -> list[str]:
    """A run that looks as if it had been interrupted after its checkpoint."""
    folder = ground.run("table")
    (folder / "result.json").unlink()
    shutil.rmtree(folder / "bundle")
    for path in (folder / "checkpoints").glob(f"step-*/{damage}") if damage else ():
        _flip(path)
    return list(words)


def _run_edit(ground: Ground, old: str, new: str) -> list[str]:
    edit(ground.folder / "r" / "recipe.yaml", old, new)
    return ["train", "--resume", "r"]


CASES: Final[Cases] = {
    "bundle": {
        "a flipped bit in the weights": (
            lambda g: g.bundle(lambda b: _flip(b / "model.safetensors")),
            "Its sha256 is | b/model.safetensors | copy or save the bundle again",
        ),
        "weights cut off": (
            lambda g: g.bundle(lambda b: os.truncate(b / "model.safetensors", 100)),
            "It has 100 bytes | b/model.safetensors | copy or save the bundle again",
        ),
        "an edited description": (
            lambda g: g.bundle(lambda b: edit(b / "config.json", "mlp", "mlq")),
            "Its checksum does not match its content | b/config.json | copy or save the bundle again",
        ),
        "a description that is no JSON": (
            lambda g: g.bundle(lambda b: (b / "config.json").write_text("{")),
            "It is not JSON: Expecting property name | b/config.json | copy or save the bundle again",
        ),
        "no description": (
            lambda g: g.bundle(lambda b: (b / "config.json").unlink()),
            "There is no config.json | b | give a bundle (folder or .zip) or a run",
        ),
        "no labels": (
            lambda g: g.bundle(lambda b: (b / "labels.json").unlink()),
            "There is no labels.json | b | give a bundle (folder or .zip) or a run",
        ),
        "a file too many": (
            lambda g: g.bundle(lambda b: (b / "run.py").write_text("print(1)")),
            "There is a 'run.py' in it | b | copy or save the bundle again",
        ),
        "a link to elsewhere": (
            lambda g: g.bundle(_link),
            "It is not a plain file but a link | b/README.md | copy or save the bundle again",
        ),
        "a key too many, sealed again": (
            lambda g: g.bundle(lambda b: reseal(b, code="import os")),
            "There is no key 'code' | b/config.json, code | copy or save the bundle again",
        ),
        "a format from the future": (
            lambda g: g.bundle(lambda b: reseal(b, format=2)),
            "The bundle has the format 2 | b/config.json | install a newer version of Lamina",
        ),
        "a header that promises a terabyte": (
            lambda g: g.bundle(_bomb),
            "bytes announces a header of | b/model.safetensors | copy or save the bundle again",
        ),
        "a model that is not there": (
            lambda g: g.bundle(_other_model),
            "There is no model called 'mlpp' | b, model.safetensors: model.name | install the version of Lamina",
        ),
        "other widths than the weights have": (
            lambda g: g.bundle(_other_widths),
            "The weight 'body.linear2.bias' is float32 (16,) | b, model.safetensors: weight 'body.linear2.bias' | copy or save the bundle again",
        ),
        "fewer labels than outputs": (
            lambda g: g.bundle(_fewer_labels),
            "The labels are ['0', '1'] | b, labels.json | copy or save the bundle again",
        ),
        "a zip cut off": (
            lambda g: _zip(g, cut=100),
            "The file does not end in a zip's end record | b.zip | copy or save the bundle again",
        ),
        "a zip that climbs out": (
            lambda g: _zip(g, more={"../evil.json": b"{}"}),
            "A member is called '../evil.json' | b.zip | copy or save the bundle again",
        ),
        "a folder that is no bundle": (
            lambda g: (g.write("some/thing.txt", "x"), ["predict", "some", "x.png"])[1],
            "There is a 'thing.txt' in it | some | copy or save the bundle again",
        ),
        "a file that is no bundle": (
            lambda g: ["predict", g.write("thing.zip", b"no zip at all"), "x.png"],
            "The file has 13 bytes | thing.zip | copy or save the bundle again",
        ),
        "a bundle that is not there": (
            lambda g: (g.write("digits.bundle/config.json", "{}"), ["predict", "digit.bundle", "x.png"])[1],
            "There is nothing at digit.bundle | command line of lamina predict | did you mean digits.bundle?",
        ),
        "weights of another model": (
            lambda g: ["train", "iris-mlp", "--weights", str(g.images)],
            "The weights do not fit MLP | bundle/model.safetensors | build the model with the config that the",
        ),
        "weights that are not there": (
            lambda g: ["train", "iris-mlp", "--weights", "w.safetensors"],
            "There is no file w.safetensors | w.safetensors, key `weights` | a safetensors file or a bundle",
        ),
    },
    "run": {
        "resume a folder that is no run": (
            lambda g: (g.write("some/thing.txt", "x"), ["train", "--resume", "some"])[1],
            "some is not a run: it has no recipe.yaml | some | name the run folder itself",
        ),
        "resume nothing": (
            lambda g: ["train", "--resume", "runs/none"],
            "runs/none does not exist | runs/none | name the folder that `lamina train` printed",
        ),
        "a recipe with an unknown key": (
            lambda g: _unfinished(g) + _run_edit(g, "epochs:", "epoch:"),
            "There is no key 'epoch' | r/recipe.yaml, key `training.epoch` | did you mean 'epochs'?",
        ),
        "a recipe changed after the start": (
            lambda g: _unfinished(g) + _run_edit(g, "hidden_sizes: [32, 32]", "hidden_sizes: [32, 7]"),
            "The checkpoint's weights do not fit the model | r/checkpoints | undo the change of recipe.yaml",
        ),
        "a recipe that does not parse": (
            lambda g: _unfinished(g) + _run_edit(g, "training:", "training: {"),
            "This is not readable YAML | r/recipe.yaml, line | correct that line",
        ),
        "resume with other values": (
            lambda g: ["train", "--resume", str(g.table), "seed=5"],
            "--resume continues a run as it began | command line of lamina train | leave seed=5 out, or begin a new run",
        ),
        "a new run in the folder of an old one": (
            lambda g: ["train", "iris-mlp", "--run", str(g.table)],
            "holds a finished run and is not overwritten | --run | choose another folder",
        ),
        "a new run in a folder with other things": (
            lambda g: (g.write("mine/letter.txt", "x"), ["train", "iris-mlp", "--run", "mine"])[1],
            "mine is not an empty folder and is not | --run | choose another folder",
        ),
        "a report of no run": (
            lambda g: (g.write("some/thing.txt", "x"), ["report", "some"])[1],
            "some is not a run: it has no recipe.yaml | some | name the run folder itself",
        ),
        "verify without a checkpoint": (
            lambda g: _run(g, "verify", "r", remove="checkpoints"),
            "The run has no checkpoint to replay | r/checkpoints | train it further: lamina train --resume r",
        ),
        "predict with a run that has no bundle": (
            lambda g: _run(g, "predict", "r", "t.csv", remove="bundle"),
            "The run has no bundle yet | r | lamina train --resume r brings it to its end",
        ),
        "a damaged checkpoint": (
            lambda g: _unfinished(g, "train", "--resume", "r", damage="*.safetensors"),
            "The checkpoint is damaged | r/checkpoints/step-00000002 | remove r/checkpoints/step-00000002 to",
        ),
        "a run that lost its recipe": (
            lambda g: _run(g, "train", "--resume", "r", remove="recipe.yaml"),
            "r is not a run: it has no recipe.yaml | r | name the run folder itself",
        ),
    },
}
