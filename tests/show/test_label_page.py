import json
from pathlib import Path

import pytest

from seqssvae.data.readers import iterate_rows
from seqssvae.errors import InputError
from seqssvae.show.explorer import Exploration, open_run
from seqssvae.show.label_page import label_section
from seqssvae.training.fit import fit
from tests.support.fixtures import SmallRun
from tests.support.rows import write_rows


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of which some have a label, or two possible ones."""
    rows = [{"text": part * n, "id": f"{part}{n}"} for part in ("ab", "cd", "ac") for n in (1, 2)]
    known: list[dict[str, object]] = [
        {"text": "ababab", "label": "left"},
        {"text": "acacac", "label": ["left", "right"]},
    ]
    return write_rows(tmp_path_factory.mktemp("pool") / "pool.jsonl", [*known, *rows])


@pytest.fixture(scope="module")
def unlabelled(small_run: SmallRun, pool: Path) -> Exploration:
    return open_run(small_run[0], pool)


def test_rows_without_a_label_are_suggested(unlabelled: Exploration, pool: Path) -> None:
    texts = {row.id: row.sequence for row in iterate_rows(pool) if row.label is None}
    assert len(unlabelled.pool[0]) == 6
    rows = unlabelled.suggest(0)
    assert len(rows) > 2 and all(texts[row["id"]] == row["sequence"] for row in rows)
    (found,) = unlabelled.trained.classify([rows[0]["sequence"]])
    assert rows[0]["predicted"] == found["label"]


def test_what_is_labelled_is_data(
    unlabelled: Exploration, pool: Path, small_run: SmallRun, tmp_path: Path
) -> None:
    """Also a class that is new; rows that were given none are left out."""
    rows = unlabelled.suggest(0)
    labels = [" left ", "odd", *[None, "", " "] * 5][: len(rows)]
    saved = tmp_path / "labels.jsonl"
    saved.write_text(unlabelled.labelled_file(rows, labels), encoding="utf-8")
    got = [(row.id, row.sequence, row.label) for row in iterate_rows(saved)]
    wanted = [(row["id"], row["sequence"]) for row in rows[:2]]
    assert got == [(*wanted[0], "left"), (*wanted[1], "odd")]
    fit({"training.num_steps": 1}, [pool, saved], tmp_path / "run", start=small_run[0])
    names = json.loads((tmp_path / "run" / "labels.json").read_text(encoding="utf-8"))
    assert "odd" in str(names)
    with pytest.raises(InputError, match="wanted a label in some row, got none"):
        unlabelled.labelled_file(rows, [None] * len(rows))


def test_a_row_that_is_labelled_in_another_file_is_left_out(
    small_run: SmallRun, pool: Path, tmp_path: Path
) -> None:
    done = write_rows(tmp_path / "done.jsonl", [{"text": "abab", "label": "left"}])
    rest = [{"text": text} for text in ("abab", "cd", "cd")]
    both = [write_rows(tmp_path / "rest.jsonl", rest), done]
    assert open_run(small_run[0], both).pool[1] == ["cd", "cd"]


def test_there_may_be_nothing_to_label(exploration: Exploration, unlabelled: Exploration) -> None:
    """All rows of the small run have labels."""
    texts = [str(part) for part in label_section(exploration)]
    assert any("Wanted rows without a label" in text for text in texts) and len(texts) == 2
    assert len(label_section(unlabelled)) > 5
