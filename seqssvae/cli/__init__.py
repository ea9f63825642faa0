"""The command line, a module for each command; a command imports torch only when it runs."""

import argparse
import contextlib
import importlib
import io
import json
import logging
import os
import signal
import sys
import time
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from seqssvae import distributed, progress
from seqssvae.cli.parser import SHELLS, Parser, completion_script
from seqssvae.cli.settings import join_vectors, standard_input
from seqssvae.config import Device
from seqssvae.errors import Diverged, InputError, RankLost, WriterFailed
from seqssvae.training.signals import StopSignals

__all__ = ["COMMANDS", "main"]

COMMANDS = (
    *("train", "evaluate", "classify", "generate", "transfer", "interpolate", "compare", "check"),
    *("encode", "plot", "report", "explore", "export", "demo", "explain", "suggest", "score"),
)
WITHOUT_RUN = ("train", "compare", "demo")  # all others load a trained run
SHARE_WORK = ("train", "evaluate", "classify", "encode")  # among the processes of torchrun
DEVICE = "where the model runs; auto: a GPU with CUDA if there is one, else the CPU"
RUN = "folder of a trained run"
SIGNALLED = 128  # plus the signal's number is the status after it
DELAY_SECONDS = 2.0  # rank 0 reports an error that all ranks have before torchrun ends them


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status.

    0; 2 after a user's mistake; 3 if training ended because of numbers that are not finite; 4 if
    another process of the same job is gone; 130 and 143 after SIGINT and SIGTERM. Of several
    processes the first reports an error that all have, and a process reports one that it has alone.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # escape characters that its encoding lacks
            stream.reconfigure(errors="backslashreplace")
    parser, commands = _parsers()
    words = sys.argv[1:] if argv is None else list(argv)
    if words and words[0] in commands:
        arguments = commands[words[0]].parse_args(words[1:])
        if words[0] not in WITHOUT_RUN and arguments.run is None:
            files = getattr(arguments, "data", None) or []
            if len(files) < 2:
                commands[words[0]].error("the following arguments are required: RUN")
            arguments.run = files.pop()  # it comes after the files of --data
    else:
        arguments, rest = parser.parse_known_args(words)
        if rest:
            parser.refuse(rest)
        if arguments.version:
            from importlib.metadata import PackageNotFoundError, version

            try:
                print(version("seqssvae"))
            except PackageNotFoundError:
                print("unknown: a source tree that is not installed")
            return 0
        if arguments.print_completion is not None:
            print(completion_script(parser, commands, arguments.print_completion))
            return 0
        parser.print_help()
        return 2
    logging.basicConfig(format="seqssvae: %(message)s", level=logging.INFO, stream=sys.stderr)
    if distributed.is_writer():
        level = logging.DEBUG if arguments.verbose else logging.NOTSET
        logging.getLogger("seqssvae").setLevel(level)
    for library in ("datasets", "fsspec", "filelock", "urllib3"):
        logging.getLogger(library).setLevel(logging.WARNING)
    status = _run(arguments)
    if argv is None and status > SIGNALLED:
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.flush()
        os._exit(status)  # the interpreter may take seconds to free its memory
    return status


def _parsers() -> tuple[Parser, Mapping[str, Parser]]:
    """The parser of the whole command line, and that of each command."""
    parser = Parser(
        prog="seqssvae", description="Semi-supervised variational autoencoders over sequences."
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    parser.add_argument(
        "--print-completion", choices=SHELLS, help="print a completion script for this shell"
    )
    commands = parser.add_subparsers(metavar="COMMAND")
    for name in COMMANDS:
        module = importlib.import_module(f"seqssvae.cli.{name}")
        summary = (module.__doc__ or "").partition("\n")[0]
        command = commands.add_parser(name, help=summary, description=module.__doc__)
        if name not in WITHOUT_RUN:
            command.add_argument("run", metavar="RUN", nargs="?", type=os.path.expanduser, help=RUN)
        module.add_arguments(command)
        if name not in (*WITHOUT_RUN, "export"):  # whose device is a setting, or the CPU
            command.add_argument(
                "--device", choices=typing.get_args(Device), default="auto", help=DEVICE
            )
        command.add_argument(
            "--json", action="store_true", help="print one JSON object as the last line"
        )
        command.add_argument("--verbose", action="store_true", help="log details")
        command.set_defaults(command=name, execute=module.run)
    return parser, commands.choices


def _run(arguments: argparse.Namespace) -> int:
    """Run a parsed command; every error of the user is a line."""
    rank = distributed.launched_rank()
    name, who = f"seqssvae {arguments.command}", f"rank {rank}: " if rank is not None else ""
    try:
        with contextlib.ExitStack() as stack:
            if rank is not None and arguments.command not in SHARE_WORK:
                wanted = f"{', '.join(SHARE_WORK[:-1])} or {SHARE_WORK[-1]}"
                raise InputError(f"wanted {wanted} under torchrun, got {arguments.command}")
            if rank or (arguments.json and arguments.command != "explore"):  # which prints its URL
                stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
            if rank is None:  # torchrun's signals come to all processes, which wait for each other
                stack.enter_context(StopSignals(message=""))
            stack.enter_context(standard_input(arguments))
            join_vectors(arguments)
            stack.enter_context(distributed.joined())
            stack.enter_context(progress.shown())
            result: dict[str, Any] = arguments.execute(arguments)
        if arguments.json and not rank:
            print(json.dumps(result, ensure_ascii=False, allow_nan=False))
        sys.stdout.flush()
    except WriterFailed:
        return 2
    except RankLost as error:
        hint = "; --resume continues from the last checkpoint" * (arguments.command == "train")
        print(f"{name}: error: {who}{error}{hint}", file=sys.stderr, flush=True)
        return 4
    except (InputError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "allocate" not in str(error).lower():
            raise  # torch's error for too little memory says 'allocate'
        line = " ".join(str(error).split())
        if not isinstance(error, InputError):
            line = f"wanted less memory (smaller sizes or batches, shorter rows), got: {line:.200}"
        if rank:
            time.sleep(DELAY_SECONDS)
        print(f"{name}: error: {who if rank else ''}{line}", file=sys.stderr)
        return 2
    except Diverged as error:
        if not rank:
            print(f"{name}: error: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt as stop:
        line = " ".join(str(stop).split()) or signal.SIGINT.name
        if not rank:
            print(f"{name}: stopped by {line}", file=sys.stderr)
        return int(getattr(stop, "status", SIGNALLED + signal.SIGINT))
    except BrokenPipeError:  # the reader of stdout has closed it, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
