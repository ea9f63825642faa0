import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqssvae.compare.baselines import BASELINES, Task
from seqssvae.compare.swaps import JUDGE, measure_swaps
from seqssvae.errors import InputError
from seqssvae.inference.writing.rerank import kept_share
from seqssvae.trained import TrainedModel, load
from tests.support.fixtures import SmallRun
from tests.support.rows import write_rows


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        ("abcd", "abcd", 1),
        ("", "", 1),
        ("ab", "cd", 0),
        ("", "cd", 0),
        ("abcd", "xxabyy", 2 * 2 / 10),
        (["ab", "c"], ["ab", "d"], 0.5),
        ("ab" * 300, "ab" * 300 + "cd" * 300, 2 / 3),  # frequent symbols count too
    ],
)
def test_the_kept_share_is_that_of_matching_blocks(before: Any, after: Any, kept: float) -> None:
    assert kept_share(before, after) == pytest.approx(kept)


@dataclasses.dataclass(frozen=True)
class Swapper:
    """Rewrites by a rule, for the rest it is a trained model."""

    model: TrainedModel
    rule: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def transfer(self, sequences: list[str], to: str) -> list[str]:
        return [self.rule(text, to) for text in sequences]


def perfect(text: str, to: str) -> str:
    return ("ab" if to == "left" else "cd") * (len(text) // 2)


@pytest.mark.parametrize(
    ("rule", "success", "kept"),
    [
        (perfect, 1, 0),
        (lambda text, to: text, 0, 1),  # y does nothing
        # own symbols, and more of other ones
        (lambda text, to: text + (perfect(text, to) * 9)[: 3 * len(text)], 1, 2 / 5),
    ],
)
def test_success_and_what_is_kept_are_the_rule(
    small_run: SmallRun, rule: Any, success: float, kept: float
) -> None:
    run, data = small_run
    swapper: Any = Swapper(load(run), rule)
    result = measure_swaps(swapper, data, data)
    assert result["num_swaps"] == 40 and result["judge_accuracy"] == 1
    assert result["swap_success"] == success
    assert result["swap_kept"] == pytest.approx(kept)
    assert result == measure_swaps(swapper, data, data)
    fewer = measure_swaps(swapper, data, data, num_rows=7)
    assert fewer["num_swaps"] == 7


def test_chance_is_another_rows_rewriting(small_run: SmallRun) -> None:
    """All of its own is kept, of another row what both share; neighbours of a file are alike."""
    run, data = small_run
    swapper: Any = Swapper(load(run), lambda text, to: text)
    result = measure_swaps(swapper, data, data)
    assert result["swap_kept"] == 1 and 0.2 < result["swap_kept_by_chance"] < 0.9


def test_the_model_itself_is_measured(small_run: SmallRun) -> None:
    run, data = small_run
    result = measure_swaps(load(run), data, data)
    assert result["swap_success"] > 0.9  # two classes that share no symbol
    assert all(0 <= value <= 1 for name, value in result.items() if name != "num_swaps")


def test_the_judge_gives_a_probability_to_every_class() -> None:
    judge = BASELINES[JUDGE].fit(Task(["aa", "ab", "zz"], np.array([0, 0, 2]), 3), 0)
    table = judge(["aaa", "zzz", ""])
    assert table.shape == (3, 3) and table.argmax(1)[:2].tolist() == [0, 2]
    np.testing.assert_allclose(table.sum(1), 1)


def test_rows_without_labels_are_refused(small_run: SmallRun, tmp_path: Path) -> None:
    run, data = small_run
    bare = write_rows(tmp_path / "bare.jsonl", [{"text": "ab"}])
    for pair in ((bare, data), (data, bare)):
        with pytest.raises(InputError, match=f"{bare}: wanted labelled rows, got none"):
            measure_swaps(load(run), *pair)
