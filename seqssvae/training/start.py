"""A finished run that training starts from: its symbols, classes and weights, and what it knows.

Classes of the run of which few new rows have the label would be forgotten. Rows that it generates
stand for them (Shin et al. 2017, Continual learning with deep generative replay).
"""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from seqssvae.config import Config
from seqssvae.data.corpus import Corpus, gather_corpus
from seqssvae.data.encode import encode_given
from seqssvae.data.prepare import Prepared, Start
from seqssvae.errors import InputError
from seqssvae.inference.classify import fitted_weights
from seqssvae.inference.generate import generate
from seqssvae.inference.predict import classify_table
from seqssvae.inference.writing.options import Decoding
from seqssvae.model.grow import copy_weights
from seqssvae.model.ssvae import SSVAE
from seqssvae.overrides import override
from seqssvae.runs.run import RunContents, load_run, restore_model
from seqssvae.storage.vectors import vectors_like

logger = logging.getLogger(__name__)

REPLAYED, MOST_REPLAYED = 1000, 10_000  # generated rows of a class, and of all
FEW = 0.5  # of the run's mean number of labels of a class: with fewer it would be forgotten
DRAWN = 2  # times as many are generated, of which the likeliest of their class are kept
FREE = ("dropout", "word_dropout", "encoder_word_dropout", "softmax_memory", "prior")  # of `model`


def start_settings(config: Config) -> Config:
    """The settings of a run, for a training that starts from it.

    Its decoder reads z already, and its number of labels was one of its own rows.
    """
    changes = {
        "objective.recurrent_first": 0.0,
        "objective.kl_schedule": "constant",
        "data.labels_per_class": None,
        "data.num_labels": None,
        "data.unlabelled_only": False,  # new rows may have labels
    }
    return override(config, changes)


