"""Corpora from files and from the hub's loader, their cache, and their encoding."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqssvae.data.columns import ColumnChoice
from seqssvae.data.corpus import (
    Corpus,
    find_files,
    gather_corpus,
    read_corpus,
)
from seqssvae.data.encode import encode_corpus, encode_sequences
from seqssvae.data.labels import Labels
from seqssvae.data.readers import iterate_rows
from seqssvae.data.vocabulary import EOS, UNK, CharacterVocabulary, TokenVocabulary
from seqssvae.errors import InputError
from tests.support.rows import write_rows

ROWS: list[dict[str, Any]] = [
    {"text": "abc", "label": "x"},
    {"text": "ab", "label": None},
    {"text": "zzzzzz", "label": ["y", "x"]},
    {"text": "b", "label": "y"},
    {"text": "abc", "label": "x"},
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for every test."""
    import datasets

    folder = tmp_path / "cache"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
    return folder


def labels_of(corpus: Corpus) -> list[str | tuple[str, ...] | None]:
    return [row.label for row in corpus]


def test_a_corpus_holds_the_rows_of_its_file(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", ROWS)
    corpus = read_corpus(path)
    rows = list(iterate_rows(path))
    assert (len(corpus), corpus.is_tokens, corpus.source) == (5, False, str(path))
    assert list(corpus) == rows
    assert labels_of(corpus) == [row.label for row in rows]
    assert list(corpus.ids()) == [row.id for row in rows]
    for index, row in enumerate(rows):
        assert corpus.sequence(index) == row.sequence
        assert corpus.where(index) == f"{path}:{row.number}"
    with pytest.raises(IndexError):
        corpus.sequence(5)
    assert corpus.label_names() == ("x", "y")


def test_tokens_stay_tokens(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", [{"tokens": ["e4", "e5"]}, {"tokens": ["NA"]}])
    corpus = read_corpus(path)
    assert corpus.is_tokens
    assert [row.sequence for row in corpus] == [["e4", "e5"], ["NA"]]
    assert corpus.label_names() == ()


def test_many_rows_keep_their_order(tmp_path: Path) -> None:
    rows = [{"text": f"row {i}", "label": "xyz"[i % 3]} for i in range(3500)]
    corpus = read_corpus(write_rows(tmp_path / "a.jsonl", rows))
    assert [row.sequence for row in corpus] == [row["text"] for row in rows]
    assert labels_of(corpus) == [row["label"] for row in rows]
    assert corpus.sequence(3210) == "row 3210"


def test_columns_are_part_of_the_cache_key(tmp_path: Path) -> None:
    path = write_rows(
        tmp_path / "a.jsonl", [{"text": "a", "title": "b", "label": "x", "topic": "y"}]
    )
    assert read_corpus(path).sequence(0) == "a"
    assert read_corpus(path, ColumnChoice(text="title")).sequence(0) == "b"
    assert labels_of(read_corpus(path, ColumnChoice(label="topic"))) == ["y"]
    assert labels_of(read_corpus(path, ColumnChoice(read_labels=False))) == [None]
    assert labels_of(read_corpus(path)) == ["x"]


def test_a_changed_file_is_read_again_and_an_unchanged_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_rows(tmp_path / "a.jsonl", [{"text": "a"}, {"text": "b"}])
    assert len(read_corpus(path)) == 2
    counted: list[object] = []
    with monkeypatch.context() as patched:
        patched.setattr("seqssvae.data.tables._names", counted.append)
        assert [row.sequence for row in read_corpus(path)] == ["a", "b"]
    assert not counted
    changed = path.stat().st_mtime_ns
    path.write_text('{"text": "c"}\n{"text": "d"}\n')  # of the same size
    os.utime(path, ns=(changed, changed + 1))
    assert [row.sequence for row in read_corpus(path)] == ["c", "d"]


def test_a_bad_row_far_down_is_an_error_and_leaves_no_file(tmp_path: Path, cache: Path) -> None:
    rows = [{"text": f"row {i}"} for i in range(2500)] + [{"text": ""}]
    path = write_rows(tmp_path / "a.jsonl", rows)
    for _ in range(2):
        with pytest.raises(InputError, match="a.jsonl:2501: wanted a text, got an empty one$"):
            read_corpus(path)
    assert not list(cache.rglob("*.arrow"))


def test_an_error_in_the_first_row_needs_no_datasets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)  # an import would fail
    with pytest.raises(InputError, match="wanted a readable file"):
        read_corpus(tmp_path / "none.csv")
    with pytest.raises(InputError, match="a.jsonl:1: wanted a text"):
        read_corpus(write_rows(tmp_path / "a.jsonl", [{"text": 1}]))


def test_reading_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import datasets

    read_corpus(write_rows(tmp_path / "a.jsonl", ROWS))
    assert capfd.readouterr() == ("", "")
    assert not datasets.are_progress_bars_disabled()


# several files


@pytest.fixture
def several(tmp_path: Path) -> Path:
    """Files whose rows and ids repeat each other's, and files that are not read."""
    folder = tmp_path / "rows"
    folder.mkdir()
    write_rows(folder / "part-1.jsonl", [*ROWS, {"text": "own", "id": "k"}])
    write_rows(folder / "part-0.jsonl", [{"text": "first", "id": "k"}, ROWS[0]])
    (folder / "part-2.csv").write_text("text,label\nab,x\nab,y\n")
    (folder / "README.md").write_text("no rows")
    (folder / ".part-3.jsonl").write_text("")
    return folder


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("", ["part-0.jsonl", "part-1.jsonl", "part-2.csv"]),
        ("part-[01].jsonl", ["part-0.jsonl", "part-1.jsonl"]),
        ("*.csv", ["part-2.csv"]),
    ],
)
def test_several_files_are_one_corpus(several: Path, pattern: str, names: list[str]) -> None:
    files = [several / name for name in names]
    assert find_files(several / pattern) == files
    corpus = read_corpus(several / pattern)
    rows = [(file, row) for file in files for row in iterate_rows(file)]
    assert [row.sequence for row in corpus] == [row.sequence for _, row in rows]
    assert labels_of(corpus) == [row.label for _, row in rows]
    assert [corpus.where(i) for i in range(len(corpus))] == [
        f"{file}:{row.number}" for file, row in rows
    ]
    assert len(set(corpus.ids())) == len(corpus)
    assert corpus.num_repeated_ids == (1 if len(files) > 1 else 0)  # of those that were given
    assert list(corpus.ids())[: len(list(iterate_rows(files[0])))] == [
        row.id for row in iterate_rows(files[0])
    ]


