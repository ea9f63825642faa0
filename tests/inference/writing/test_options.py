"""What is given by default, in Python and on the command line alike."""

import argparse
from typing import Any

import pytest

from seqssvae.cli import generate as generate_command
from seqssvae.cli import interpolate, transfer
from seqssvae.cli.settings import decoding_options
from seqssvae.data.vocabulary import CharacterVocabulary
from seqssvae.inference.writing.options import KEEP, REWRITING, WRITING, Decoding, Options


@pytest.mark.parametrize(
    ("command", "words", "defaults"),
    [
        (generate_command, [], WRITING),
        (transfer, ["a", "--to", "b"], REWRITING),
        (interpolate, ["a", "b"], REWRITING),
    ],
)
def test_flags_and_arguments_have_the_same_defaults(
    command: Any, words: list[str], defaults: Options
) -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    arguments = parser.parse_args(words)
    vocabulary = CharacterVocabulary(list("abc"))
    by_flags = Decoding.of_options(vocabulary, 9, **decoding_options(arguments, "characters"))
    assert by_flags == Decoding.of_options(vocabulary, 9, **defaults)
    if command is transfer:
        assert arguments.keep == KEEP
