"""`SSVAE`: the generative model p(x, y, z) and the guide q(y, z | x), as Pyro programs.

    p(x, y, z) = p(y) N(z; 0, I) p(x | y, z)    or p(y) p(z | y) p(x | y, z)
    q(y, z | x) = q(y | x) q(z | x, y)          or q(y | x) q(z | x), or q(z | x) q(y | x, z)

The model of Kingma et al. 2014 ("M2") over sequences. Sites are "x", "y" and "z"; with several
columns of labels, y is a combination of labels, p(y) and q(y | x) are products over the columns,
and each column has a site, "y_COLUMN". Where rows have a vector v, the guide reads it,
q(y, z | x, v), and the model does not. Soft labels and votes are evidence about y, see `votes`.
"""

import contextlib
import dataclasses
import sys
import weakref
from collections.abc import Iterator, Sequence
from typing import Any, cast

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.nn import PyroModule, pyro_method
from torch import Tensor

from seqssvae.data.batches import Batch
from seqssvae.model.labels import all_labelled, auxiliary_log_prob, restrict, sample_y
from seqssvae.model.likelihood import SequenceLikelihood
from seqssvae.model.prior import NormalPrior
from seqssvae.model.votes import Voters, log_evidence, observe_evidence
from seqssvae.nn.decoder import Decoder
from seqssvae.nn.encoders import (
    CategoricalHead,
    Encoder,
    NormalHead,
    encode_both,
)
from seqssvae.nn.ngram_logits import NGramLogits
from seqssvae.nn.vectors import VectorReader, linear_logits
from seqssvae.shapes import check_below, length_mask

# Parameters are local to their module and not in Pyro's global store: two models in one process do
# not share them, and deepcopy, pickle and state_dict work.
pyro.settings.set(module_local_params=True)


@dataclasses.dataclass(frozen=True)
class Features:
    """Features of a batch by the encoder bodies, computed once for all heads.

    Attributes:
        y: Features for q(y | x), `[B, F]`.
        z: Features for q(z | x, y), `[B, F]`.
        ngrams: Logits of y by n-grams and by the linear term of vectors, `[B, K]`, or None.
    """

    y: Tensor
    z: Tensor
    ngrams: Tensor | None = None


