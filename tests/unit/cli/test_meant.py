"""What words of `lamina train` were probably meant to be."""

from __future__ import annotations

from pathlib import Path

import pytest

from lamina.cli.main import main
from lamina.cli.meant import refuse_bare_keys, refuse_data_as_recipe
from lamina.core.errors import ConfigError, UsageError
from lamina.core.registry import names


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("epochs=3", "training.epochs=3"),
        ("batch_size=8", "training.batch_size=8"),
        ("batch-size=8", "training.batch_size=8"),
        ("lr=0.1", "optimizer.lr=0.1"),
        ("learning_rate=0.1", "optimizer.lr=0.1"),
        ("momentum=0.9", "optimizer.momentum=0.9"),
        ("hidden_sizes=[16, 16]", "model.hidden_sizes='[16, 16]'"),
        ("limit=100", "data.limit=100"),
        ("epoch=3", "training.epochs=3"),
        ("patience=2", "training.patience=2"),
    ],
)
def test_a_key_without_its_section(word: str, meant: str) -> None:
    with pytest.raises(ConfigError) as caught:
        refuse_bare_keys([word])
    assert caught.value.mend == f"did you mean {meant}?"
    assert repr(word) in caught.value.where


@pytest.mark.parametrize("word", ["seed=3", "training.epochs=3", "model=mlp", "weights=x", "sed=3", "frobnicate=1"])
def test_other_words_are_left_to_others(word: str) -> None:
    refuse_bare_keys([word])


def test_a_data_file_in_the_place_of_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my data.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UsageError, match="is a data file, not a recipe") as caught:
        refuse_data_as_recipe("my data.csv", rest=["training.epochs=3"])
    assert "`lamina train --data 'my data.csv' training.epochs=3`" in caught.value.mend
    with pytest.raises(UsageError, match="no such file"):
        refuse_data_as_recipe("missing.csv")
    with pytest.raises(UsageError, match="is an embedded dataset"):
        refuse_data_as_recipe("wine")
    for word in ("digits", "irismlp", "my.yaml", "folder"):
        refuse_data_as_recipe(word)
    for word in names("recipe"):
        refuse_data_as_recipe(word)


def test_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t.csv").write_text("a,b\n1,2\n")
    assert main(["train", "t.csv"]) == 2
    assert "lamina train --data t.csv" in capsys.readouterr().err
    assert main(["train", "digits", "epochs=3"]) == 2
    assert "did you mean training.epochs=3?" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [tmp_path / "t.csv"]
