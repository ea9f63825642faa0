"""The model and the held-out rows behind the explorer's page."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from seqssvae.data.corpus import Source
from seqssvae.data.encoded import EncodedRows
from seqssvae.data.sources import written_columns
from seqssvae.errors import InputError
from seqssvae.inference.conformal import COVERAGE
from seqssvae.inference.novelty import log_prob_per_symbol, novelty
from seqssvae.inference.suggest import suggest
from seqssvae.show.examples import find_alike, ngram_vectors, show_sequence
from seqssvae.show.maps import draw_map
from seqssvae.show.portrait import (
    HeldOut,
    fit_pca,
    load_held_out,
    pad_dims,
    project_tsne,
)
from seqssvae.storage.records import to_text
from seqssvae.trained import TrainedModel

if TYPE_CHECKING:
    import plotly.graph_objects

NUM_STEPS = 11  # sequences of an interpolation, as many as its slider has positions
NUM_SAMPLES = 6
NUM_NEAREST = 5  # training rows like a sequence, and rows of the map that its place is by
NUM_SUGGESTED = 10
NUM_POOL = 1000  # rows that these are chosen from, at most

Rows = tuple[EncodedRows, list[Any]]  # and their texts or lists of tokens


@dataclasses.dataclass(frozen=True)
class Exploration:
    """A model and its held-out rows, n of them.

    Attributes:
        name: Name of the run's folder.
        trained: The model.
        sequences: The rows, as printable lines.
        y: Classes of the rows, -1 for unlabelled ones, `[n]`.
        predicted: The predicted label of each row; empty without classes.
        z: The means of q(z | x, y), `[n, Z]`.
        pca: Their principal components.
        z_pca: The means by their principal components, `[n, 2]`.
        z_tsne: t-SNE of the means, `[n, 2]`.
        reference: log p(x) of the rows in nats per symbol, `[n]`, for novelty.
        training: Training rows, a sample if there are many; None if their file is gone.
        pool: Rows without a label, of which some may be labelled next, a sample if there are many.
    """

    name: str
    trained: TrainedModel
    sequences: list[str]
    y: NDArray[np.int64]
    predicted: list[str]
    z: NDArray[np.float64]
    pca: PCA
    z_pca: NDArray[np.float64]
    z_tsne: NDArray[np.float64]
    reference: NDArray[np.float64]
    training: Rows | None
    pool: Rows

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes."""
        return self.trained.labels.names

    def classify(self, text: str) -> tuple[list[tuple[str, float, float]], dict[str, Any]]:
        """Classify a sequence.

        Returns:
            Each label with its probability by q(y | x) and by Bayes' rule, in descending order of
            q; and `nats_per_symbol`, log p(x) / T, `novelty`, the share of held-out rows with a
            higher one, `num_unknown`, the number of symbols outside of the vocabulary, and, with
            classes, the `label` and its `probability` as of `classify`, and, where the run has
            sets, the `set` of labels of 90 % coverage.

        Raises:
            InputError: no text.
        """
        rows = self.trained.reader.read_texts([text])
        log_prob = log_prob_per_symbol(self.trained.model, rows)
        details: dict[str, Any] = {
            "nats_per_symbol": float(log_prob[0]),
            "novelty": float(novelty(log_prob, self.reference)[0]),
            "num_unknown": float(rows.num_unknown),
        }
        if not self.labels:
            return [], details
        coverage = COVERAGE if self.trained.has_sets else None
        answer = next(self.trained.classify_rows(rows, coverage=coverage))
        details |= {
            name: answer[name] for name in ("label", "probability", "set") if name in answer
        }
        by_mode = [
            next(self.trained.classify_rows(rows, mode=mode))["probabilities"]
            for mode in ("q", "posterior")
        ]
        table = [(name, by_mode[0][name], by_mode[1][name]) for name in self.labels]
        return sorted(table, key=lambda row: -row[1]), details

    def explain(self, text: str) -> dict[str, Any]:
        """What of a sequence speaks for its label and against the next likeliest one.

        Raises:
            InputError: no text, or fewer than two classes.
        """
        return self.trained.explain(self._split([text]))[0]

    def nearest(self, text: str) -> list[tuple[str, str]]:
        """The training rows whose n-grams are most like those of a sequence, with their labels.

        Raises:
            InputError: no text.
        """
        if self.training is None:
            return []
        rows, sequences = self.training
        found = find_alike(self.trained.reader.read_texts([text]), self._vectors, NUM_NEAREST)[0]
        names = [*self.labels, "no label"]  # of -1
        return [(show_sequence(sequences[i]), names[rows.y[i]]) for i in found.tolist()]

    @functools.cached_property
    def _vectors(self) -> Any:
        assert self.training is not None
        return ngram_vectors(self.training[0])

    def suggest(self, seed: int) -> list[dict[str, Any]]:
        """Rows to label next: `id`, `sequence`, the line to `show`, and the `predicted` label.

        Args:
            seed: Others come with another one, where several rows are as good.
        """
        rows, sequences = self.pool
        found = suggest(
            self.trained.model,
            rows,
            NUM_SUGGESTED,
            mode=self.trained.default_mode,
            weights=self.trained.weights(),
            seed=seed,
        )
        best = found.probabilities.argmax(1)
        numbers = found.seen[found.chosen].tolist()
        return [
            {
                "id": rows.take(np.array([row])).ids[0],
                "sequence": sequences[row],
                "show": show_sequence(sequences[row]),
                "predicted": self.labels[best[i]],
            }
            for row, i in zip(numbers, found.chosen.tolist(), strict=True)
        ]

    @property
    def label_columns(self) -> dict[str, tuple[str, ...]]:
        """The labels of each column in files that `labelled_file` writes."""
        columns = written_columns(self.trained.config.data, is_tokens=False)[1]
        return dict(self.trained.labels.columns) or {columns[0]: self.labels}

    def labelled_file(self, rows: Sequence[Mapping[str, Any]], labels: Sequence[str | None]) -> str:
        """The lines of a jsonl file of those rows of `suggest` that were given a label.

        Args:
            rows: The rows, n of them.
            labels: Labels of each column of the first row, of the second one, and so on.

        Raises:
            InputError: none was.
        """
        is_tokens = self.trained.vocabulary.kind == "tokens"
        sequence, _ = written_columns(self.trained.config.data, is_tokens=is_tokens)
        columns, records = list(self.label_columns), []
        table = np.array(labels, object).reshape(-1, len(columns))
        for row, given in zip(rows, table, strict=True):
            named = zip(columns, given, strict=True)
            known = {name: label.strip() for name, label in named if label and label.strip()}
            if known:
                records.append({"id": row["id"], sequence: row["sequence"], **known})
        if not records:
            raise InputError("wanted a label in some row, got none")
        return to_text(records, "jsonl", is_first=True).decode()

    def generate(self, label: str | None, temperature: float, seed: int) -> list[str]:
        """Generate sequences of a label."""
        written = self.trained.generate(label, NUM_SAMPLES, temperature=temperature, seed=seed)
        return list(map(show_sequence, written))

    def transfer(self, text: str) -> list[tuple[str, str]]:
        """Decode a sequence under every label."""
        sequences = self._split([text])
        return [
            (name, show_sequence(self.trained.transfer(sequences, to=name)[0]))
            for name in self.labels
        ]

    def walk(self, a: str, b: str, label: str | None) -> list[str]:
        """Interpolate between two sequences in 11 steps."""
        first, last = self._split([a, b])
        written = self.trained.interpolate(first, last, steps=NUM_STEPS, label=label)
        return list(map(show_sequence, written))

    def map(self, kind: str, text: str) -> "plotly.graph_objects.Figure":
        """A map of the held-out rows in latent space, with a sequence added.

        Args:
            kind: "tsne" or "pca". t-SNE has no place for other rows: there a sequence is among the
                rows with the nearest z, at the mean of their places.
            text: The sequence; none if empty.
        """
        points = self.z_tsne if kind == "tsne" else self.z_pca
        figure = draw_map(points, self.y, self.labels, self.sequences, self.predicted)
        if text.strip():
            loc = pad_dims(self.trained.encode(self._split([text]))["loc"])
            if kind == "pca":
                ((x, y),) = self.pca.transform(loc).tolist()
            else:
                distance = np.linalg.norm(self.z - loc, axis=1)
                near = distance.argsort(kind="stable")[:NUM_NEAREST]
                x, y = np.average(points[near], 0, 1 / distance[near].clip(1e-9)).tolist()
            figure.add_scatter(
                x=[x], y=[y], mode="markers", name="your sequence",
                marker={"symbol": "star", "size": 18, "color": "#d00000",
                        "line": {"width": 1, "color": "#ffffff"}},
                hovertext=["your sequence"], hoverinfo="text",
            )  # fmt: skip
        return figure

    def _split(self, texts: Sequence[str]) -> list[Any]:
        return self.trained.reader.split_texts(texts)


