"""Any file or flag of settings gives the values that it shows, or one InputError."""

import json
from pathlib import Path
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from seqssvae.cli.settings import load_config
from seqssvae.config import Config, list_settings
from seqssvae.overrides import override, to_mapping
from tests.support.strategies import any_texts, cases, only_input_errors, values

KEYS = [one.key for one in list_settings()]
WORDS = ["1", "0", "010", "1e-3", "true", "null", "lstm", "[1, 2]", "uniform", ".nan", "1_0"]
keys = st.sampled_from(KEYS) | any_texts


@cases(40)
@given(changes=st.dictionaries(keys, values | st.sampled_from(WORDS), max_size=3))
@example(changes={"training.seed": -1})
@example(changes={"training.seed": 2**70})
@example(changes={"training.seed": "1:30"})
@example(changes={"data.min_count": "010"})
@example(changes={"objective.alpha": 10**400})
@example(changes={"model.prior": "["})
@example(changes={"training.num_steps": "9" * 5000})
@example(changes={"model.cell": ["lstm"]})
def test_any_setting(changes: dict[str, Any]) -> None:
    """An accepted value is the one that was given: a number for a number, a word for a word."""
    with only_input_errors():
        found = to_mapping(override(Config(), changes))
        for key, value in changes.items():
            section, name = key.split(".")
            taken = found[section][name]
            if isinstance(taken, bool):
                words = {"true": True, "yes": True, "on": True, "false": False, "no": False}
                assert taken is value or taken is words.get(str(value).lower(), False)
            elif isinstance(taken, int | float):
                assert taken == float(value)
            elif isinstance(taken, str):
                assert taken == value


@cases(20)
@given(
    mapping=st.dictionaries(keys | st.sampled_from(list(to_mapping(Config()))), values, max_size=3),
    cut=st.integers(0, 40),
)
@example(mapping={"training": {"seed": 1}, "training.seed": 2}, cut=0)
@example(mapping={"model": 5}, cut=0)
def test_any_file(tmp_path: Path, mapping: dict[str, Any], cut: int) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(json.dumps(mapping)[: 1000 - cut], encoding="utf-8")
    with only_input_errors():
        load_config(path)


@cases(40)
@given(
    content=st.binary(max_size=30)
    | st.text(max_size=30).map(str.encode)
    | st.lists(st.sampled_from(list("{}[]:-?,#&*!|>'\"%@`a1\n "))).map("".join).map(str.encode)
)
@example(content=b"\xff")
@example(content=b"\xef\xbb\xbftraining: {seed: 3}")
@example(content=b"model: {cell: gru}\nmodel: {cell: lstm}")
@example(content=b"a: &a [*a]")
def test_any_bytes(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    with only_input_errors():
        load_config(path)
