"""Settings of a run: frozen dataclasses, with meaning and limits beside each setting.

No torch here. Only builders see a config; constructors of networks take plain arguments.
"""

import dataclasses
import functools
import json
import keyword
import types
import typing
from typing import Any, Literal, NamedTuple, NewType, TypeVar

from seqssvae.errors import InputError

LARGEST = 10**9
Device = Literal["auto", "cpu", "cuda", "mps"]
Factorisation = Literal["z-given-y", "independent", "y-given-z"]
EstimatorName = Literal[
    "auto",
    "trace-enum",
    "trace-enum-sequential",
    "fused-enum",
    "sum-and-sample",
    "score-function",
    "gumbel-softmax",
    "straight-through",
]
ImportPath = NewType("ImportPath", str)  # `package.module:name`, see `seqssvae.extensions`
T = TypeVar("T")


def setting(default: T, meaning: str, least: float | None = None, most: float = LARGEST) -> T:
    """Declare a field: its default, its meaning, and for a number its limits."""
    metadata = {"meaning": meaning, "least": least, "most": most}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Columns of the files, the vocabulary, and which labels are used."""

    text_column: str | None = setting(
        None, "Column of the texts; null: text, sentence, content, sequence or smiles."
    )
    tokens_column: str | None = setting(None, "Column of the token lists; null: tokens.")
    label_column: str | None = setting(
        None,
        "Column of the labels; null: label, labels, class or category. Several: with commas.",
    )
    vectors_column: str | None = setting(
        None, "Column of vectors, lists of numbers that q(y|x) and q(z|x,y) read beside the row."
    )
    missing_vectors: bool = setting(
        False, "Rows may have no vector: null, or NaN as a whole; it is masked."
    )
    vote_columns: str | None = setting(
        None,
        "Columns of weak sources, with commas: each votes for a label or says nothing. Their "
        "confusion matrices are learned; they are read in training alone.",
    )
    label_tree: str | None = setting(
        None, "Table with columns child and parent: a label that is a parent is one of its leaves."
    )
    label_pattern: str | None = setting(
        None, "Regular expression of the label in FASTA headers: its first group, or all of it."
    )
    encoding: str = setting(
        "utf-8", "Encoding of files of text, as Python names it: utf-16, windows-1252 and others."
    )
    unlabelled_values: tuple[str, ...] = setting(
        ("NaN", "nan", "NA", "N/A", "n/a", "<NA>", "#N/A", "None", "null", "NULL", "?"),
        "Labels that mean unlabelled, as an empty one does.",
    )
    unlabelled_only: bool = setting(
        False, "Read no labels and train a plain VAE; otherwise data without labels are an error."
    )
    quotes: Literal["auto", "always", "never"] = setting(
        "auto",
        "Quoted cells of csv and tsv; auto: with tab and line break an error; never: none are.",
    )
    vocabulary: Literal["auto", "sentencepiece", "characters", "tokens"] = setting(
        "auto", "Kind of symbols; auto: sentencepiece if most texts have spaces."
    )
    normalise: Literal["auto", "nfc", "nfkc", "none"] = setting(
        "auto", "Unicode form that rows are converted to; auto: nfc for sentencepiece, else none."
    )
    vocabulary_size: int = setting(4000, "Largest number of symbols; there may be fewer.", 5)
    min_count: int = setting(1, "Rarer characters and tokens become the unknown symbol.", 1)
    max_length: int = setting(
        256, "Largest length of a row, end symbol included; longer rows are cut.", 2, 10**6
    )
    ngram_reach: int = setting(
        16, "N-gram features of q(y|x) read rows up to this many times max_length.", 1, 10**6
    )
    labels_per_class: int | None = setting(None, "Labels to use per class; null: all.", 1)
    num_labels: int | None = setting(None, "Labels to use in total; null: all.", 1)
    dev_fraction: float = setting(0.2, "Fraction of labels held out for early stopping.", 0, 0.9)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The networks: encoders of q(y|x) and q(z|x,y), decoder of p(x|y,z)."""

    class_: ImportPath | None = setting(
        None, "Function of your own that builds the networks, see the page on extending."
    )
    cell: Literal["lstm", "gru"] = setting("lstm", "Kind of the recurrent layers.")
    embedding_size: int = setting(64, "Size of a symbol's embedding.", 1)
    encoder_size: int = setting(128, "Hidden units of an encoder, in each direction.", 1)
    encoder_layers: int = setting(1, "Recurrent layers of an encoder.", 1, 64)
    bidirectional: bool = setting(True, "Encoders read a row in both directions.")
    pooling: Literal["last", "mean", "max"] = setting(
        "max", "How an encoder reduces its hidden states over time to one vector."
    )
    shared_encoder: bool = setting(False, "q(y|x) and q(z|x,y) share one recurrent encoder.")
    decoder_size: int = setting(128, "Hidden units of the decoder.", 1)
    decoder_layers: int = setting(1, "Recurrent layers of the decoder.", 1, 64)
    latent_size: int = setting(8, "Dimensions of z; 0: no z.", 0)
    dropout: float = setting(
        0.1, "Dropout of the encoders' embeddings, between layers and of the last states.", 0, 0.95
    )
    word_dropout: float = setting(
        0.0, "Probability that the decoder reads the unknown symbol in place of a symbol.", 0, 1
    )
    encoder_word_dropout: float = setting(
        0.1, "Probability that an encoder reads the unknown symbol in place of a symbol.", 0, 0.95
    )
    feed_y: bool = setting(True, "The decoder reads y at every step, not only in its first state.")
    feed_z: bool = setting(True, "The decoder reads z at every step, not only in its first state.")
    class_bias: bool = setting(True, "The decoder's output has a bias for each class.")
    decoder_ngrams: int = setting(
        5, "Size of the longest class-conditional n-grams mixed into the decoder; 0: none.", 0, 16
    )
    softmax_memory: float = setting(
        0.001, "Share of a GPU's free memory for the softmax's logits of a chunk.", 1e-6, 1.0
    )
    tied_embeddings: bool = setting(False, "The decoder's embeddings are also its output weights.")
    factorisation: Factorisation = setting(
        "z-given-y",
        "Guide: z-given-y q(y|x) q(z|x,y); independent q(y|x) q(z|x); y-given-z q(z|x) q(y|x,z).",
    )
    ngram_buckets: int = setting(
        65536, "Buckets of the hashed n-grams of q(y|x); 0: none.", 0, 2**24
    )
    ngram_words: bool = setting(True, "Word n-grams are features too, if rows have words.")
    vector_size: int = setting(
        0, "Size of the rows' vectors, which the encoders read; 0: as in the training rows.", 0
    )
    prior: Literal["learned", "uniform", "labelled"] | tuple[float, ...] = setting(
        "learned",
        "p(y): the class frequencies of all rows by q(y|x), with training.teacher; of the labels; "
        "uniform; or the probabilities.",
    )
    z_prior: Literal["normal", "by-class"] = setting(
        "normal", "p(z): N(0, I), the same for every class; by-class: a learned normal of each."
    )


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """Weights of the objective's terms, which are in nats per sequence."""

    w: float = setting(0.2, "Weight of L(x,y) and U(x), the evidence lower bounds.", 0)
    w_by_rows: bool = setting(
        True, "Reduce w of rows that recur more often, so that L and U count rows alike."
    )
    alpha: float = setting(1.0, "Weight of log q(y|x) of a labelled row.", 0)
    teacher_weight: Literal["auto"] | float = setting(
        "auto",
        "Weight of KL(q(y|x) || teacher) of an unlabelled row, beside its bound; auto: so that q "
        "is the product of teacher and decoder that is best on held-out labels.",
        0,
    )
    kl: Literal["analytic", "sampled"] = setting("analytic", "Computation of KL(q(z|x,y) || p(z)).")
    kl_schedule: Literal["constant", "linear", "sigmoid", "cyclical"] = setting(
        "linear", "How the weight of the KL rises to kl_weight."
    )
    kl_weight: float = setting(1.0, "Weight of the KL after the warm-up.", 0)
    kl_warmup_steps: int = setting(
        300, "Steps until kl_weight is reached; a third of training.num_steps if that is less.", 0
    )
    recurrent_first: float = setting(
        0.25,
        "Share of kl_warmup_steps in which the decoder is trained without its n-grams, so that "
        "its recurrent part learns to read z; at most a tenth of training.max_minutes, none where "
        "a teacher is unsure of the labels.",
        0,
        1,
    )
    kl_cycles: int = setting(4, "Cycles of the cyclical schedule.", 1)
    free_bits: float = setting(0.5, "Nats of KL for each dimension of z that cost nothing.", 0)


