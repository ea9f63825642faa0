import dataclasses
import functools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.semi_supervised import SelfTrainingClassifier

from seqssvae.compare import baselines, same_encoder
from seqssvae.compare.baselines import BASELINES
from seqssvae.compare.compare import (
    ARMS,
    Probabilities,
    classification_metrics,
    compare,
    judge,
    summarise,
)
from seqssvae.config import Config
from seqssvae.data import streams
from seqssvae.data.encoded import EncodedRows
from seqssvae.data.prepare import Prepared, prepare
from seqssvae.data.sources import read_like, read_sequences
from seqssvae.errors import InputError
from seqssvae.teacher import distil
from seqssvae.teacher.features import Sequences
from seqssvae.training import fit
from tests.support.rows import write_rows
from tests.support.training import quick_config

Files = tuple[Path, Path, Path]


@dataclasses.dataclass(frozen=True)
class Call:
    """What an arm was given."""

    name: str
    config: Config
    prepared: Prepared
    test: tuple[Sequences, EncodedRows]

    @property
    def labels_seen(self) -> int:
        return len(self.prepared.labelled) + len(self.prepared.labelled_dev)


def write(path: Path, num_rows: int, letters: str = "xy") -> Path:
    rows = [
        {
            "text": f"{letters[i % 2] * (1 + i % 5)}{i:b}",
            "label": letters[i % 2],
            "id": f"{letters}{i}",
        }
        for i in range(num_rows)
    ]
    return write_rows(path, rows)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Training rows, test rows and the file of results."""
    return write(tmp_path / "train.jsonl", 60), write(tmp_path / "test.jsonl", 9), tmp_path / "r"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """Two more arms, "one" and "two", which record their arguments and predict at random."""
    result: list[Call] = []

    def arm(
        name: str, config: Config, prepared: Prepared, test: tuple[Sequences, EncodedRows]
    ) -> Probabilities:
        result.append(Call(name, config, prepared, test))
        generator = np.random.default_rng([config.training.seed, len(name)])
        return generator.dirichlet(np.ones(2), len(test[1]))

    for name in ("one", "two"):
        monkeypatch.setitem(ARMS, name, functools.partial(arm, name))
    return result


def run(
    files: Files,
    settings: Config | None = None,
    *,
    arms: Sequence[str] = ("one", "two"),
    budgets: Sequence[int] = (6, 10),
    num_draws: int = 2,
    unlabelled: Path | None = None,
) -> list[dict[str, Any]]:
    source, test, out = files
    return compare(
        settings or quick_config(), source, test, budgets=budgets, num_draws=num_draws, arms=arms,
        out=out, unlabelled=unlabelled,
    )  # fmt: skip


def test_each_cell_is_run_once_and_then_read(files: Files, calls: list[Call]) -> None:
    first = run(files)
    cells = [(r["num_labels"], r["draw"], r["arm"]) for r in first]
    assert cells == [(n, d, arm) for n in (6, 10) for d in (0, 1) for arm in ("one", "two")]
    assert [(c.labels_seen, c.config.training.seed, c.name) for c in calls] == cells
    assert run(files) == first and len(calls) == 8
    more = run(files, num_draws=3, budgets=(10,))
    assert len(calls) == 10 and more[:4] == first[4:]


@pytest.mark.parametrize(("minutes", "wanted"), [(None, 3.5), (0.25, 0.25), (60.0, 60.0)])
def test_a_training_of_a_comparison_has_a_limit(
    files: Files, calls: list[Call], minutes: float | None, wanted: float
) -> None:
    run(files, quick_config(training__max_minutes=minutes), arms=["one"])
    assert {call.config.training.max_minutes for call in calls} == {wanted}


def test_a_cell_that_was_interrupted_is_run_again(files: Files, calls: list[Call]) -> None:
    """The file's last line was cut short by a kill; the others are kept."""
    first = run(files)
    whole = files[2].read_bytes()
    assert whole.count(b"\n") == 8
    for length in (len(whole) - 1, len(whole) - 30, whole[:-1].rfind(b"\n") + 2):
        files[2].write_bytes(whole[:length])
        calls.clear()
        again = run(files)
        is_torn = length < len(whole) - 1
        assert [(c.name, c.labels_seen, c.config.training.seed) for c in calls] == (
            [("two", 10, 1)] * is_torn
        )
        assert [r["accuracy"] for r in again] == [r["accuracy"] for r in first]
        calls.clear()
        assert run(files) == again and calls == []  # the new line is whole


@pytest.mark.parametrize("other", ["settings", "source", "test", "unlabelled", "protocol"])
def test_cells_with_other_settings_or_data_are_run_again(
    files: Files,
    calls: list[Call],
    tmp_path: Path,
    other: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = run(files)
    source, test, out = files
    another = write(tmp_path / "another.jsonl", 50)
    match other:
        case "settings":
            run(files, quick_config(training__learning_rate=0.5))
        case "source":
            run((another, test, out))
        case "test":
            run((source, another, out))
        case "unlabelled":
            run(files, unlabelled=another)
        case "protocol":
            with monkeypatch.context() as patch:
                patch.setattr("seqssvae.compare.compare.PROTOCOL", 1)
                run(files)
    assert len(calls) == 16
    assert run(files) == first and len(calls) == 16  # both are kept


def test_all_arms_of_a_draw_see_the_same_rows(files: Files, calls: list[Call]) -> None:
    run(files)
    for one, two in zip(calls[::2], calls[1::2], strict=True):
        assert one.prepared is two.prepared and one.test is two.test and one.config == two.config
    splits = [call.prepared.split["labelled"] for call in calls[::2]]
    assert splits[0] != splits[1] and splits[2] != splits[3]  # draws differ
    for call in calls:
        sequences, rows = call.test
        assert list(rows.ids) == [f"xy{i}" for i in range(9)]  # the same for each cell
        assert [str(call.prepared.vocabulary.decode(rows.row(i).tolist())) for i in range(9)] == (
            list(sequences)
        )


def test_a_baseline_sees_the_rows_that_the_model_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows from another file too; rows with several possible labels are left out."""
    source = write(tmp_path / "rows.jsonl", 120)
    with source.open("a") as lines:
        lines.write('{"text": "partial", "label": ["x", "y"], "id": "p"}\n')
    settings = quick_config(data__num_labels=10)
    prepared = prepare(settings, source, unlabelled_source=write(tmp_path / "more.jsonl", 5, "vw"))
    baseline = Mock()
    monkeypatch.setitem(BASELINES, "tfidf-lr-words", baseline)
    ARMS["tfidf-lr-words"](settings, prepared, (["x"], prepared.dev))
    task = baseline.fit.call_args.args[0]
    assert task.num_classes == 2

    def texts(rows: EncodedRows) -> list[str]:
        return [str(prepared.vocabulary.decode(rows.row(i).tolist())) for i in range(len(rows))]

    assert list(task.labelled) == texts(prepared.labelled)[:-1]
    assert task.y.tolist() == prepared.labelled.y[:-1].tolist()
    assert list(task.unlabelled) == texts(prepared.unlabelled)
    assert len(prepared.dev) == 4  # two of them have no label
    assert list(task.dev) == texts(prepared.dev)[:2]
    assert task.dev_y.tolist() == prepared.dev.y[:2].tolist()
    assert [task.labelled[i][0] for i in range(8)] == ["xy"[k] for k in task.y]


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, int]]:
    """The labels that each fit was given: its rows' classes, by id where it has ids."""
    fits: list[dict[str, int]] = []
    running: list[str] = []

    def spy(owner: Any, name: str, read: Callable[..., None]) -> None:
        original = getattr(owner, name)

        def spied(*args: Any, **options: Any) -> Any:
            if name != "fit" or "fit" not in running:  # not those of self-training
                read(*args, **options)
            running.append(name)
            result = original(*args, **options)
            running.pop()
            return result

        monkeypatch.setattr(owner, name, spied)

    def add_fit(y: NDArray[np.int64]) -> None:
        fits.append({str(row): int(k) for row, k in enumerate(y) if k >= 0})

    def add_rows(
        rows: EncodedRows, numbers: Sequence[int], *, num_classes: int, **options: Any
    ) -> None:
        if not num_classes:  # language modelling
            return
        chosen = rows.take(np.asarray(numbers))
        known = zip(chosen.ids, chosen.y.tolist(), strict=True)
        fits[-1].update({id: k for id, k in known if k >= 0})

    spy(LogisticRegression, "fit", lambda model, features, y: add_fit(y))
    spy(SelfTrainingClassifier, "fit", lambda model, features, y: add_fit(y))
    spy(baselines, "fit_naive_bayes", lambda counts, possible, **_: add_fit(
        np.where(possible.sum(1) == 1, possible.argmax(1), -1)
    ))  # fmt: skip
    spy(distil, "fit_teacher", lambda sequences, labelled, y, **_: add_fit(y))
    spy(same_encoder, "_train", lambda *args: add_fit(np.zeros(0, np.int64)))
    spy(same_encoder, "collate", add_rows)
    spy(fit, "Trainer", lambda *args, **options: add_fit(np.zeros(0, np.int64)))
    spy(streams, "collate", add_rows)
    return fits


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_learns_all_labels_and_chooses_on_dev_rows_before_that(
    files: Files, given: list[dict[str, int]], arm: str
) -> None:
    """The last fit is given every label; those before it only the labels of training rows."""
    settings = quick_config(data__num_labels=10, training__evaluate_every=2)
    prepared = prepare(settings, files[0])
    everything = prepared.with_dev_labels().labelled
    known = dict(zip(everything.ids, everything.y.tolist(), strict=True))
    assert len(known) == 10 and len(prepared.labelled) == 8
    rows = read_like(files[1], settings, prepared.vocabulary, prepared.labels)
    ARMS[arm](settings, prepared, (read_sequences(files[1], settings), rows))

    def classes(labels: dict[str, int]) -> list[int]:
        """Without pseudo-labels."""
        assert all(labels[id] == known[id] for id in labels.keys() & known.keys())
        own = [k for id, k in labels.items() if id in known or id.isdigit()]
        return [own.count(0), own.count(1)]

    counts = [classes(labels) for labels in given if labels]
    assert counts[-1] == [5, 5]
    assert all(count == [4, 4] for count in counts[:-1])
    chooses = arm not in ("tfidf-lr-words", "tfidf-lr-characters", "lsa-lr", "nb-words",
                          "nb-characters", "teacher")  # fmt: skip
    assert (len(counts) > 1) == chooses


@pytest.mark.parametrize("arm", ["supervised", "m2", "teacher", "ssvae", "nb-em-characters"])
def test_arms_give_probabilities_of_test_rows(files: Files, arm: str) -> None:
    settings = quick_config(data__num_labels=10, estimator__name="auto")
    prepared = prepare(settings, files[0])
    rows = read_like(files[1], settings, prepared.vocabulary, prepared.labels)
    test = (read_sequences(files[1], settings), rows)
    result = ARMS[arm](settings, prepared, test)
    assert result.shape == (9, 2)
    np.testing.assert_allclose(result.sum(1), 1, rtol=1e-6)
    np.testing.assert_array_equal(ARMS[arm](settings, prepared, test), result)
    hidden = rows.with_labels(None)
    np.testing.assert_array_equal(ARMS[arm](settings, prepared, (test[0], hidden)), result)


def test_the_supervised_arm_reads_no_unlabelled_row(files: Files) -> None:
    """Other unlabelled rows change the SS-VAE but not its encoder alone."""
    settings = quick_config(data__num_labels=10)
    prepared = prepare(settings, files[0])
    fewer = dataclasses.replace(prepared, unlabelled=prepared.unlabelled.take(np.arange(20)))
    test = (["x"], prepared.dev)
    for arm, same in (("supervised", True), ("ssvae", False)):
        result, other = (ARMS[arm](settings, rows, test) for rows in (prepared, fewer))
        assert np.array_equal(result, other) == same


def test_unknown_arms_and_a_folder_of_results_are_refused(files: Files, calls: list[Call]) -> None:
    with pytest.raises(InputError, match=r"--arms: wanted some of .*ssvae.*, got best"):
        run(files, arms=["one", "best"])
    with pytest.raises(InputError, match=r"wanted a file of results, got: Is a directory"):
        run((files[0], files[1], files[0].parent))
    assert calls == [] and not files[2].exists()


def test_metrics_are_of_the_rows_with_a_label() -> None:
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(3), 40)
    y = generator.integers(-1, 3, 40)
    metrics = classification_metrics(probabilities, y)
    y_true, predicted = y[y >= 0], probabilities[y >= 0].argmax(1)
    assert 0 < len(y_true) < 40
    assert metrics["accuracy"] == np.mean(y_true == predicted)
    assert metrics["macro_f1"] == pytest.approx(f1_score(y_true, predicted, average="macro"))
    sure = classification_metrics(np.eye(3)[y_true], y_true)
    assert sure["accuracy"] == sure["macro_f1"] == 1 and sure["calibration_error"] == 0


def test_summaries_are_scipys_means_and_intervals() -> None:
    """Draws in any order, and one that the reference alone has."""
    generator = np.random.default_rng(0)
    keys = ("accuracy", "macro_f1", "calibration_error", "seconds")
    records: list[dict[str, Any]] = [
        {"arm": arm, "num_labels": n, "draw": d, **{key: generator.random() for key in keys}}
        for n in (10, 100)
        for arm, draws in (("ssvae", 6), ("nb", 5), ("single", 1))
        for d in generator.permutation(draws).tolist()
    ]
    summary = summarise(records)
    assert [(row["num_labels"], row["arm"]) for row in summary] == [
        (n, arm) for n in (10, 100) for arm in ("ssvae", "nb", "single")
    ]

    def values(arm: str, n: int, key: str) -> list[float]:
        own = [r for r in records if (r["arm"], r["num_labels"]) == (arm, n)]
        return [r[key] for r in sorted(own, key=lambda r: r["draw"])]

    for row in summary:
        arm, n = row["arm"], row["num_labels"]
        for key in keys:
            assert row[key] == pytest.approx(np.mean(values(arm, n, key)))
        own = values(arm, n, "accuracy")
        assert row["num_draws"] == len(own)
        if arm == "ssvae":
            assert (row["difference"], row["low"], row["high"]) == (None, None, None)
            continue
        reference = values("ssvae", n, "accuracy")[: len(own)]
        assert row["difference"] == pytest.approx(np.mean(np.subtract(reference, own)))
        if len(own) == 1:
            assert (row["low"], row["high"]) == (None, None)
            continue
        interval = stats.ttest_rel(reference, own).confidence_interval(0.95)
        assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))


def test_another_reference_reverses_the_sign() -> None:
    records: list[dict[str, Any]] = [
        {"arm": arm, "num_labels": 5, "draw": d, "accuracy": accuracy, "macro_f1": 0.0,
         "calibration_error": 0.0, "seconds": 1.0}
        for arm, accuracies in (("a", (0.5, 0.6)), ("b", (0.7, 0.9)))
        for d, accuracy in enumerate(accuracies)
    ]  # fmt: skip
    of_b = summarise(records, reference="a")[1]
    of_a = summarise(records, reference="b")[0]
    assert of_b["difference"] == pytest.approx(-0.25)
    assert of_a["low"] == pytest.approx(-of_b["high"]) and of_a["difference"] > 0
    assert summarise(records, reference="c")[0]["difference"] is None


NB_AHEAD, CHANCE, CLOSE = (
    ([0.70, 0.72], [0.80, 0.82]),
    ([0.85, 0.79], [0.808, 0.80]),
    ([0.81, 0.80], [0.808, 0.798]),
)


@pytest.mark.parametrize(
    ("accuracies", "seconds", "wanted"),
    [
        (
            CLOSE,
            (240, 2),
            "ahead of nb by 0.2 \u00b1 0.0 points at 120 times the time: take the",
        ),
        (CHANCE, (240, 2), "ahead of nb by 1.6 \u00b1 33.0 points at 120 times the time: take nb"),
        (CHANCE, (2, 4), "at 0.5 times the time: take the SS-VAE"),
        (NB_AHEAD, (2, 4), "behind nb by 10.0 \u00b1 0.0 points at 0.5 times the time: take nb"),
        (([0.8], [0.7]), (9, 3), "by 10.0 points at 3.0 times the time; one draw does not decide"),
        (([0.8], [0.8]), (9, 3), "as good as nb at 3.0 times the time; one draw does not decide"),
        (([0.8, 0.7], [0.8, 0.7]), (9, 3), "as good as nb at 3.0 times the time: take nb"),
    ],
)
def test_the_verdict(
    accuracies: tuple[list[float], list[float]], seconds: tuple[float, float], wanted: str
) -> None:
    """Of the best other arm; a lead that may be chance is not worth more time."""
    of_arms = zip(("ssvae", "nb", "bad"), (*accuracies, [0.1] * 2), (*seconds, 0.0), strict=True)
    records: list[dict[str, Any]] = [
        {"arm": arm, "num_labels": 50, "draw": d, "accuracy": accuracy, "macro_f1": 0.0,
         "calibration_error": 0.0, "seconds": took}
        for arm, of_arm, took in of_arms
        for d, accuracy in enumerate(of_arm)
    ]  # fmt: skip
    (verdict,) = judge(summarise(records))
    assert verdict.startswith("50 labels: the SS-VAE is ") and wanted in verdict
    assert judge(summarise([one for one in records if one["arm"] != "ssvae"])) == []
    assert judge(summarise([one for one in records if one["arm"] == "ssvae"])) == []


