import pytest

from seqssvae.cli import main
from seqssvae.compare.arms import CHEAP, MEANINGS, OURS, SAME_ENCODER
from seqssvae.compare.baselines import BASELINES
from seqssvae.compare.compare import ARMS


def test_every_arm_has_one_line_and_one_kind() -> None:
    assert list(MEANINGS) == list(ARMS) and list(CHEAP) == list(BASELINES)
    assert len(MEANINGS) == len(CHEAP) + len(SAME_ENCODER) + len(OURS)


def test_the_help_of_compare_explains_every_arm(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["compare", "--help"])
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert [[arm, meaning] in lines for arm, meaning in MEANINGS.items()] == [True] * len(ARMS)
