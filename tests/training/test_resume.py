"""What may change when a run is resumed, and what may not."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from seqssvae.data.encoded import EncodedRows
from seqssvae.errors import InputError
from seqssvae.training.resume import (
    check_identity,
    check_ranks,
    checksum_identity,
    checksum_rows,
    identify,
)
from tests.support.rows import random_rows
from tests.support.training import config, prepared


def test_rows_and_settings_make_a_run() -> None:
    data = prepared()
    first = identify(config(), data)
    assert identify(config(), prepared()) == first
    free = config(training__max_minutes=9.0, training__accumulate=3)
    assert checksum_identity(identify(free, data)) == checksum_identity(first)
    dev = data.dev
    other_ids = EncodedRows(dev.symbols, dev.offsets, dev.y, ids=["a", "b", "c", "d"])
    others = [
        identify(config(training__seed=1), data),
        identify(config(), dataclasses.replace(data, dev=random_rows([0, 1, -1, -1], 3))),
        identify(config(), dataclasses.replace(data, dev=other_ids)),
    ]
    assert len({checksum_identity(one) for one in (first, *others)}) == 4


def test_each_part_of_a_row_counts() -> None:
    plain = random_rows([0, 1], 0)
    symbols, offsets, y, ids = plain.symbols, plain.offsets, plain.y, plain.ids
    changed = [
        plain,
        EncodedRows(symbols, offsets, np.array([0, 0]), {}, ids),
        EncodedRows(symbols[::-1].copy(), offsets, y, {}, ids),
        EncodedRows(symbols, np.array([0, 1, len(symbols)]), y, {}, ids),
        EncodedRows(symbols, offsets, y, {1: (0, 1)}, ids),
    ]
    assert len({checksum_rows(one) for one in changed}) == 5
    assert checksum_rows(random_rows([0, 1], 0)) == checksum_rows(plain)


def test_what_differs_is_named() -> None:
    first = identify(config(), prepared())
    check_identity(Path("run"), first, identify(config(), prepared()))
    with pytest.raises(InputError, match="run: wanted .* got another training.seed;"):
        check_identity(Path("run"), first, identify(config(training__seed=1), prepared()))
    with pytest.raises(InputError, match="got other rows;"):
        other = dataclasses.replace(prepared(), dev=random_rows([1], 3))
        check_identity(Path("run"), first, identify(config(), other))


def test_ranks_must_read_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where hosts have copies of their own of the rows, or a disk that lags behind."""
    mine, other = identify(config(), prepared()), identify(config(training__seed=1), prepared())
    own, others = checksum_identity(mine), checksum_identity(other)
    at = {"progress": {"step": 4}}
    check_ranks(Path("run"), mine, at)
    for theirs, step, wanted in (
        (own, 4, None),
        (
            others,
            4,
            "^rank 1: wanted the settings and rows of rank 0, got others$",
        ),
        (
            own,
            2,
            "^run: wanted the checkpoint of step 4, .* of step 2 on rank 1$",
        ),
    ):
        monkeypatch.setattr(
            "seqssvae.distributed.gather", lambda own, there=[theirs, step]: [own, there]
        )
        if wanted is None:
            check_ranks(Path("run"), mine, at)
            continue
        with pytest.raises(InputError, match=wanted):
            check_ranks(Path("run"), mine, at)
