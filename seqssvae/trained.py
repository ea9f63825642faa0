"""A trained model: evaluation, classification, generation, and its latent space."""

import copy
import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack

import numpy as np
import torch
from numpy.typing import NDArray

from seqssvae import devices
from seqssvae.config import Config
from seqssvae.data.columns import dataset_of
from seqssvae.data.corpus import Source
from seqssvae.data.encoded import EncodedRows
from seqssvae.data.labels import Labels
from seqssvae.data.sources import RowReader, Sequences
from seqssvae.data.vocabulary import Vocabulary
from seqssvae.errors import InputError, check_share, check_whole
from seqssvae.inference.answers import answer_rows
from seqssvae.inference.classify import fitted_weights, mode_powers
from seqssvae.inference.conformal import HeldOut, greatest_losses, label_sets
from seqssvae.inference.evaluate import LIKELIHOOD_ROWS, NUM_SAMPLES, evaluate
from seqssvae.inference.explain import explain_rows
from seqssvae.inference.generate import classes_of, generate, interpolate, place_of, transfer
from seqssvae.inference.novelty import log_prob
from seqssvae.inference.predict import add_columns, classify_table, encode_table
from seqssvae.inference.tally import measure_columns, measure_levels
from seqssvae.inference.writing import options as writing
from seqssvae.inference.writing.options import LARGEST_SEED, Generation, Options, Transfer
from seqssvae.model.ssvae import SSVAE
from seqssvae.runs.pretrained import Pretrained
from seqssvae.runs.run import RunContents, load_run, restore_model

if TYPE_CHECKING:
    import datasets


MAX_SAMPLES = 1_000_000  # in a call
EXTRA_LENGTH = 1.5  # generated sequences may be longer than those of training


