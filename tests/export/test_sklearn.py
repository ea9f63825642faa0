"""The scikit-learn estimator."""

import logging
import pickle
import random
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import pandas
import pyarrow
import pytest
import torch
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

from seqssvae.errors import InputError
from seqssvae.export.sklearn import SeqSSVAEClassifier
from seqssvae.export.unlabelled import LabelledKFold, labelled_scorer
from seqssvae.overrides import override, to_mapping
from tests.support.training import quick_config

TINY = quick_config(
    model__dropout=0.0,
    model__encoder_word_dropout=0.0,
    model__ngram_buckets=512,
    objective__kl_warmup_steps=1,
    training__labelled_batch_size=128,
    training__teacher=False,
    training__learning_rate=0.05,
    data__max_length=128,
)
Check = Callable[[Any], None]
REFUSED = {"check_classifiers_classes": "its classes are -1 and 1; -1 means unlabelled here"}
each_check = cast(
    Callable[[Any], Any],
    parametrize_with_checks(
        [SeqSSVAEClassifier(config=TINY)], expected_failed_checks=lambda _: REFUSED
    ),
)


@each_check
def test_scikit_learn_estimator_checks(estimator: Any, check: Check) -> None:
    check(estimator)


def rows(num_classes: int = 2, num_rows: int = 40, num_labelled: int = 20) -> tuple[Any, Any]:
    """Texts whose letters depend on the class; the first ones are labelled."""
    generator = random.Random(0)
    letters = ["ab", "cd", "ef"]
    classes = [i % num_classes for i in range(num_rows)]
    texts = ["".join(generator.choices(letters[k], k=3 + i % 4)) for i, k in enumerate(classes)]
    return texts, ["uvw"[k] if i < num_labelled else None for i, k in enumerate(classes)]


def as_symbols(texts: list[str]) -> Any:
    """The same rows as a 2-D array, -1 after the end."""
    longest = max(map(len, texts))
    return np.array([[ord(c) - 97 for c in t] + [-1] * (longest - len(t)) for t in texts])


class StreamOfArrow:
    """A column that is known by its stream alone."""

    def __init__(self, column: Any) -> None:
        self.column = pyarrow.chunked_array([column])

    def __arrow_c_stream__(self, schema: object = None) -> Any:
        return self.column.__arrow_c_stream__(schema)

    def __len__(self) -> int:
        return len(self.column)


