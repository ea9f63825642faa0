"""Settings in a command line: a flag for each, and a YAML file for many."""

import argparse
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from seqssvae.config import Config, list_settings, override
from seqssvae.errors import InputError

ALIASES = {
    "data.text_column": "--text-column",
    "data.tokens_column": "--tokens-column",
    "data.label_column": "--label-column",
    "data.vocabulary": "--vocabulary",
    "estimator.name": "--estimator",
    "training.seed": "--seed",
}
BUDGETS = {"data.labels_per_class": "--labels-per-class", "data.num_labels": "--num-labels"}
METAVARS = {"an": "N", "a": "X", "text": "NAME"}  # by the first word of the values


def add_settings(parser: argparse.ArgumentParser, *, budget: bool = False) -> None:
    """Declare `--config` and a flag for each setting; some have a second, shorter name.

    Args:
        parser: Parser of a command that has its other flags already.
        budget: Whether `--labels-per-class` and `--num-labels` are flags too.
    """
    aliases = ALIASES | BUDGETS if budget else ALIASES
    parser.add_argument(
        "--config", type=Path, metavar="FILE.yaml", help="YAML file of settings; flags override it"
    )
    groups = {
        name: parser.add_argument_group(f"settings: {name}", section.__doc__)
        for name, section in get_type_hints(Config).items()
    }
    for one in sorted(list_settings(), key=lambda one: one.key not in aliases):
        if one.key not in aliases and parser.usage is None:
            usage = parser.format_usage().removeprefix("usage: ").rstrip()
            parser.usage = f"{usage}\n    [--SECTION.NAME VALUE ...]".replace("%", "%%")
        alias = [aliases[one.key]] if one.key in aliases else []
        (parser if alias else groups[one.section]).add_argument(
            *alias,
            f"--{one.key}",
            dest=one.key,
            default=argparse.SUPPRESS,
            metavar=METAVARS.get(one.values.split()[0], "VALUE"),
            help=f"{one.meaning} ({one.values}; default: {one.default})".replace("%", "%%"),
        )


def read_settings(arguments: argparse.Namespace) -> Config:
    """The settings of `--config`, changed by the flags of `add_settings`.

    Raises:
        InputError: an unknown setting or a value that does not fit.
    """
    config = Config() if arguments.config is None else load_config(arguments.config)
    changes = {name: value for name, value in vars(arguments).items() if "." in name}
    if BUDGETS.keys() & changes.keys():  # a flag replaces the file's budget, whichever kind it is
        changes = dict.fromkeys(BUDGETS) | changes
    return override(config, changes)


def load_config(path: Path) -> Config:
    """Read a YAML (or JSON) file of nested settings; what it leaves out keeps its default.

    Raises:
        InputError: no such file, bad YAML, an unknown key, or a value of the wrong type.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8-sig"), _Loader)
    except OSError as error:
        raise InputError(f"{path}: wanted a readable file, got {error.strerror}") from error
    except Exception as error:  # PyYAML also lets through what int() and recursion raise
        got = " ".join(str(error).split())
        raise InputError(f"{path}: wanted YAML, got {got:.200}") from error
    return override(Config(), {} if content is None else content, where=f"{path}: ")


class _Loader(yaml.BaseLoader):  # type: ignore[misc] # PyYAML has no types
    """Leaves scalars as texts, which `override` converts by type, and refuses repeated keys.

    PyYAML's other loaders follow YAML 1.1: 010 is 8, 1:30 is 90 and 1e-3 is a text.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r:.80} twice", key.start_mark
                )
            seen.add(key.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping
