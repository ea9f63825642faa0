"""Label trees, from a file to an answer."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import seqssvae
from seqssvae.cli import main
from seqssvae.data.batches import collate
from seqssvae.data.labels import Labels
from seqssvae.data.prepare import prepare, steps_of_epoch, warn_of_test_rows_seen
from seqssvae.estimators import FusedEnum
from seqssvae.model.build import build
from seqssvae.storage.label_tree import LabelTree
from tests.support.factories import brute_force_loss
from tests.support.fixtures import FixNoise
from tests.support.rows import write_rows
from tests.support.training import SETTINGS, config

EDGES = [("cat", "mammal"), ("dog", "mammal"), ("eagle", "bird"), ("owl", "bird")]
PARENTS = dict(EDGES)
LEAVES = sorted(PARENTS)
CSV = "child,parent\n" + "".join(f"{child},{parent}\n" for child, parent in EDGES)


def write(folder: Path, *, coarse_as_lists: bool = False) -> Path:
    """Rows of four alphabets: 16 with a leaf, 16 with its parent, 16 without a label."""
    random, rows = np.random.default_rng(0), list[dict[str, Any]]()
    for number in range(48):
        leaf = LEAVES[number % 4]
        label: Any = leaf if number < 16 else PARENTS[leaf] if number < 32 else None
        if coarse_as_lists and label in PARENTS.values():
            label = [one for one in LEAVES if PARENTS[one] == label]
        text = "".join(random.choice(list("abcdefgh"[2 * (number % 4) :][:2]), 9))
        rows.append({"id": f"r{number}", "text": text, "label": label})
    return write_rows(folder / f"rows-{coarse_as_lists}.jsonl", rows)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    path = tmp_path / "tree.csv"
    path.write_text(CSV)
    return path


def test_a_coarse_label_is_learned_as_the_list_of_its_leaves(
    tree: Path, tmp_path: Path, fix_noise: FixNoise
) -> None:
    """The same rows, budget and batches, whose loss is that of plain loops over the leaves."""
    files = write(tmp_path), write(tmp_path, coarse_as_lists=True)
    settings = config(data__label_tree=str(tree), data__num_labels=12)
    ours, lists = prepare(settings, files[0]), prepare(config(data__num_labels=12), files[1])
    assert ours.labels.names == lists.labels.names == tuple(LEAVES)
    assert ours.split == lists.split and len(ours.labelled_dev) + len(ours.labelled) == 12 + 16
    assert ours.labelled.candidates == lists.labelled.candidates
    assert set(ours.labelled.candidates.values()) == {(0, 1), (2, 3)}
    assert np.array_equal(ours.labelled.y, lists.labelled.y)
    coarse = list(ours.labelled.candidates)[:3]
    batch = collate(ours.labelled, [*coarse, 0, 1], num_classes=4)
    torch.set_default_dtype(torch.float64)
    model = build(config(model__decoder_ngrams=0, model__dropout=0.0), ours).eval()
    noise = torch.randn(1, model.latent_size)
    fix_noise(noise)
    loss = FusedEnum().loss(model.model, model.guide, batch)
    assert loss == pytest.approx(brute_force_loss(model, batch, noise).item())


def test_every_reader_of_labels_knows_the_tree(tree: Path, tmp_path: Path) -> None:
    settings, source = config(data__label_tree=str(tree)), write(tmp_path)
    assert steps_of_epoch(settings, source) == 16 / 5
    test = write_rows(tmp_path / "test.jsonl", [{"text": "ab", "label": "mammal"}])
    assert warn_of_test_rows_seen(settings, source, test) == 0


def test_a_run_of_the_command_line_answers_for_each_level(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the file of the tree; probabilities and accuracies are those of plain loops."""
    source, run = write(tmp_path), tmp_path / "run"
    flags = ["--data", str(source), "--label-tree", str(tree), "--test", str(source)]
    assert main(["train", *flags, "--out", str(run), *SETTINGS]) == 0
    tree.unlink()
    trained = seqssvae.load(run)
    assert trained.labels == Labels(tuple(LEAVES), tree=LabelTree(PARENTS))
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    names = {row["label"] for row in rows if row["label"] in PARENTS}
    for row in rows[1::3]:  # wrong labels of the same depth
        others = names if row["label"] in names else PARENTS.values()
        row["label"] = row["label"] and max(one for one in others if one != row["label"])
    source = write_rows(tmp_path / "wrong.jsonl", rows)
    answers = trained.classify([row["text"] for row in rows])
    right = []
    for row, answer in zip(rows, answers, strict=True):
        shares = dict.fromkeys(PARENTS.values(), 0.0)
        for leaf, share in answer["probabilities"].items():
            shares[PARENTS[leaf]] += share
        (level,) = answer["levels"]
        assert level["label"] == max(shares, key=lambda name: shares[name])
        assert level["probability"] == pytest.approx(max(shares.values()))
        assert answer["label"] in LEAVES
        if row["label"] is not None:
            right.append(level["label"] == PARENTS.get(row["label"], row["label"]))
    figures = trained.evaluate(source, likelihood_rows=1)
    (of_level,) = figures["levels"]
    assert (figures["num_labelled"], of_level["num_labelled"]) == (16, 32)
    assert 0 < of_level["accuracy"] < 1 and of_level["accuracy"] == np.mean(right)
    assert list(of_level["classes"]) == ["bird", "mammal"]
    plain = trained.evaluate(write_rows(tmp_path / "plain.jsonl", [{"text": "ab"}]))
    assert [one["accuracy"] for one in plain["levels"]] == [None]
    capsys.readouterr()
    assert main(["classify", str(run), "abab", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["predictions"]
    assert found == trained.classify(["abab"])[0]
    out = tmp_path / "out.csv"
    assert main(["classify", str(run), "abab", "--out", str(out)]) == 0
    assert '""label"": ""' in out.read_text()
    assert main(["evaluate", str(run), "--data", str(source)]) == 0
    assert "level 1: accuracy" in capsys.readouterr().out
    source = write_rows(tmp_path / "new.jsonl", [row | {"id": f"new {row['id']}"} for row in rows])
    assert main(["report", str(run), "--data", str(source)]) == 0
    page = (run / "report.html").read_text()
    row = page.partition("accuracy, level 1 of the label tree</th>")[2].partition("</tr>")[0]
    assert f"{of_level['accuracy']:.3f}<" in row and f"{of_level['macro_f1']:.3f}." in row
    assert "for bird, mammal, over the 32 rows" in row
    assert main(["generate", str(run), "--label", "bird"]) == 2
    assert "wanted a leaf of the label tree ('eagle', 'owl')" in capsys.readouterr().err
    again = ["train", "--data", str(source), "--from", str(run), "--out", str(tmp_path / "more")]
    assert main(again) == 2
    assert "wanted no label tree beside it" in capsys.readouterr().err


def test_compare_takes_a_tree(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also for test rows of which some have a label above the leaves: they are not measured."""
    source, out = str(write(tmp_path)), str(tmp_path / "out.jsonl")
    words = ["compare", "--data", source, "--test", source, "--label-tree", str(tree), *SETTINGS]
    words += ["--budgets", "12", "--draws", "1", "--arms", "nb-characters,teacher,ssvae"]
    assert main([*words, "--out", out, "--json"]) == 0
    cells = json.loads(capsys.readouterr().out.splitlines()[-1])["cells"]
    assert [cell["arm"] for cell in cells] == ["nb-characters", "teacher", "ssvae"]
    assert all(cell["accuracy"] * 16 % 1 == 0 and cell["accuracy"] > 0.9 for cell in cells[:2])


@pytest.mark.parametrize(
    ("content", "row", "flags", "error"),
    [
        ("child,parent\na,b\nb,a\n", {}, [], "tree.csv: wanted a tree of labels, got the cycle"),
        (CSV + "cat,bird\n", {}, [], "tree.csv:6: wanted one parent of 'cat', got 'mammal' and"),
        (CSV + '"cat","[""a"", ""b""]"\n', {}, [], "wanted one parent of 'cat', got a list"),
        ("child,parent\na,\n", {}, [], "tree.csv: wanted a tree of labels, got one without"),
        ("node,parent\na,b\n", {}, [], "tree.csv:1: wanted a column 'child', got 'node'"),
        ("child,up\na,b\n", {}, [], "tree.csv:1: wanted a column 'parent', got 'child', 'up'"),
        (CSV, {"label": "Mammals"}, [], "rows.jsonl:3: wanted a label of the tree ('bird', "),
        (CSV, {"label": {"mammal": 0.7, "owl": 0.3}}, [], "rows.jsonl:3: wanted a soft label of"),
        (CSV, {"v": "bird"}, ["--vote-columns", "v"], "rows.jsonl:3: column 'v': wanted a leaf"),
        (CSV, {}, ["--label-column", "label,text"], "--label-tree: wanted one column of labels"),
        (CSV, {}, ["--unlabelled-only"], "--label-tree: wanted one column of labels"),
    ],
)
def test_mistakes_are_one_line(
    content: str,
    row: dict[str, Any],
    flags: list[str],
    error: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "tree.csv").write_text(content)
    rows: list[dict[str, Any]] = [{"text": "a", "label": "cat", "v": None}]
    rows.append({"text": "b", "label": "owl"})
    source = write_rows(tmp_path / "rows.jsonl", [*rows, {"text": "c", **row}])
    command = ["train", "--data", str(source), "--label-tree", str(tmp_path / "tree.csv")]
    assert main([*command, *flags, "--out", str(tmp_path / "run")]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert error in lines[-1] and not (tmp_path / "run").exists()


def test_the_estimator_of_scikit_learn_refuses_a_tree(tree: Path) -> None:
    estimator = seqssvae.SeqSSVAEClassifier(config={"data.label_tree": str(tree)})
    with pytest.raises(seqssvae.InputError, match=r"data\.label_tree: wanted none"):
        estimator.fit(["ab", "cd"], ["cat", "dog"])
