from seqssvae.compare.arms import CHEAP, MEANINGS, OURS, SAME_ENCODER
from seqssvae.compare.baselines import BASELINES
from seqssvae.compare.compare import ARMS


def test_every_arm_has_one_line_and_one_kind() -> None:
    assert list(MEANINGS) == list(ARMS) and list(CHEAP) == list(BASELINES)
    assert len(MEANINGS) == len(CHEAP) + len(SAME_ENCODER) + len(OURS)
    assert all(len(line) < 75 and "\n" not in line for line in MEANINGS.values())