@dataclasses.dataclass(frozen=True)
class EstimatorConfig:
    """How the discrete y is summed, sampled or relaxed."""

    name: EstimatorName | ImportPath = setting(
        "fused-enum",
        "Estimator, or class of your own; auto: the exact sum, or sum-and-sample where that is too "
        "slow.",
    )
    num_particles: int = setting(1, "Samples of z for each row.", 1)
    k: int = setting(1, "sum-and-sample: likeliest labels that are summed.", 0)
    num_samples: int = setting(1, "sum-and-sample: labels sampled from the rest.", 1)
    baseline: Literal["none", "running-mean", "leave-one-out", "learned"] = setting(
        "learned", "score-function: baseline of the gradient."
    )
    temperature: float = setting(1.0, "gumbel-softmax, straight-through: first temperature.", 1e-3)
    final_temperature: float = setting(0.5, "Temperature after temperature_steps.", 1e-3)
    temperature_steps: int = setting(1000, "Steps until final_temperature is reached.", 1)


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """The training loop."""

    seed: int = setting(0, "Seed of the split, the weights and the noise.", 0, 2**62)
    num_steps: int = setting(1000, "Largest number of optimiser steps.", 1)
    classifier_only: bool = setting(
        False, "Train the n-gram classifiers alone: labels in seconds, no new sequences and no z."
    )
    teacher: bool = setting(True, "Initialise q(y|x) from n-gram classifiers trained with EM.")
    max_minutes: float | None = setting(
        None,
        "Minutes of steps, those before --resume included, and of a half of that to choose the "
        "teacher's classifiers; null: no limit.",
        0.001,
    )
    max_bad_steps: int = setting(
        10, "Consecutive steps with numbers that are not finite, after which training ends.", 1
    )
    labelled_batch_size: int = setting(32, "Labelled rows of a step, over all processes.", 1)
    unlabelled_batch_size: int = setting(64, "Unlabelled rows of a step, over all processes.", 1)
    accumulate: int = setting(1, "Micro-batches that a step accumulates gradients over.", 1, 4096)
    streams: Literal["both", "alternate"] = setting(
        "both", "Labelled and unlabelled rows in each step, or in alternate steps."
    )
    balanced: bool = setting(False, "Draw labelled rows of each class equally often.")
    learning_rate: float = setting(4e-3, "Learning rate of the first step.", 1e-12, 100)
    final_learning_rate: float = setting(0.05, "Fraction of learning_rate at the last step.", 0, 1)
    average_steps: int = setting(
        50,
        "Steps, about, over which weights are averaged for evaluations and for the run; 0: none.",
        0,
    )
    weight_decay: float = setting(1e-4, "Weight decay of AdamW.", 0, 100)
    clip: float = setting(5.0, "Largest norm of the gradient; a larger one is scaled down.", 1e-6)
    evaluate_every: int = setting(100, "Steps between evaluations on the held-out rows.", 1)
    patience: int = setting(
        8, "Evaluations without a better score, after which training ends; 0: never.", 0
    )
    early_stopping: Literal["log-loss", "accuracy", "macro-f1", "elbo"] = setting(
        "log-loss", "Score of the held-out rows whose best evaluation is kept: of q(y|x), or ELBO."
    )
    num_threads: int = setting(0, "Threads of a CPU; 0: PyTorch's default.", 0, 4096)
    device: Device = setting(
        "auto", "Where the model runs; auto: a GPU with CUDA if there is one, else the CPU."
    )
    precision: Literal["float32", "tf32", "bfloat16"] = setting(
        "float32",
        "Arithmetic of steps on a GPU; tf32: faster matrix products; bfloat16: automatic mixed "
        "precision, also on a CPU without C kernels.",
    )
    tensorboard: bool = setting(False, "Log evaluations for TensorBoard, in RUN/tensorboard.")


