"""The program: finds the command, runs it, and turns whatever happens into an exit status.

0 done, 1 the job failed, 2 wrong use or bad input, 130 interrupted. Imports neither torch nor pydantic; each command
imports what it needs when it runs.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from types import FrameType, ModuleType
from typing import Any, Final

from lamina.cli.output import SCHEMA, Output, error_document, error_text, render_json
from lamina.cli.parser import Parser, split_command, whole_number
from lamina.core.errors import LaminaError, UsageError, nearest
from lamina.core.files import storage_error

COMMANDS: Final = ("list", "show", "data", "train", "evaluate", "predict", "generate", "inspect", "report", "verify")
INTERRUPTED: Final = 130
_STORAGE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status.

    Args:
        argv: The words after `lamina`; None: those of the process, whose signals and streams are then made safe too.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    with contextlib.ExitStack() as stack:
        try:
            if argv is None:
                _open_closed_streams()
                stack.enter_context(_terminated_like_interrupted())
            _forgive_terminals()
            status = _run(words)
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader (`| head`) has what it wanted; nothing more can be said there.
            _forget_stdout()
            return 0
        except KeyboardInterrupt as interrupt:
            print(f"Interrupted. {interrupt}".rstrip(), file=sys.stderr)
            return INTERRUPTED
        except OSError as error:
            print(f"The result could not be written: {error}.", file=sys.stderr)
            _forget_stdout()
            return 1
        return status


def _run(words: list[str]) -> int:
    debug = "--debug" in words
    try:
        return _dispatch(words)
    except LaminaError as error:
        if debug:
            traceback.print_exc()
        _tell(error, json_wanted="--json" in words)
        return error.exit_status
    except (BrokenPipeError, KeyboardInterrupt):
        if debug:
            traceback.print_exc()
        raise
    except SystemExit as leaving:  # argparse after --help
        return int(leaving.code or 0)
    except MemoryError as error:
        return _internal(
            error,
            words,
            "The machine's memory is exhausted.",
            "use less: data.limit=…, a smaller training.batch_size or model",
        )
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _STORAGE:
            _tell(storage_error(error, error.filename or "the disk"), json_wanted="--json" in words)
            return 1
        return _internal(
            error,
            words,
            f"An internal error: {type(error).__name__}: {error}".rstrip(": "),
            "this is a fault of Lamina, please report it; --debug shows where it happened",
        )


def _dispatch(words: list[str]) -> int:
    name, rest = split_command(words)
    if name is None:
        _top_level(rest)
        return 0
    command = load_command(name)
    parser = make_parser(command)
    options = parser.parse(rest)
    options.argv = words
    options.threads = whole_number(options.threads, option="--threads")
    output = Output(json_wanted=options.json, quiet=options.quiet)
    return int(command.run(options, output))


def load_command(name: str) -> ModuleType:
    """The module of a command.

    Raises:
        UsageError: There is no such command.
    """
    if name not in COMMANDS:
        near = nearest(name, COMMANDS)
        raise UsageError(
            f"There is no command {name!r}.",
            where="command line, the word after lamina",
            accepts=", ".join(COMMANDS),
            mend=f"did you mean `lamina {near[0]}`?" if near else "`lamina --help` says what each does",
        )
    return importlib.import_module(f"lamina.cli.{name}")


def make_parser(command: ModuleType) -> Parser:
    """The parser of a command's words, from its `SUMMARY`, `EXAMPLES` and `add_arguments`."""
    name = command.__name__.rpartition(".")[2]
    parser = Parser(
        name, description=command.SUMMARY, epilog="examples:\n" + "\n".join(f"  {e}" for e in command.EXAMPLES)
    )
    command.add_arguments(parser)
    parser.add_common()
    return parser


def _top_level(words: list[str]) -> None:
    from lamina import __version__

    parser = Parser(
        "", usage="lamina COMMAND …", description="Classic networks, trained from your own files.", epilog=_overview()
    )
    parser.add_argument("--version", action="version", version=f"lamina {__version__}")
    parser.add_common()
    parser.parse(words)
    parser.print_help()


def _overview() -> str:
    summaries = {name: load_command(name).SUMMARY for name in COMMANDS}
    size = max(map(len, summaries))
    return "\n".join(
        [
            "commands:",
            *(f"  {name:<{size}}  {summary}" for name, summary in summaries.items()),
            "",
            "`lamina train digits` is a good first try; `lamina COMMAND --help` explains a command.",
        ]
    )


# --- telling what went wrong ---------------------------------------------------------------------------------------


def _tell(error: LaminaError, *, json_wanted: bool) -> None:
    print(error_text(error), file=sys.stderr)
    if json_wanted:
        print(render_json({"schema": SCHEMA, "error": error_document(error)}))


def _internal(error: BaseException, words: Sequence[str], what: str, mend: str) -> int:
    if "--debug" in words:
        traceback.print_exception(error)
    print(f"{what}\n  {'mend':<8} {mend}", file=sys.stderr)
    if "--json" in words:
        document = {"type": type(error).__name__, "what": what, "where": "", "accepts": "", "mend": mend}
        print(render_json({"schema": SCHEMA, "error": document}))
    return 1


# --- the process ---------------------------------------------------------------------------------------------------


def _open_closed_streams() -> None:
    """Give the numbers 0, 1 and 2 to the null device where they are closed.

    Otherwise the next file that is opened would get such a number, and what libraries print would end up in it.
    """
    while True:
        descriptor = os.open(os.devnull, os.O_RDWR)
        if descriptor > 2:
            os.close(descriptor)
            break
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - a device, for the whole process
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115


def _forgive_terminals() -> None:
    """A letter that the terminal's encoding lacks is replaced instead of ending the program."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")


def _forget_stdout() -> None:
    """Point stdout to the null device, so that Python's own flush at the end does not fail again."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt, so that both leave by the same door; training puts its own handlers in front."""

    def interrupt(_number: int, _frame: FrameType | None) -> Any:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


if __name__ == "__main__":
    sys.exit(main())
