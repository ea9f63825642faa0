"""Which rows are counted, with which weights, and when."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from seqssvae.config import Config
from seqssvae.data.batches import collate
from seqssvae.data.encoded import EncodedRows
from seqssvae.data.labels import Labels
from seqssvae.data.prepare import Prepared
from seqssvae.inference.classify import classify
from seqssvae.model.build import build
from seqssvae.model.ssvae import SSVAE
from seqssvae.nn.ngram_counts import NGramCounts
from seqssvae.training import counting
from seqssvae.training.counting import Counting
from seqssvae.training.trainer import Trainer
from tests.support.rows import batch_of, make_rows, random_rows
from tests.support.training import config, prepared


def make(data: Prepared, settings: Config) -> tuple[SSVAE, Counting]:
    """A model whose q(y | x) is far from uniform."""
    model = build(settings, data).eval()
    assert model.head_y is not None
    for parameter in model.head_y.parameters():
        torch.nn.init.normal_(parameter)
    return model, Counting(settings, model, data)


def q(model: SSVAE, rows: EncodedRows) -> Any:
    with torch.no_grad():
        return classify(model, collate(rows, range(len(rows)), num_classes=0)).numpy()


def assert_counts_are_of(model: SSVAE, rows: EncodedRows, weights: Any) -> None:
    """The tables are those of these rows with these weights."""
    lm = model.decoder.ngrams
    assert lm is not None
    index = NGramCounts(rows, vocabulary_size=lm.vocabulary_size, order=lm.order)
    assert torch.equal(lm.keys, torch.cat(index.keys))
    want = index.count(np.asarray(weights, np.float32)).to(lm.counts)
    torch.testing.assert_close(lm.counts, want, rtol=1e-5, atol=1e-6)


def test_labelled_rows_count_for_their_labels_and_others_by_q() -> None:
    data, settings = prepared(), config()
    model, one = make(data, settings)
    one.count()
    by_q = q(model, data.unlabelled)
    assert by_q.std() > 0.05
    weights = np.concatenate([np.eye(2)[data.labelled.y], by_q])
    both = EncodedRows.concatenate([data.labelled, data.unlabelled])
    assert_counts_are_of(model, both, weights)
    np.testing.assert_allclose(one.of_rows(np.array([3, 0]), are_labelled=True), np.eye(2)[[1, 0]])
    np.testing.assert_allclose(
        one.of_rows(np.array([7, 7, 2]), are_labelled=False), by_q[[7, 7, 2]], rtol=1e-5
    )


def test_possible_labels_share_a_row_by_q() -> None:
    """Also where q(y | x) gives each of them nothing, and where only one is possible."""
    names = dataclasses.replace(prepared().labels, names=("a", "b", "c"))
    candidates = {1: (0, 2), 2: (0, 1), 3: (1,)}
    labelled = make_rows([[4, 5], [4, 6, 4], [5], [6, 6, 4]], [2, -1, -1, -1], candidates)
    data = dataclasses.replace(prepared(), labels=names, labelled=labelled)
    model, one = make(data, config())
    one.count()
    by_q = q(model, labelled)
    want = [
        [0, 0, 1],
        [by_q[1, 0], 0, by_q[1, 2]] / (by_q[1, 0] + by_q[1, 2]),
        [by_q[2, 0], by_q[2, 1], 0] / (by_q[2, 0] + by_q[2, 1]),
        [0, 1, 0],
    ]
    np.testing.assert_allclose(one.of_rows(np.arange(4), are_labelled=True), want, rtol=1e-5)
    assert model.head_y is not None
    bias = next(p for p in model.head_y.parameters() if p.shape == (3,))
    torch.nn.init.constant_(bias, -9e3)
    bias.data[2] = 0
    assert q(model, labelled)[2].tolist() == [0, 0, 1]
    one.count()
    np.testing.assert_allclose(one.of_rows(np.array([2]), are_labelled=True).sum(1), 1)


def test_without_classes_each_row_counts_once() -> None:
    data = dataclasses.replace(prepared(), labels=dataclasses.replace(prepared().labels, names=()))
    model = build(config(), data)
    one = Counting(config(), model, data)
    one.count()
    both = EncodedRows.concatenate([data.labelled, data.unlabelled])
    assert_counts_are_of(model, both, np.ones((24, 1)))


@pytest.mark.parametrize("decoder_ngrams", [0, 2])
def test_the_prior_is_learned_from_labels_and_q(decoder_ngrams: int) -> None:
    """Also where the decoder has no n-grams; each class has one row more."""
    data = prepared()
    settings = config(model__decoder_ngrams=decoder_ngrams, training__teacher=True)
    model, one = make(data, settings)
    one.count()
    rows = np.bincount(data.labelled.y, minlength=2) + q(model, data.unlabelled).sum(0) + 1
    assert abs(rows[0] - rows[1]) > 1
    torch.testing.assert_close(model.prior_logits.exp(), torch.tensor(rows / rows.sum()))


def test_the_prior_of_several_columns_is_the_product_of_theirs() -> None:
    labels = Labels.of_columns({"a": ["0", "1"], "b": ["0", "1", "2"]})
    data = dataclasses.replace(prepared(), labels=labels, labelled=random_rows([0, 4, 5, 2], 0))
    model, one = make(data, config(training__teacher=True))
    one.count()
    weights = np.concatenate([np.eye(6)[data.labelled.y], q(model, data.unlabelled)])
    of_both = weights.sum(0).reshape(2, 3)
    shares = np.outer(of_both.sum(1) + 1, of_both.sum(0) + 1).ravel()
    torch.testing.assert_close(model.prior_logits.exp(), torch.tensor(shares / shares.sum()))


@pytest.mark.parametrize(
    ("prior", "teacher"),
    [("uniform", True), ("labelled", True), ((0.9, 0.1), True), ("learned", False)],
)
def test_another_prior_stays_as_it_is(prior: str | tuple[float, ...], teacher: bool) -> None:
    model, one = make(prepared(), config(model__prior=prior, training__teacher=teacher))
    before = model.prior_logits.clone()
    one.count()
    assert torch.equal(model.prior_logits, before)


def test_of_a_large_corpus_a_random_part_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that are not counted have no weight, so that nothing is left out for them."""
    data, settings = prepared(), config()
    monkeypatch.setattr(counting, "MAX_SYMBOLS", 30)
    model, one = make(data, settings)
    one.count()
    weights = one.of_rows(np.arange(20), are_labelled=False)
    chosen = np.flatnonzero(weights.any(1))
    lengths = data.unlabelled.lengths
    assert 4 < len(chosen) < 15 and lengths[chosen].sum() <= 30
    assert lengths[chosen].sum() + lengths.max() >= 30  # no further row would fit
    part = data.unlabelled.take(chosen)
    np.testing.assert_allclose(weights[chosen], q(model, part), rtol=1e-5)
    rows = EncodedRows.concatenate([data.labelled, part])
    assert_counts_are_of(model, rows, np.concatenate([np.eye(2)[data.labelled.y], weights[chosen]]))
    other = make(data, config(training__seed=1))[1]
    other.count()
    assert (other.of_rows(np.arange(20), are_labelled=False).any(1) != weights.any(1)).any()


