"""Settings in a command line: a flag for each, and a YAML file for many."""

import argparse
import contextlib
import dataclasses
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

import yaml

from seqssvae import distributed
from seqssvae.config import Config, Setting, list_settings
from seqssvae.errors import InputError
from seqssvae.overrides import override
from seqssvae.storage.compressed import STDIN, decompressed
from seqssvae.storage.records import DELIMITERS
from seqssvae.storage.vectors import with_vectors

if TYPE_CHECKING:
    from seqssvae.trained import TrainedModel

ALIASES = {
    "data.text_column": "--text-column",
    "data.tokens_column": "--tokens-column",
    "data.label_column": "--label-column",
    "data.vectors_column": "--vectors-column",
    "data.missing_vectors": "--missing-vectors",
    "data.vote_columns": "--vote-columns",
    "data.label_tree": "--label-tree",
    "data.label_pattern": "--label-pattern",
    "data.encoding": "--encoding",
    "data.unlabelled_only": "--unlabelled-only",
    "data.vocabulary": "--vocabulary",
    "estimator.name": "--estimator",
    "training.classifier_only": "--classifier-only",
    "training.device": "--device",
    "training.seed": "--seed",
}
TRAINING_ONLY = ("data.vocabulary", "data.vote_columns", "data.label_tree")
COLUMNS = [key for key in ALIASES if key.startswith("data.") and key not in TRAINING_ONLY]
BUDGETS = {"data.labels_per_class": "--labels-per-class", "data.num_labels": "--num-labels"}
# where `-` is standard input
ROW_FILES = ("data", "labels", "test", "unlabelled", "judge", "reference", "generated")
# flags of rows, and of their vectors
VECTOR_FILES = {"data": "vectors", "test": "test-vectors", "unlabelled": "unlabelled-vectors"}
MAX_HEADER = 100_000  # bytes of standard input by which its format is found

logger = logging.getLogger(__name__)

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
        help = f"{one.meaning} ({one.values}; default: {one.default})"
        _add_setting(parser if alias else groups[one.section], one, [*alias, f"--{one.key}"], help)


def add_rows(parser: argparse.ArgumentParser, flag: str, *, help: str, **options: Any) -> None:
    """Declare a flag of rows: several files, and repeated flags, are one corpus.

    Args:
        parser: Parser of a command.
        flag: For instance `--data`.
        help: What the rows are for.
        options: Further options of `add_argument`.
    """
    options = {"metavar": "FILE", "help": f"{help}; -: standard input", **options}
    parser.add_argument(flag, nargs="+", action="extend", type=os.path.expanduser, **options)
    if flag.removeprefix("--") in VECTOR_FILES:
        of_rows = VECTOR_FILES[flag.removeprefix("--")]
        help = f".npy file with a vector for each row of {flag}, in their order"
        parser.add_argument(f"--{of_rows}", metavar="FILE.npy", type=Path, help=help)


def join_vectors(arguments: argparse.Namespace) -> None:
    """Put the rows of a flag together with their vectors, if there are any."""
    for name, of_rows in VECTOR_FILES.items():
        rows, vectors = (getattr(arguments, one.replace("-", "_"), None) for one in (name, of_rows))
        if vectors is None:
            continue
        if not rows:
            raise InputError(f"--{of_rows}: wanted --{name} FILE, got none")
        setattr(arguments, name, with_vectors(rows, vectors))