class SSVAE(PyroModule):
    """A semi-supervised variational autoencoder over sequences.

    `model` and `guide` take a `Batch` and are arguments of any `pyro.infer.ELBO`. A batch may mix
    rows of three kinds: with a label (y is observed), without (y is latent), and with a set of
    labels one of which is the true one. A batch whose rows all have a label is not enumerated.

    Args:
        encoders: Bodies for q(y | x) and q(z | x, y); the same one twice if it is shared.
        decoder: The network of p(x | y, z), from which K and Z are taken.
        factorisation: "z-given-y", q(y|x) q(z|x,y); "independent", q(y|x) q(z|x);
            "y-given-z", q(z|x) q(y|x,z).
        prior: p(y), `[K]`; it is normalised. Uniform when None.
        z_prior: The prior of z, N(0, I) when None.
        ngrams: Term of the logits of q(y | x) by n-grams, or None.
        label_columns: Names of several columns of labels, whose sizes are the decoder's.
        vectors: What the guide reads of vectors, or None.
        votes: What votes for labels, or None.

    Attributes:
        label_columns: Number of labels of each of several columns; none where there is one.
        teacher_weight: Weight of KL(q(y | x) || n-gram part) of each row without a label, times its
            w, where the n-gram part is a teacher. With a weight l, the best q(y | x) is the
            teacher's to the power l / (1 + l) times the posterior to the power 1 / (1 + l).
        z_reads_y: Whether the guide's z depends on y.
        y_reads_z: Whether the guide's y depends on z.

    Example:
        >>> model = seqssvae.load(run).model
        >>> isinstance(model, seqssvae.SSVAE), model.num_classes, model.latent_size
        (True, 2, 2)
    """

    def __init__(
        self,
        *,
        encoders: tuple[Encoder, Encoder],
        decoder: Decoder,
        factorisation: str = "z-given-y",
        prior: Tensor | None = None,
        z_prior: NormalPrior | None = None,
        ngrams: NGramLogits | None = None,
        label_columns: Sequence[str] = (),
        vectors: VectorReader | None = None,
        votes: Voters | None = None,
    ) -> None:
        super().__init__()
        num_more = 0 if vectors is None else vectors.num_features
        self.label_columns = dict(zip(label_columns, decoder.label_sizes, strict=True))
        self.num_classes, self.latent_size = decoder.num_classes, decoder.latent_size
        self.z_reads_y = factorisation == "z-given-y"
        self.y_reads_z = factorisation == "y-given-z" and self.latent_size > 0
        self.decoder, self.vocabulary_size = decoder, decoder.vocabulary_size
        self.encoder_y, self.encoder_z = encoders
        self.head_y: CategoricalHead | None = None
        if self.num_classes:
            self.head_y = CategoricalHead(
                num_features=self.encoder_y.num_features + num_more,
                latent_size=self.latent_size if self.y_reads_z else 0,
                num_classes=self.num_classes,
                label_sizes=decoder.label_sizes,
            )
        self.head_z = NormalHead(
            num_features=self.encoder_z.num_features + num_more,
            num_classes=self.num_classes if self.z_reads_y else 0,
            latent_size=self.latent_size,
            label_sizes=decoder.label_sizes if self.z_reads_y else (),
        )
        self.z_prior = z_prior or NormalPrior(self.latent_size)
        self.ngrams = ngrams if self.num_classes else None
        self.vectors, self.votes = vectors, votes
        self.teacher_weight = 0.0
        weights = torch.ones(self.num_classes) if prior is None else prior
        self.register_buffer("prior_logits", (weights / weights.sum()).log())
        self.prior_logits: Tensor

    def encode(
        self,
        x: Tensor,
        lengths: Tensor,
        whole: tuple[Tensor, Tensor] | None = None,
        *,
        v: Tensor | None = None,
        ngram_logits: Tensor | None = None,
        only_y: bool = False,
    ) -> Features:
        """Run the encoder bodies over the sequences.

        Args:
            x: Symbol ids, `[B, T]`; symbols after `lengths` are not read.
            lengths: `[B]`, on the CPU.
            whole: Ids `[B, T']` and lengths `[B]` of the whole rows for n-grams, if x has less.
            v: Vectors, `[B, D]`, NaN where one is missing; None for a model that reads none.
            ngram_logits: What `linear_logits` gives, `[B, K]`, if it is known.
            only_y: Compute features for q(y | x) alone; those for z are the same.

        Raises:
            ValueError: a symbol id is not below V, or no vectors or others than the model reads.
        """
        if (v is None) != (self.vectors is None):
            wanted, got = ("no v", "one") if self.vectors is None else ("v [B, D]", "none")
            raise ValueError(f"batch: wanted {wanted}, got {got}")
        for part in filter(None, ((x, lengths), whole)):
            _check_ids(*part, self.vocabulary_size)
        if not self.num_classes:
            for_y = for_z = self.encoder_z(x, lengths)
        elif only_y or self.shares_encoder:
            for_y = for_z = self.encoder_y(x, lengths)
        else:
            for_y, for_z = encode_both((self.encoder_y, self.encoder_z), x, lengths)
        if self.vectors is not None and v is not None:
            for_y, for_z = self.vectors.join(for_y, for_z, v)
        if ngram_logits is None and self.ngrams is not None:
            ngram_logits = linear_logits(self.ngrams, self.vectors, whole or (x, lengths), v)
        return Features(for_y, for_z, ngram_logits)

    def encode_batch(self, batch: Batch, *, only_y: bool = False) -> Features:
        """`encode` of the rows of a batch."""
        known = batch.ngram_logits
        known = None if known is None else known.to(self.prior_logits.dtype)
        return self.encode(
            batch.x, batch.lengths, batch.whole, v=batch.v, ngram_logits=known, only_y=only_y
        )

    def start_from_ngrams(self, *, reset: bool = True) -> None:
        """Freeze the linear part of q(y | x), a teacher from now on, and reset q to it."""
        if self.head_y is not None and self.ngrams is not None:
            self.ngrams.requires_grad_(False)
            if self.vectors is not None and self.vectors.linear is not None:
                self.vectors.linear.requires_grad_(False)
            for parameter in self.head_y.parameters() if reset else ():
                torch.nn.init.zeros_(parameter)

    @property
    def shares_encoder(self) -> bool:
        """Whether q(y | x) and q(z | x, y) read the same encoder body."""
        return self.encoder_y is self.encoder_z

    def classifier_names(self) -> set[str]:
        """Names in the state dict that q(y | x) alone reads."""
        prefixes: tuple[str, ...] = ("head_y.", "ngrams.", "vectors.y.", "vectors.linear.")
        prefixes += () if self.shares_encoder else ("encoder_y.",)
        return {name for name in self.state_dict() if name.startswith(prefixes)}

    def y_logits(self, features: Features, z: Tensor | None = None) -> Tensor:
        """log q(y | x), or log q(y | x, z) under "y-given-z".

        Args:
            features: Result of `encode`.
            z: `[*L, B, Z]`, read under "y-given-z" only.

        Returns:
            `[*L, B, K]`, normalised.
        """
        if self.head_y is None:
            raise ValueError("wanted a model with classes, got K = 0")
        logits: Tensor = self.head_y(features.y, z)
        if features.ngrams is not None:
            logits = logits + features.ngrams
        return logits.float().log_softmax(-1) if _is_half(logits) else logits.log_softmax(-1)

    def z_posterior(
        self, features: Features, y: Tensor | None = None, example: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Location and scale of q(z | x, y); y is ignored unless under "z-given-y".

        Args:
            features: Result of `encode`.
            y: Classes, int64 `[*L, B]` (or `[K, 1]`), or weights of classes, float `[*L, B, K]`.
            example: Example of each pair, `[P]`; y is then `[P]` or `[P, K]`.

        Returns:
            Both `[*L, B, Z]`, or `[P, Z]` for pairs.
        """
        loc, scale = self.head_z(features.z, y, example)
        return (loc.float(), scale.float()) if _is_half(loc) else (loc, scale)

    def likelihood(
        self, lengths: Tensor, z: Tensor, y: Tensor | None, *, counted: Tensor | None = None
    ) -> SequenceLikelihood:
        """The distribution p(x | y, z) for z `[*L, B, Z]` and y `[*L, B]`, `[*L, B, K]` or None.

        `counted` is that of the batch.
        """
        return SequenceLikelihood(self.decoder, z, y, lengths, counted=counted)

    def log_likelihood(
        self,
        x: Tensor,
        lengths: Tensor,
        z: Tensor,
        y: Tensor | None,
        *,
        counted: Tensor | None = None,
    ) -> Tensor:
        """log p(x | y, z) in nats per sequence, `[*L, B]`; arguments as in `likelihood`."""
        return self.likelihood(lengths, z, y, counted=counted).log_prob(x)

    @pyro_method
    def model(self, batch: Batch, kl_weight: float = 1.0) -> None:
        """p(x, y, z), each example's terms scaled by its w, those of z by the KL weight too."""
        _refuse_compilation()
        plate, dtype = pyro.plate("batch", batch.num_rows, dim=-1), self.prior_logits.dtype
        with _examples(plate, batch, dtype):
            y = None
            if self.num_classes:
                observed = batch.y if all_labelled(batch) else None
                y = sample_y(self.prior_logits, self.label_columns, observed)
                observe_evidence(self.votes, batch, y)
            with _scaled(kl_weight):
                z = pyro.sample("z", self.z_prior.distribution(y, self.prior_logits))
            likelihood = self.likelihood(batch.lengths, z, y, counted=batch.counted)
            pyro.sample("x", likelihood, obs=batch.x)

    @pyro_method
    def guide(self, batch: Batch, kl_weight: float = 1.0) -> None:
        """q(y, z | x), and the classifier's objective: alpha log q(y | x) of each labelled row.

        The term of a row with a set C of possible labels is alpha log of the sum of q(y | x) over
        C: alpha log q(y | x) for one label, 0 for all of them.
        """
        self.announce_parameters()
        plate, dtype = pyro.plate("batch", batch.num_rows, dim=-1), self.prior_logits.dtype
        features = self.encode_batch(batch)
        if not self.num_classes:
            with _examples(plate, batch, dtype):
                self._sample_z(features, None, kl_weight)
        elif self.y_reads_z:
            with _examples(plate, batch, dtype):
                z = self._sample_z(features, None, kl_weight)
            self._sample_y(plate, batch, features, self.y_logits(features, z))
        else:
            y = self._sample_y(plate, batch, features, self.y_logits(features))
            with _examples(plate, batch, dtype):
                self._sample_z(features, y, kl_weight)

    @pyro_method
    def announce_parameters(self) -> None:
        """Register every parameter with Pyro's trace, from which `SVI` takes what it optimises.

        Pyro 1.9 calls `unconstrained()` of each one, which only a `PyroParam` has when parameters
        are local to their module.
        """
        if not poutine.runtime.am_i_wrapped():
            return
        for parameter in self.parameters():
            parameter.unconstrained = weakref.ref(parameter)  # type: ignore[attr-defined]
        for name, _ in self.named_children():
            getattr(self, name)  # in a Pyro method, this registers the module's parameters

    def __getstate__(self) -> dict[str, Any]:
        """State for pickle and deepcopy, without the references made for `SVI`."""
        for parameter in self.parameters():
            parameter.__dict__.pop("unconstrained", None)
        state: dict[str, Any] = super().__getstate__()
        return state

    def _sample_z(self, features: Features, y: Tensor | None, kl_weight: float) -> Tensor:
        loc, scale = self.z_posterior(features, y)
        with _scaled(kl_weight):
            z: Tensor = pyro.sample("z", dist.Normal(loc, scale).to_event(1))
        return z

    def auxiliary(self, features: Features, log_prob: Tensor, batch: Batch) -> Tensor:
        """The classifier's own terms: `auxiliary_log_prob`, and the pull of the teacher.

        Args:
            features: Result of `encode`.
            log_prob: log q(y | x), `[*L, B, K]`.
            batch: The rows.

        Returns:
            Nats, `[*L, B]`.
        """
        terms = auxiliary_log_prob(log_prob, batch, log_evidence(self.votes, batch))
        if self.teacher_weight and features.ngrams is not None:
            teacher = features.ngrams.to(log_prob).log_softmax(-1)
            divergence = (log_prob.exp() * (log_prob - teacher)).sum(-1)
            w = batch.possible_labels(self.num_classes).all(-1).to(divergence)
            w = w if batch.w is None else w * batch.w.to(w)
            terms = terms - self.teacher_weight * w * divergence
        return terms

    def _sample_y(
        self, plate: pyro.plate, batch: Batch, features: Features, logits: Tensor
    ) -> Tensor:
        """The label where it is observed, else a sample among the possible ones."""
        with plate:
            auxiliary = -self.auxiliary(features, logits, batch)  # the guide's are subtracted
            pyro.factor("auxiliary", auxiliary, has_rsample=True)
        if all_labelled(batch):
            return batch.y
        with _examples(plate, batch, logits.dtype):
            known = restrict(logits, batch, log_evidence(self.votes, batch))
            return sample_y(known, self.label_columns)

    def forward(self, batch: Batch) -> Tensor:
        """q(y | x) of a batch, `[B, K]`; under "y-given-z" at the mean of q(z | x)."""
        features = self.encode_batch(batch)
        return self.y_logits(features, self.z_posterior(features)[0]).exp()


def _check_ids(x: Tensor, lengths: Tensor, size: int) -> None:
    """Make sure that symbols are below V; on a GPU, that would wait for it."""
    if x.device.type == "cpu":
        check_below("symbol ids", x[length_mask(lengths, x.shape[1])], size)


def _refuse_compilation() -> None:
    """Raise if a compiled ELBO of Pyro calls: it takes tensors alone, and a batch is none."""
    frame: Any = sys._getframe()
    while frame := frame.f_back:
        if frame.f_globals.get("__name__") == "pyro.ops.jit":
            raise NotImplementedError("wanted an ELBO that is not compiled, got a Jit one")


def _is_half(value: Tensor) -> bool:
    return value.dtype in (torch.float16, torch.bfloat16)


@contextlib.contextmanager
def _examples(plate: pyro.plate, batch: Batch, dtype: torch.dtype) -> Iterator[None]:
    """The plate of the batch, each row scaled by its w."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(plate)
        if batch.w is not None:  # Pyro refuses a scale of 0
            stack.enter_context(poutine.mask(mask=cast(torch.BoolTensor, batch.w > 0)))
            scale = batch.w.to(dtype).where(batch.w > 0, 1.0)
            stack.enter_context(poutine.scale(scale=scale))
        yield


@contextlib.contextmanager
def _scaled(weight: float) -> Iterator[None]:
    """Scale by a weight that may be 0."""
    with poutine.scale(scale=weight) if weight > 0 else poutine.mask(mask=False):
        yield
