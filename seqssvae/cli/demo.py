"""Run the main job on words of eight languages, 20 labelled and many unlabelled ones of each.

Trains the SS-VAE and, on the same labels, TF-IDF with logistic regression, naive Bayes with EM, and
the parts of the SS-VAE alone: the model of the papers without teacher and n-grams, M2, and the
teacher. Prints their accuracy on held-out words, new words of each language, and words transferred
to another language. The words are those of the package wordfreq (pip install wordfreq), or
a small set that comes with this package; they are written to a folder beside RUN.
"""

import argparse
from pathlib import Path
from typing import Any

from seqssvae.config import Config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--out", metavar="RUN", type=Path, default=Path("runs/demo"), help="output folder")
    add("--train", metavar="FILE", type=Path, help="rows to train on instead, with --test")
    add("--test", metavar="FILE", type=Path, help="rows to measure on")
    add("--labels-per-class", type=int, default=20, metavar="N", help="labels of each language")
    steps = Config().training.num_steps
    add("--steps", type=int, default=steps, metavar="N", help="steps of a training")
    add("--seed", type=int, default=0, metavar="S", help="seed of the training")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    from seqssvae.compare.demo import demo

    return demo(
        arguments.out,
        train=arguments.train,
        test=arguments.test,
        labels_per_class=arguments.labels_per_class,
        steps=arguments.steps,
        seed=arguments.seed,
    )
