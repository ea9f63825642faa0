"""Whatever a trained model, a command line or a file of rows is given: an answer, or one line."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import seqssvae
from seqssvae.cli import main
from seqssvae.config import Config
from seqssvae.data.vocabulary import build_vocabulary, load_vocabulary
from seqssvae.errors import InputError
from seqssvae.trained import TrainedModel
from tests.support.rows import write_rows
from tests.support.strategies import any_texts, cases, only_input_errors, texts, values

Small = tuple[Path, Path]

# What a process can be given: no NUL, and surrogates only for bytes that are no UTF-8.
words = any_texts.map(
    lambda text: (
        text.replace("\0", "").encode(errors="surrogatepass").decode(errors="surrogateescape")
    )
)
labels = st.sampled_from(["left", "right"])
other_numbers = st.sampled_from([-1, 2**63, 2**64, 10**400, 1.5, float("nan"), None, "1", True])
QUICK = (
    "--model.embedding_size=2 --model.encoder_size=2 --model.decoder_size=2 --model.latent_size=1 "
    "--objective.kl_warmup_steps=1 --training.num_steps=1 --training.num_threads=1 "
    "--model.ngram_buckets=8 --data.vocabulary=characters"
).split()


@pytest.fixture(scope="module")
def model(small_run: Small) -> TrainedModel:
    return seqssvae.load(small_run[0])


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@cases(40)
@given(sequences=st.lists(any_texts | values, max_size=3) | any_texts)
@example(sequences="abab")
@example(sequences=["\ud800"])
@example(sequences=[["a", "b"]])
@example(sequences=[b"ab"])
def test_any_sequences(model: TrainedModel, sequences: Any) -> None:
    with only_input_errors():
        found = model.classify(sequences)
        assert len(found) == len(sequences) and not isinstance(sequences, str)
        assert len(model.encode(sequences)["loc"]) == len(sequences)


@cases(40)
@given(
    label=labels | values,
    n=st.integers(-1, 2) | other_numbers,
    seed=st.integers(0, 3) | other_numbers,
    prefix=st.sampled_from(["", "a"]) | any_texts,
    strategy=st.sampled_from(["sample", "greedy", "beam"]) | any_texts,
    top_k=st.integers(-1, 3),
    max_length=st.integers(-1, 5),
)
def test_any_generation(model: TrainedModel, n: Any, **settings: Any) -> None:
    with only_input_errors():
        found = model.generate(settings.pop("label"), n, **settings)
        assert len(found) == n
        assert all(str(text).startswith(settings["prefix"]) for text in found)


@cases(40)
@given(
    command=st.sampled_from(["classify", "generate", "transfer", "interpolate", "encode"]),
    flags=st.lists(
        st.tuples(
            st.sampled_from(
                "--label --to --prefix --seed -n --steps --mode --data --out --strategy --top-p "
                "--temperature --num-samples --width --json --odd".split()
            ),
            words
            | labels
            | st.sampled_from(["1", "-1", "0", "1e5", "nan", "99999999999999999999"]),
        ),
        max_size=3,
    ),
    texts=st.lists(words, max_size=2),
)
@example(command="classify", flags=[], texts=["\udcff"])
@example(command="generate", flags=[("--label", "left"), ("--seed", str(2**70))], texts=[])
@example(command="generate", flags=[("--label", "left"), ("-n", "-3")], texts=[])
@example(command="generate", flags=[("--label", "left"), ("-n", "9" * 5000)], texts=[])
def test_any_words_of_a_command(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    small_run: Small,
    command: str,
    flags: list[tuple[str, str]],
    texts: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    run_command(
        capfd, command, str(small_run[0]), *texts, *(word for flag in flags for word in flag)
    )


@cases(20)
@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {"text": texts.filter(bool)},
            optional={"label": texts | st.sampled_from(["A", "a", "NA", -1, None]), "id": texts},
        ),
        min_size=1,
        max_size=6,
    ),
    flags=st.lists(
        st.sampled_from(
            ["--num-labels=1", "--labels-per-class=1", "--data.dev_fraction=0.9", "--seed=3",
             "--model.prior=labelled", "--training.balanced=true", "--training.teacher=false",
             "--model.factorisation=y-given-z", "--estimator=sum-and-sample",
             "--model.latent_size=0",
             "--training.streams=alternate", "--data.max_length=2", "--data.min_count=2",
             "--estimator=score-function", "--model.ngram_buckets=0", "--vocabulary=sentencepiece"]
        ),
        max_size=2,
    ),
)  # fmt: skip
@example(rows=[{"text": "a", "label": "A"}] * 3, flags=[])  # all of one class
@example(rows=[{"text": "a", "label": "A"}, {"text": "b", "label": "B"}], flags=[])  # one row each
@example(rows=[{"text": "a", "label": x} for x in "ABCABC"], flags=["--num-labels=1"])
@example(rows=[{"text": "a", "label": -1}, {"text": "b", "label": "1"}], flags=[])
@example(
    rows=[{"text": "a", "label": "A", "id": "1"}, {"text": "b", "label": "a ", "id": "1"}], flags=[]
)
@example(rows=[{"text": "\0"}], flags=[])
def test_training_on_any_rows(
    tmp_path_factory: pytest.TempPathFactory,
    capfd: pytest.CaptureFixture[str],
    rows: list[dict[str, Any]],
    flags: list[str],
) -> None:
    folder = tmp_path_factory.mktemp("any")
    path = write_rows(folder / "rows.jsonl", rows)
    words = ["--data", str(path), "--test", str(path), "--out", str(folder / "run")]
    status = run_command(capfd, "train", *words, *QUICK, *flags)
    if status == 0:
        named = seqssvae.load(folder / "run").labels.names
        labels = {str(row["label"]) for row in rows if row.get("label") is not None}
        labels = {label for label in labels if label.strip()}
        assert set(named) == labels - set(Config().data.unlabelled_values)


@cases(30)
@given(
    kind=st.sampled_from(["characters", "tokens"]),
    rows=st.lists(texts, min_size=1, max_size=4),
    place=st.integers(0, 10**6),
    bit=st.integers(0, 7),
)
def test_a_vocabulary_with_a_flipped_bit(
    tmp_path: Path, kind: str, rows: list[str], place: int, bit: int
) -> None:
    """What is read is a vocabulary that comes back, or one line says that it is none."""
    built = build_vocabulary(kind, [[row] for row in rows] if kind == "tokens" else rows, size=1000)
    built.save(tmp_path)
    path = tmp_path / "vocabulary.json"
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 1 << bit
    path.write_bytes(content)
    with only_input_errors():
        read = load_vocabulary(tmp_path)
        read.save(tmp_path)
        assert len(load_vocabulary(tmp_path)) == len(read)


def run_command(capfd: pytest.CaptureFixture[str], *words: str) -> int:
    """The exit status: 0, or 2 with one line and nothing on stdout."""
    try:
        status = main(words)
    except SystemExit as stop:
        status = int(stop.code or 0)
    shown = capfd.readouterr()
    assert status in (0, 2), shown.err
    if status == 2:
        assert len(shown.err.strip().splitlines()) == 1 and shown.out == "", shown
    return status


def test_a_generator_of_sequences_is_read_once(model: TrainedModel) -> None:
    assert len(model.classify(text for text in ["ab", "cd"])) == 2  # type: ignore[arg-type]


def test_a_label_of_another_type_is_reported(model: TrainedModel) -> None:
    with pytest.raises(InputError, match="got 5"):
        model.generate(5)  # type: ignore[arg-type]
