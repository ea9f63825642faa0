"""Flags and YAML files of settings: values are what they look like, whatever YAML 1.1 says."""

import argparse
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from seqssvae.cli.parser import Parser
from seqssvae.cli.settings import (
    add_rows,
    add_settings,
    load_config,
    read_settings,
    standard_input,
)
from seqssvae.config import Config, list_settings
from seqssvae.errors import InputError
from seqssvae.overrides import override, to_mapping


def read(path: Path, text: str) -> Config:
    (path / "c.yaml").write_text(text, encoding="utf-8")
    return load_config(path / "c.yaml")


def parse(*words: str) -> Config:
    parser = Parser(prog="command")
    parser.add_argument("--data")
    add_settings(parser, budget=True)
    return read_settings(parser.parse_args(words))


def test_a_config_survives_yaml_and_json(tmp_path: Path) -> None:
    config = override(
        Config(), {"model.prior": [0.5, 0.5], "training.learning_rate": "1e-3", "model.cell": "gru"}
    )
    assert read(tmp_path, yaml.safe_dump(to_mapping(config))) == config
    assert read(tmp_path, json.dumps(to_mapping(config))) == config
    assert read(tmp_path, "") == Config()


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("training.seed", "010", 10), ("training.seed", "+4", 4), ("training.seed", "'3'", 3),
        ("objective.w", "010", 10.0), ("objective.w", "1e-3", 0.001), ("objective.w", ".5", 0.5),
        ("objective.w", "5.", 5.0), ("objective.w", "1.5e+3", 1500.0), ("objective.w", "2", 2.0),
        ("training.num_steps", "1e3", 1000), ("training.seed", "2E+3", 2000),
        ("objective.w", "1e3", 1000.0), ("training.max_minutes", "1e1", 10.0),
        ("training.teacher", "off", False), ("training.balanced", "Yes", True),
        ("data.text_column", "2001-01-01", "2001-01-01"), ("data.text_column", "1:30", "1:30"),
        ("data.text_column", "3", "3"), ("data.text_column", "null", None),
        ("data.text_column", "~", None), ("data.text_column", "", None),
        ("data.num_labels", "null", None), ("model.prior", "[.5, 5e-1]", [0.5, 0.5]),
        ("model.prior", "&x [0.5]", [0.5]), ("estimator.baseline", "none", "none"),
    ],
)  # fmt: skip
def test_values(tmp_path: Path, key: str, text: str, value: Any) -> None:
    section, name = key.split(".")
    found = to_mapping(read(tmp_path, f"{section}:\n  {name}: {text}\n"))[section][name]
    assert found == value and type(found) is type(value)
    if "'" not in text and "&" not in text:
        assert to_mapping(parse(f"--{key}={text}"))[section][name] == value


ALIASES = [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 40)]  # each doubles the last


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("\n".join(["model.cell: &a0 [x, x]", *ALIASES, "model: *a39"]), "wanted"),
        ("training: {seed: 1:30}", "training.seed: wanted an integer from 0"),
        ("training: {seed: 1_0}", "got '1_0'"),
        ("training: {seed: 0x10}", "got '0x10'"),
        ("training: {seed: " + "9" * 5000 + "}", "wanted an integer from 0"),
        ("training: {seed: 1}\ntraining: {seed: 2}", "the key 'training' twice"),
        ("model: {cell: gru, cell: lstm}", "the key 'cell' twice"),
        ("model: {cell: gru}\nmodel.cell: lstm", "model.cell: wanted it once, got it twice"),
        ("objective: {w: .inf}", "got '.inf'"),
        ("model: {hiden_size: 3}", "did you mean model."),
        ("objective: {w: -1}", "objective.w: wanted a number from 0 to 1e9, got -1.0"),
        ("- 1", "wanted a mapping of settings"),
        ("[" * 500, "recursion"),
        ("a: [1", "expected ',' or ']'"),
        ("\0", "special characters"),
        ("*a", "alias"),
        ("a: &a [*a]", "recursive"),
    ],
)
def test_a_mistake_is_one_line_with_the_file(tmp_path: Path, text: str, wanted: str) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, text)
    line = str(caught.value)
    assert line.startswith(f"{tmp_path / 'c.yaml'}: ") and wanted in line
    assert len(line.splitlines()) == 1 and len(line) < 1000


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes(b"\xff")
    with pytest.raises(InputError, match="c.yaml: wanted YAML, got 'utf-8' codec"):
        load_config(tmp_path / "c.yaml")
    with pytest.raises(InputError, match="nowhere.yaml: wanted a readable file"):
        load_config(tmp_path / "nowhere.yaml")


