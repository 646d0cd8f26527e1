"""The program's frame: exit statuses, four-part complaints, one JSON document, no traceback without --debug."""

import argparse
import errno
import json
import sys
import types

import pytest

from lamina.cli import main as program
from lamina.cli.main import COMMANDS, load_command, main
from lamina.core.errors import TrainingError, UsageError


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A command called `list` that does what the test tells it."""
    module = types.ModuleType("lamina.cli.list")
    module.SUMMARY = "a command of the test"  # type: ignore[attr-defined]
    module.EXAMPLES = ("lamina list",)  # type: ignore[attr-defined]
    module.add_arguments = lambda parser: parser.add_argument("words", nargs="*")  # type: ignore[attr-defined]
    module.seen = []  # type: ignore[attr-defined]

    def run(options: argparse.Namespace, output: object) -> int:
        module.seen.append(options)
        error = getattr(module, "error", None)
        if error is not None:
            raise error
        return 0

    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setattr(program.importlib, "import_module", lambda name: module)
    return module


@pytest.mark.parametrize(
    "words",
    [
        ["--json", "--device", "cpu", "list", "a", "b=1", "--threads", "2"],
        ["list", "a", "--json", "--threads", "2", "b=1", "--device", "cpu"],
        ["list", "--threads=2", "--device=cpu", "a", "--json", "b=1"],
    ],
)
def test_common_options_stand_anywhere(command: types.ModuleType, words: list[str]) -> None:
    assert main(words) == 0
    options = command.seen[0]
    assert (options.words, options.json, options.threads, options.device) == (["a", "b=1"], True, 2, "cpu")
    assert (options.quiet, options.debug) == (False, False)


def test_status_of_each_kind_of_end(command: types.ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    parts = {"where": "there", "accepts": "that", "mend": "do so"}
    for error, status in [
        (None, 0),
        (UsageError("Wrong.", **parts), 2),
        (TrainingError("Failed.", **parts), 1),
        (KeyboardInterrupt(), 130),
        (ZeroDivisionError("division by zero"), 1),
        (MemoryError(), 1),
        (BrokenPipeError(), 0),
        (OSError(errno.ENOSPC, "No space left on device", "/full/file"), 1),
    ]:
        command.error = error  # type: ignore[attr-defined]
        assert main(["list"]) == status, error
        assert "Traceback" not in capsys.readouterr().err


def test_an_error_is_told_in_four_parts_and_as_a_document(
    command: types.ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    command.error = UsageError("Wrong.", where="there", accepts="that", mend="do so")  # type: ignore[attr-defined]
    assert main(["list", "--json"]) == 2
    told = capsys.readouterr()
    assert told.err == "UsageError: Wrong.\n  where    there\n  accepts  that\n  mend     do so\n"
    assert json.loads(told.out) == {
        "schema": 1,
        "error": {"type": "UsageError", "what": "Wrong.", "where": "there", "accepts": "that", "mend": "do so"},
    }


def test_debug_shows_the_traceback(command: types.ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    command.error = ZeroDivisionError("division by zero")  # type: ignore[attr-defined]
    assert main(["list"]) == 1
    told = capsys.readouterr().err
    assert "An internal error: ZeroDivisionError: division by zero" in told
    assert "--debug" in told
    assert main(["list", "--debug"]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_a_full_disk_is_a_storage_error_even_where_a_library_raised_it(
    command: types.ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    command.error = OSError(errno.ENOSPC, "No space left on device", "/full/file")  # type: ignore[attr-defined]
    assert main(["list"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("StorageError: Writing failed: No space left on device.")
    assert "/full/file" in told


@pytest.mark.parametrize(
    ("words", "what", "mend"),
    [
        (["lst"], "There is no command 'lst'.", "did you mean `lamina list`?"),
        (["frobnicate"], "There is no command 'frobnicate'.", "`lamina --help`"),
        (["--frob"], "lamina has no option '--frob'.", "`lamina --help`"),
        (["list", "--jsn"], "lamina list has no option '--jsn'.", "did you mean --json?"),
        (["list", "--threads"], "Argument --threads: expected one argument.", "`lamina list --help`"),
        (["show"], "The following arguments are required: NAME.", "`lamina show --help`"),
        (["list", "models", "recipes"], "'recipes' is one word too many.", "leave it out"),
        (["list", "modells"], "There is no kind of thing called 'modells'.", "did you mean 'models'?"),
        (["show", "no-such-thing-anywhere"], "Nothing is called 'no-such-thing-anywhere'.", "`lamina list`"),
        (["list", "--json=yes"], "Argument --json: ignored explicit argument 'yes'.", "`lamina list --help`"),
    ],
)
def test_wrong_words(words: list[str], what: str, mend: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert what in told.err
    assert mend in told.err
    assert "  where    " in told.err
    assert "Traceback" not in told.err


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    told = capsys.readouterr()
    assert all(f"\n  {name} " in told.out for name in COMMANDS)
    assert told.err == ""
    assert main([]) == 0
    assert capsys.readouterr().out == told.out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    told = capsys.readouterr().out
    module = load_command(name)
    assert told.startswith(f"usage: lamina {name}")
    assert module.SUMMARY in told
    assert all(example in told for example in module.EXAMPLES)
    for option in ("--device", "--threads", "--json", "--quiet", "--debug"):
        assert option in told


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    import lamina

    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"lamina {lamina.__version__}"


def test_colours_follow_the_terminal_and_no_color(
    command: types.ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command.error = UsageError("Wrong.", where="there", accepts="that", mend="do so")  # type: ignore[attr-defined]
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    main(["list"])
    assert "\x1b[1;31mUsageError:\x1b[0m Wrong." in capsys.readouterr().err
    monkeypatch.setenv("NO_COLOR", "1")
    main(["list"])
    assert "\x1b" not in capsys.readouterr().err