@contextlib.contextmanager
def standard_input(arguments: argparse.Namespace) -> Iterator[None]:
    """Within it, `-` among files of rows is a file with what standard input has, uncompressed.

    Its ending is by its start: jsonl for an object, FASTA for a header of it, a table for a line
    with the name of a column of sequences, and lines of text for anything else. Errors and the log
    call it `standard input`.

    Raises:
        InputError: several processes would read it, or it is a damaged compressed file.
    """
    files = (getattr(arguments, name, None) for name in ROW_FILES)
    if not (lists := [one for one in files if isinstance(one, list) and "-" in one]):
        yield
        return
    if distributed.launched_rank() is not None:
        raise InputError("-: wanted files, which all processes can read, got standard input")
    from seqssvae.data.columns import has_sequences

    with tempfile.TemporaryDirectory(prefix="seqssvae-") as folder:
        content = decompressed(sys.stdin.buffer.read())
        head = content[:MAX_HEADER].removeprefix(b"\xef\xbb\xbf").lstrip()
        line = head.partition(b"\n")[0].decode(errors="replace")
        kind = {"{": "jsonl", ">": "fasta"}.get(line[:1], "txt")
        kind = "parquet" if head.startswith(b"PAR1") else kind
        for ending, delimiter in DELIMITERS.items():
            names = [name.strip().strip('"') for name in line.split(delimiter)]
            named = {getattr(arguments, f"data.{one}_column", None) for one in ("text", "tokens")}
            if has_sequences(names) or named & set(names):
                kind = ending
                break
        path = Path(folder, f"stdin.{kind}")
        path.write_bytes(content)
        logger.info("standard input is read as %s", kind)
        for one in lists:
            one[:] = [str(path) if file == "-" else file for file in one]

        def rename(record: logging.LogRecord) -> bool:
            record.msg, record.args = record.getMessage().replace(str(path), STDIN), ()
            return True

        handlers = logging.getLogger().handlers
        for handler in handlers:
            handler.addFilter(rename)
        try:
            yield
        except InputError as error:
            raise InputError(str(error).replace(str(path), STDIN)) from error
        finally:
            for handler in handlers:
                handler.removeFilter(rename)


def add_columns(parser: argparse.ArgumentParser) -> None:
    """Declare flags for the columns of rows, which are those of training unless they are given."""
    for one in list_settings():
        if one.key in COLUMNS:
            meaning = one.meaning.partition(";")[0].rstrip(".")
            _add_setting(parser, one, [ALIASES[one.key]], f"{meaning} (default: as in training)")


def add_labels(parser: argparse.ArgumentParser) -> None:
    """Declare the flag of a table of labels."""
    help = "table with the labels of the rows, joined by the columns 'id' of both"
    add_rows(parser, "--labels", help=help)


def add_decoding(
    parser: argparse.ArgumentParser, *, temperature: float = 1.0, best_of: int = 1
) -> None:
    """Declare the flags of `seqssvae.inference.writing.options.Options`, with these defaults."""
    strategies, decoding = ("sample", "greedy", "beam"), parser.add_argument_group("decoding")
    for name, options in {
        "prefix": {"default": "", "metavar": "S", "help": "prefix of every sequence"},
        "strategy": {"choices": strategies, "default": "sample", "help": "decoding"},
        "temperature": {
            **{"type": float, "default": temperature, "metavar": "T"},
            "help": "below 1: more probable symbols",
        },
        "top-k": _whole(0, "K", "keep the K most probable symbols; 0: all"),
        "top-p": {
            **{"type": float, "default": 1.0, "metavar": "P"},
            "help": "keep the most probable, P in total",
        },
        "guidance": {
            **{"type": float, "default": 3.0, "metavar": "G"},
            "help": "of a label: samples of p(x|y) q(y|x)^G, or best by it too; 0: of p(x|y)",
        },
        "best-of": _whole(best_of, "N", "samples of which the best one is kept"),
        "width": _whole(8, "W", "width of the beam"),
        "constraint": {"metavar": "REGEX", "help": "only sequences that match it as a whole"},
        "min-length": _whole(0, "N", "smallest number of symbols"),
        "max-length": _whole(None, "N", "largest number of symbols"),
        "seed": _whole(0, "S", "seed of the samples"),
    }.items():
        decoding.add_argument(f"--{name}", **options)  # type: ignore[arg-type]


def _whole(default: int | None, metavar: str, help: str) -> dict[str, Any]:
    return {"type": int, "default": default, "metavar": metavar, "help": help}


def decoding_options(arguments: argparse.Namespace, kind: str) -> dict[str, Any]:
    """What the flags of `add_decoding` say, for a model with symbols of a kind."""
    names = "prefix strategy temperature top_k top_p guidance best_of width constraint"
    lengths = ("min_length", "max_length", "seed")
    options = {name: getattr(arguments, name) for name in (*names.split(), *lengths)}
    if kind == "tokens":
        options["prefix"] = options["prefix"].split()
    return options


