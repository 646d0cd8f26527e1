"""Options of the generators, from the command line and from recipes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lamina.cli.main import main
from lamina.core.errors import ConfigError
from lamina.data.config import DataConfig
from lamina.data.loading import load_data


def test_a_generator_takes_them() -> None:
    data = load_data("spirals", config=DataConfig(options={"num_classes": 5, "num_rows": 50, "noise": 0.0}))
    assert data.spec.num_rows == {"all": 50}
    assert len(data.spec.classes) == 5
    assert load_data("spirals").fingerprint == load_data("spirals", options={}).fingerprint
    assert load_data("spirals").fingerprint != load_data("spirals", options={"noise": 0.2}).fingerprint


@pytest.mark.parametrize(
    ("source", "options", "what", "mend"),
    [
        ("spirals", {"arms": 3}, "no key 'arms'", "leave it out, or look the keys up"),
        ("spirals", {"nois": 3}, "no key 'nois'", "did you mean 'noise'?"),
        ("spirals", {"noise": -1}, "noise got -1", "change"),
        ("iris", {"noise": 1}, "no option 'noise': iris is what it is", "leave data.options.noise out"),
    ],
)
def test_what_it_does_not_know_is_refused(source: str, options: dict[str, object], what: str, mend: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_data(source, config=DataConfig(options=options))
    assert what in caught.value.what
    assert "data.options" in caught.value.where
    assert mend in caught.value.mend


def test_files_have_none(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("a,b\n1,x\n2,y\n")
    with pytest.raises(ConfigError, match="is read from files"):
        load_data(table, config=DataConfig(options={"noise": 1}))


def test_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", "rings", "data.options.num_modes=4", "data.options.num_rows=40", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["splits"]["all"]["rows"] == 40
    words = ["data.options.num_classes=4", "data.options.num_rows=80", "training.epochs=1", "--quiet"]
    assert main(["train", "spirals-mlp", "--run", "run", *words]) == 0
    assert "    num_classes: 4  # command line" in Path("run/recipe.yaml").read_text()
    capsys.readouterr()
    assert main(["evaluate", "run", "--json"]) == 0  # the run's own rows are made again
    document = json.loads(capsys.readouterr().out)
    assert (document["own_split"], document["num_samples"]) == (True, 16)
    Path("t.csv").write_text("x0,x1,label\n0.1,0.2,0\n0.5,-0.3,3\n")
    header = Path("t.csv")
    status = main(["evaluate", "run", "--data", str(header)])
    assert "data.options" not in capsys.readouterr().err
    assert status in (0, 2)