FORMS: dict[str, Callable[[list[str]], Any]] = {
    "texts": list,
    "array of texts": np.array,
    "tokens": lambda texts: [list(text) for text in texts],
    "symbols": as_symbols,
    "a table of texts": lambda texts: pandas.DataFrame({"n": range(len(texts)), "Text": texts}),
    "a table of tokens": lambda texts: pandas.DataFrame({"tokens": [[*text] for text in texts]}),
    "an Arrow table of texts": lambda texts: pyarrow.table({"text": texts}),
    "a table of symbols": lambda texts: pandas.DataFrame(as_symbols(texts)),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("missing", [None, float("nan"), -1])
def test_forms_of_rows_and_of_missing_labels(form: str, missing: Any) -> None:
    texts, y = rows()
    X = FORMS[form](texts)
    labels = [missing if label is None else label for label in y]
    fitted = SeqSSVAEClassifier(config=TINY, num_steps=12).fit(X, labels)
    assert fitted.classes_.tolist() == ["u", "v"]
    truth = np.array([*"uv"] * 20)
    assert fitted.predict(X).tolist() == truth.tolist()
    assert fitted.score(X, labels) == 1.0
    table = fitted.predict_proba(X)
    assert table.shape == (40, 2) and (table[range(40), np.arange(40) % 2] > 0.5).all()
    assert fitted.transform(X).shape == (40, 2)
    assert fitted.get_feature_names_out().tolist() == ["seqssvaeclassifier0", "seqssvaeclassifier1"]
    made = fitted.sample("v", 3, seed=1)
    kind: type = int if form.endswith("symbols") else str
    assert len(made) == 3 and all(isinstance(symbol, kind) for row in made for symbol in row)
    assert isinstance(made[0], str) == ("texts" in form)


def test_another_column_is_named_in_the_settings() -> None:
    texts, y = rows()
    table = pandas.DataFrame({"text": ["a"] * 40, "body": texts})
    config = override(TINY, {"data.text_column": "body", "training.num_steps": 12})
    fitted = SeqSSVAEClassifier(config=config).fit(table, y)
    assert fitted.score(table, y) == 1.0
    with pytest.raises(InputError, match="wanted texts as in fit, got lists of tokens"):
        fitted.predict([["a"]])
    with pytest.raises(InputError, match="wanted a column 'body'"):
        fitted.predict(table[["text"]])


def test_verbose_shows_the_log(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On stderr, also where no program has set up logging; without it nothing is written."""
    texts, y = rows()
    SeqSSVAEClassifier(config=TINY, num_steps=1).fit(texts, y)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(logging.getLogger("seqssvae"), "propagate", False)  # to pytest's log
    SeqSSVAEClassifier(config=TINY, num_steps=1, verbose=True).fit(texts, y)
    assert "step 1 of 1: accuracy" in capsys.readouterr().err
    SeqSSVAEClassifier(config=TINY, num_steps=1).fit(texts, y)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "form",
    [
        lambda texts: np.array(texts)[:, None],
        lambda texts: pandas.DataFrame({"text": texts}, index=range(5, 5 + len(texts))),
        lambda texts: pandas.Series(texts, dtype="category"),
        pyarrow.array,
        lambda texts: pyarrow.chunked_array([texts[:5], texts[5:]]),
        lambda texts: pyarrow.table({"text": texts}),
        lambda texts: StreamOfArrow(pyarrow.array(texts)),
        lambda texts: (text for text in texts),
    ],
)
def test_columns_of_texts_of_other_packages(form: Callable[[list[str]], Any]) -> None:
    """A column of polars is known by the stream that it has in common with others."""
    texts, y = rows()
    plain = SeqSSVAEClassifier(config=TINY).fit(texts, y)
    fitted = SeqSSVAEClassifier(config=TINY).fit(form(texts), y)
    for one in (plain, fitted):
        np.testing.assert_array_equal(one.predict(form(texts)), plain.predict(texts))
    if not isinstance(form(texts), Iterator):
        assert fitted.score(form(texts), y) == plain.score(texts, y)
    assert len(plain.model_.classify(form(texts))) == len(texts)


def test_no_rows_are_no_predictions() -> None:
    texts, y = rows()
    for X in (texts, [list(text) for text in texts]):
        fitted = SeqSSVAEClassifier(config=TINY).fit(X, y)
        assert fitted.predict([]).shape == (0,) and fitted.predict_proba([]).shape == (0, 2)
        assert fitted.transform([]).shape == (0, 2)
    with pytest.raises(InputError, match="X: wanted a list of texts, got a value of the type None"):
        fitted.predict(None)


def test_unlabelled_rows_are_used() -> None:
    """The vocabulary and the training rows include unlabelled rows."""
    texts, y = rows()
    first = SeqSSVAEClassifier(config=to_mapping(TINY)).fit(texts[:20], y[:20])
    second = SeqSSVAEClassifier(config=TINY).fit([*texts[:20], "xyz"], [*y[:20], None])
    third = SeqSSVAEClassifier(config=TINY, unlabelled=["xyz"]).fit(texts[:20], y[:20])
    assert len(second.model_.vocabulary) == len(first.model_.vocabulary) + 3
    probabilities = [one.predict_proba(texts) for one in (first, second, third)]
    np.testing.assert_array_equal(probabilities[1], probabilities[2])
    assert np.abs(probabilities[0] - probabilities[1]).max() > 1e-6


def test_parameters_override_settings() -> None:
    texts, y = rows()
    fitted = SeqSSVAEClassifier(
        num_steps=2, latent_size=3, max_length=5, estimator="sum-and-sample", random_state=5,
        dev_fraction=0.5, teacher=False, vocabulary="characters", max_minutes=1, config=TINY,
    ).fit(texts, y)  # fmt: skip
    config = fitted.model_.config
    assert (config.training.num_steps, config.model.latent_size) == (2, 3)
    assert config.data.max_length == 5
    assert config.estimator.name == "sum-and-sample" and config.model.encoder_size == 4
    again = clone(fitted).fit(texts, y)
    np.testing.assert_array_equal(again.predict_proba(texts), fitted.predict_proba(texts))
    other = clone(fitted).set_params(random_state=6).fit(texts, y)
    assert np.abs(other.predict_proba(texts) - fitted.predict_proba(texts)).max() > 1e-6
    short = SeqSSVAEClassifier(num_steps=2)._config()
    assert short.objective.kl_warmup_steps == 0  # the default one is longer than training
    with pytest.raises(InputError, match=r"^SeqSSVAEClassifier: estimator\.name: .*, got 'x'"):
        SeqSSVAEClassifier(estimator="x").fit(texts, y)


def test_pickle_keeps_the_model_and_fit_keeps_the_random_state() -> None:
    texts, y = rows()
    before = torch.get_rng_state()
    fitted = SeqSSVAEClassifier(config=TINY).fit(texts, y)
    assert torch.equal(torch.get_rng_state(), before)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(texts), fitted.predict_proba(texts))
    assert again.sample("u", 2, seed=3) == fitted.sample("u", 2, seed=3)
    with pytest.raises(NotFittedError):
        clone(fitted).predict(texts)


def test_the_model_says_what_it_learned() -> None:
    """For its card: how many labels, and whether those held out were among them in the end."""
    texts, y = [("ab", "cd")[i % 2] * (1 + i) for i in range(30)], [0, 1] * 15
    config = override(TINY, {"training.teacher": True, "training.num_steps": 1})
    summary = SeqSSVAEClassifier(config=config).fit(texts, y).model_.manifest["summary"]
    assert summary["num_labelled"] + summary["dev"]["num_labelled"] == 30
    assert summary["dev_labels_learned"] in (False, True)


def test_sets_of_labels() -> None:
    """Those of the model, in the order of `classes_`."""
    texts, y = rows(num_labelled=40)
    fitted = SeqSSVAEClassifier(config=TINY, mode="q", dev_fraction=0.4).fit(texts, y)
    found = fitted.predict_set(texts, coverage=0.8)
    names = fitted.model_.labels.names
    for inside, answer in zip(
        found, fitted.model_.classify(texts, mode="q", coverage=0.8), strict=True
    ):
        assert {names[k] for k in inside.nonzero()[0]} == set(answer["set"])
    assert found.shape == (40, 2) and found.any(1).all()
    with pytest.raises(InputError, match="coverage: wanted a number"):
        fitted.predict_set(texts, coverage=90)


def test_scorer_leaves_unlabelled_rows_out() -> None:
    texts, y = rows()
    fitted = SeqSSVAEClassifier(config=TINY, num_steps=12).fit(texts, y)
    wrong = ["v", *y[1:]]
    for name, wanted in (("accuracy", 19 / 20), ("neg_log_loss", None), ("f1_macro", None)):
        score = labelled_scorer(name)(fitted, texts, wrong)
        assert score == labelled_scorer(name)(fitted, texts[:20], wrong[:20])
        assert wanted is None or score == wanted
    assert fitted.score(texts, wrong) == 19 / 20
    weights = np.arange(40) == 0
    assert fitted.score(texts, wrong, sample_weight=weights) == 0


@pytest.mark.parametrize("word", [-1, np.nan, "NA"])
def test_a_word_for_no_label_is_no_class(word: Any, caplog: pytest.LogCaptureFixture) -> None:
    """As NumPy makes strings of -1 and NaN; it is said, and so are classes of a suspicious name."""
    texts, labels = ["ab" * 4, "ab" * 5, "cd" * 4, "cd" * 5, "ef"], [*"uu", *["unknown"] * 2, word]
    config = override(TINY, {"training.num_steps": 1, "data.dev_fraction": 0.0})
    model = SeqSSVAEClassifier(config=config).fit(texts, np.array(labels))
    assert model.classes_.tolist() == ["u", "unknown"]
    assert f"1 rows have the label '{word}': unlabelled" in caplog.text
    assert "the label 'unknown' is taken as a class" in caplog.text
    assert model.score(texts, np.array(labels)) in (0, 0.25, 0.5, 0.75, 1)
    if word == "NA":
        given = override(config, {"data.unlabelled_values": "[]"})
        known = SeqSSVAEClassifier(config=given).fit(texts, np.array(labels))
        assert known.classes_.tolist() == ["NA", "u", "unknown"]


def test_whole_numbers_are_classes_of_files() -> None:
    """Integers beside NaN are floats; predictions are too, and the model's classes are not."""
    config = override(TINY, {"training.num_steps": 1, "data.dev_fraction": 0.0})
    model = SeqSSVAEClassifier(config=config).fit(["ab", "cd", "ab"], [0.0, 1.0, float("nan")])
    assert model.classes_.tolist() == [0.0, 1.0]
    assert model.model_.labels.names == ("0", "1")
    assert len(model.sample(1.0)) == 1


def test_pipeline_and_grid_search() -> None:
    texts, y = rows()
    lower = FunctionTransformer(lambda X: [text.lower() for text in X])
    pipeline = make_pipeline(lower, SeqSSVAEClassifier(config=TINY, num_steps=8))
    search = GridSearchCV(
        pipeline,
        {"seqssvaeclassifier__latent_size": [0, 2]},
        cv=LabelledKFold(2),
        scoring=labelled_scorer("accuracy"),
    )
    upper = [text.upper() for text in texts]
    search.fit(upper, y)
    assert search.best_score_ > 0.9 and len(search.cv_results_["params"]) == 2
    assert search.predict(upper[:2]).tolist() == ["u", "v"]
    scores = cross_val_score(pipeline, upper, y, cv=LabelledKFold(2))
    assert scores.shape == (2,) and scores.mean() > 0.9


def test_calibration() -> None:
    """Unlabelled rows as a parameter; or as -1, which is then a class of probability 0."""
    texts, y = rows()
    tiny = SeqSSVAEClassifier(config=TINY, num_steps=8)
    apart = clone(tiny).set_params(unlabelled=texts[20:])
    calibrated = CalibratedClassifierCV(apart, cv=2).fit(texts[:20], y[:20])
    assert calibrated.predict(texts).tolist() == [*"uv"] * 20
    texts, y = rows(3, num_rows=45, num_labelled=30)
    numbers = np.array([-1 if label is None else "uvw".index(label) for label in y])
    folds = LabelledKFold(2, shuffle=True, random_state=0)
    inside = CalibratedClassifierCV(tiny, cv=folds).fit(texts, numbers)
    table = inside.predict_proba(texts)
    assert inside.classes_.tolist() == [-1, 0, 1, 2] and (table[:, 0] == 0).all()
    assert (inside.predict(texts) == np.arange(45) % 3).mean() > 0.9


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (["ab", "cd"], [None, None], "y: wanted a label for at least one row, got none"),
        ("abcd", [0, 1, 0, 1], "X: wanted a list of texts, got one text"),
        (
            pandas.DataFrame({"a": ["ab"], "b": ["cd"]}),
            [0],
            "wanted a column 'text' or 'tokens' .*, got 'a', 'b'",
        ),
        ({"a": 1}, [0], "X: wanted a list of texts, got a value of the type dict"),
        ([], [], "X: wanted a row, got none"),
        (["ab", ""], ["u", "v"], "X:2: wanted a text, got an empty one"),
        ([["a"], ["b", 0.5]], ["u", "v"], "X:2: .*the number 0.5 as token 2"),
        (np.array([[0, 1], [2, 0.5]]), [0, 1], "X:2: wanted integers, got 0.5 in column 1"),
        (np.array([[0, 1], [-1, 2]]), [0, 1], "X:2: wanted symbols from 0, and -1 only"),
        (np.array([[0, 1], [2, -3]]), [0, 1], "X:2: wanted symbols from 0, and -1 only"),
        (["ab", "cd"], [0.25, 0.5], "Unknown label type"),
        (
            ["ab", "cd"],
            ["u", {"u": 0.3, "v": 0.7}],
            "y: wanted one label of each row, got a soft label in row 2, from which seqssvae.fit",
        ),
        (["ab", "cd"], pandas.Series([["u", "v"], "v"]), "got a list of labels in row 1, from"),
        (["ab", "cd"], None, "requires y"),
    ],
)
def test_invalid_input(X: Any, y: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SeqSSVAEClassifier(config=TINY).fit(X, y)


def test_invalid_input_after_fit() -> None:
    texts, y = rows()
    fitted = SeqSSVAEClassifier(config=TINY).fit(texts, y)
    with pytest.raises(InputError, match="X: wanted texts as in fit, got lists of tokens"):
        fitted.predict([["a"]])
    with pytest.raises(InputError, match=r"label: wanted a known label \('u', 'v'\), got 'x'"):
        fitted.sample("x")
