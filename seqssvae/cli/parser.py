"""The argument parser of commands and scripts: a mistake is one line, and exit status 2.

Shell completion of commands, flags, settings and their values is by shtab.
"""

import argparse
import difflib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from seqssvae import distributed
from seqssvae.config import list_settings

SHELLS = ("bash", "zsh")


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Appends the default of each flag that has one, and shows that RUN is required."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        absent = (None, "", argparse.SUPPRESS)
        has_default = action.option_strings and action.nargs != 0 and action.default not in absent
        return f"{action.help} (default: %(default)s)" if has_default else action.help

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        if action.dest == "run":  # argparse takes it for optional, as it may follow `--data FILE`
            return str(action.metavar)
        return super()._format_args(action, default_metavar)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line and name the nearest flag.

    Flags are not abbreviated, and positional arguments may follow flags. Dashes and underscores in
    a flag are one, and its section may be left out where only one flag has the rest. A whole number
    may be written as 1e3, and a path may start with `~`.

    Args:
        options: Those of `argparse.ArgumentParser`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=_HelpFormatter, **options)
        self.register("type", int, whole_number)
        self.register("type", Path, lambda text: Path(os.path.expanduser(text)))

    def parse_args(  # type: ignore[override] # no namespace to fill
        self, args: Sequence[str] | None = None
    ) -> argparse.Namespace:
        """Parse `args`, or those of the process."""
        words = list(sys.argv[1:] if args is None else args)
        end = words.index("--") if "--" in words else len(words)
        words[:end] = map(self._known, words[:end])
        arguments, rest = self.parse_known_intermixed_args(words)
        if rest:
            self.refuse(rest)
        return arguments

    def _known(self, word: str) -> str:
        """A flag as it is declared, where it is written in another way; any other word."""
        flag, equals, value = word.partition("=")
        if not flag.startswith("--") or flag in self._option_string_actions:
            return word
        plain = flag[2:].replace("-", "_")
        found = {
            action.option_strings[0]
            for known, action in self._option_string_actions.items()
            if plain in (known[2:].replace("-", "_"), known.rpartition(".")[2])
        }
        return found.pop() + equals + value if len(found) == 1 else word

    def refuse(self, rest: Sequence[str]) -> NoReturn:
        """Exit because of arguments that no flag takes, naming the nearest flag."""
        unknown = next((word for word in rest if word.startswith("-")), rest[0]).partition("=")[0]
        near = difflib.get_close_matches(unknown, self._option_string_actions, 1)
        hint = f", did you mean {near[0]}?" if near else ""
        self.error(f"unknown argument {unknown:.80}{hint}")

    def error(self, message: str) -> NoReturn:
        """Exit with 2 after a line on stderr, which the first of several processes prints."""
        is_first = not distributed.launched_rank()
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}\n" if is_first else None)


def whole_number(text: str) -> int:
    """The number of a text such as 1000 or 1e3.

    Raises:
        ValueError: it is none.
    """
    try:
        return int(text)
    except ValueError:
        number = float(text)
        if "." in text or not number.is_integer():
            raise
        return int(number)


whole_number.__name__ = "int"  # in errors


def completion_script(parser: Parser, commands: Mapping[str, Parser], shell: str) -> str:
    """The script that makes a shell complete `seqssvae`.

    Args:
        parser: Parser of the whole command line; not to be used afterwards.
        commands: Parser of each command.
        shell: One of `SHELLS`.
    """
    import shtab

    choices = {one.key: one.choices for one in list_settings()}
    for command in commands.values():
        for action in command._actions:
            action.choices = choices.get(action.dest) or action.choices
            if str(action.metavar).startswith("FILE"):
                action.complete = shtab.FILE  # type: ignore[attr-defined]
            elif action.metavar == "RUN":
                action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    script: str = shtab.complete(parser, shell)
    return script
