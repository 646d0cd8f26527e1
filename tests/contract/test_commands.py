"""Every command: explains itself, parses its own examples, and refuses wrong words in four parts."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from lamina.cli.main import COMMANDS, load_command, main, make_parser
from lamina.cli.parser import split_command

# The commands of the product page that are built; the others must not be there as stubs.
BUILT = {"list", "show", "data", "train", "evaluate", "predict", "generate", "inspect", "report", "verify"}
# What commands have in common, or one of them in a file of its own.
SHARED = {
    "__init__",
    "forecast_rows",
    "labelled_rows",
    "main",
    "meant",
    "output",
    "parser",
    "subjects",
    "tag_rows",
    "view_files",
}


def test_the_commands_are_those_that_are_built() -> None:
    assert set(COMMANDS) == BUILT
    files = {path.stem for path in Path(load_command("list").__file__ or "").parent.glob("*.py")}
    assert files == BUILT | SHARED


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_parse(name: str) -> None:
    module = load_command(name)
    assert module.SUMMARY[:1].islower()
    assert len(module.EXAMPLES) >= 2
    for example in module.EXAMPLES:
        program, *words = shlex.split(example, comments=True)
        command, rest = split_command(words)
        assert (program, command) == ("lamina", name)
        make_parser(module).parse(rest)


@pytest.mark.parametrize("name", COMMANDS)
def test_unknown_options_are_refused_with_the_nearest(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--quite"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "mend     " in told.err
    assert "Traceback" not in told.err


@pytest.mark.parametrize("name", sorted(BUILT - {"list", "show", "train", "data"}))
def test_a_path_that_is_not_there_is_refused(name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = {"evaluate": ["--data", "iris"], "predict": ["x.csv"]}.get(name, [])
    assert main([name, str(tmp_path / "no-such-run"), *words, "--json"]) == 2
    told = capsys.readouterr()
    assert json.loads(told.out)["error"]["what"]
    for part in ("  where    ", "  accepts  ", "  mend     "):
        assert part in told.err


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("threads", ["many", "0", "-3", "1.5"])
def test_threads_must_be_a_number(
    name: str, threads: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = {"list": [], "show": ["mlp"], "data": ["iris"], "train": ["iris-mlp"], "inspect": ["mlp"]}.get(name, ["x"])
    words = [*words, "y.csv"] if name == "predict" else words
    assert main([name, *words, f"--threads={threads}"]) == 2
    assert f"--threads got {threads!r}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