@dataclasses.dataclass(frozen=True)
class Config:
    """All settings of a run.

    Example:
        >>> seqssvae.Config().training.num_steps
        1000
    """

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    estimator: EstimatorConfig = EstimatorConfig()
    training: TrainingConfig = TrainingConfig()

    @property
    def whole_length(self) -> int:
        """Symbols of a row that are kept: `data.max_length`, more with n-gram features."""
        return self.data.max_length * (self.data.ngram_reach if self.model.ngram_buckets else 1)

    def __post_init__(self) -> None:
        """Check limits, and settings that exclude each other.

        Raises:
            InputError: a value does not fit; the message says key, wanted and got.
        """
        for one in list_settings():
            value = getattr(getattr(self, one.section), one.field)
            is_number = one.least is not None and isinstance(value, int | float)
            if is_number and not one.least <= value <= one.most:
                raise InputError(f"{one.key}: wanted {one.values}, got {value}")
        if self.data.labels_per_class is not None and self.data.num_labels is not None:
            raise InputError("data: wanted labels_per_class or num_labels, got both")
        objective, training, steps = self.objective, self.training, self.training.num_steps
        if objective.kl_schedule != "constant" and objective.kl_warmup_steps > steps:
            raise InputError(
                f"objective.kl_warmup_steps: wanted at most training.num_steps = {steps}, "
                f"got {objective.kl_warmup_steps}"
            )
        if objective.kl == "sampled" and objective.free_bits > 0:
            raise InputError(
                "objective.free_bits: wanted 0 beside objective.kl = sampled (only the analytic KL "
                f"is known for each dim), got {objective.free_bits}"
            )
        if objective.kl == "analytic" and self.model.factorisation == "y-given-z":
            if self.model.z_prior == "by-class":  # E_q(y,z|x) log p(z|y) is no sum over y
                raise InputError(
                    "objective.kl: wanted sampled (and objective.free_bits 0) for model.z_prior "
                    "by-class with y-given-z, whose KL has no closed form, got analytic"
                )
        if training.classifier_only and not (training.teacher and self.model.ngram_buckets):
            raise InputError(
                "training.classifier_only: wanted training.teacher true and model.ngram_buckets, "
                "got one without"
            )
        if training.classifier_only and self.model.class_ is not None:
            raise InputError(
                f"model.class: wanted null with training.classifier_only, got {self.model.class_}"
            )
        if self.model.factorisation == "y-given-z" and not self.model.latent_size:
            raise InputError("model.latent_size: wanted at least 1 for y-given-z, got 0")