def test_the_log_says_how_far_it_is_and_what_is_left(
    files: Files,
    calls: list[Call],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the time that each arm took so far; results of an earlier run count too."""
    monkeypatch.setattr("seqssvae.compare.compare.GUESSED_SECONDS", {"one": 100.0, "two": 200.0})
    clock = iter(range(0, 1000, 10))  # it is asked twice for each cell
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    caplog.set_level(logging.INFO)
    run(files, arms=["one"], budgets=[6])
    assert "1 of 2: one, 6 labels, draw 1: accuracy" in caplog.text
    assert "in 10.0 s, about 10 s left" in caplog.text
    caplog.clear()
    run(files, budgets=[6])
    said = [one for one in caplog.messages if " left" in one]
    assert [one.split(":")[0] for one in said] == ["3 of 4", "4 of 4"]
    assert said[0].endswith("about 10 s left") and said[1].endswith("about 0 s left")


def test_more_labels_than_there_are_is_warned_of(
    files: Files, calls: list[Call], caplog: pytest.LogCaptureFixture
) -> None:
    run(files, budgets=[60, 1000])
    assert "1000 labels: the data have 60, all of them used" in caplog.messages
    assert not any(one.startswith("60 labels: the data") for one in caplog.messages)


def test_test_rows_without_labels_are_refused(files: Files, calls: list[Call]) -> None:
    files[1].write_text('{"text": "xx"}\n{"text": "yy", "label": ""}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"test.jsonl: wanted test rows with labels, got none"):
        run(files)
    files[0].write_text('{"text": "xx"}\n{"text": "yy"}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"train.jsonl: wanted a label in some row"):
        run(files)
    assert calls == [] and not files[2].exists()


@pytest.mark.parametrize(
    "foreign",
    [
        b'{"text": "ab", "label": "x"}\n',
        b"hello\n",
        b"[1]\n",
        b"\xff\xfe\0\n",
        b'{"arm": "one", "num_labels": "6", "draw": 0, "settings": "", "accuracy": 1}\n',
        b"[" * 5000,
    ],
)
def test_a_file_that_compare_did_not_write_is_refused_and_kept(
    files: Files, calls: list[Call], foreign: bytes
) -> None:
    files[2].write_bytes(foreign)
    with pytest.raises(InputError, match=r"r:1: wanted a line that compare wrote, got another"):
        run(files)
    assert calls == [] and files[2].read_bytes() == foreign
