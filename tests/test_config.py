import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from seqssvae.config import Config, describe_fields, load_config, override, to_mapping
from seqssvae.errors import InputError


def test_a_config_survives_yaml_and_json(tmp_path: Path) -> None:
    config = override(
        Config(), {"model.prior": [0.5, 0.5], "training.learning_rate": "1e-3", "model.cell": "gru"}
    )
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(to_mapping(config)))
    assert load_config(path) == config
    path.write_text(json.dumps(to_mapping(config)))
    assert load_config(path) == config


def test_every_setting_can_be_set_from_text() -> None:
    for key, _, default in describe_fields():
        text = json.dumps(list(default) if isinstance(default, tuple) else default)
        assert override(Config(), {key: text.strip('"')}) == Config()


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"model.hiden_size": 3}, "did you mean model."),
        ({"modle": {"cell": "gru"}}, "modle"),
        ({"model": 3}, "settings below it, got 3"),
        ({"training.num_steps": "many"}, "training.num_steps: wanted int, got 'many'"),
        ({"training.num_steps": 1.5}, "wanted int"),
        ({"training.balanced": 1}, "wanted bool"),
        ({"model.cell": "rnn"}, "wanted lstm|gru, got 'rnn'"),
        ({"model.dropout": 1.5}, "from 0 to 0.95, got 1.5"),
        ({"data.num_labels": 3, "data.labels_per_class": 3}, "got both"),
        ({"objective.kl_warmup_steps": 10**6}, "at most training.num_steps"),
        ({"objective.kl": "sampled", "objective.free_bits": 0.1}, "analytic"),
    ],
)
def test_mistakes_say_wanted_and_got(changes: dict[str, Any], wanted: str) -> None:
    with pytest.raises(InputError) as caught:
        override(Config(), changes)
    assert wanted in str(caught.value) and "\n" not in str(caught.value)


def test_a_warm_up_may_be_longer_if_the_weight_is_constant() -> None:
    override(Config(), {"objective.kl_warmup_steps": 10**6, "objective.kl_schedule": "constant"})


@pytest.mark.parametrize("content", ["a: [1", "- 1", "\xff"])
def test_a_bad_file_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match="c.yaml"):
        load_config(path)
    with pytest.raises(InputError, match="nowhere"):
        load_config(tmp_path / "nowhere.yaml")


def test_warm_up_follows_fewer_steps_unless_it_is_set() -> None:
    assert override(Config(), {"training.num_steps": 30}).objective.kl_warmup_steps == 10
    usual = Config().objective.kl_warmup_steps
    assert override(Config(), {"training.num_steps": usual}).objective.kl_warmup_steps == usual
    both = {"training.num_steps": 30, "objective.kl_warmup_steps": usual}
    with pytest.raises(InputError, match="at most training.num_steps = 30"):
        override(Config(), both)
    chosen = override(Config(), {"objective.kl_warmup_steps": 40})
    with pytest.raises(InputError, match="at most training.num_steps = 30"):
        override(chosen, {"training.num_steps": 30})
