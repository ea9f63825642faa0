import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seqssvae.config import Config
from seqssvae.data.batches import collate
from seqssvae.data.encoded import EncodedRows
from seqssvae.data.prepare import (
    DEV_UNLABELLED_FRACTION,
    DEV_UNLABELLED_ROWS,
    Prepared,
    prepare,
    warn_of_test_rows_seen,
)
from seqssvae.data.sources import (
    read_corpus_like,
    read_like,
    read_sequences,
)
from seqssvae.data.vocabulary import EOS, UNK
from seqssvae.errors import InputError
from seqssvae.overrides import override
from tests.support.rows import write_rows

Rows = Sequence[Mapping[str, Any]]


def settings(**changes: Any) -> Config:
    return override(Config(), {key.replace("__", "."): value for key, value in changes.items()})


def mixed_rows(num_labelled: int = 30, num_unlabelled: int = 150) -> list[dict[str, Any]]:
    """Rows of three classes, of unequal sizes, and rows without a label; each text is its own."""
    generator = random.Random(0)
    rows: list[dict[str, Any]] = [
        {"id": f"l{i}", "text": f"a{i}", "label": "uvvwww"[i % 6]} for i in range(num_labelled)
    ]
    rows += [{"id": f"u{i}", "text": f"b{i}"} for i in range(num_unlabelled)]
    generator.shuffle(rows)
    return rows


def texts(prepared: Prepared, rows: EncodedRows) -> list[str]:
    return [str(prepared.vocabulary.decode(rows.row(i).tolist())) for i in range(len(rows))]


def test_each_row_is_used_once_and_has_its_index(tmp_path: Path) -> None:
    rows = [{"id": "partial", "text": "c", "label": ["u", "v"]}, *mixed_rows()]
    source = write_rows(tmp_path / "rows.jsonl", rows)
    prepared = prepare(settings(data__labels_per_class=4), source)
    parts = {name: getattr(prepared, name) for name in ("labelled", "unlabelled", "dev")}
    indices = np.concatenate([part.index for part in parts.values()])
    assert sorted(indices.tolist()) == list(range(len(rows)))
    num_free = len(rows) - 13
    held = int(num_free * DEV_UNLABELLED_FRACTION)
    assert held == 3
    sizes = {name: len(part) for name, part in parts.items()}
    assert sizes == {"labelled": 11, "dev": 2 + held, "unlabelled": num_free - held}
    for part in parts.values():
        assert texts(prepared, part) == [rows[i]["text"] for i in part.index]
        assert prepared.sequences(part) == texts(prepared, part)
        assert part.ids == [rows[i]["id"] for i in part.index]
    ids = prepared.dev.ids
    assert prepared.split == {
        "labelled": prepared.labelled.ids, "dev": ids[:2], "dev_unlabelled": ids[2:]
    }  # fmt: skip


