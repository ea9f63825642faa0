"""A trained model and what it is used for."""

import dataclasses
import itertools
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from seqssvae.config import Config
from seqssvae.data.batches import Batch, collate, evaluation_batches
from seqssvae.data.corpus import Source
from seqssvae.data.encode import encode_sequences
from seqssvae.data.encoded import EncodedRows
from seqssvae.data.labels import Labels
from seqssvae.data.prepare import read_like
from seqssvae.data.rows import MAX_SYMBOLS
from seqssvae.data.vocabulary import Vocabulary
from seqssvae.errors import InputError
from seqssvae.inference.classify import classify
from seqssvae.inference.decode import beam, greedy, sample
from seqssvae.inference.evaluate import evaluate
from seqssvae.inference.latent import encode_z, interpolate, transfer
from seqssvae.model.build import build_model, meta_weights
from seqssvae.model.ssvae import SSVAE
from seqssvae.runs.run import RunContents, load_run

if TYPE_CHECKING:
    import datasets

    from seqssvae.runs.hub import SharedRun

logger = logging.getLogger(__name__)

BATCH_SIZE = 256
MOST_SEQUENCES, MOST_SAMPLES = 10_000_000, 1_000_000  # that are asked for at once
LARGEST_SEED = 2**63 - 1
PART_ROWS = 100_000  # of a file that is classified or encoded at once
MOST_ROWS, NUM_SYMBOLS = 4096, 2**14  # of a batch that is classified
EXTRA_LENGTH = 1.5  # generated sequences may be longer than the longest that training kept


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A trained model with its vocabulary and its classes.

    `run` in the examples is the folder of a small model of the words "ab", "abab", ... and "cd",
    "cdcd", ..., labelled "left" and "right".

    Attributes:
        model: The networks, in evaluation mode.
        config: The run's settings.
        vocabulary: Symbols to ids and back.
        labels: The classes; none for the plain VAE.
        manifest: What is known about the run.
        checksum: SHA-256 of the run's files, if the model was loaded from one.
    """

    model: SSVAE
    config: Config
    vocabulary: Vocabulary
    labels: Labels
    manifest: dict[str, Any]
    checksum: str = ""

    def evaluate(self, data: Source, *, num_samples: int = 16, seed: int = 0) -> dict[str, Any]:
        """Measure the model on a file's rows; see `seqssvae.inference.evaluate.evaluate`.

        Args:
            data: A file, `hub:NAME`, or a `datasets.Dataset`.
            num_samples: Importance samples of z for each row and label.
            seed: Of the samples.

        Returns:
            Accuracy and macro-F1 over labelled rows; ELBO, NLL and KL in nats per sequence.

        Raises:
            InputError: bad input, or a label that training never saw.

        Example:
            >>> figures = seqssvae.load(run).evaluate(data)
            >>> figures["num_rows"], figures["accuracy"] > 0.9
            (40, True)
        """
        rows = read_like(data, self.config, self.vocabulary, self.labels)
        self._tell(rows)
        _check_samples(num_samples, seed)
        return evaluate(self.model, rows, num_samples=num_samples, seed=seed)

    def classify(
        self,
        sequences: Sequence[str] | Sequence[Sequence[str]],
        *,
        mode: str = "q",
        num_samples: int = 8,
        seed: int = 0,
    ) -> list[dict[str, Any]]:
        """Label sequences.

        Args:
            sequences: Texts, or lists of tokens, as in training.
            mode: "q" for q(y | x), "posterior" for Bayes' rule p(y | x) with importance samples
                of z, "mix" for their normalised geometric mean.
            num_samples: Samples of z that "posterior" and "mix" take.
            seed: Of the samples.

        Returns:
            For each sequence, in order, its `label`, that label's `probability`, and the
            `probabilities` of all labels by name.

        Raises:
            InputError: a sequence of the wrong kind, or a model without classes.

        Example:
            >>> [row["label"] for row in seqssvae.load(run).classify(["abab", "cdcdcd"])]
            ['left', 'right']
        """
        rows = self.read_sequences(sequences)
        return list(self.classify_rows(rows, mode=mode, num_samples=num_samples, seed=seed))

    def classify_rows(
        self, rows: EncodedRows, *, mode: str = "q", num_samples: int = 8, seed: int = 0
    ) -> Iterator[dict[str, Any]]:
        """Label encoded rows; as `classify`."""
        if not self.labels.names:
            raise InputError("wanted a model with classes, got one that was trained on no labels")
        _check_samples(num_samples, seed)
        for part in rows.parts(PART_ROWS):  # a table of all might not fit in memory
            for row in classify_table(
                self.model, part, mode=mode, num_samples=num_samples, seed=seed
            ):
                best = int(row.argmax())
                yield {
                    "label": self.labels.names[best],
                    "probability": float(row[best]),
                    "probabilities": dict(zip(self.labels.names, row.tolist(), strict=True)),
                }

    def generate(
        self,
        label: str | None = None,
        n: int = 1,
        *,
        prefix: str | Sequence[str] = "",
        strategy: str = "sample",
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        width: int = 8,
        max_length: int | None = None,
        seed: int = 0,
    ) -> list[str | list[str]]:
        """Write new sequences of a label, each from a z of its own drawn from p(z).

        Sequence i is a function of the seed and of i: more of them are the same and others.

        Args:
            label: A class's name; None for a model without classes.
            n: How many.
            prefix: What they begin with.
            strategy: "sample", "greedy" or "beam".
            temperature: Of the sampled symbols; below 1 is nearer to greedy.
            top_k: Sample among the k likeliest symbols; 0 for all.
            top_p: Sample among the likeliest symbols that hold this much probability.
            width: Of the beam.
            max_length: Symbols at most, EOS included.
            seed: The same seed gives the same sequences; 0 or more.

        Raises:
            InputError: an unknown label or strategy, or a number out of range.

        Example:
            >>> model = seqssvae.load(run)
            >>> model.generate("left", 3, seed=1) == model.generate("left", 3, seed=1)
            True
        """
        _check_whole("n", n, 0, MOST_SEQUENCES)
        _check_whole("seed", seed, 0, LARGEST_SEED)
        _check_whole("top_k", top_k, 0, LARGEST_SEED)
        y = self._label(label, n)
        drawn = np.empty((n, self.model.latent_size))
        for row in range(n):
            drawn[row] = np.random.default_rng([seed, row]).standard_normal(drawn.shape[1])
        z = torch.from_numpy(drawn).to(self.model.prior_logits)
        ids = self.vocabulary.encode(prefix) if prefix else []
        longest = self._longest() if max_length is None else max_length
        _check_whole("max_length", longest, 1, MAX_SYMBOLS)
        decoder = self.model.decoder
        if strategy == "sample":
            found = sample(
                decoder,
                z,
                y,
                max_length=longest,
                temperature=temperature,
                top_k=top_k,
                top_p=top_p,
                prefix=ids,
                generator=torch.Generator().manual_seed(seed),
            )
        elif strategy == "greedy":
            found = greedy(decoder, z, y, max_length=longest, prefix=ids)
        elif strategy == "beam":
            _check_whole("width", width, 1, MOST_SAMPLES)
            found = beam(decoder, z, y, max_length=longest, width=width, prefix=ids).sequences
        else:
            raise InputError(f"strategy: wanted sample, greedy or beam, got {strategy}")
        return [self.vocabulary.decode(row) for row in found]

    def transfer(
        self, sequences: Sequence[str] | Sequence[Sequence[str]], to: str
    ) -> list[str | list[str]]:
        """Write each sequence anew under another label: the same z, another y, greedily.

        Raises:
            InputError: an unknown label.

        Example:
            >>> len(seqssvae.load(run).transfer(["abab"], to="right"))
            1
        """
        rows = self.read_sequences(sequences)
        y = int(self._class(to))
        found: list[list[int]] = [[] for _ in range(len(rows))]
        for indices, batch in self._batches(rows):
            for index, ids in zip(
                indices, transfer(self.model, batch, to=y, max_length=self._longest()), strict=True
            ):
                found[int(index)] = ids
        return [self.vocabulary.decode(ids) for ids in found]

    def interpolate(
        self,
        a: str | Sequence[str],
        b: str | Sequence[str],
        steps: int = 5,
        *,
        label: str | None = None,
    ) -> list[str | list[str]]:
        """Walk through z from one sequence to another, decoding greedily.

        Args:
            a: Where the walk begins.
            b: Where it ends.
            steps: Sequences on the way, both ends included, at least 2.
            label: y on the whole way; the likeliest label of `a` when None.

        Raises:
            InputError: fewer than 2 steps, or an unknown label.

        Example:
            >>> len(seqssvae.load(run).interpolate("ab", "abababab", steps=4))
            4
        """
        _check_whole("steps", steps, 2, MOST_SAMPLES)
        rows = self.read_sequences([a, b])
        batch = collate(rows, np.arange(2), num_classes=self.model.num_classes)
        y = None if label is None else self._class(label)
        found = interpolate(self.model, batch, steps=steps, y=y, max_length=self._longest())
        return [self.vocabulary.decode(ids) for ids in found]

    def encode(
        self, sequences: Sequence[str] | Sequence[Sequence[str]]
    ) -> dict[str, NDArray[np.floating]]:
        """Each sequence's place in the latent space.

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
        sizes = {"loc": self.model.latent_size, "scale": self.model.latent_size}
        sizes["probabilities"] = num_classes = self.model.num_classes
        dtype = self.model.prior_logits.cpu().numpy().dtype
        found = {name: np.zeros((len(rows), size), dtype) for name, size in sizes.items()}
        for indices, batch in self._batches(rows):
            loc, scale = encode_z(self.model, batch)
            found["loc"][indices], found["scale"][indices] = loc.numpy(), scale.numpy()
            if num_classes:
                found["probabilities"][indices] = classify(self.model, batch).numpy()
        return found

    def annotate(self, data: "datasets.Dataset", *, mode: str = "q") -> "datasets.Dataset":
        """A data set with what the model says of each row.

        Args:
            data: Its columns are found as in training.
            mode: Of the probabilities, as in `classify`.

        Returns:
            The same rows and columns, with `predicted_label` (a `ClassLabel`) and `probabilities`
            if the model has classes, and `loc` and `scale` of q(z | x, y).

        Raises:
            InputError: bad input, or a column that has one of these names.
        """
        import datasets

        rows = self.read(data)
        found = self.encode_rows(rows)
        numbers = datasets.List(datasets.Value("float32"))
        columns = {"loc": list(found["loc"]), "scale": list(found["scale"])}
        features: dict[str, Any] = {"loc": numbers, "scale": numbers}
        if self.labels.names:
            table = classify_table(self.model, rows, mode=mode)
            columns.update(predicted_label=table.argmax(1).tolist(), probabilities=list(table))
            classes = datasets.ClassLabel(names=list(self.labels.names))
            features.update(predicted_label=classes, probabilities=numbers)
        taken = sorted(set(columns) & set(data.column_names))
        if taken:
            raise InputError(f"dataset: wanted no column {taken[0]!r}, got one")
        more = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
        return datasets.concatenate_datasets([data, more], axis=1)

    def read(self, data: Source, *, labels: bool = False) -> EncodedRows:
        """A file's rows as this model reads them; labels are read if asked for."""
        rows = read_like(data, self.config, self.vocabulary, self.labels if labels else None)
        self._tell(rows)
        return rows

    def read_sequences(self, sequences: Sequence[str] | Sequence[Sequence[str]]) -> EncodedRows:
        """Texts, or lists of tokens, as this model reads them.

        Raises:
            InputError: a sequence of the wrong kind.
        """
        if isinstance(sequences, str):  # which holds texts, its characters
            raise InputError(f"wanted a list of sequences, got the text {sequences!r:.40}")
        sequences = list(sequences)
        wants_text = self.vocabulary.kind != "tokens"
        for number, sequence in enumerate(sequences, start=1):
            if wants_text != isinstance(sequence, str) or not _is_sequence(sequence):
                wanted = "a text" if wants_text else "a list of tokens"
                raise InputError(f"sequence {number}: wanted {wanted}, got {sequence!r:.40}")
        rows = encode_sequences(sequences, self.vocabulary, max_length=self.config.data.max_length)
        self._tell(rows)
        return rows

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model and a model card, README.md, into a folder, as for the hub.

        An older README.md there is kept. Ids of the training rows are not written.

        Raises:
            InputError: the folder cannot be written to.
        """
        self._shared().save_pretrained(folder)

    def push_to_hub(
        self,
        name: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        branch: str | None = None,
        commit_message: str = "A model of seqssvae",
    ) -> str:
        """Put what `save_pretrained` writes on the Hugging Face hub.

        Args:
            name: "OWNER/NAME".
            private: Of a new repository; None is the owner's default.
            token: That of `hf auth login` when None.
            branch: "main" when None.
            commit_message: Of the commit.

        Returns:
            The commit's address.
        """
        url: str = self._shared().push_to_hub(
            name, private=private, token=token, branch=branch, commit_message=commit_message
        )
        return url

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
    ) -> "TrainedModel":
        """Load a model of the hub, or a folder that `save_pretrained` or training wrote.

        Args:
            name: "OWNER/NAME" or a folder.
            revision: A branch, tag or commit of the hub; "main" when None.
            token: That of `hf auth login` when None.
            cache_dir: The hub's own cache when None.
            local_files_only: Look in the cache alone.

        Raises:
            InputError: no such model, or one that is damaged, or has a setting that is not known.
        """
        from seqssvae.runs.hub import load_shared

        contents = load_shared(
            name,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
        )
        return _restore(contents, str(name))

    def _shared(self) -> "SharedRun":
        from seqssvae.runs.hub import SharedRun  # the hub's client takes a second to import

        return SharedRun(
            RunContents(
                config=self.config,
                vocabulary=self.vocabulary,
                labels=self.labels,
                split={},
                weights=self.model.state_dict(),
                manifest=self.manifest,
            )
        )

    def split_texts(self, texts: Sequence[str]) -> list[Any]:
        """Words of a command line as sequences: split at spaces if the symbols are tokens."""
        return [text.split() for text in texts] if self.vocabulary.kind == "tokens" else list(texts)

    def read_texts(self, texts: Sequence[str]) -> EncodedRows:
        """Words of a command line as rows.

        Raises:
            InputError: an empty text.
        """
        for number, text in enumerate(texts, start=1):
            if not text.strip():
                raise InputError(f"TEXT {number}: wanted a sequence, got an empty one")
        return self.read_sequences(self.split_texts(texts))

    def _tell(self, rows: EncodedRows) -> None:
        """Say what could not be read as it stands."""
        if rows.num_unknown:
            logger.warning("%d symbols are not in the vocabulary: read as UNK", rows.num_unknown)
        if rows.num_truncated:
            logger.warning(
                "%d rows are longer than %d symbols: cut",
                rows.num_truncated,
                self.config.data.max_length,
            )

    def _batches(self, rows: EncodedRows) -> Iterator[tuple[NDArray[np.int64], Batch]]:
        return evaluation_batches(rows, BATCH_SIZE, num_classes=self.model.num_classes)

    def _longest(self) -> int:
        return int(self.config.data.max_length * EXTRA_LENGTH)

    def _class(self, label: str) -> int:
        if not self.labels.names:
            raise InputError(f"label: wanted none for a model without classes, got {label}")
        return self.labels.index(label, "label")

    def _label(self, label: str | None, n: int) -> torch.Tensor | None:
        if label is None:
            if self.labels.names:
                raise InputError(f"label: wanted one of {', '.join(self.labels.names)}, got none")
            return None
        return torch.full((n,), self._class(label))


def _is_sequence(value: object) -> bool:
    """Whether something is a text or tokens."""
    return isinstance(value, Collection) and all(isinstance(part, str) for part in value)


def _check_samples(num_samples: int, seed: int) -> None:
    _check_whole("num_samples", num_samples, 1, MOST_SAMPLES)
    _check_whole("seed", seed, 0, LARGEST_SEED)


def _check_whole(name: str, value: object, low: int, high: int) -> None:
    wanted = "a whole number"
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        if low <= value <= high:
            return
        wanted = f"at least {low}" if value < low else f"at most {high:,}"
    raise InputError(f"{name}: wanted {wanted}, got {value!r:.40}")


def classify_table(
    model: SSVAE, rows: EncodedRows, *, mode: str = "q", num_samples: int = 8, seed: int = 0
) -> NDArray[np.float64]:
    """Probabilities of every label for every row, `[n, K]`; arguments as of `classify`."""
    table = np.zeros((len(rows), model.num_classes))
    batches = evaluation_batches(
        rows, MOST_ROWS, num_classes=model.num_classes, num_symbols=NUM_SYMBOLS
    )
    for indices, batch in batches:
        generator = torch.Generator().manual_seed(seed)
        found = classify(model, batch, mode=mode, num_samples=num_samples, generator=generator)
        table[indices] = found.double().numpy()
    return table


def load(run: str | Path) -> TrainedModel:
    """Load a trained run.

    Args:
        run: The folder that `seqssvae train --out` wrote.

    Raises:
        InputError: the folder is missing, or a file in it is missing, damaged, or not to be
            trusted: a link, a pickle, weights of other sizes than the config's.

    Example:
        >>> seqssvae.load(run).labels.names
        ('left', 'right')
    """
    return load_with_split(run)[0]


def load_with_split(run: str | Path) -> tuple[TrainedModel, Mapping[str, Sequence[str]]]:
    """As `load`, with the ids of the run's rows by part of the split."""
    contents = load_run(Path(run), make_weights=meta_weights)
    return _restore(contents, str(run)), contents.split


def _restore(contents: RunContents, where: str) -> TrainedModel:
    """The networks that a run describes, with its weights."""
    model = build_model(
        contents.config.model,
        vocabulary_size=len(contents.vocabulary),
        num_classes=len(contents.labels.names),
    )
    try:
        model.load_state_dict(contents.weights)
    except RuntimeError as error:
        line = next(itertools.islice(str(error).splitlines(), 1, None), str(error)).strip()
        raise InputError(
            f"{where}: wanted the weights that config.json describes, got {line}"
        ) from (error)
    return TrainedModel(
        model=model.eval(),
        config=contents.config,
        vocabulary=contents.vocabulary,
        labels=contents.labels,
        manifest=contents.manifest,
        checksum=contents.checksum,
    )
