"""Two processes compute the same as one, and end together."""

import functools
import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from seqssvae import distributed
from seqssvae.cli import main
from seqssvae.storage.slices import write_in_slices
from tests.support.processes import start_ranks
from tests.support.scenarios import SCENARIOS
from tests.support.training import SETTINGS, assert_same_bits


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The results of each of two processes in every scenario."""
    folder = tmp_path_factory.mktemp("ranks")
    processes = start_ranks(["-m", "tests.support.scenarios", folder])
    printed = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], printed
    lines = [err.splitlines() for _, err in printed]
    known = ("y is ignored", "the time limit came")  # one scenario is stopped by its time
    assert lines[1] == [] and all(line.startswith(known) for line in lines[0])
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


def close(first: Any, second: Any, where: str) -> None:
    """Numbers and tensors, also in containers, are equal to 1e-6."""
    match first:
        case torch.Tensor():
            torch.testing.assert_close(first, second, rtol=0, atol=1e-6, equal_nan=True, msg=where)
        case dict():
            assert first.keys() == second.keys(), where
            for key in first:
                close(first[key], second[key], f"{where}[{key!r}]")
        case list() | tuple():
            assert len(first) == len(second), where
            for number, (one, other) in enumerate(zip(first, second, strict=True)):
                close(one, other, f"{where}[{number}]")
        case float():
            assert second == pytest.approx(first, abs=1e-6, nan_ok=True), where
        case _:
            assert first == second, where


@pytest.mark.parametrize("name", SCENARIOS)
def test_two_processes_do_what_one_does(name: str, together: list[dict[str, Any]]) -> None:
    """And both have the same bits."""
    first, second = (results[name] for results in together)
    assert_same_bits(first, second)
    close(SCENARIOS[name](), first, name)


def test_metrics_do_not_depend_on_the_number_of_processes(together: list[dict[str, Any]]) -> None:
    for got, want in zip(together[0]["evaluated"], SCENARIOS["evaluated"](), strict=True):
        assert got.pop("mode") == want.pop("mode") == "q"
        assert got == pytest.approx(want, rel=1e-12)


def test_alone_nothing_is_exchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in distributed.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with distributed.joined():
        assert (distributed.rank(), distributed.size(), distributed.is_writer()) == (0, 1, True)
        assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(
    ("rank", "size", "wanted"),
    [("0", "2", 0), ("1", "2", 1), ("0", "1", None), ("2", "2", None), ("-1", "2", None),
     ("", "2", None), ("one", "2", None)],
)  # fmt: skip
def test_the_rank_of_a_launched_process(
    rank: str, size: str, wanted: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Schedulers set some of these variables too; only a whole set of them counts."""
    for name, value in zip(distributed.VARIABLES, (rank, size, "127.0.0.1", "1"), strict=True):
        monkeypatch.setenv(name, value)
    assert distributed.launched_rank() == wanted
    monkeypatch.delenv("MASTER_PORT")
    assert distributed.launched_rank() is None


COMMANDS = """
import functools, json, sys
from seqssvae import distributed
from seqssvae.storage import slices
from seqssvae.cli import main
slices.write_in_slices = functools.partial(slices.write_in_slices, slice_rows=7)
with distributed.joined():
    sys.exit(max(main(words) for words in json.loads(sys.argv[1])))
"""


def test_commands_share_a_file(
    tmp_path: Path,
    small_run: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The same bytes as one process, in the order of the input; rank 0 prints."""
    torch.set_default_dtype(torch.float32)
    in_sevens = functools.partial(write_in_slices, slice_rows=7)
    monkeypatch.setattr("seqssvae.storage.slices.write_in_slices", in_sevens)
    run, data = small_run

    def commands(folder: Path) -> list[list[str]]:
        folder.mkdir()
        settings = SETTINGS if folder.name == "two" else [*SETTINGS, "--training.accumulate=2"]
        return [
            ["classify", str(run), "--data", str(data), "--out", str(folder / "rows.jsonl"),
             "--mode", "mix"],
            ["encode", str(run), "--data", str(data), "--out", str(folder / "rows.parquet")],
            ["train", "--data", str(data), "--test", str(data), "--out", str(folder / "run"),
             *settings],
            ["evaluate", str(run), "--data", str(data), "--json"],
        ]  # fmt: skip

    processes = start_ranks(["-c", COMMANDS, json.dumps(commands(tmp_path / "two"))])
    (out, err), (other_out, other_err) = (one.communicate(timeout=300) for one in processes)
    assert [process.returncode for process in processes] == [0, 0], (err, other_err)
    assert (other_out, other_err) == ("", "") and "step 0 of 30" in err
    for words in commands(tmp_path / "one"):
        assert main(words) == 0
    assert out.replace("two", "one") == capsys.readouterr().out
    names = ["rows.jsonl", "rows.parquet", "run/metrics.jsonl", "run/weights.safetensors"]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert (tmp_path / "two" / "rows.jsonl").read_bytes().count(b"\n") == 40
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == [
        "rows.jsonl", "rows.parquet", "run"
    ]  # fmt: skip


def test_errors_are_printed_once(tmp_path: Path, small_run: tuple[Path, Path]) -> None:
    """A command that is not shared; an error of all, which the first one prints at once."""
    run, data = map(str, small_run)
    for words, wanted in (
        (["generate", run], "wanted train, evaluate, classify or encode under torchrun, got"),
        (["classify", run, "--data", data], "wanted --out FILE where several processes write"),
        (["train", "--data", "no.csv", "--out", str(tmp_path / "run")], "no.csv: wanted a"),
    ):
        first, second = start_ranks(["-m", "seqssvae", *words])
        _, err = first.communicate(timeout=100)
        assert first.returncode == 2 and err.count("\n") == 1, err
        assert err.startswith(f"seqssvae {words[0]}: error: {wanted}")
        second.terminate()  # as torchrun does
        second.communicate()


def test_a_killed_process_ends_the_other() -> None:
    program = (
        "import os, signal, sys\n"
        "from seqssvae import distributed\nfrom seqssvae.errors import RankLost\n"
        "with distributed.joined():\n"
        "    distributed.gather(None)\n"
        "    if distributed.rank() == 0: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    try: distributed.gather(None)\n"
        "    except RankLost as error: sys.exit(f'{error}')\n"
    )
    killed, left = start_ranks(["-c", program])
    _, err = left.communicate(timeout=60)
    killed.communicate()
    assert (killed.returncode, left.returncode) == (-signal.SIGKILL, 1)
    assert err.startswith("wanted all processes of this job, got: ") and err.count("\n") == 1