def open_run(
    run: str | Path, data: Source | None = None, *, seed: int = 0, device: str = "auto"
) -> Exploration:
    """Load a run and embed its held-out rows.

    Args:
        run: The run's folder.
        data: Rows to show instead of the run's held-out rows.
        seed: Seed of the sample of rows and of t-SNE.
        device: Where the model runs, as of `load`.

    Raises:
        InputError: no such run, no data, or bad input.
    """
    trained, held_out = load_held_out(run, data, seed=seed, device=device)
    trained.require_decoder("explore")
    encoded = trained.encode_rows(held_out.rows)
    loc, names = pad_dims(encoded["loc"]), trained.labels.names
    best, pca = encoded["probabilities"].argmax(1) if names else (), fit_pca(loc)
    training, pool = _rows_of(held_out, is_given=data is not None)
    return Exploration(
        name=Path(run).resolve().name,
        trained=trained,
        sequences=list(map(show_sequence, held_out.sequences)),
        y=held_out.rows.y,
        predicted=[names[i] for i in best] or [""] * len(loc),
        z=loc,
        pca=pca,
        z_pca=pca.transform(loc),
        z_tsne=project_tsne(loc, seed=seed),
        reference=log_prob_per_symbol(trained.model, held_out.rows),
        training=training,
        pool=pool,
    )


def _rows_of(held_out: HeldOut, *, is_given: bool) -> tuple[Rows | None, Rows]:
    """The training rows, and those without a label: of the given rows, or of the training rows."""
    training: Rows | None = None
    if held_out.training is not None and len(held_out.training[1]):
        corpus, rows = held_out.training
        training = rows, [corpus.sequence(row) for row in rows.index.tolist()]
    rows, sequences = training or (held_out.rows, held_out.sequences)
    if is_given:
        rows, sequences = held_out.rows, held_out.sequences
    free = [i for i, y in enumerate(rows.y.tolist()) if y < 0 and i not in rows.candidates]
    known = {rows.row(i).tobytes() for i in set(range(len(rows))).difference(free)}
    free = [i for i in free if rows.row(i).tobytes() not in known]  # labelled in another file
    free = free[:: -(-len(free) // NUM_POOL) or 1]
    return training, (rows.take(np.array(free, np.int64)), [sequences[i] for i in free])
