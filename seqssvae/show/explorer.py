"""What the explorer's page is asked for: a model, the rows held out from it, and the answers."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from seqssvae.inference.novelty import log_prob_per_symbol, novelty
from seqssvae.show.maps import draw_map
from seqssvae.show.portrait import read_held_out, show_sequence
from seqssvae.show.projection import Principal, project_tsne
from seqssvae.trained import TrainedModel, load

if TYPE_CHECKING:
    import plotly.graph_objects

__all__ = ["Exploration", "open_run"]

NUM_STEPS = 11  # of an interpolation: what its slider can show
NUM_WRITTEN = 6


@dataclasses.dataclass(frozen=True)
class Exploration:
    """A model, and the rows that were held out from it, n of them.

    Attributes:
        name: The run's folder.
        trained: The model.
        sequences: The rows as they are shown.
        y: Their classes, -1 for those without a label, `[n]`.
        loc: The means of their q(z | x, y), `[n, Z]`.
        given: The label that q(y | x) gives each; empty without classes.
        z_tsne: The means by t-SNE, `[n, 2]`.
        reference: Their log p(x) in nats per symbol, `[n]`, for novelty.
    """

    name: str
    trained: TrainedModel
    sequences: list[str]
    y: NDArray[np.int64]
    loc: NDArray[np.float32]
    given: list[str]
    z_tsne: NDArray[np.float64]
    reference: NDArray[np.float64]

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes."""
        return self.trained.labels.names

    def classify(self, text: str) -> tuple[list[tuple[str, float, float]], dict[str, float]]:
        """What a typed sequence is.

        Returns:
            Each label with its probability by q(y | x) and by Bayes' rule, the likeliest by q
            first; and `nats_per_symbol`, log p(x) / T, `novelty`, both of
            `seqssvae.inference.novelty`, and
            `num_unknown`, symbols that training never saw.

        Raises:
            InputError: no text.
        """
        rows = self.trained.read_texts([text])
        log_prob = log_prob_per_symbol(self.trained.model, rows)
        told = {
            "nats_per_symbol": float(log_prob[0]),
            "novelty": float(novelty(log_prob, self.reference)[0]),
            "num_unknown": float(rows.num_unknown),
        }
        if not self.labels:
            return [], told
        by_mode = [
            next(self.trained.classify_rows(rows, mode=mode))["probabilities"]
            for mode in ("q", "posterior")
        ]
        table = [(name, by_mode[0][name], by_mode[1][name]) for name in self.labels]
        return sorted(table, key=lambda row: -row[1]), told

    def generate(self, label: str | None, temperature: float, seed: int) -> list[str]:
        """New sequences of a label."""
        written = self.trained.generate(label, NUM_WRITTEN, temperature=temperature, seed=seed)
        return [show_sequence(sequence) for sequence in written]

    def transfer(self, text: str) -> list[tuple[str, str]]:
        """A typed sequence under every label."""
        sequences = self._split([text])
        return [
            (name, show_sequence(self.trained.transfer(sequences, to=name)[0]))
            for name in self.labels
        ]

    def walk(self, a: str, b: str, label: str | None) -> list[str]:
        """The way through z from one typed sequence to another, 11 sequences."""
        first, last = self._split([a, b])
        written = self.trained.interpolate(first, last, steps=NUM_STEPS, label=label)
        return [show_sequence(sequence) for sequence in written]

    def map(self, kind: str, text: str) -> "plotly.graph_objects.Figure":
        """The held-out rows by their z, and where a typed sequence falls among them.

        Args:
            kind: "tsne" or "pca"; t-SNE has no place for new sequences.
            text: The sequence; none when empty.
        """
        principal = Principal(self.loc)
        points = self.z_tsne if kind == "tsne" else principal(self.loc)
        figure = draw_map(points, self.y, self.labels, self.sequences, self.given)
        if kind == "pca" and text.strip():
            (x, y) = principal(self.trained.encode(self._split([text]))["loc"])[0].tolist()
            figure.add_scatter(
                x=[x], y=[y], mode="markers", name="typed",
                marker={"symbol": "star", "size": 18, "color": "#d00000",
                        "line": {"width": 1, "color": "#ffffff"}},
                hovertext=["what was typed"], hoverinfo="text",
            )  # fmt: skip
        return figure

    def _split(self, texts: Sequence[str]) -> list[Any]:
        self.trained.read_texts(texts)  # which refuses empty ones
        return self.trained.split_texts(texts)


def open_run(run: str | Path, data: str | Path | None = None, *, seed: int = 0) -> Exploration:
    """Load a run and place its held-out rows.

    Args:
        run: The run's folder.
        data: Rows to show instead of those that the run held out of its own data.
        seed: Of the draw of rows and of t-SNE.

    Raises:
        InputError: no such run, no data, or bad input.
    """
    trained = load(run)
    held_out = read_held_out(Path(run), trained, data, seed=seed)
    encoded = trained.encode_rows(held_out.rows)
    loc, names = encoded["loc"], trained.labels.names
    num_rows = len(held_out.rows)
    return Exploration(
        name=Path(run).resolve().name,
        trained=trained,
        sequences=[show_sequence(sequence) for sequence in held_out.sequences],
        y=held_out.rows.y,
        loc=loc,
        given=[names[i] for i in encoded["probabilities"].argmax(1)] if names else [""] * num_rows,
        z_tsne=project_tsne(loc, seed=seed) if loc.shape[1] else np.zeros((num_rows, 2)),
        reference=log_prob_per_symbol(trained.model, held_out.rows),
    )