def test_flags_override_the_file_and_have_short_names(tmp_path: Path) -> None:
    read(tmp_path, "training: {seed: 1, num_steps: 500}\ndata: {num_labels: 7}")
    file = f"--config={tmp_path / 'c.yaml'}"
    config = parse("--seed", "2", file, "--labels-per-class", "3", "--data", "rows.jsonl")
    assert (config.training.seed, config.training.num_steps) == (2, 500)
    assert (config.data.labels_per_class, config.data.num_labels) == (3, None)
    assert parse("--estimator", "trace-enum") == parse("--estimator.name=trace-enum")


def test_help_shows_meaning_limits_and_default(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit):
        parse("--help")
    shown = " ".join(capsys.readouterr().out.split())
    for one in list_settings():
        assert f"--{one.key} " in shown
        assert f"{one.meaning} ({one.values}; default: {one.default})" in shown


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("--model.sell", "gru"), "unknown argument --model.sell, did you mean --model.cell?"),
        (("--model.sell=gru",), "unknown argument --model.sell, did you mean --model.cell?"),
        (("--sed", "3"), "unknown argument --sed, did you mean --seed?"),
        (("3",), "unknown argument 3"),
        (("--seed",), "argument --seed/--training.seed: expected one argument"),
    ],
)
def test_an_unknown_flag_names_the_nearest(
    words: tuple[str, ...], wanted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(*words)
    error = capsys.readouterr().err
    assert caught.value.code == 2 and wanted in error and len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        ("--num_steps 1e3", "training.num_steps", 1000),
        ("--num-steps=5", "training.num_steps", 5),
        ("--training.num-steps 5", "training.num_steps", 5),
        ("--text_column review", "data.text_column", "review"),
        ("--labels_per_class 5", "data.labels_per_class", 5),
        ("--training.balanced", "training.balanced", True),
        ("--balanced --data x", "training.balanced", True),
    ],
)
def test_flags_as_people_type_them(words: str, key: str, value: Any) -> None:
    """With dashes or underscores, and without their section where they are the only one."""
    section, name = key.split(".")
    assert to_mapping(parse(*words.split()))[section][name] == value


def test_a_flag_that_may_be_several_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser(prog="command")
    for section in ("left", "right"):
        parser.add_argument(f"--{section}.size", type=int)
    with pytest.raises(SystemExit):
        parser.parse_args(["--size", "1"])
    assert "unknown argument --size, did you mean" in capsys.readouterr().err
    assert parser.parse_args(["--left.size", "1e3"]) == argparse.Namespace(
        **{"left.size": 1000, "right.size": None}
    )
    with pytest.raises(SystemExit):
        parser.parse_args(["--left.size", "1.0"])
    assert "--left.size: invalid int value: '1.0'" in capsys.readouterr().err


TABLE = "review,label\na b,x\n"


@pytest.mark.parametrize(
    ("content", "words", "name"),
    [
        ('{"text": "a"}\n', "", "stdin.jsonl"),
        ("\ufefftext,label\r\na,b\r\n", "", "stdin.csv"),
        ('label\t"Sentence"\nx\ta\n', "", "stdin.tsv"),
        ("text\na\n", "", "stdin.csv"),
        (TABLE, "--text-column review", "stdin.csv"),
        (TABLE, "", "stdin.txt"),
        (">a b\nACGT\n", "", "stdin.fasta"),
        ("Hello, world\n", "", "stdin.txt"),
        ("", "", "stdin.txt"),
    ],
)
def test_standard_input(
    monkeypatch: pytest.MonkeyPatch, content: str, words: str, name: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    parser = Parser(prog="command")
    for flag in ("--data", "--test"):
        add_rows(parser, flag, help="rows")
    add_settings(parser)
    arguments = parser.parse_args(["--data", "~/a.csv", "-", *words.split()])
    with standard_input(arguments):
        first, second = arguments.data
        assert first == os.path.expanduser("~/a.csv")
        assert Path(second).name == name and Path(second).read_bytes() == content.encode()
    assert not Path(second).exists()


def test_a_single_file_is_no_standard_input() -> None:
    """As of `demo --test`, also with the sign in its name."""
    arguments = argparse.Namespace(test=Path("a-b.csv"))
    with standard_input(arguments):
        assert arguments.test == Path("a-b.csv")


def test_several_processes_cannot_share_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seqssvae.distributed.launched_rank", lambda: 0)
    with pytest.raises(InputError, match="wanted files, .*, got standard input"):
        with standard_input(argparse.Namespace(data=["-"])):
            pass
