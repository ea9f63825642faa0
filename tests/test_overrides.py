"""Settings are changed by name; mistakes name the key, wanted and got."""

from typing import Any

import pytest

from seqssvae.config import Config
from seqssvae.errors import InputError
from seqssvae.overrides import override


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"model.hiden_size": 3}, "did you mean model."),
        ({"modle": {"cell": "gru"}}, "modle"),
        ({"model": 3}, "settings below it, got 3"),
        (
            {"training.num_steps": "many"},
            "wanted an integer from 1 to 1e9, got 'many'",
        ),
        ({"training.num_steps": 1.5}, "wanted an integer"),
        ({"training.balanced": 1}, "wanted true or false, got 1"),
        ({"model.cell": "rnn"}, "wanted lstm or gru, got 'rnn'"),
        ({"model.dropout": 1.5}, "wanted a number from 0 to 0.95, got 1.5"),
        ({"data.num_labels": 3, "data.labels_per_class": 3}, "got both"),
        ({"objective.kl_warmup_steps": 10**6}, "at most training.num_steps"),
        ({"objective.kl": "sampled", "objective.free_bits": 0.1}, "analytic"),
        (
            {"model.factorisation": "y-given-z", "model.latent_size": 0},
            "model.latent_size: wanted at least 1",
        ),
    ],
)
def test_mistakes_say_wanted_and_got(changes: dict[str, Any], wanted: str) -> None:
    with pytest.raises(InputError) as caught:
        override(Config(), changes)
    assert wanted in str(caught.value) and "\n" not in str(caught.value)


def test_a_warm_up_may_be_longer_if_the_weight_is_constant() -> None:
    changes = {"objective.kl_warmup_steps": 10**6, "objective.kl_schedule": "constant"}
    assert override(Config(), changes).objective.kl_warmup_steps == 10**6


def test_warm_up_follows_fewer_steps_unless_it_is_set() -> None:
    assert override(Config(), {"training.num_steps": 30}).objective.kl_warmup_steps == 10
    usual = Config().objective.kl_warmup_steps
    for steps in (usual, 2 * usual, 3 * usual, 9 * usual):  # at most a third
        found = override(Config(), {"training.num_steps": steps}).objective.kl_warmup_steps
        assert found == min(usual, steps // 3)
    both = {"training.num_steps": 30, "objective.kl_warmup_steps": usual}
    with pytest.raises(InputError, match="at most training.num_steps = 30"):
        override(Config(), both)
    chosen = override(Config(), {"objective.kl_warmup_steps": 40})
    with pytest.raises(InputError, match="at most training.num_steps = 30"):
        override(chosen, {"training.num_steps": 30})
