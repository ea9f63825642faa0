"""A shell's completion of commands, flags, settings and their choices, by shtab."""

import argparse
from collections.abc import Mapping

from seqssvae.config import describe_fields

__all__ = ["SHELLS", "completion_script"]

SHELLS = ("bash", "zsh")


def completion_script(
    parser: argparse.ArgumentParser,
    commands: Mapping[str, argparse.ArgumentParser],
    shell: str,
    *,
    take_settings: tuple[str, ...],
) -> str:
    """The script that a shell reads to complete `seqssvae`.

    Args:
        parser: Of the whole command line; flags are added to its commands, so it is of no other
            use afterwards.
        commands: The parser of each command.
        shell: One of `SHELLS`.
        take_settings: Commands that take every setting as a flag.
    """
    import shtab

    for name, command in commands.items():
        if name in take_settings:
            _add_settings(command)
        for action in command._actions:
            wanted = str(action.metavar)
            if wanted.startswith("FILE"):
                action.complete = shtab.FILE  # type: ignore[attr-defined]
            elif wanted == "RUN":
                action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    script: str = shtab.complete(parser, shell)
    return script


def _add_settings(command: argparse.ArgumentParser) -> None:
    """Declare each setting with the values it may have; these flags are parsed elsewhere."""
    for key, kind, _ in describe_fields():
        choices = ["true", "false"] if kind == "bool" else kind.split("|")
        command.add_argument(
            f"--{key}",
            choices=choices if len(choices) > 1 and " " not in kind else None,
            help=kind.replace("%", "%%"),
        )