class Setting(NamedTuple):
    """A setting as `--help` and the documentation describe it."""

    section: str
    name: str
    type: Any
    default: str
    meaning: str
    least: float | None
    most: float

    @property
    def key(self) -> str:
        """The name in files and flags, `section.name`."""
        return f"{self.section}.{self.name}"

    @property
    def field(self) -> str:
        """The name in the dataclass, which may not be a word of Python."""
        return f"{self.name}_" if keyword.iskeyword(self.name) else self.name

    @property
    def is_path(self) -> bool:
        """Whether a value may be an import path, or what it names."""
        return ImportPath in _parts(self.type)

    @property
    def choices(self) -> tuple[str, ...]:
        """The values, if there are only a few; those that are named."""
        if self.type is bool:
            return ("true", "false")
        return tuple(one for one in _parts(self.type) if isinstance(one, str))

    @property
    def values(self) -> str:
        """Type and limits in words, as in 'wanted a number from 0 to 1'."""
        most = "1e9" if self.most == LARGEST else self.most
        names: dict[Any, str] = {
            int: f"an integer from {self.least} to {most}",
            float: f"a number from {self.least} to {most}",
            str: "text",
            types.NoneType: "null",
            tuple[float, ...]: "a list of numbers",
            tuple[str, ...]: "a list of texts",
            ImportPath: "package.module:name",
        }
        kinds = self.choices if self.type is bool else _parts(self.type)
        parts = [names.get(part, part) for part in kinds]
        return " or ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def _parts(hint: Any) -> list[Any]:
    """The types and values that a type consists of."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType, Literal):
        return [part for option in typing.get_args(hint) for part in _parts(option)]
    return [hint]


@functools.cache
def list_settings() -> tuple[Setting, ...]:
    """Every setting, section by section."""
    listed = []
    for section, cls in typing.get_type_hints(Config).items():
        hints = typing.get_type_hints(cls)
        for field in dataclasses.fields(cls):
            default = field.default if isinstance(field.default, str) else json.dumps(field.default)
            names = section, field.name.rstrip("_"), hints[field.name], default
            listed.append(Setting(*names, **field.metadata))
    return tuple(listed)
