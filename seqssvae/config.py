"""Every setting of a run: frozen dataclasses, their checks, YAML and JSON.

No torch here. Only builders see a config; the constructors of networks take plain arguments.
"""

import dataclasses
import difflib
import math
import reprlib
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from seqssvae.errors import InputError
from seqssvae.plain_yaml import read_yaml

__all__ = [
    "Config",
    "DataConfig",
    "EstimatorConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "TrainingConfig",
    "describe_fields",
    "load_config",
    "override",
    "to_mapping",
]


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


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """What is read from the files."""

    text_column: str | None = None  # found by name when neither column is given
    tokens_column: str | None = None
    label_column: str | None = None
    vocabulary: Literal["auto", "sentencepiece", "characters", "tokens"] = "auto"
    vocabulary_size: int = 4000  # an upper bound; SentencePiece takes fewer from a small corpus
    min_count: int = 1  # rarer characters and tokens become UNK
    max_length: int = 256  # symbols of a row, EOS included; longer rows are cut
    labels_per_class: int | None = None
    num_labels: int | None = None
    dev_fraction: float = 0.2  # of the labelled rows, kept for early stopping


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The networks."""

    cell: Literal["lstm", "gru"] = "lstm"
    embedding_size: int = 64
    encoder_size: int = 128  # units of each direction
    encoder_layers: int = 1
    bidirectional: bool = True
    pooling: Literal["last", "mean", "max"] = "max"
    shared_encoder: bool = False  # one body for q(y|x) and q(z|x,y)
    decoder_size: int = 128
    decoder_layers: int = 1
    latent_size: int = 8  # 0: no z
    dropout: float = 0.1
    word_dropout: float = 0.0  # symbols hidden from the decoder's input
    encoder_word_dropout: float = 0.1  # symbols hidden from the encoders' input
    feed_y: bool = True  # y at every step of the decoder, not only in its first state
    feed_z: bool = True
    class_bias: bool = True  # an output bias per class
    tied_embeddings: bool = False
    factorisation: Factorisation = "z-given-y"
    ngram_buckets: int = 65536  # to hash the n-grams to that q(y|x) reads besides; 0: none
    ngram_words: bool = True  # n-grams of whole words too, where rows have words
    prior: Literal["uniform", "labelled"] | tuple[float, ...] = "uniform"


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """The weights of the terms; a term is in nats per sequence, whatever the batch."""

    w: float = 0.1  # of L(x, y) and U(x)
    w_by_rows: bool = True  # rows that come round more often weigh less in L and U
    alpha: float = 1.0  # of log q(y|x), for each labelled example
    kl: Literal["analytic", "sampled"] = "analytic"
    kl_schedule: Literal["constant", "linear", "sigmoid", "cyclical"] = "linear"
    kl_weight: float = 1.0  # what the schedule ends with
    kl_warmup_steps: int = 300  # a third of training.num_steps where that is less and this not set
    kl_cycles: int = 4
    free_bits: float = 0.5  # nats per dim of z


@dataclasses.dataclass(frozen=True)
class EstimatorConfig:
    """How the discrete y is summed, sampled or relaxed."""

    name: EstimatorName = "fused-enum"
    num_particles: int = 1
    k: int = 1  # sum-and-sample: labels that are summed
    num_samples: int = 1  # sum-and-sample: labels sampled from the rest
    baseline: Literal["none", "running-mean", "leave-one-out", "learned"] = "learned"
    temperature: float = 1.0  # of the relaxations, at the first step
    final_temperature: float = 0.5
    temperature_steps: int = 1000


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """The loop."""

    seed: int = 0
    num_steps: int = 1000
    teacher: bool = True  # start q(y|x) from n-gram models with EM
    max_minutes: float = 3.5  # of training, a resumed run's earlier ones included
    max_bad_steps: int = 10  # in a row whose numbers are not finite: training ends
    labelled_batch_size: int = 32
    unlabelled_batch_size: int = 64  # both counted over all processes of a training
    accumulate: int = 1  # parts of a process's share of a batch, computed one after another
    streams: Literal["both", "alternate"] = "both"
    balanced: bool = False  # labelled classes drawn equally often
    learning_rate: float = 4e-3
    final_learning_rate: float = 0.05  # as a share of the first, reached at the last step
    weight_decay: float = 1e-4
    clip: float = 5.0  # norm of the gradient
    evaluate_every: int = 100  # steps
    patience: int = 8  # evaluations with no better dev score; 0: never stop early
    early_stopping: Literal["accuracy", "macro-f1", "elbo"] = "accuracy"
    num_threads: int = 0  # 0: as torch finds
    device: Literal["cpu", "cuda"] = "cpu"
    precision: Literal["float32", "bfloat16"] = "float32"  # bfloat16: torch's autocast
    tensorboard: bool = False  # evaluations for TensorBoard too, in RUN/tensorboard


@dataclasses.dataclass(frozen=True)
class Config:
    """All settings of a run."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    estimator: EstimatorConfig = EstimatorConfig()
    training: TrainingConfig = TrainingConfig()

    def __post_init__(self) -> None:
        """Check what single fields and pairs of fields must hold.

        Raises:
            InputError: a value is out of range; the message names the key, wanted and got.
        """
        for key, value, low, high in _ranges(self):
            if not low <= value <= high:
                raise InputError(f"{key}: wanted a number from {low} to {high}, got {value}")
        if self.data.labels_per_class is not None and self.data.num_labels is not None:
            raise InputError("data: wanted labels_per_class or num_labels, got both")
        objective, steps = self.objective, self.training.num_steps
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
        if self.model.tied_embeddings and self.model.embedding_size < 1:
            raise InputError("model.tied_embeddings: wanted an embedding, got size 0")