def test_batches_say_with_which_weights_their_rows_are_counted() -> None:
    data, settings = prepared(), config()
    trainer = Trainer(settings, build(settings, data), data)
    assert trainer.counting is not None
    trainer.counting.count()
    batch, ids = batch_of(trainer.stepper.streams, 2), trainer.stepper.streams.ids(2)
    rows = [*data.labelled.ids, *data.unlabelled.ids]
    want = trainer.counting.weights[[rows.index(id) for id in ids]]
    assert batch.counted is not None and len(set(ids)) > 5
    np.testing.assert_array_equal(batch.counted.numpy(), want)


@pytest.mark.parametrize(
    ("num_unlabelled", "evaluate_every", "want"), [(20, 2, 4), (20, 6, 6), (0, 3, 3), (21, 1, 5)]
)
def test_rows_are_counted_anew_after_each_pass(
    num_unlabelled: int, evaluate_every: int, want: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not more often than they are evaluated; batches have five unlabelled rows."""
    data = dataclasses.replace(prepared(), unlabelled=random_rows([-1] * num_unlabelled, 1))
    settings = config(training__evaluate_every=evaluate_every, training__num_steps=13)
    trainer = Trainer(settings, build(settings, data), data)
    plain, steps = Counting.count, []

    def count(one: Counting) -> None:
        steps.append(trainer.progress.step)
        plain(one)

    monkeypatch.setattr(Counting, "count", count)
    trainer.train()
    assert steps == list(range(0, 14, want))


def test_counts_follow_q() -> None:
    """An EM step: what q(y | x) learns changes the next counts."""
    data = prepared()
    model, one = make(data, config())
    one.count()
    before = one.weights.copy()
    state = one.state()
    assert model.head_y is not None
    for parameter in model.head_y.parameters():
        torch.nn.init.normal_(parameter)
    one.count()
    assert np.abs(before - one.weights).max() > 0.05
    torch.testing.assert_close(state["weights"], torch.from_numpy(before), rtol=0, atol=0)
    again = Counting(config(), model, data)
    again.restore(one.state())
    np.testing.assert_array_equal(again.of_rows(np.arange(20), are_labelled=False), one.weights[4:])