def test_a_changed_part_is_read_again(several: Path) -> None:
    number = len(read_corpus(several))
    write_rows(several / "part-0.jsonl", [{"text": "other"}] * 3)
    assert len(read_corpus(several)) == number + 1
    write_rows(several / "part-9.jsonl", [{"text": "more"}])
    assert len(read_corpus(several)) == number + 2


def test_an_error_in_one_of_several_files_names_it(several: Path, tmp_path: Path) -> None:
    corpus = read_corpus(several)
    with pytest.raises(InputError, match=r"part-2.csv:3: wanted a known label .*, got 'y'"):
        read_corpus(several / "*.csv").classes(Labels(("x",)))
    with pytest.raises(InputError, match=r"part-1.jsonl:3: wanted a known label .*, got 'y'"):
        corpus.classes(Labels(("x",)))
    write_rows(several / "part-4.jsonl", [{"tokens": ["a"]}])
    with pytest.raises(InputError, match="part-4.jsonl: wanted text as in .*part-0.*, got tokens"):
        read_corpus(several)
    write_rows(several / "part-4.jsonl", [{"text": "a"}, {"text": ""}])
    with pytest.raises(InputError, match="part-4.jsonl:2: wanted a text, got an empty one"):
        read_corpus(several)
    (tmp_path / "none").mkdir()
    for name in ("none", "none-*.jsonl"):
        with pytest.raises(InputError, match=": wanted files of rows, got none"):
            read_corpus(tmp_path / name)
    with pytest.raises(InputError, match="wanted the name of a file|wanted a file"):
        read_corpus("")


# encoding


def test_a_list_of_names_is_one_corpus(several: Path, tmp_path: Path) -> None:
    """Of files, folders and patterns, in their order, each file once."""
    more = write_rows(tmp_path / "more.jsonl", [{"text": "zz"}])
    files = [more, *find_files(several)]
    assert find_files([more, several, str(several / "*.csv"), more]) == files
    corpus = read_corpus([str(more), str(several)])
    assert corpus.source == f"{more}, {several}"
    assert [row.sequence for row in corpus] == ["zz", *(r.sequence for r in read_corpus(several))]
    assert corpus.where(0) == f"{more}:1"
    assert list(read_corpus([more])) == list(read_corpus(more))
    with pytest.raises(InputError, match="hub:a: wanted files, or one data set alone"):
        read_corpus([more, "hub:a"])