def _ranges(config: Config) -> Iterator[tuple[str, float, float, float]]:
    """Yield key, value, least and greatest value of every number with limits."""
    largest = 10**9
    limits: dict[str, tuple[float, float]] = {
        "data.vocabulary_size": (5, largest),
        "data.min_count": (1, largest),
        "data.max_length": (2, 10**6),
        "data.labels_per_class": (1, largest),
        "data.num_labels": (1, largest),
        "data.dev_fraction": (0, 0.9),
        "model.embedding_size": (1, largest),
        "model.encoder_size": (1, largest),
        "model.encoder_layers": (1, 64),
        "model.decoder_size": (1, largest),
        "model.decoder_layers": (1, 64),
        "model.latent_size": (0, largest),
        "model.dropout": (0, 0.95),
        "model.word_dropout": (0, 1),
        "model.encoder_word_dropout": (0, 0.95),
        "model.ngram_buckets": (0, 2**24),
        "objective.w": (0, largest),
        "objective.alpha": (0, largest),
        "objective.kl_weight": (0, largest),
        "objective.kl_warmup_steps": (0, largest),
        "objective.kl_cycles": (1, largest),
        "objective.free_bits": (0, largest),
        "estimator.num_particles": (1, largest),
        "estimator.k": (0, largest),
        "estimator.num_samples": (1, largest),
        "estimator.temperature": (1e-3, largest),
        "estimator.final_temperature": (1e-3, largest),
        "estimator.temperature_steps": (1, largest),
        "training.seed": (0, 2**62),  # compare counts draws from it; torch takes less than 2**64
        "training.num_steps": (1, largest),
        "training.max_minutes": (0.001, largest),
        "training.max_bad_steps": (1, largest),
        "training.labelled_batch_size": (1, largest),
        "training.unlabelled_batch_size": (1, largest),
        "training.accumulate": (1, 4096),
        "training.learning_rate": (1e-12, 100),
        "training.final_learning_rate": (0, 1),
        "training.weight_decay": (0, 100),
        "training.clip": (1e-6, largest),
        "training.evaluate_every": (1, largest),
        "training.patience": (0, largest),
        "training.num_threads": (0, 4096),
    }
    for key, (low, high) in limits.items():
        section, name = key.split(".")
        value = getattr(getattr(config, section), name)
        if value is not None:
            yield key, value, low, high


def describe_fields() -> Iterator[tuple[str, str, Any]]:
    """Yield every setting as `section.name`, its type as text, and its default."""
    for section in dataclasses.fields(Config):
        cls = type(getattr(Config(), section.name))
        hints = typing.get_type_hints(cls)
        for field in dataclasses.fields(cls):
            yield f"{section.name}.{field.name}", _type_name(hints[field.name]), field.default


def to_mapping(config: Config) -> dict[str, dict[str, Any]]:
    """Nested plain dicts, for YAML and JSON."""
    mapping = dataclasses.asdict(config)
    for section in mapping.values():
        for name, value in section.items():
            if isinstance(value, tuple):
                section[name] = list(value)
    return mapping