@dataclasses.dataclass(frozen=True)
class TrainedModel(Pretrained):
    """A trained model with its vocabulary and its classes.

    In examples `run` is a small model's folder; "ab", "abab", ... are "left", "cd", ... "right".

    Attributes:
        model: The networks, in evaluation mode.
        config: The run's settings.
        vocabulary: Symbols to ids and back.
        labels: The classes; none for the plain VAE.
        manifest: Plain values about the run: source, versions, a summary.
        checksum: SHA-256 of the run's files, if the model was loaded from one.

    Example:
        >>> model = seqssvae.load(run)
        >>> model.classify(["abab"])[0]["label"], len(model.generate("left", 3))
        ('left', 3)
    """

    model: SSVAE
    config: Config
    vocabulary: Vocabulary
    labels: Labels
    manifest: dict[str, Any]
    checksum: str = ""

    def __repr__(self) -> str:
        """One line, without the networks and the vocabulary."""
        names = self.labels.names
        shown = ", ".join(map(repr, names[:3])) + ", ..." * (len(names) > 3)
        classes = f"{len(names)} classes ({shown})" if names else "no classes"
        return (
            f"{type(self).__name__}({classes}, {len(self.vocabulary)} symbols "
            f"({self.vocabulary.kind}), z of {self.model.latent_size} dims, {self.device})"
        )

    def __getstate__(self) -> dict[str, Any]:
        """State for pickle, with the networks on the CPU, so that any machine can load it."""
        model = self.model if self.device.type == "cpu" else copy.deepcopy(self.model).cpu()
        return {**self.__dict__, "model": model}

    @property
    def device(self) -> torch.device:
        """Where the networks are, and run."""
        return self.model.prior_logits.device

    @property
    def reader(self) -> RowReader:
        """Reads what methods are given."""
        share = (self.manifest.get("summary") or {}).get("unseen_share") or 0.0
        return RowReader(self.config, self.vocabulary, self.labels, share)

    @property
    def is_classifier(self) -> bool:
        """Whether it is a classifier alone, of `training.classifier_only`."""
        return self.config.training.classifier_only

    def require_decoder(self, what: str) -> None:
        """Raise if this is a classifier alone; `what` is named in the error."""
        if self.is_classifier:
            raise InputError(f"{what}: wanted a whole model, got one of train --classifier-only")

    @property
    def default_mode(self) -> str:
        """The mode of `classify` that had the least cross-fitted log-loss on labelled dev rows."""
        return str(self.manifest.get("summary", {}).get("mode", "q"))

    def weights(self, mode: str | None = None) -> tuple[float, float]:
        """The weights of q(y | x) and of the posterior in a mode, fitted to dev rows."""
        return fitted_weights(self.manifest.get("summary", {}), mode or self.default_mode)

    @property
    def held_out(self) -> HeldOut:
        """What sets and novelty are measured by: held-out rows, before their labels were learned.

        Raises:
            InputError: the run has no such rows with a label, or an earlier version wrote it.
        """
        return HeldOut.from_plain(self.manifest.get("held_out"), len(self.labels.names))

    @property
    def has_sets(self) -> bool:
        """Whether the run has the held-out labels that sets are made by."""
        return bool(self.labels.names and self.manifest.get("held_out"))

    def greatest_losses(self, coverage: float, mode: str | None = None) -> NDArray[np.float64]:
        """The greatest log-loss of a label in a set of this coverage; see `greatest_losses`."""
        check_share("coverage", coverage)
        mode_powers(mode := mode or self.default_mode, (1.0, 1.0))  # an unknown one is refused
        losses, y = self.held_out.losses[mode], self.held_out.y
        return greatest_losses(losses, y, num_classes=len(self.labels.names), coverage=coverage)

    def evaluate(
        self,
        data: Source,
        *,
        num_samples: int = NUM_SAMPLES,
        likelihood_rows: int | None = LIKELIHOOD_ROWS,
        seed: int = 0,
        coverage: float | None = None,
    ) -> dict[str, Any]:
        """Measure the model on a file's rows; see `seqssvae.inference.evaluate.evaluate`.

        Args:
            data: A file, `hub:NAME`, a `datasets.Dataset` or a DataFrame.
            num_samples: Importance samples of z for each row and label.
            likelihood_rows: Rows, drawn by the seed, that ELBO, NLL and the like are measured on;
                None for all, which takes `num_samples` times as long as to classify them.
            seed: Seed of the samples and of the choice of rows.
            coverage: Measure sets of labels of this coverage too, see `classify`.

        Returns:
            Accuracy, macro-F1 and the figures of each class over all labelled rows; ELBO, NLL and
            KL in nats per sequence over `num_likelihood_rows` of the rows, each with its standard
            error, as `nll_se`. With several columns of labels, `columns` has those of each; with a
            label tree, `levels` those of each level above the leaves, from the top down.

        Raises:
            InputError: bad input, or a label that training never saw.

        Example:
            >>> metrics = seqssvae.load(run).evaluate(data)
            >>> metrics["num_rows"], metrics["accuracy"] > 0.9
            (40, True)
        """
        rows = self.read(data, labels=True)
        _check_samples(num_samples, seed, least=1)
        figures = evaluate(
            self.model,
            rows,
            num_samples=num_samples,
            likelihood_rows=0 if self.is_classifier else likelihood_rows,
            seed=seed,
            mode=self.default_mode,
            weights=self.weights(),
            class_names=self.labels.names or None,
            greatest=None if coverage is None else self.greatest_losses(coverage),
        )
        figures |= measure_columns(self.labels, rows, self.classify_table)
        return figures | measure_levels(self.labels, rows, self.classify_table)

    def classify(
        self,
        sequences: Sequences,
        *,
        mode: str | None = None,
        num_samples: int = 0,
        seed: int = 0,
        coverage: float | None = None,
        abstain: float | None = None,
        novel: float | None = None,
    ) -> list[dict[str, Any]]:
        """Label sequences.

        Args:
            sequences: Texts, or lists of tokens, as in training, or a DataFrame with such a column.
            mode: "q" for q(y | x), "posterior" for Bayes' rule p(y | x) with importance samples
                of z, "mix" for their product with fitted weights; `default_mode` when None.
            num_samples: Samples of z for "posterior" and "mix"; 0: z at its mean.
            seed: Seed of the samples.
            coverage: Give sets that hold the true label with this probability; see
                `seqssvae.inference.conformal`.
            abstain: Leave rows undecided whose best label has a probability below this one.
            novel: Call rows `none of the classes` of which among the held-out rows no more than
                this share are as unlikely; see `seqssvae.inference.novelty`.

        Returns:
            For each sequence, in order, its `label` (None: undecided), the best label's
            `probability`, and the `probabilities` of all labels by name; where asked for, its
            `set` of labels, whether it `abstained`, and its `novelty`; with a label tree `levels`,
            from the top down the likeliest `label` of each and its `probability`.

        Raises:
            InputError: a sequence of the wrong kind, a model without classes, a number out of
                range, or a run without held-out labels for sets or novelty.

        Example:
            >>> [row["label"] for row in seqssvae.load(run).classify(["abab", "cdcdcd"])]
            ['left', 'right']
        """
        answered = self.classify_rows(
            self.read_sequences(sequences),
            mode=mode,
            num_samples=num_samples,
            seed=seed,
            coverage=coverage,
            abstain=abstain,
            novel=novel,
        )
        return list(answered)

    def classify_rows(
        self,
        rows: EncodedRows,
        *,
        mode: str | None = None,
        num_samples: int = 0,
        seed: int = 0,
        coverage: float | None = None,
        abstain: float | None = None,
        novel: float | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Label encoded rows; as `classify`."""
        if not self.labels.names:
            raise InputError("wanted a model with classes, got one that was trained on no labels")
        _check_samples(num_samples, seed)
        return answer_rows(
            self.model,
            rows,
            self.labels,
            functools.partial(self.classify_table, mode=mode, num_samples=num_samples, seed=seed),
            greatest=None if coverage is None else self.greatest_losses(coverage, mode),
            abstain=abstain,
            reference=None if novel is None else self.held_out.reference,
            novel=novel,
        )

    def explain(
        self,
        sequences: Sequences,
        *,
        label: str | None = None,
        against: str | None = None,
        mode: str | None = None,
    ) -> list[dict[str, Any]]:
        """What of each sequence speaks for a label and against another, as `classify` decides.

        Args:
            sequences: As in `classify`.
            label: The label; the likeliest of each sequence when None.
            against: The other label; the likeliest beside `label` when None.
            mode: As in `classify`.

        Returns:
            For each sequence `label`, `against`, and in nats the `difference` of their
            log-probabilities, the `share` of each of `symbols` in it, by source (`ngrams`,
            `encoder`, `decoder`) too, and the `rest`, which all shares and it add up to; the shares
            of `words`, if there are several, and the greatest of `ngrams` of q(y | x).

        Raises:
            InputError: bad input, an unknown label, or fewer than two classes.

        Example:
            >>> (found,) = seqssvae.load(run).explain(["abab"])
            >>> found["label"], found["against"], found["difference"] > 0
            ('left', 'right', True)
        """
        names = self.labels.names
        if len(names) < 2 or (label is not None and label == against):
            got = f"{len(names)} in the model" if len(names) < 2 else f"{label} twice"
            raise InputError(f"explain: wanted two labels, got {got}")
        given = [None if one is None else self.labels.of_argument(one) for one in (label, against)]
        rows = self.read_sequences(sequences)
        return explain_rows(
            self.model,
            rows,
            self.classify_table(rows, mode=mode),
            names,
            given,
            vocabulary=self.vocabulary,
            mode=mode or self.default_mode,
            weights=self.weights(mode),
        )

    def generate(
        self,
        label: str | Mapping[str, float] | None = None,
        n: int = 1,
        **options: Unpack[Generation],
    ) -> list[str | list[str]]:
        """Generate sequences of a label, each from its own z ~ p(z).

        Sequence i depends on the seed and on i only, not on `n`.

        Args:
            label: A class's name, or weights of classes by name, which are blended; None for a
                model without classes, or for the likeliest class of `like`.
            n: Number of sequences.
            options: prefix, strategy ("sample", "greedy", "beam"), temperature, top_k, top_p,
                guidance, best_of, width, constraint, min_length, max_length, seed; like, radius,
                unique. They are the flags of `seqssvae generate`.

        Raises:
            InputError: an unknown label, a number out of range, or nothing that fits the options.

        Example:
            >>> model = seqssvae.load(run)
            >>> model.generate("left", 3, seed=1) == model.generate("left", 3, seed=1)
            True
        """
        return list(self.iterate(label, n, **options))

    def iterate(
        self,
        label: str | Mapping[str, float] | None = None,
        n: int = 1,
        **options: Unpack[Generation],
    ) -> Iterator[str | list[str]]:
        """As `generate`, some thousand sequences at a time."""
        return (one for one, _ in self.iterate_with_y(label, n, **options))

    def iterate_with_y(
        self, label: str | Mapping[str, float] | None, n: int, **options: Unpack[Generation]
    ) -> Iterator[tuple[str | list[str], int | None]]:
        """As `iterate`, each with its y; None of a blend of labels, or without classes."""
        like, radius = options.pop("like", None), options.pop("radius", writing.RADIUS)
        near, own, unique = None, None, options.pop("unique", False)
        decoding = self._decoding("generate", options, writing.WRITING)
        if like is not None:
            loc, own = place_of(self.model, self.read_sequences([like]))
            near = loc, radius
        y = classes_of(self.labels, label) if label is not None or own is None else own
        return generate(self.model, self.vocabulary, n, y, decoding, near=near, unique=unique)

    def transfer(
        self, sequences: Sequences, to: str, **options: Unpack[Transfer]
    ) -> list[str | list[str]]:
        """Rewrite each sequence under another label: the same z, another y.

        Args:
            sequences: As in `classify`.
            to: The label; of several columns some of them, of which the others stay.
            options: As of `generate`, and `keep`; by default the best of 32 samples at temperature
                0.8.

        Example:
            >>> len(seqssvae.load(run).transfer(["abab"], to="right"))
            1
        """
        keep = options.pop("keep", writing.KEEP)
        decoding = self._decoding("transfer", options, writing.REWRITING)
        rows, y = self.read_sequences(sequences), self.labels.fitting(to) or ()
        written = transfer(self.model, rows, decoding, to=y, keep=keep)
        return list(map(self.vocabulary.decode, written))

    def interpolate(
        self,
        a: str | Sequence[str],
        b: str | Sequence[str],
        steps: int = 5,
        *,
        label: str | None = None,
        **options: Unpack[Options],
    ) -> list[str | list[str]]:
        """Interpolate z from one sequence to another.

        Args:
            a: First sequence.
            b: Last sequence.
            steps: Number of sequences, both ends included, at least 2.
            label: Label of all of them; the likeliest label of `a` when None.
            options: As of `transfer`.

        Example:
            >>> len(seqssvae.load(run).interpolate("ab", "abababab", steps=4))
            4
        """
        decoding = self._decoding("interpolate", options, writing.REWRITING)
        rows, y = self.read_sequences([a, b]), None if label is None else self.labels.fitting(label)
        written = interpolate(self.model, rows, decoding, steps=steps, y=y)
        return list(map(self.vocabulary.decode, written))

    def log_prob(self, sequences: Sequences, label: str | None = None) -> NDArray[np.float64]:
        """log p(x) of each sequence in nats, or log p(x | y), by 16 samples of z, `[n]`."""
        self.require_decoder("log_prob")
        y = None if label is None else self.labels.of_argument(label)
        return log_prob(self.model, self.read_sequences(sequences), y)

    def classify_table(
        self, rows: EncodedRows, *, mode: str | None = None, num_samples: int = 0, seed: int = 0
    ) -> NDArray[np.float64]:
        """Probabilities of every label for encoded rows, `[n, K]`; arguments as of `classify`."""
        if mode in ("posterior", "mix"):
            self.require_decoder(f"mode {mode}")
        return classify_table(
            self.model,
            rows,
            mode=mode or self.default_mode,
            weights=self.weights(mode),
            num_samples=num_samples,
            seed=seed,
        )

    def encode(self, sequences: Sequences) -> dict[str, NDArray[np.floating]]:
        """Encode sequences into the latent space.

        Returns:
            `loc` and `scale` of q(z | x, y) at the likeliest y, each `[n, Z]`, and
            `probabilities`, `[n, K]`.

        Example:
            >>> seqssvae.load(run).encode(["ab", "cd"])["loc"].shape
            (2, 2)
        """
        return self.encode_rows(self.read_sequences(sequences))

    def encode_rows(self, rows: EncodedRows) -> dict[str, NDArray[np.floating]]:
        """As `encode`, for encoded rows."""
        return encode_table(self.model, rows, weights=self.weights("q"))

    def annotate(
        self, data: "datasets.Dataset", *, mode: str | None = None, coverage: float | None = None
    ) -> "datasets.Dataset":
        """A data set with predictions and latent variables of each row.

        Args:
            data: Data set, or a DataFrame; its columns are chosen as in training.
            mode: Mode of the probabilities, as in `classify`.
            coverage: Of the sets of labels, as in `classify`.

        Returns:
            The same rows and columns, with `predicted_label` (a `ClassLabel`) and `probabilities`
            if the model has classes, `predicted_set` (a list of `ClassLabel`) if asked for, and
            `loc` and `scale` of q(z | x, y).

        Raises:
            InputError: bad input, or a column that has one of these names.
        """
        data = dataset_of(data)
        rows = self.read(data)
        columns: dict[str, Any] = self.encode_rows(rows)
        if self.labels.names:
            columns["probabilities"] = self.classify_table(rows, mode=mode)
        if coverage is not None:
            greatest = self.greatest_losses(coverage, mode)
            columns["sets"] = label_sets(columns["probabilities"], greatest)
        return add_columns(data, columns, self.labels.names)

    def read(self, data: Source, *, labels: bool = False) -> EncodedRows:
        """Rows of a file, encoded for this model, with their labels if `labels`."""
        return self.reader.read(data, labels=labels)

    def read_sequences(self, sequences: Sequences) -> EncodedRows:
        """Texts, or lists of tokens, encoded for this model; of a DataFrame, its rows as of a file.

        Raises:
            InputError: a sequence of the wrong kind.
        """
        return self.reader.read_sequences(sequences)

    def to_contents(self) -> RunContents:
        """Contents of a run's folder, without the ids of the rows."""
        weights = self.model.state_dict()
        return RunContents(self.config, self.vocabulary, self.labels, {}, weights, self.manifest)

    @classmethod
    def from_contents(cls, contents: RunContents, where: str, device: str = "auto") -> Self:
        """The model of a run on a device; `where` is named in errors."""
        return cls(
            model=restore_model(contents, where).to(devices.resolve(device)),
            config=contents.config,
            vocabulary=contents.vocabulary,
            labels=contents.labels,
            manifest=contents.manifest,
            checksum=contents.checksum,
        )

    def _decoding(self, what: str, options: Options, defaults: Options) -> writing.Decoding:
        self.require_decoder(what)
        longest = int(self.config.data.max_length * EXTRA_LENGTH)
        every: Options = {**defaults, **options}
        return writing.Decoding.of_options(self.vocabulary, longest, **every)


def _check_samples(num_samples: int, seed: int, *, least: int = 0) -> None:
    check_whole("num_samples", num_samples, least, MAX_SAMPLES)
    check_whole("seed", seed, 0, LARGEST_SEED)


def load(run: str | Path, device: str = "auto") -> TrainedModel:
    """Load a trained run.

    Args:
        run: Folder that `seqssvae train --out` wrote.
        device: Where the model runs, whatever it was trained on: "cpu", "cuda", "mps", or "auto", a
            GPU with CUDA if there is one, else the CPU.

    Raises:
        InputError: no such device, the folder is missing, or a file in it is missing, damaged, or
            unsafe: a link, a pickle, weights of other sizes than the config's.

    Example:
        >>> seqssvae.load(run).labels.names
        ('left', 'right')
    """
    return load_with_split(run, device)[0]


def load_with_split(
    run: str | Path, device: str = "auto"
) -> tuple[TrainedModel, Mapping[str, Sequence[str]]]:
    """As `load`, with the ids of the run's rows by part of the split."""
    contents = load_run(Path(run), check_weights=True)
    return TrainedModel.from_contents(contents, str(run), device), contents.split
