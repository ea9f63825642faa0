"""Settings are described and limited."""

import json

import pytest

from seqssvae.config import Config, Setting, list_settings
from seqssvae.errors import InputError
from seqssvae.overrides import override, to_mapping

NUMBERS = [one for one in list_settings() if one.least is not None]


@pytest.mark.parametrize("one", list_settings(), ids=lambda one: one.key)
def test_every_setting_has_a_meaning_and_takes_texts(one: Setting) -> None:
    assert one.meaning.endswith(".") and one.values
    assert override(Config(), {one.key: one.default}) == Config()
    for text in one.choices:
        changed = to_mapping(override(Config(), {"objective.free_bits": 0, one.key: text}))
        value = changed[one.section][one.name]
        assert (json.dumps(value) if isinstance(value, bool) else value) == text


def test_a_kl_without_a_closed_form_is_not_analytic() -> None:
    both = {"model.z_prior": "by-class", "model.factorisation": "y-given-z"}
    with pytest.raises(InputError, match="objective.kl: wanted sampled .* got analytic"):
        override(Config(), both)
    override(Config(), both | {"objective.kl": "sampled", "objective.free_bits": 0})


@pytest.mark.parametrize("one", NUMBERS, ids=lambda one: one.key)
def test_every_number_has_limits(one: Setting) -> None:
    least, most = one.least or 0, one.most
    for value in (least - 1, most + 1):
        with pytest.raises(InputError) as caught:
            override(Config(), {one.key: value})
        assert str(caught.value).startswith(f"{one.key}: wanted {one.values}, got {value}")
    accepted = override(Config(), {one.key: str(least)})
    assert to_mapping(accepted)[one.section][one.name] == least