@dataclasses.dataclass(frozen=True)
class StartingRun:
    """A finished run.

    Attributes:
        folder: Its folder.
        contents: What is in it.
        model: Its networks, in evaluation mode.
    """

    folder: Path
    contents: RunContents
    model: SSVAE

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a run.

        Raises:
            InputError: as of `load_run`.
        """
        contents = load_run(folder, check_weights=True)
        return cls(folder, contents, restore_model(contents, str(folder)))

    @property
    def of_rows(self) -> Start:
        """What new rows are prepared with."""
        labels, summary = self.contents.labels, self.contents.manifest.get("summary", {})
        few = summary.get("num_labelled", 0) / max(len(labels.names), 1) * FEW
        vector_size = self.contents.config.model.vector_size
        return Start(self.contents.vocabulary, labels, max(few, 1.0), vector_size, self.replay)

    def adapt(self, config: Config | Mapping[str, Any]) -> Config:
        """The settings, with the kind of vocabulary and the Unicode form of the run.

        Args:
            config: All settings, or a mapping of those that are not the run's.

        Raises:
            InputError: other networks or symbols than the run's, --classifier-only, which has
                no networks, or a label tree.
        """
        if not isinstance(config, Config):
            config = override(start_settings(self.contents.config), config)
        if self.contents.config.training.classifier_only or config.training.classifier_only:
            raise InputError(f"--from {self.folder}: wanted a whole model, got --classifier-only")
        if self.contents.labels.tree or config.data.label_tree is not None:
            raise InputError(f"--from {self.folder}: wanted no label tree beside it, got one")
        wanted, got = (dataclasses.asdict(one.model) for one in (self.contents.config, config))
        for name, value in wanted.items():
            if name not in FREE and got[name] != value:
                raise InputError(
                    f"model.{name.rstrip('_')}: wanted {value} as in {self.folder}, got {got[name]}"
                )
        vocabulary, before = self.contents.vocabulary, self.contents.config.data
        changes = {"vocabulary": vocabulary.kind, "normalise": vocabulary.form}
        for name, value in changes.items():
            got = getattr(config.data, name)
            if got not in ("auto", value, getattr(before, name)):
                raise InputError(f"data.{name}: wanted {value} as in {self.folder}, got {got}")
        return override(config, {f"data.{name}": value for name, value in changes.items()})

    def replay(self, names: Sequence[str]) -> Corpus:
        """Generated rows of these classes."""
        vocabulary, labels = self.contents.vocabulary, self.contents.labels
        num_rows = max(1, min(REPLAYED, MOST_REPLAYED // len(names)))
        sequences: list[Any] = []
        for y in map(labels.names.index, names):
            decoding = Decoding(self.contents.config.data.max_length, seed=y)
            written = generate(self.model, vocabulary, DRAWN * num_rows, y, decoding)
            drawn = [one for one, _ in written]
            order = np.argsort(-self.classify(drawn)[:, y], kind="stable")
            ranked = [drawn[i] for i in order if "".join(drawn[i]).strip()]
            if not ranked:
                got = f"{labels.names[y]!r} has none, and {self.folder} generates empty ones"
                raise InputError(f"wanted rows of every class, got others: {got}")
            sequences += [(one, labels.names[y]) for one in ranked[:num_rows]]
        logger.info(
            f"{len(sequences)} rows generated by {self.folder} stand for {len(names)} of its "
            "classes, which have few labels in the data"
        )
        return gather_corpus(*zip(*sequences, strict=True), source=f"rows of {self.folder}")

    def classify(self, sequences: Sequence[Any]) -> np.ndarray[Any, Any]:
        """Probabilities of the run's classes, `[n, K]`, as it classifies."""
        config, summary = self.contents.config, self.contents.manifest.get("summary", {})
        rows = encode_given(
            sequences,
            self.contents.vocabulary,
            max_length=config.data.max_length,
            whole_length=config.whole_length,
        )
        mode = summary.get("mode", "q")
        rows = rows.with_vectors(
            vectors_like(None, len(rows), config.model.vector_size, "generated", may_miss=True)
        )
        return classify_table(self.model, rows, mode=mode, weights=fitted_weights(summary, mode))

    def copy_to(self, model: SSVAE, prepared: Prepared) -> None:
        """Start a new model, of more symbols and classes, from the run's weights."""
        copy_weights(model, self.model, prepared.vocabulary)

    @property
    def _learned(self) -> set[str]:
        """Ids of the rows whose labels the run learned."""
        split, summary = self.contents.split, self.contents.manifest.get("summary", {})
        dev = split.get("dev", ()) if summary.get("dev_labels_learned") else ()
        return {*split.get("labelled", ()), *dev}

    def powers(self, prepared: Prepared) -> dict[str, Any]:
        """Mode and powers of the run where most held-out labels are of rows that it generated.

        Those rows are easier than others, so that powers fitted to them are too large.
        """
        is_generated = np.isin(prepared.labelled_dev.index, prepared.corpus.generated)
        summary = self.contents.manifest.get("summary", {})
        if 2 * int(is_generated.sum()) <= len(is_generated) or "powers" not in summary:
            return {}
        kept = {name: summary[name] for name in ("mix_weights", "powers")}
        return {"best_mode": summary.get("mode", "q"), **kept}

    def compare(
        self, model: SSVAE, prepared: Prepared, mode: str, weights: tuple[float, float]
    ) -> dict[str, Any]:
        """Accuracy on held-out rows, of the run's classes before and after, and of new ones.

        Args:
            model: The trained model.
            prepared: The rows.
            mode: In which the model classifies.
            weights: Its weights.

        Returns:
            `old_accuracy_before`, `old_accuracy`, `new_accuracy` and the numbers of rows
            `num_old_rows` and `num_new_rows`; `num_learned_before`, those whose label the run had
            learned; `start`, the run; accuracy is None without rows.
        """
        rows, num_old = prepared.labelled_dev, self.model.num_classes
        is_old = rows.y < num_old
        is_right = classify_table(model, rows, mode=mode, weights=weights).argmax(1) == rows.y
        old = rows.take(is_old)
        before = is_old[:0]
        if len(old):
            before = self.classify(prepared.sequences(old)).argmax(1) == old.y
        found: dict[str, Any] = {
            name: float(one.mean()) if len(one) else None
            for name, one in (
                ("old_accuracy_before", before),
                ("old_accuracy", is_right[is_old]),
                ("new_accuracy", is_right[~is_old]),
            )
        }
        logger.info(
            "accuracy on held-out rows: "
            + ", ".join(
                f"{name.replace('_', ' ')} {value:.3f}"
                for name, value in found.items()
                if value is not None
            )
        )
        learned = self._learned
        is_learned = [id in learned for id in old.ids]
        if any(is_learned):
            logger.info(
                f"{self.folder} had learned {sum(is_learned)} of the {len(old)} labels of its "
                "classes there: 'before' is too good; measure both runs with evaluate on other rows"
            )
        found |= {"start": str(self.folder), "num_learned_before": sum(is_learned)}
        return {**found, "num_old_rows": len(old), "num_new_rows": len(rows) - len(old)}