def read_rows(arguments: argparse.Namespace, config: Config, *, of: str = "data") -> Any:
    """The files of `--data`, or their rows with the labels of `--labels`, read by a config.

    Args:
        arguments: Of the command line.
        config: The columns.
        of: The name of another flag of rows, which may have their own labels.

    Raises:
        InputError: bad rows, or `--labels` without `--data`.
    """
    files = getattr(arguments, of)
    if arguments.labels is None:
        return files
    if arguments.data is None:
        raise InputError("--labels: wanted --data FILE, whose rows have these labels, got none")
    if files is None:
        return None
    from seqssvae.data.sources import read_source, read_with_labels

    if of != "data":
        with contextlib.suppress(InputError):
            if read_source(files, config.data).label_names():
                return files
    learns = of == "data" and not hasattr(arguments, "run") and config.data.vote_columns is not None
    votes: Literal["never", "always"] = "always" if learns else "never"
    return read_with_labels(files, arguments.labels, config.data, votes=votes)


def load_run(arguments: argparse.Namespace) -> "TrainedModel":
    """The trained model of RUN, which reads the columns of `add_columns`.

    Raises:
        InputError: no such run, or a value that does not fit.
    """
    from seqssvae.trained import load

    model = load(arguments.run, arguments.device)
    return dataclasses.replace(model, config=override(model.config, column_changes(arguments)))


def load_for_texts(arguments: argparse.Namespace) -> "TrainedModel":
    """As `load_run`, for texts that are typed or generated, and so have no vectors."""
    model = load_run(arguments)
    changes = {"data.missing_vectors": True, "data.vectors_column": None}
    return dataclasses.replace(model, config=override(model.config, changes))


def column_changes(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings that the flags of `add_columns` change."""
    changes = {key: getattr(arguments, key) for key in COLUMNS if hasattr(arguments, key)}
    for one, other in (("text", "tokens"), ("tokens", "text")):
        if f"data.{one}_column" in changes:
            changes.setdefault(f"data.{other}_column", None)
    return changes


def data_of(arguments: argparse.Namespace) -> Any:
    """The files of `--data`, or their rows if flags name other columns or labels of them.

    Raises:
        InputError: no such run, or bad rows.
    """
    changes = column_changes(arguments)
    if not changes and arguments.labels is None:
        return arguments.data
    from seqssvae.data.corpus import read_corpus
    from seqssvae.data.sources import column_choice

    config = override(load_config(Path(arguments.run) / "config.json"), changes)
    if arguments.labels is not None or arguments.data is None:
        return read_rows(arguments, config)
    return read_corpus(arguments.data, column_choice(config.data))


def read_settings(arguments: argparse.Namespace, start: Config | None = None) -> Config:
    """The settings of `--config`, changed by the flags of `add_settings`.

    Args:
        arguments: Of the command line.
        start: Settings that they change; the default ones when None.

    Raises:
        InputError: an unknown setting or a value that does not fit.
    """
    config = start or Config()
    if arguments.config is not None:
        config = load_config(arguments.config, config)
    changes = {name: value for name, value in vars(arguments).items() if "." in name}
    if BUDGETS.keys() & changes.keys():  # a flag replaces the file's budget, whichever kind it is
        changes = dict.fromkeys(BUDGETS) | changes
    return override(config, changes)


def _add_setting(
    parser: argparse._ActionsContainer, one: Setting, flags: Sequence[str], help: str
) -> None:
    """Declare the flags of a setting; that of a boolean, alone, is true."""
    alone: dict[str, Any] = {"nargs": "?", "const": "true"} if one.type is bool else {}
    parser.add_argument(
        *flags,
        dest=one.key,
        default=argparse.SUPPRESS,
        metavar=METAVARS.get(one.values.split()[0], "VALUE"),
        help=help.replace("%", "%%"),
        **alone,
    )


def load_config(path: Path, start: Config | None = None) -> Config:
    """Read a YAML (or JSON) file of nested settings; what it leaves out keeps its value.

    Args:
        path: The file.
        start: Settings that it changes; the default ones when None.

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
    return override(start or Config(), {} if content is None else content, where=f"{path}: ")


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
