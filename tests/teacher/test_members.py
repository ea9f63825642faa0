"""Each member of a pool on its own."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB

from seqssvae.teacher.members import BayesMember, LinearMember, Member, NGramMember, list_members
from seqssvae.teacher.ngram_models import ClassNGrams, GramIndex
from seqssvae.teacher.student import weigh_counts
from seqssvae.teacher.views import Material, Splitter, Views

RANDOM = np.random.default_rng(0)
Y = np.arange(40) % 3
WORDS = ["red blue sea sky wet", "oak elm fir ash yew", "cat dog cow pig hen"]


def make_sentences(y: np.ndarray[tuple[int, ...], np.dtype[np.int64]], seed: int) -> list[str]:
    """Four words of a class and one of any, in random order."""
    random = np.random.default_rng(seed)
    rows = []
    for of_class in y:
        words = [*random.choice(WORDS[of_class].split(), 4)]
        words.append(random.choice(" ".join(WORDS).split()))
        rows.append(" ".join(random.permutation(words)))
    return rows


SPLITTER = Splitter(make_sentences(Y, 0))
MEMBERS = list_members(3, has_characters=True, has_long_characters=True)
LABELLED = np.arange(9)


@pytest.fixture
def material() -> Material:
    return Material(SPLITTER.views(make_sentences(Y, 0)), 3)


@pytest.fixture
def others() -> Views:
    return SPLITTER.views(make_sentences(Y, 1))


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.name)
def test_a_member_finds_the_classes(member: Member, material: Material, others: Views) -> None:
    fitted = member.fit(material, LABELLED, Y[LABELLED], 3, 5)
    fewer = member.fit(material, LABELLED, Y[LABELLED], 3, 0)  # no step of EM
    assert np.allclose(fitted.own_scores, fewer.own_scores) != member.guesses
    assert fitted.own_scores.shape == (40, 3)
    found = fitted.score(others)
    assert found.shape == (40, 3)
    assert np.isfinite(found).all() and np.isfinite(fitted.own_scores).all()
    if not member.name.startswith("places") and member.name != "regression on places":
        assert (found.argmax(1) == Y).mean() > 0.8
        assert (fitted.own_scores[9:].argmax(1) == Y[9:]).mean() > 0.8
    assert fitted.score(others.take(np.zeros(0, np.int64))).shape == (0, 3)


def test_members_of_places_find_classes_that_differ_by_places_alone() -> None:
    y = np.arange(60) % 2
    rows = [[*(["a", "b", "b"] if of_class else ["b", "b", "a"])] for of_class in y]
    splitter = Splitter(rows)
    material = Material(splitter.views(rows), 4)
    members = list_members(4, has_characters=False, has_long_characters=False)
    for member in members:
        if "places" in member.name:
            fitted = member.fit(material, np.arange(4), y[:4], 2, 5)
            assert (fitted.own_scores.argmax(1) == y).all()
            assert (fitted.score(material.views).argmax(1) == y).all()


@pytest.mark.parametrize("view", ["main", "characters"])
def test_an_ngram_member_is_the_ngram_model(view: str, material: Material, others: Views) -> None:
    member = NGramMember("", view, 2, (3.0, 10.0), 0.5, 0.05)
    fitted = member.fit(material, LABELLED, Y[LABELLED], 3, 4)
    rows = material.views.by_name[view]
    index = GramIndex(rows, vocabulary_size=rows.vocabulary_size, order=2)
    model = ClassNGrams(index, order=2, pseudo_counts=(3.0, 10.0), share=0.5)
    expected = model.fit(LABELLED, Y[LABELLED], 3, unlabelled_weight=0.05, num_steps=4)
    np.testing.assert_allclose(fitted.own_scores, expected, atol=1e-4)
    np.testing.assert_allclose(
        fitted.score(others), model.evidence(others.by_name[view]), atol=1e-4
    )


@pytest.mark.parametrize("is_reduced", [False, True])
def test_a_linear_member_is_scikit_learns_regression(
    is_reduced: bool, material: Material, others: Views
) -> None:
    member = LinearMember("", "characters", "long", is_reduced)
    fitted = member.fit(material, LABELLED, Y[LABELLED], 3, 0)
    bag = material.bag("characters", "long")
    features = bag.weighted
    other = weigh_counts(bag.select(others.counts("characters", "long")), bag.idf)
    if is_reduced:
        features, other = bag.reduced(), bag.reduce(other)
    model = LogisticRegression(C=10, tol=1e-6, max_iter=1000).fit(features[LABELLED], Y[LABELLED])
    for found, rows in ((fitted.own_scores, features), (fitted.score(others), other)):
        centred = found - found.mean(1, keepdims=True)
        np.testing.assert_allclose(centred, model.decision_function(rows), atol=0.02)


def test_a_bayes_member_without_steps_is_scikit_learns(material: Material, others: Views) -> None:
    fitted = BayesMember("", "main", "pairs").fit(material, LABELLED, Y[LABELLED], 3, 0)
    bag = material.bag("main", "pairs")
    model = MultinomialNB(alpha=0.1, fit_prior=False).fit(bag.counts[LABELLED], Y[LABELLED])
    found = fitted.score(others)
    counts = bag.select(others.counts("main", "pairs"))
    expected = counts @ model.feature_log_prob_.T
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_a_bayes_member_steps_as_scikit_learn_with_weights_does(material: Material) -> None:
    labelled = np.array([0, 3, 6, 9, 12, 1, 2])  # of class 0 but for the last two
    free = np.setdiff1d(np.arange(40), labelled)
    fitted = BayesMember("", "main", "pairs").fit(material, labelled, Y[labelled], 3, 1)
    counts = material.bag("main", "pairs").counts
    first = MultinomialNB(alpha=0.1).fit(counts[labelled], Y[labelled])
    # the prior of the E-step is that of the labelled rows' classes, each with one row more
    scores = counts[free] @ first.feature_log_prob_.T + np.log([6, 2, 2])
    guesses = np.exp(scores - scores.max(1, keepdims=True))
    guesses /= guesses.sum(1, keepdims=True)
    second = MultinomialNB(alpha=0.1).fit(
        counts[np.concatenate((labelled, np.repeat(free, 3)))],
        np.concatenate((Y[labelled], np.tile([0, 1, 2], len(free)))),
        sample_weight=np.concatenate((np.ones(7), 0.1 * guesses.ravel())),
    )
    expected = counts @ second.feature_log_prob_.T
    np.testing.assert_allclose(fitted.own_scores, expected, rtol=1e-4)


@pytest.mark.parametrize("has_characters", [False, True])
@pytest.mark.parametrize("has_long", [False, True])
def test_members_differ_and_read_the_views_there_are(has_characters: bool, has_long: bool) -> None:
    members = list_members(
        3, has_characters=has_characters, has_long_characters=has_characters and has_long
    )
    assert len({member.name for member in members}) == len(members)
    views = {member.view for member in members}
    assert views == ({"main", "characters"} if has_characters else {"main"})
    of_characters = [m for m in members if isinstance(m, NGramMember) and m.view == "characters"]
    assert bool(of_characters) == (has_characters and has_long)
