"""Shell completion of commands, flags, settings and their values, by shtab."""

import argparse
from collections.abc import Mapping

from seqssvae.config import list_settings

SHELLS = ("bash", "zsh")


def completion_script(
    parser: argparse.ArgumentParser, commands: Mapping[str, argparse.ArgumentParser], shell: str
) -> str:
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
