"""Are votes of keyword rules and unlabelled rows worth more together than either alone?

    python experiments/weak.py FOLDER --labels 20 --draws 3

FOLDER has `train` and `test` files of English sentences with two labels, `neg` and `pos`, as SST-2.
Three rules vote for a label by words, or say nothing; their words were written down before any test
row was read. Five arms: the majority of the votes; logistic regression on TF-IDF of words of the
labels alone; the same on labels and on the votes' soft labels by Dawid and Skene; the SS-VAE on
labels alone; the SS-VAE with `--vote-columns`. With `--one-label` each rule is two, one for each
label. Settings are given as in `seqssvae train`.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import vstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from experiments.sets import find_file
from seqssvae.cli.parser import Parser
from seqssvae.cli.settings import add_settings, read_settings
from seqssvae.compare.baselines import ngrams
from seqssvae.compare.parts import predict_by_ssvae
from seqssvae.config import Config
from seqssvae.data.corpus import read_corpus
from seqssvae.data.prepare import Prepared, prepare
from seqssvae.data.sources import read_like
from seqssvae.overrides import override
from seqssvae.teacher.dawid_skene import fit_confusions, known_of
from seqssvae.teacher.partial import weighed

Floats = NDArray[np.float64]
Rule = Mapping[str, str]

RULES: dict[str, Rule] = {
    "opinion": {
        "pos": "great good excellent amazing best wonderful fantastic brilliant",
        "neg": "bad terrible worst horrible awful poor dull boring",
    },
    "feeling": {
        "pos": "love funny enjoy fun entertaining heart warm charming",
        "neg": "never not n't no nothing too",
    },
    "craft": {
        "pos": "performances beautiful powerful moving smart fresh rich",
        "neg": "why plot mess minutes only so tired predictable",
    },
}
ARMS = ("majority", "regression, labels", "regression, both", "SS-VAE, labels", "SS-VAE, both")


def vote(rule: Rule, text: str) -> str | None:
    """The label that more words speak for; None if there is none."""
    words = text.lower().split()
    counts = {label: sum(w in of.split() for w in words) for label, of in rule.items()}
    best = max(counts, key=lambda label: counts[label])
    second, first = sorted([0, *counts.values()])[-2:]
    return best if first > second else None


def read(folder: Path, part: str, rules: Mapping[str, Rule]) -> dict[str, list[Any]]:
    """Rows with the votes of the rules."""
    rows = list(read_corpus(find_file(folder, part)))
    table: dict[str, list[Any]] = {
        "text": [row.sequence for row in rows],
        "label": [row.label for row in rows],
    }
    return table | {name: [vote(of, t) for t in table["text"]] for name, of in rules.items()}


def regress(prepared: Prepared, test: Sequence[str], *, with_votes: bool) -> Floats:
    """p(y | x) of the test rows, `[n, K]`, by a regression on labels and, perhaps, soft labels."""
    num_classes = len(prepared.labels.names)
    labelled, free = prepared.with_dev_labels().labelled, prepared.unlabelled
    sequences = [*prepared.sequences(labelled), *prepared.sequences(free)]
    weights = np.zeros((len(sequences), num_classes))
    weights[: len(labelled)] = known_of(labelled, num_classes)
    votes = np.concatenate([labelled.evidence().votes, free.evidence().votes])
    if with_votes:
        known = np.concatenate([known_of(part, num_classes) for part in (labelled, free)])
        found = fit_confusions(votes, known)
        scores = weighed(found.log_evidence(votes) + np.log(found.shares), known)
        posteriors = np.exp(scores - scores.max(1, keepdims=True))
        posteriors /= posteriors.sum(1, keepdims=True)
        says = (votes >= 0).any(1)
        weights[says] = posteriors[says]
    vectorizer = TfidfVectorizer(analyzer=ngrams("words", 2), sublinear_tf=True)
    features = vectorizer.fit_transform(sequences)
    used = np.flatnonzero(weights.sum(1))
    model = LogisticRegression(C=10.0, max_iter=1000).fit(
        vstack([features[used]] * num_classes),
        np.repeat(np.arange(num_classes), len(used)),
        sample_weight=weights[used].T.ravel(),
    )
    result: Floats = model.predict_proba(vectorizer.transform(test))
    return result


def measure(config: Config, folder: Path, rules: Mapping[str, Rule]) -> dict[str, float]:
    """The accuracy of each arm on one draw of the labels, in per cent."""
    import pandas

    train, test = (pandas.DataFrame(read(folder, part, rules)) for part in ("train", "test"))
    with_votes = override(config, {"data.vote_columns": ",".join(rules)})
    prepared = prepare(with_votes, train)
    names = prepared.labels.names
    y = np.array([names.index(label) for label in test["label"]])
    counts = np.stack([(test[list(rules)] == name).sum(axis=1) for name in names], 1)
    shares = np.bincount(prepared.with_dev_labels().labelled.y, minlength=len(names))
    found: dict[str, Any] = {"majority": counts + shares / 1000}
    texts = list(test["text"])
    found["regression, labels"] = regress(prepared, texts, with_votes=False)
    found["regression, both"] = regress(prepared, texts, with_votes=True)
    for arm, settings in (("SS-VAE, labels", config), ("SS-VAE, both", with_votes)):
        prepared = prepare(settings, train)
        rows = read_like(test, settings, prepared.vocabulary, prepared.labels)
        found[arm] = predict_by_ssvae(settings, prepared, rows)
    return {arm: 100 * float((table.argmax(1) == y).mean()) for arm, table in found.items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Run all draws and print the table."""
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("folder", type=Path, help="folder of the data set")
    add("--labels", type=int, default=20, help="labelled rows, dev included")
    add("--draws", type=int, default=3, help="draws of the labels")
    add("--one-label", action="store_true", help="rules of one label, twice as many")
    add_settings(parser)
    arguments = parser.parse_args(argv)
    config = override(read_settings(arguments), {"data.num_labels": arguments.labels})
    torch.set_num_threads(config.training.num_threads or torch.get_num_threads())
    logging.getLogger("seqssvae").setLevel(logging.ERROR)
    rules = RULES
    if arguments.one_label:
        rules = {
            f"{name}_{label}": {label: words}
            for name, of in RULES.items()
            for label, words in of.items()
        }
    draws = []
    for draw in range(arguments.draws):
        seed = config.training.seed + draw
        draws.append(measure(override(config, {"training.seed": seed}), arguments.folder, rules))
        print(f"draw {draw + 1}: {draws[-1]}", flush=True)
    print("| draws | " + " | ".join(ARMS) + " |")
    print("| --: " * (len(ARMS) + 1) + "|")
    means = (f"{np.mean([one[arm] for one in draws]):.1f}" for arm in ARMS)
    print(f"| {len(draws)} | " + " | ".join(means) + " |")


if __name__ == "__main__":
    main()
