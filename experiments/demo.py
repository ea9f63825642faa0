"""Demo: words of eight languages, 20 labelled and thousands of unlabelled words of each.

    python data/prepare_words.py --out data/words
    python experiments/demo.py

Trains the SS-VAE and, on the same labels, TF-IDF with logistic regression, naive Bayes with EM, and
the parts of the SS-VAE alone: the model of the papers without teacher and n-grams, M2, and the
teacher. Prints their accuracy on held-out words, new words of each language, and words transferred
to another language.
"""

import dataclasses
import logging
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

import seqssvae
from seqssvae.cli.parser import Parser
from seqssvae.compare.compare import ARMS, MINUTES, classification_metrics
from seqssvae.config import Config
from seqssvae.data.prepare import prepare, read_like, read_sequences
from seqssvae.errors import InputError
from seqssvae.training.fit import fit

TITLES = {
    "tfidf-lr-characters": "TF-IDF of characters, logistic regression",
    "nb-em-characters": "naive Bayes of characters, with EM",
    "m2": "M2 alone: no teacher, no n-grams",
    "teacher": "the teacher alone",
    "ssvae": "the whole SS-VAE",
}
MODES = {"q": "q(y|x)", "posterior": "Bayes' rule", "mix": "both"}


def main() -> None:
    """Run the demo."""
    parser = Parser(description=__doc__)
    parser.add_argument("--train", type=Path, default=Path("data/words/train.jsonl"))
    parser.add_argument("--test", type=Path, default=Path("data/words/test.jsonl"))
    parser.add_argument("--out", type=Path, default=Path("runs/demo"))
    parser.add_argument("--labels-per-class", type=int, default=20)
    parser.add_argument("--steps", type=int, default=Config().training.num_steps)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.basicConfig(format="%(message)s", level=logging.INFO)

    config = Config()
    config = dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, labels_per_class=arguments.labels_per_class),
        training=dataclasses.replace(
            config.training,
            seed=arguments.seed,
            num_steps=arguments.steps,
            max_minutes=MINUTES,
        ),
        objective=dataclasses.replace(
            config.objective,
            kl_warmup_steps=min(config.objective.kl_warmup_steps, arguments.steps),
        ),
    )
    start = time.perf_counter()
    try:
        fit(config, arguments.train, arguments.out, show_bar=True)
    except InputError as error:
        parser.error(str(error))
    seconds = {"ssvae": time.perf_counter() - start}
    trained = seqssvae.load(arguments.out)

    prepared = prepare(config, arguments.train)
    rows = read_like(arguments.test, config, prepared.vocabulary, prepared.labels)
    words = read_sequences(arguments.test, config)
    names = trained.labels.names

    def measure(predictions: Iterable[dict[str, Any]]) -> float:
        predicted = np.array([names.index(row["label"]) for row in predictions])
        return float(np.mean(predicted == rows.y))

    accuracy = {"ssvae": measure(trained.classify_rows(rows))}
    by_mode = {mode: measure(trained.classify_rows(rows, mode=mode)) for mode in MODES}
    for arm in TITLES:
        if arm != "ssvae":
            start = time.perf_counter()
            probabilities = ARMS[arm](config, prepared, (words, rows))
            seconds[arm] = time.perf_counter() - start
            accuracy[arm] = classification_metrics(probabilities, rows.y)["accuracy"]

    print(f"\n{len(rows)} held-out words, {len(names)} languages,", end=" ")
    print(f"{arguments.labels_per_class} labelled and", end=" ")
    print(f"{len(prepared.unlabelled) // len(names)} unlabelled words each\n")
    print(f"{'':44s} {'accuracy':>8s} {'seconds':>8s}")
    for arm, title in TITLES.items():
        print(f"{title:44s} {100 * accuracy[arm]:7.1f}% {seconds[arm]:8.0f}")
    print("\nthe whole SS-VAE by", end=" ")
    print(", ".join(f"{MODES[mode]} {100 * share:.1f}%" for mode, share in by_mode.items()))

    print("\nnew words")
    for label in names:
        new = trained.generate(label, 10, seed=arguments.seed, temperature=0.7)
        print(f"  {label}  {'  '.join(map(str, new))}")

    print("\nwords transferred to another language")
    for number in range(5):
        at = number * len(words) // 5
        own = names[int(rows.y[at])]
        to = names[(names.index(own) + 1 + number) % len(names)]
        to = to if to != own else names[(names.index(own) + 1) % len(names)]
        print(f"  {own} {words[at]}  ->  {to} {trained.transfer([words[at]], to=to)[0]}")


if __name__ == "__main__":
    main()
