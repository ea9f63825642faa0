"""Sentences rewritten under the other label, beside rewritings by people.

    python experiments/style_transfer.py FOLDER --num-labels 20000 500 --training.num_steps 250

FOLDER has `train.jsonl`, `test.jsonl` and `transfer.jsonl`, gzipped or not; rows of the last one
are `{"text": ..., "label": ..., "to": ..., "references": [...]}`. For each number of labels a model
is trained on the training rows and rewrites each text under its label `to`. Printed are, in per
cent, the accuracy of a judge, which should find the new label; BLEU against the references and
against the source (sacrebleu, texts in lower case, split at spaces); and G, the square root of
accuracy times the first BLEU, with an interval of 95 % by the bootstrap over sentences. The judge,
TF-IDF with logistic regression on the test rows that are not to be rewritten, shares no row with
the model. The first lines are the sources as they are, and the first reference of each against the
others. `--out` writes what was rewritten.
"""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

from experiments.answers import fit_model
from experiments.sets import find_file
from seqssvae.cli.parser import Parser
from seqssvae.cli.settings import add_settings, read_settings
from seqssvae.data.corpus import read_corpus
from seqssvae.data.texts import read_lines
from seqssvae.errors import InputError
from seqssvae.overrides import override

NUM_RESAMPLES = 200
COLUMNS = ("", "accuracy", "BLEU", "G", "", "BLEU with the source")


def train_judge(texts: Sequence[Any], labels: Sequence[Any]) -> Pipeline:
    """A classifier of one and two words."""
    tfidf = TfidfVectorizer(token_pattern=r"\S+", ngram_range=(1, 2), sublinear_tf=True)
    return make_pipeline(tfidf, LogisticRegression(C=30, max_iter=1000)).fit(texts, labels)


def bleu(texts: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """BLEU of a corpus in per cent; `references` are those of each text, equally many."""
    import sacrebleu

    lower = [[one.lower() for one in column] for column in zip(*references, strict=True)]
    hypotheses = [text.lower() for text in texts]
    return float(sacrebleu.corpus_bleu(hypotheses, lower, tokenize="none", force=True).score)


def measure(rows: Sequence[dict[str, Any]], texts: Sequence[str], judge: Pipeline) -> list[str]:
    """The cells of a line."""
    is_right = judge.predict(texts) == [row["to"] for row in rows]
    references = [row["references"] for row in rows]

    def g(chosen: Any) -> float:
        found = bleu([texts[i] for i in chosen], [references[i] for i in chosen])
        return float(np.sqrt(100 * is_right[chosen].mean() * found))

    random = np.random.default_rng(0)
    some = [g(random.integers(len(rows), size=len(rows))) for _ in range(NUM_RESAMPLES)]
    low, high = np.percentile(some, [2.5, 97.5])
    own = bleu(texts, [[row["text"]] for row in rows])
    figures = [100 * is_right.mean(), bleu(texts, references), g(np.arange(len(rows)))]
    return [*(f"{one:.1f}" for one in figures), f"{low:.1f} to {high:.1f}", f"{own:.1f}"]


def read_transfers(path: Path) -> list[dict[str, Any]]:
    """The rows to rewrite, the first references of each, as many as all of them have.

    Raises:
        InputError: a row is no such object.
    """
    rows = []
    for number, line in enumerate(read_lines(path), start=1):
        try:
            row = json.loads(line)
            rows.append({name: row[name] for name in ("text", "label", "to", "references")})
        except (ValueError, KeyError, TypeError) as error:
            wanted = "an object with text, label, to and references"
            raise InputError(f"{path}, row {number}: wanted {wanted}, got {line:.60}") from error
    least = min(len(row["references"]) for row in rows)
    return [{**row, "references": row["references"][:least]} for row in rows]


def main(argv: Sequence[str] | None = None) -> None:
    """Train, rewrite, and print a table."""
    parser = Parser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of the three files")
    parser.add_argument("--num-labels", type=int, nargs="+", metavar="N", help="labelled rows")
    parser.add_argument("--rows", type=int, help="rows to rewrite, the first ones; default: all")
    parser.add_argument("--out", type=Path, help="file for what was rewritten, as jsonl")
    add_settings(parser)
    arguments = parser.parse_args(argv)
    logging.getLogger("seqssvae").setLevel(logging.ERROR)
    try:
        config = read_settings(arguments)
        train, test, path = (
            find_file(arguments.folder, name) for name in ("train", "test", "transfer")
        )
        rows = read_transfers(path)
        others = {row["text"] for row in rows}
        of_judge = [row for row in read_corpus(test) if row.sequence not in others]
        rows = rows[: arguments.rows]
        judge = train_judge([row.sequence for row in of_judge], [row.label for row in of_judge])
        print(f"| {' | '.join(COLUMNS)} |\n| --- {'| --: ' * (len(COLUMNS) - 1)}|")
        texts = [row["text"] for row in rows]
        print(f"| the source | {' | '.join(measure(rows, texts, judge))} |")
        people = [{**row, "references": row["references"][1:]} for row in rows]
        texts = [row["references"][0] for row in rows]
        print(f"| a person | {' | '.join(measure(people, texts, judge))} |", flush=True)
        written = []
        for num_labels in arguments.num_labels or [config.data.num_labels]:
            _, model = fit_model(override(config, {"data.num_labels": num_labels}), train)
            texts = [""] * len(rows)
            for label in dict.fromkeys(row["to"] for row in rows):
                some = [number for number, row in enumerate(rows) if row["to"] == label]
                found = model.transfer([rows[number]["text"] for number in some], to=label)
                for number, text in zip(some, found, strict=True):
                    texts[number] = str(text)
            figures = " | ".join(measure(rows, texts, judge))
            print(f"| {num_labels or 'all'} labels | {figures} |", flush=True)
            written += [
                {"num_labels": num_labels, "from": row["text"], "to": row["to"], "text": text}
                for row, text in zip(rows, texts, strict=True)
            ]
    except InputError as error:
        parser.error(str(error))
    if arguments.out:
        lines = (json.dumps(one, ensure_ascii=False) + "\n" for one in written)
        arguments.out.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