@pytest.mark.parametrize("rows", [[{"text": "ab"}, {"text": "cd"}], [{"text": "ab"}], [1, 2], []])
def test_a_list_of_rows_is_no_data(rows: Any) -> None:
    """It would have to be a table; the error says what is."""
    wanted = "wanted a file, hub:NAME, a datasets.Dataset or a DataFrame, got (list|dict)$"
    with pytest.raises(InputError, match=wanted):
        read_corpus(rows)


def test_labels_may_be_left_out(tmp_path: Path) -> None:
    corpus = read_corpus(write_rows(tmp_path / "a.jsonl", ROWS))
    for labels in (None, Labels(())):
        rows = encode_corpus(corpus, CharacterVocabulary("abc"), labels, max_length=9)
        assert rows.y.tolist() == [-1] * 5
        assert rows.candidates == {}


def test_sequences_from_no_file() -> None:
    rows = encode_sequences(["ab", "", "abcabc"], CharacterVocabulary("abc"), max_length=4)
    assert [rows.row(i).tolist() for i in range(3)] == [[4, 5, EOS], [EOS], [4, 5, 6, 4]]
    assert rows.y.tolist() == [-1, -1, -1]
    assert rows.ids == ["1", "2", "3"]
    tokens = encode_sequences([["a", "?"], []], TokenVocabulary(["a"]), max_length=4)
    assert tokens.symbols.tolist() == [4, UNK, EOS, EOS]
    assert len(encode_sequences([], CharacterVocabulary("abc"), max_length=4)) == 0


@pytest.mark.parametrize("sequence", ["\udc80", "a" * 1_000_000, ["\ud800"]])
def test_sequences_that_cannot_be_encoded_are_errors(sequence: str | list[str]) -> None:
    vocabulary = TokenVocabulary(["a"]) if isinstance(sequence, list) else CharacterVocabulary("a")
    with pytest.raises(InputError, match="^sequence 1: wanted .*, got"):
        encode_sequences([sequence], vocabulary, max_length=4)


# the hub's loader


@pytest.fixture
def hub_folder(tmp_path: Path) -> Path:
    import datasets

    classes = datasets.ClassLabel(names=["no", "yes"])
    features = datasets.Features(
        words=datasets.List(datasets.Value("string")), number=datasets.Value("int64"), kind=classes
    )
    columns = {"words": [["NA"], ["b c", "d"], ["e"]], "number": [1, 2, 3], "kind": [1, -1, 0]}
    folder = tmp_path / "set"
    folder.mkdir()
    for split in ("train", "test"):
        data = datasets.Dataset.from_dict(columns, features=features)
        data.to_parquet(folder / f"{split}.parquet")
    return folder


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # files that the loader leaves open
@pytest.mark.parametrize("split", ["", ":test", ":train"])
def test_a_folder_is_loaded_as_the_hub_is(hub_folder: Path, split: str) -> None:
    corpus = read_corpus(f"hub:{hub_folder}{split}")
    assert [row.sequence for row in corpus] == [["NA"], ["b c", "d"], ["e"]]
    assert labels_of(corpus) == ["yes", None, "no"]
    assert [row.number for row in corpus] == [1, 2, 3]
    assert corpus.source == f"hub:{hub_folder}{split}"


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_absent_splits_columns_and_sets_are_errors(hub_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="set:dev: wanted a data set that can be loaded, got"):
        read_corpus(f"hub:{hub_folder}:dev")
    with pytest.raises(InputError, match="wanted a column 'away', got 'words', 'number', 'kind'"):
        read_corpus(f"hub:{hub_folder}", ColumnChoice(text="away"))
    with pytest.raises(InputError, match="wanted a data set that can be loaded") as caught:
        read_corpus(f"hub:{tmp_path / 'none'}")
    assert "\n" not in str(caught.value)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """`datasets.load_dataset` returns `data`, which tests set; its arguments are in `arguments`."""
    import datasets

    state: dict[str, Any] = {}

    def load_dataset(name: str, *, split: str) -> Any:
        state["arguments"] = (name, split)
        if isinstance(state["data"], Exception):
            raise state["data"]
        return state["data"]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return state


