"""The command that prepares words; `seqssvae.compare.wordlists` has its own tests."""

from pathlib import Path

import pytest

from data.prepare_words import main
from tests.support.commands import assert_refused, read_train_and_test, run_data_script


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--languages", "en,dee"], "unknown language 'dee', did you mean de"),
        (["--languages", "en,??"], "unknown language '??', known: ar "),
        (["--languages", "fi"], "wanted at least two, each once, got fi"),
        (["--languages", "lt,hu,lt"], "wanted at least two, each once, got lt,hu,lt"),
        (["--languages", "lt,hu", "--words", "10000000"], "wanted 10000000 + 500 words of lt, got"),
        (["--languages", "lt,hu", "--test", "0"], "--test: wanted at least 1, got 0"),
        (["--words", "many"], "invalid int value: 'many'"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_refused(main, options, message, tmp_path / "new", capsys)


def test_runs_as_a_script(tmp_path: Path) -> None:
    options = ["--languages", "lt,hu", "--words", 40, "--test", 10, "--out", tmp_path]
    for _ in range(2):  # a second run replaces the files with the same ones
        run_data_script("prepare_words.py", *options, folder=tmp_path)
    train, test = read_train_and_test(tmp_path)
    assert [len(train), len(test)] == [80, 20]
    assert len({row["text"] for row in train + test}) == 100
    assert {row["label"] for row in test} == {"lt", "hu"}
