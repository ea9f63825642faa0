"""Measure how good generated sequences are beside a reference.

Of -n sequences, with the labels of the reference in its proportions, or of --generated FILE: which
are valid, different, new, and how near; their length and symbols; perplexities by n-gram models;
how often an independent judge finds the label, and symbols that the label does not have; and how
many rows of the reference are reconstructed exactly. Means have 95 % intervals.
"""

import argparse
import importlib
import shlex
import subprocess
from collections.abc import Callable
from typing import Any

from seqssvae.cli.settings import (
    add_columns,
    add_decoding,
    add_rows,
    decoding_options,
    load_for_texts,
)
from seqssvae.errors import InputError
from seqssvae.storage.files import line_of

VALID = "MODULE:FUNCTION of a sequence, or a command that reads one and exits with 0 if it is valid"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_rows(parser, "--reference", required=True, help="real rows that training has not seen")
    add_rows(parser, "--generated", help="sequences of any generator, to be measured instead")
    add_columns(parser)
    parser.add_argument("-n", type=int, default=10_000, metavar="N", help="number of sequences")
    parser.add_argument("--valid", metavar="CHECK", help=VALID)
    parser.add_argument("--join", metavar="TEXT", help="between tokens, for --valid ('': SMILES)")
    parser.add_argument("--fcd", action="store_true", help="of molecules; needs fcd_torch")
    add_decoding(parser)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    is_valid = None if arguments.valid is None else validator(arguments.valid, arguments.join)
    model = load_for_texts(arguments)
    from seqssvae.compare.molecules import frechet_distance
    from seqssvae.compare.score import (
        read_labelled,
        reconstructed,
        score,
        training_sequences,
        write_like,
    )

    names, num_classes = model.labels.names, len(model.labels.names)
    reference, reference_y = read_labelled(model, arguments.reference)
    if arguments.generated is not None:
        written, y = read_labelled(model, arguments.generated)
    else:
        options: Any = decoding_options(arguments, model.vocabulary.kind)
        written, y = write_like(model, arguments.n, reference_y, options)
    figures = score(
        written,
        reference,
        y=y,
        reference_y=reference_y,
        num_classes=num_classes,
        training=training_sequences(model, arguments.run),
        is_valid=is_valid,
        seed=arguments.seed,
    )
    by_class = figures.pop("agreement_of_classes", [])
    if by_class:
        figures["agreement_of_classes"] = dict(zip(names, by_class, strict=True))
    if arguments.generated is None and (reference_y >= 0).any():
        figures["reconstructed"] = reconstructed(model, reference, reference_y, arguments.seed)
    if arguments.fcd:
        figures["fcd"] = frechet_distance(written, reference)
    show(figures)
    return figures


def validator(check: str, join: str | None = None) -> Callable[[Any], bool]:
    """A function `MODULE:FUNCTION`, true of a valid sequence, or a command that reads one.

    Args:
        check: Either of them.
        join: Put between tokens to make a text of them; None: a function is given the tokens, a
            command a space between them.

    Raises:
        InputError: there is no such function or command; later, the function refuses a sequence.
    """

    def joined(sequence: Any, between: str | None) -> Any:
        return sequence if between is None or isinstance(sequence, str) else between.join(sequence)

    module, colon, name = check.partition(":")
    if colon and module.replace(".", "").isidentifier() and name.isidentifier():
        try:
            function = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise InputError(f"--valid: wanted a function, got {check}: {error}") from error

        def call(sequence: Any) -> bool:
            given = joined(sequence, join)
            try:
                return bool(function(given))
            except TypeError as error:
                wanted = f"--valid: wanted a function of {type(given).__name__}"
                raise InputError(f"{wanted} (see --join), got {check}: {line_of(error)}") from error

        return call
    words = shlex.split(check)

    def run_command(sequence: Any) -> bool:
        text = joined(sequence, " " if join is None else join)
        try:
            done = subprocess.run(words, input=text, text=True, capture_output=True, check=False)
        except OSError as error:
            raise InputError(f"--valid: wanted a command, got {check}: {error}") from error
        return done.returncode == 0

    return run_command


def show(figures: dict[str, Any]) -> None:
    """Print a table: figure, interval, and the reference's."""
    for name, value in figures.items():
        if name.endswith(("_low", "_high")) or name.startswith("reference_"):
            continue
        if isinstance(value, dict):
            cells = [f"{key} {one:.3f}" for key, one in value.items() if one is not None]
            print(f"{name:22s} {', '.join(cells)}")
            continue
        cells = [f"{value:.4f}" if isinstance(value, float) else str(value)]
        if f"{name}_low" in figures:
            cells.append(f"({figures[f'{name}_low']:.4f} to {figures[f'{name}_high']:.4f})")
        if f"reference_{name}" in figures:
            cells.append(f"reference {figures[f'reference_{name}']:.4f}")
        print(f"{name:22s} {' '.join(cells)}")