def load_config(path: Path) -> Config:
    """Read a YAML (or JSON) file of nested settings; what it leaves out keeps its default.

    Raises:
        InputError: no such file, bad YAML, an unknown key, or a value of the wrong type.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: wanted a readable file, got {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: wanted YAML, got no UTF-8: {error}") from error
    content = _parse_yaml(text, str(path))
    return override(Config(), {} if content is None else content, where=f"{path}: ")


def override(config: Config, changes: Any, *, where: str = "") -> Config:
    """A copy with some settings changed.

    `objective.kl_warmup_steps` follows a smaller `training.num_steps`, unless it is set.

    Args:
        config: Where to start.
        changes: `{"model": {"cell": "gru"}}`, or dotted keys `{"model.cell": "gru"}`. Strings are
            read as YAML where the setting is no string.
        where: Put before every error, for instance the file's name.

    Raises:
        InputError: an unknown key, with the nearest known one; a value of the wrong type.
    """
    sections = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    if not isinstance(changes, Mapping):
        raise InputError(f"{where}wanted a mapping of settings, got {_brief(changes)}")
    known = [key for key, _, _ in describe_fields()]
    seen: set[str] = set()
    for key, value in _flatten(changes, sections, where):
        if key in seen:  # `model.cell: gru` beside `model: {cell: lstm}`
            raise InputError(f"{where}{key}: wanted it once, got it twice")
        seen.add(key)
        if key not in known:
            near = difflib.get_close_matches(key, known, 1, 0.4)
            hint = f", did you mean {near[0]}?" if near else f"; sections are {', '.join(sections)}"
            raise InputError(f"{where}unknown setting {key:.80}{hint}")
        section, name = key.split(".")
        hint_type = typing.get_type_hints(type(sections[section]))[name]
        converted = _convert(value, hint_type, f"{where}{key}")
        sections[section] = dataclasses.replace(sections[section], **{name: converted})
    warmup, usual = sections["objective"].kl_warmup_steps, ObjectiveConfig.kl_warmup_steps
    steps = sections["training"].num_steps
    is_set = "objective.kl_warmup_steps" in seen or warmup != usual
    if "training.num_steps" in seen and not is_set and warmup > steps >= 0:
        sections["objective"] = dataclasses.replace(
            sections["objective"], kl_warmup_steps=steps // 3
        )
    return Config(**sections)


def _flatten(
    changes: Mapping[str, Any], sections: Mapping[str, Any], where: str
) -> Iterator[tuple[str, Any]]:
    for key, value in changes.items():
        if key in sections:
            if not isinstance(value, Mapping):
                raise InputError(f"{where}{key}: wanted settings below it, got {_brief(value)}")
            yield from ((f"{key}.{name}", inner) for name, inner in value.items())
        else:
            yield str(key), value


def _convert(value: Any, hint: Any, where: str) -> Any:
    """Fit a value to a field's type, or say what was wanted."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        for option in sorted(typing.get_args(hint), key=lambda option: option is not type(None)):
            try:
                return _convert(value, option, where)
            except InputError:
                continue
    elif hint is type(None):
        if value is None or value in ("null", "none"):
            return None
    elif origin is Literal:
        if isinstance(value, str) and value in typing.get_args(hint):
            return value
    elif origin is tuple:
        items = _parse_yaml(value, where) if isinstance(value, str) else value
        if isinstance(items, list | tuple):
            return tuple(_convert(item, typing.get_args(hint)[0], where) for item in items)
    elif hint is str:
        if isinstance(value, str):
            return value
    else:
        plain = _parse_yaml(value, where) if isinstance(value, str) else value
        if hint is float and isinstance(plain, int | float) and not isinstance(plain, bool):
            try:
                return float(plain)
            except OverflowError:  # an int of hundreds of digits
                return math.inf
        if hint is int and isinstance(plain, int) and not isinstance(plain, bool):
            return plain
        if hint is bool and isinstance(plain, bool):
            return plain
    raise InputError(f"{where}: wanted {_type_name(hint)}, got {_brief(value)}")


def _parse_yaml(text: str, where: str) -> Any:
    try:
        return read_yaml(text)
    except ValueError as error:
        raise InputError(f"{where}: wanted YAML, got {error}") from error


def _brief(value: Any) -> str:
    """A value in a few words; aliases let a short YAML file describe an endless one."""
    return reprlib.repr(value)


def _type_name(hint: Any) -> str:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type_name(option) for option in args)
    if origin is Literal:
        return "|".join(map(str, args))
    if origin is tuple:
        return f"a list of {_type_name(args[0])}"
    return "null" if hint is type(None) else hint.__name__