def test_quotes_may_be_characters(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text('text\tlabel\n"a\tu\nb"\tv\n')
    assert list(prepare(settings(data__quotes="never"), path).corpus.sequences()) == ['"a', 'b"']
    with pytest.raises(InputError, match=r"rows\.tsv:2: wanted cells with no tab"):
        prepare(settings(), path)


@pytest.mark.parametrize("form", ["auto", "none", "nfkc"])
@pytest.mark.parametrize("space", [" ", ""])
def test_rows_are_read_in_one_unicode_form(tmp_path: Path, form: str, space: str) -> None:
    """By default texts with spaces; both spellings are then the same sequence."""
    rows = [{"text": f"e\u0301{space}{i}", "label": "uv"[i % 2]} for i in range(20)]
    rows += [{"text": f"\u00e9{space}{i}"} for i in range(20)]
    source = write_rows(tmp_path / "rows.jsonl", rows)
    config = settings(data__normalise=form)
    prepared = prepare(config, source)
    is_one = form == "nfkc" or (form == "auto" and space == " ")
    assert ("20 of 40 rows have the sequence" in "".join(prepared.warnings)) == is_one
    decomposed = [text for text in prepared.sequences(prepared.labelled) if "e\u0301" in text]
    assert bool(decomposed) != is_one
    ids = [prepared.vocabulary.encode(f"{e}{space}1") for e in ("\u00e9", "e\u0301")]
    assert (ids[0] == ids[1]) == is_one
    other = write_rows(tmp_path / "other.jsonl", rows[:1])
    assert warn_of_test_rows_seen(config, source, other) == 1
    corpus = read_corpus_like(other, config, prepared.vocabulary, read_labels=True)
    assert [row.sequence for row in corpus] == [corpus.sequence(0)] == [*corpus.sequences()]
    assert corpus.sequence(0).startswith("\u00e9") == is_one
    assert read_sequences(other, config) == [corpus.sequence(0)]


def test_only_labelled_rows_keep_their_label(tmp_path: Path) -> None:
    rows = mixed_rows(300, 20)
    label_of = {row["id"]: row.get("label") for row in rows}
    prepared = prepare(settings(data__num_labels=10), write_rows(tmp_path / "rows.jsonl", rows))
    assert prepared.labels.names == ("u", "v", "w")
    num_dev = len(prepared.labelled_dev)
    assert num_dev == 2 and len(prepared.dev) > num_dev
    for hidden in (prepared.unlabelled, prepared.dev.take(np.arange(num_dev, len(prepared.dev)))):
        assert any(label_of[id] is not None for id in hidden.ids)
        assert (hidden.y == -1).all() and not hidden.candidates
    for part, n in ((prepared.labelled, len(prepared.labelled)), (prepared.dev, num_dev)):
        names = [prepared.labels.names[y] for y in part.y[:n]]
        assert names == [label_of[id] for id in part.ids[:n]]


def test_labels_of_dev_rows_may_be_read_too(tmp_path: Path) -> None:
    rows = mixed_rows(60, 20)
    source = write_rows(tmp_path / "rows.jsonl", rows)
    prepared = prepare(settings(data__num_labels=20), source)
    everything = prepared.with_dev_labels()
    assert (len(prepared.labelled), len(everything.labelled)) == (16, 20)
    known = prepared.dev.take(np.arange(4))
    assert everything.labelled.y.tolist() == [*prepared.labelled.y, *known.y]
    assert list(everything.labelled.ids) == [*prepared.labelled.ids, *known.ids]
    assert everything.sequences(everything.labelled) == texts(prepared, everything.labelled)
    assert list(everything.dev.ids) == list(prepared.dev.ids)
    bare = prepare(settings(data__num_labels=20, data__dev_fraction=0.0), source)
    assert bare.with_dev_labels() is bare


@pytest.mark.parametrize("fraction", [0.0, 0.5])
def test_the_vocabulary_is_of_training_rows_alone(tmp_path: Path, fraction: float) -> None:
    """Every row has a symbol of its own: those of held-out rows are UNK, no others."""
    rows = [
        {"id": str(i), "text": f"a{chr(0x4E00 + i)}", **({"label": "uv"[i % 2]} if i < 20 else {})}
        for i in range(120)
    ]
    config = settings(data__dev_fraction=fraction, data__vocabulary="characters")
    prepared = prepare(config, write_rows(tmp_path / "rows.jsonl", rows))
    held = prepared.dev.index.tolist()
    assert len(held) == 20 * fraction + 2
    known = set("".join(rows[i]["text"] for i in range(120) if i not in held))
    assert len(prepared.vocabulary) == 4 + len(known)
    assert prepared.labelled.num_unknown == prepared.unlabelled.num_unknown == 0
    a = prepared.vocabulary.encode("a")[0]
    assert [prepared.dev.row(i).tolist() for i in range(len(held))] == [[a, UNK, EOS]] * len(held)


def test_the_seed_makes_the_split(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", mixed_rows())
    first, same, other = (
        prepare(settings(data__labels_per_class=3, training__seed=seed), source).split
        for seed in (1, 1, 2)
    )
    assert first == same
    for part in ("labelled", "dev", "dev_unlabelled"):
        assert set(first[part]) != set(other[part])
    seen, others = ({*split["labelled"], *split["dev"]} for split in (first, other))
    assert seen != others


def test_the_split_goes_by_ids_and_not_by_the_order_of_rows(tmp_path: Path) -> None:
    rows = mixed_rows()
    config = settings(data__labels_per_class=3)
    split = prepare(config, write_rows(tmp_path / "rows.jsonl", rows)).split
    random.Random(5).shuffle(rows)
    again = prepare(config, write_rows(tmp_path / "shuffled.jsonl", rows)).split
    assert {part: sorted(ids) for part, ids in split.items()} == {
        part: sorted(ids) for part, ids in again.items()
    }


def counts(prepared: Prepared) -> list[int]:
    """Labels seen of each class, dev included."""
    y = np.concatenate([prepared.labelled.y, prepared.dev.y])
    return [int((y == k).sum()) for k in range(3)]


@pytest.mark.parametrize(
    ("budget", "wanted"),
    [
        ({}, [5, 10, 15]),
        ({"data__labels_per_class": 4}, [4, 4, 4]),
        ({"data__labels_per_class": 7}, [5, 7, 7]),  # all that a class has
        ({"data__num_labels": 9}, [3, 3, 3]),
        ({"data__num_labels": 23}, [5, 9, 9]),
        ({"data__num_labels": 99}, [5, 10, 15]),
    ],
)
def test_budgets(tmp_path: Path, budget: dict[str, int], wanted: list[int]) -> None:
    source = write_rows(tmp_path / "rows.jsonl", mixed_rows())
    assert counts(prepare(settings(**budget), source)) == wanted
    none_held = prepare(settings(data__dev_fraction=0.0, **budget), source)
    assert counts(none_held) == wanted and len(none_held.labelled_dev) == 0


def test_few_unlabelled_rows_are_all_trained_on_and_of_many_256_held(tmp_path: Path) -> None:
    few = prepare(settings(), write_rows(tmp_path / "few.jsonl", mixed_rows(6, 49)))
    assert len(few.unlabelled) == 49 and len(few.split["dev_unlabelled"]) == 0
    many = prepare(settings(), write_rows(tmp_path / "many.jsonl", mixed_rows(6, 13_000)))
    assert len(many.split["dev_unlabelled"]) == DEV_UNLABELLED_ROWS == 256
    assert len(many.unlabelled) == 13_000 - 256


def test_partial_labels_are_candidates_of_labelled_rows(tmp_path: Path) -> None:
    """They are no part of a budget, and are never held out."""
    rows = mixed_rows()
    partial = [{"id": f"p{i}", "text": f"c{i}", "label": ["w", "u"]} for i in range(5)]
    partial.append({"id": "q", "text": "q", "label": ["x", "v"]})  # no other row has x
    source = write_rows(tmp_path / "rows.jsonl", [*partial, *rows])
    prepared = prepare(settings(data__num_labels=6), source)
    assert prepared.labels.names == ("u", "v", "w", "x")
    partly = [id for id in prepared.labelled.ids if id[0] in "pq"]
    assert partly == ["p0", "p1", "p2", "p3", "p4", "q"]
    assert len(prepared.labelled) + len(prepared.labelled_dev) == 6 + 6
    found = {prepared.labelled.ids[i]: names for i, names in prepared.labelled.candidates.items()}
    assert found == {**{f"p{i}": (0, 2) for i in range(5)}, "q": (1, 3)}
    for i, id in enumerate(prepared.labelled.ids):
        assert (prepared.labelled.y[i] == -1) == (id in found)


def test_soft_labels_are_those_of_labelled_rows_and_votes_of_all(tmp_path: Path) -> None:
    """Rows of another file need no columns of votes; `-1` is no vote, nor what means unlabelled."""
    rows = mixed_rows()
    for number, row in enumerate(rows):
        row["A"] = ["u", "v", None, "-1", "nan"][number % 5]
    soft = [{"id": "s", "text": "s", "label": {"w": 0.8, "u": 0.2}, "A": "w"}]
    source = write_rows(tmp_path / "rows.jsonl", [*rows, *soft])
    more = write_rows(tmp_path / "more.jsonl", [{"text": "m", "id": "m"}])
    prepared = prepare(
        settings(data__vote_columns="A", data__num_labels=6), source, unlabelled_source=more
    )
    place = prepared.labelled.ids.index("s")
    assert prepared.labelled.candidates == {place: (0, 2)} and prepared.labelled.y[place] == -1
    batch = collate(prepared.labelled, [place, (place or 2) - 1], num_classes=3)
    assert batch.evidence is not None and batch.votes is not None
    want = torch.tensor([[np.log(0.25), 0.0, 0.0], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(batch.evidence, want, check_dtype=False)
    by_id = {row["id"]: {"u": 0, "v": 1}.get(row["A"] or "", -1) for row in rows} | {
        "s": 2,
        "m": -1,
    }
    for part in (prepared.labelled, prepared.unlabelled, prepared.dev):
        votes = part.evidence().votes
        assert votes is not None and votes[:, 0].tolist() == [by_id[id] for id in part.ids]
    both = EncodedRows.concatenate([prepared.dev, prepared.unlabelled.take([0])])
    assert both.evidence(np.array([len(prepared.dev)])).votes == by_id[prepared.unlabelled.ids[0]]


@pytest.mark.parametrize(
    ("vote", "changes", "error"),
    [
        ("U", {}, "rows.jsonl:1: column 'A': wanted a known label .*did you mean 'u'"),
        (None, {}, "wanted votes in 'A', got none in any row"),
        ("u", {"data__label_column": "label,id"}, "wanted one column of labels beside it, got 2"),
        ("u", {"data__unlabelled_only": True}, "wanted one column of labels beside it, got none"),
    ],
)
def test_votes_that_cannot_be_learned_from_are_an_error(
    vote: str | None, changes: dict[str, Any], error: str, tmp_path: Path
) -> None:
    source = write_rows(tmp_path / "rows.jsonl", [{**row, "A": vote} for row in mixed_rows()])
    with pytest.raises(InputError, match=error):
        prepare(settings(data__vote_columns="A", **changes), source)


def test_a_voter_that_says_nothing_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{**row, "A": "u", "B": None} for row in mixed_rows()]
    prepare(settings(data__vote_columns="A,B"), write_rows(tmp_path / "rows.jsonl", rows))
    assert "column 'B' of votes says nothing" in caplog.text and "'A'" not in caplog.text


def test_more_unlabelled_rows_come_without_labels(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", mixed_rows())
    extra = [{"text": f"é{i}", "label": "zz", "id": f"e{i}"} for i in range(8)]
    more = write_rows(tmp_path / "more.jsonl", extra)
    alone = prepare(settings(), source)
    prepared = prepare(settings(), source, unlabelled_source=more)
    assert prepared.labels.names == ("u", "v", "w")
    assert prepared.split == alone.split
    added = prepared.unlabelled.take(np.arange(len(alone.unlabelled), len(prepared.unlabelled)))
    assert texts(prepared, added) == [row["text"] for row in extra]  # é is in the vocabulary
    assert (prepared.unlabelled.y == -1).all() and not prepared.unlabelled.candidates


def test_equal_rows_are_on_one_side_of_the_split(tmp_path: Path) -> None:
    """Whatever their labels, and in the file of unlabelled rows too."""
    generator = random.Random(1)
    rows: list[dict[str, Any]] = [
        {"text": f"a{i}", "label": generator.choice("uv")} for i in range(40)
    ]
    rows += (
        rows + [{"text": f"a{i}"} for i in range(60)] * 2 + [{"text": f"b{i}"} for i in range(99)]
    )
    rows += [{"text": f"a{i}", "label": ["u", "v"]} for i in range(9)]
    rows.append({"text": "a0", "label": {"u": "v", "v": "u"}[rows[0]["label"]]})
    source = write_rows(tmp_path / "rows.jsonl", rows)
    more = write_rows(
        tmp_path / "more.jsonl", [{"text": f"{c}{i}"} for c in "abc" for i in range(60)]
    )
    prepared = prepare(settings(data__num_labels=60), source, unlabelled_source=more)
    train = {
        text
        for rows in (prepared.labelled, prepared.unlabelled)
        for text in prepared.sequences(rows)
    }
    dev = prepared.sequences(prepared.dev)
    unlabelled_dev = dev[len(prepared.labelled_dev) :]
    assert len(set(prepared.sequences(prepared.labelled_dev))) > 4 and len(unlabelled_dev) > 1
    assert not train & set(dev)
    everything = {row["text"] for row in rows} | {f"c{i}" for i in range(60)}
    assert train | set(dev) == everything  # no sequence is lost
    num_rows = len(prepared.labelled) + len(prepared.unlabelled) + len(dev)
    assert prepared.warnings == (
        "150 of 309 rows have the sequence of an earlier row: equal ones are all trained on, or "
        "all held out",
        "3 labelled rows have the sequence of another row and another label",
        "31 rows of --unlabelled are equal to labelled rows: each is one more row of p(x); leave "
        "them out if they are the same rows",
        f"{len(rows) + 180 - num_rows} rows are equal to held-out rows: left out of training",
    )


def test_labelled_rows_that_are_given_again_are_told_of_and_stay(tmp_path: Path) -> None:
    """As in `--data few.jsonl --unlabelled everything.jsonl`; copies of held-out rows go."""
    rows = [{"text": f"{label}{i}", "label": label} for label in "uv" for i in range(10)]
    few = write_rows(tmp_path / "few.jsonl", rows)
    everything = write_rows(tmp_path / "all.jsonl", [*rows, *({"text": f"w{i}"} for i in range(9))])
    found = prepare(settings(data__dev_fraction=0.2), few, unlabelled_source=everything)
    assert (len(found.labelled), len(found.labelled_dev)) == (16, 4)
    held_out = len(found.dev) - 4
    assert len(found.unlabelled) + held_out == 16 + 9
    assert found.warnings == (
        "16 rows of --unlabelled are equal to labelled rows: each is one more row of p(x); leave "
        "them out if they are the same rows",
        "4 rows are equal to held-out rows: left out of training",
    )


def test_labels_that_are_not_read_may_be_absent(tmp_path: Path) -> None:
    source = write_rows(
        tmp_path / "rows.jsonl", [{"text": "ab", "kind": label} for label in "uuvv"]
    )
    bare = write_rows(tmp_path / "bare.jsonl", [{"text": "ab"}] * 3)
    config = settings(data__label_column="kind", data__dev_fraction=0.0)
    prepared = prepare(config, source, unlabelled_source=bare)
    assert len(prepared.unlabelled) == 3
    assert len(read_like(bare, config, prepared.vocabulary, None)) == 3
    assert len(read_sequences(bare, config)) == 3
    with pytest.raises(InputError, match="kind"):
        read_like(bare, config, prepared.vocabulary, prepared.labels)


def test_more_rows_of_the_other_kind_are_an_error(tmp_path: Path) -> None:
    text = write_rows(tmp_path / "text.jsonl", [{"text": "ab", "label": "u"}] * 4)
    tokens = write_rows(tmp_path / "tokens.jsonl", [{"tokens": ["a", "b"], "label": "u"}] * 4)
    for source, more, wanted in ((text, tokens, "text"), (tokens, text, "tokens")):
        with pytest.raises(
            InputError, match=rf"{more.name}: wanted {wanted} as in .*{source.name}"
        ):
            prepare(settings(), source, unlabelled_source=more)


def test_settings_reach_the_vocabulary_and_the_rows(tmp_path: Path) -> None:
    rows = [{"text": "aaab", "label": "u"}, {"text": "aaac", "label": "v"}, {"text": "aad"}] * 2
    source = write_rows(tmp_path / "rows.jsonl", rows)
    prepared = prepare(settings(data__min_count=4, data__max_length=4), source)
    assert len(prepared.vocabulary) == 4 + 1  # a
    assert prepared.labelled.num_truncated + prepared.dev.num_truncated == 4
    assert prepared.unlabelled.row(0)[-2:].tolist() == [UNK, EOS]
    small = prepare(settings(data__vocabulary_size=6), source)
    assert len(small.vocabulary) == 6
    pieces = prepare(settings(data__vocabulary="sentencepiece"), source)
    assert pieces.vocabulary.kind == "sentencepiece"


def test_no_labels_at_all(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", [{"text": f"ab{i}"} for i in range(60)])
    prepared = prepare(settings(data__unlabelled_only=True), source)
    assert prepared.labels.names == () and len(prepared.labelled) == 0
    assert len(prepared.unlabelled) == 59 and len(prepared.dev) == 1

    with pytest.raises(InputError, match=r"rows\.jsonl: wanted a label .*got none$"):
        prepare(settings(), source)


def test_labels_are_not_read_if_only_unlabelled_rows_are_meant(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", mixed_rows(6, 6))
    prepared = prepare(settings(data__unlabelled_only=True), source)
    assert prepared.labels.names == () and len(prepared.unlabelled) == 12


@pytest.mark.parametrize("column", ["intent", "target", "sentiment"])
def test_no_labels_but_a_column_that_may_hold_them(tmp_path: Path, column: str) -> None:
    """An error that names it, when training and when a file is evaluated."""
    rows = [{"text": f"a{i}", "label": None, column: "uvw"[i % 3], "n": i} for i in range(9)]
    source = write_rows(tmp_path / "rows.jsonl", rows)
    wanted = rf"rows\.jsonl: wanted a label .*--label-column NAME.* '{column}' \('u', 'v', 'w'\)$"
    with pytest.raises(InputError, match=wanted):
        prepare(settings(), source)
    config = settings(data__label_column=column)
    prepared = prepare(config, source)
    assert prepared.labels.names == ("u", "v", "w")
    train = write_rows(tmp_path / "train.jsonl", mixed_rows())
    with pytest.raises(InputError, match=wanted):
        warn_of_test_rows_seen(settings(), train, source)
    with pytest.raises(InputError, match=wanted):
        read_like(source, settings(), prepared.vocabulary, prepared.labels)
    assert len(read_like(source, config, prepared.vocabulary, prepared.labels)) == 9
    alone = settings(data__unlabelled_only=True)
    assert (read_like(source, alone, prepared.vocabulary, prepared.labels).y == -1).all()


@pytest.mark.parametrize("values", [("0", "1"), ("False", "True")])
def test_one_hot_labels_are_an_error_that_says_what_to_do(
    tmp_path: Path, values: tuple[str, str]
) -> None:
    lines = [f"row {i},{values[i % 2 == 0]},{values[i % 2]}" for i in range(20)]
    (tmp_path / "a.csv").write_text("\n".join(["text,good,bad", *lines, ""]))
    wanted = r"if 'good', 'bad' say .* table\['label'\] = table\[\['good', 'bad'\]\].*idxmax"
    with pytest.raises(InputError, match=wanted):
        prepare(Config(), tmp_path / "a.csv")