def test_a_name_and_a_split_are_loaded(loaded: dict[str, Any]) -> None:
    import datasets

    data = datasets.Dataset.from_dict({"tokens": [["a"], ["b", "c"]], "class": ["x", ""]})
    loaded["data"] = data.select([1, 0])
    corpus = read_corpus("hub:owner/name:test")
    assert loaded["arguments"] == ("owner/name", "test")
    assert [row.sequence for row in corpus] == [["b", "c"], ["a"]]
    assert labels_of(corpus) == [None, "x"]
    read_corpus("hub:owner/name")
    assert loaded["arguments"] == ("owner/name", "train")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": ["a", ""]}, "hub:name:2: wanted a text, got an empty one"),
        ({"text": [1, 2]}, "hub:name:1: wanted a text, got the number 1"),
        ({"text": ["a"], "label": [0.5]}, "hub:name:1: wanted a label .*, got the number 0.5"),
        ({"text": []}, "hub:name:1: wanted a row, got an empty data set"),
        ({"a": ["x"], "b": ["y"]}, "hub:name: wanted a column 'text' .*, got 'a', 'b'"),
    ],
)
def test_bad_data_sets_are_errors(
    loaded: dict[str, Any], columns: dict[str, Any], message: str
) -> None:
    import datasets

    loaded["data"] = datasets.Dataset.from_dict(columns)
    with pytest.raises(InputError, match=f"^{message}"):
        read_corpus("hub:name")


def test_any_exception_of_the_loader_becomes_one_line(loaded: dict[str, Any]) -> None:
    loaded["data"] = ConnectionError("no\n  network")
    with pytest.raises(InputError, match="^hub:name: wanted .*, got ConnectionError: no network$"):
        read_corpus("hub:name")


def test_a_dataset_of_the_program_is_read_as_one_of_the_hub(tmp_path: Path) -> None:
    import datasets

    data = datasets.Dataset.from_dict({"text": ["ab", "c"], "label": ["x", None]})
    corpus = read_corpus(data)
    assert [(row.sequence, row.label) for row in corpus] == [("ab", "x"), ("c", None)]
    assert labels_of(read_corpus(data, ColumnChoice(read_labels=False))) == [None, None]
    assert read_corpus(corpus) is corpus
    with pytest.raises(InputError, match="^dataset: wanted a file, .*, got a?.*DatasetDict$"):
        read_corpus(datasets.DatasetDict(train=data))


def test_rows_of_a_program_are_those_of_a_file(tmp_path: Path) -> None:
    """The same sequences, labels and ids, without a file."""
    rows = [("ab", "x"), ("c d", None), ("ab", "x"), ("e", ["x", "y"]), ("f", 7)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": t, "label": y}) + "\n" for t, y in rows))
    texts, labels = zip(*rows, strict=True)
    gathered = gather_corpus(texts, labels, source="X")
    assert list(gathered) == list(read_corpus(path))
    assert labels_of(gathered)[3] == ("x", "y")
    tokens = gather_corpus([["a", "b"], ["c"]], source="X")
    assert (
        tokens.is_tokens and tokens.sequence(0) == ["a", "b"] and labels_of(tokens) == [None, None]
    )
    bad: list[tuple[list[Any], str]] = [
        ([], "X:1: wanted a row, got none"),
        (["a", ""], "X:2: wanted a text, got an empty one"),
        ([["a"], "b"], "X:2: wanted a list of tokens, got the text 'b'"),
    ]
    for sequences, message in bad:
        with pytest.raises(InputError, match=f"^{message}"):
            gather_corpus(sequences, source="X")


def test_encoding_is_fast_enough_to_matter(tmp_path: Path) -> None:
    """A loose bound: 10,000 short rows a second on a busy machine."""
    import time

    generator = np.random.default_rng(0)
    words = ["".join(generator.choice(list("abcdef"), 12)) for _ in range(2000)]
    path = tmp_path / "a.txt"
    path.write_text("\n".join(words * 5))
    corpus, vocabulary = read_corpus(path), CharacterVocabulary("abcdef")
    start = time.process_time()
    rows = encode_corpus(corpus, vocabulary, None, max_length=20)
    assert time.process_time() - start < 1
    assert rows.symbols.nbytes + rows.offsets.nbytes + rows.y.nbytes < 10_000 * (13 * 4 + 17)
