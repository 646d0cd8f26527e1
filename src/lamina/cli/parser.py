"""Reading command lines: argparse, with faults in four parts and options that may stand anywhere."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from lamina.core.errors import UsageError, nearest

COMMON = ("--device", "--threads", "--quiet", "--debug", "--json", "--help")
WITH_VALUE = ("--device", "--threads")


class Parser(argparse.ArgumentParser):
    """An argument parser that raises `UsageError` and takes positional words and options in any order.

    Args:
        command: Name of the command; empty for the program itself.
    """

    def __init__(self, command: str, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(prog=f"lamina {command}".strip(), allow_abbrev=False, add_help=False, **options)
        self.command = command
        self._common: argparse._ArgumentGroup | None = None

    def add_common(self) -> None:
        """The options that every command has; called last so that they stand last in the help."""
        group = self.add_argument_group("everywhere")
        group.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1, mps or auto (default)")
        group.add_argument(
            "--threads", metavar="N", help="processor threads; by default a rule from network and machine"
        )
        group.add_argument("--json", action="store_true", help="one JSON document on stdout")
        group.add_argument("--quiet", action="store_true", help="no progress and notes on stderr")
        group.add_argument("--debug", action="store_true", help="show the traceback of an error")
        group.add_argument("-h", "--help", action="help", help="show this text")

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """Parse, or refuse with the nearest option.

        Raises:
            UsageError: An unknown option, a missing value or word, or one too many.
        """
        options, extra = self.parse_known_intermixed_args(list(words))
        # argparse leaves a lone `--` among the words of some versions.
        extra = [word for word in extra if word != "--"]
        if extra:
            raise self._unknown(extra[0])
        return options

    def _unknown(self, word: str) -> UsageError:
        known = sorted(
            option for action in self._actions for option in action.option_strings if option.startswith("--")
        )
        if word.startswith("-") and len(word) > 1:
            near = nearest(word.split("=")[0], known)
            return UsageError(
                f"{self.prog} has no option {word!r}.",
                where="command line",
                accepts=", ".join(known),
                mend=f"did you mean {near[0]}?" if near else f"`{self.prog} --help` explains them",
            )
        return UsageError(
            f"{word!r} is one word too many.",
            where=f"command line of {self.prog}",
            accepts=self.usage_line(),
            mend="leave it out, or quote words that belong together",
        )

    def error(self, message: str) -> NoReturn:
        """Argparse's own complaints, in four parts."""
        raise UsageError(
            f"{message[:1].upper()}{message[1:]}.",
            where=f"command line of {self.prog}",
            accepts=self.usage_line(),
            mend=f"`{self.prog} --help` explains each word",
        )

    def usage_line(self) -> str:
        """The usage on one line."""
        return " ".join(self.format_usage().removeprefix("usage:").split())


def split_command(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """The command and everything else: common options may stand before the command.

    >>> split_command(["--json", "--threads", "2", "train", "digits"])
    ('train', ['--json', '--threads', '2', 'digits'])
    """
    position = 0
    while position < len(words):
        word = words[position]
        if not word.startswith("-"):
            return word, [*words[:position], *words[position + 1 :]]
        position += 2 if word in WITH_VALUE else 1
    return None, list(words)


def whole_number(text: str | None, *, option: str, minimum: int = 1) -> int | None:
    """The value of an option that takes a whole number.

    Raises:
        UsageError: It is none, or too small.
    """
    if text is None:
        return None
    try:
        number = int(text)
    except ValueError:
        number = minimum - 1
    if number < minimum:
        raise UsageError(
            f"{option} got {text!r}.",
            where=f"command line, {option}",
            accepts=f"a whole number, {minimum} or more",
            mend=f"write {option} {max(minimum, 2)}, say",
        )
    return number
