"""The prior of z, its KL from a normal, and samples of it."""

from collections.abc import Sequence

import pyro.distributions as dist
from torch import Tensor, nn

from seqssvae.nn.encoders import LabelTable


class NormalPrior(nn.Module):
    """N(0, I), or a normal of each class: p(z | y) = N(loc_y, scale_y^2), learned.

    A guide's normal is compared with it in units of the prior, `standardise`, which changes no KL;
    the rest of the package knows of the prior by this class alone. Every class begins with N(0, I).

    Args:
        latent_size: Z.
        num_classes: K; 0: z does not depend on y.
        label_sizes: As of `LabelTable`: of several columns, locations are sums and scales products.
    """

    def __init__(
        self, latent_size: int, num_classes: int = 0, label_sizes: Sequence[int] = ()
    ) -> None:
        super().__init__()
        self.latent_size = latent_size
        self.loc: LabelTable | None = None
        self.log_scale: LabelTable | None = None
        if num_classes and latent_size:
            self.loc = LabelTable(num_classes, latent_size, label_sizes)
            self.log_scale = LabelTable(num_classes, latent_size, label_sizes)
            nn.init.zeros_(self.loc.weight)
            nn.init.zeros_(self.log_scale.weight)

    @property
    def reads_y(self) -> bool:
        """Whether z depends on y."""
        return self.loc is not None

    def forward(self, y: Tensor | None, like: Tensor) -> tuple[Tensor, Tensor]:
        """Location and scale for y `[*L, B]` or `[*L, B, K]`, `[*L, B, Z]`, or `[Z]` of N(0, I).

        Their dtype and device are those of `like`.

        Raises:
            ValueError: no y, and z depends on it.
        """
        if self.loc is None or self.log_scale is None:
            return like.new_zeros(self.latent_size), like.new_ones(self.latent_size)
        if y is None:
            raise ValueError("p(z | y): wanted y, got None")
        return self.loc(y).to(like), self.log_scale(y).clamp(-8, 8).exp().to(like)

    def distribution(self, y: Tensor | None, like: Tensor) -> dist.TorchDistribution:
        """p(z | y) for a Pyro program, with the dtype and device of `like`."""
        normal: dist.TorchDistribution = dist.Normal(*self(y, like)).to_event(1)
        return normal

    def standardise(
        self, loc: Tensor, scale: Tensor, y: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """A normal of z in units of the prior: location and scale, `[*L, B, Z]`."""
        if not self.reads_y:
            return loc, scale
        center, unit = self(y, loc)
        return (loc - center) / unit, scale / unit

    def place(self, noise: Tensor, y: Tensor | None = None) -> Tensor:
        """z from standard normal noise, `[*L, B, Z]`: the inverse of `standardise`."""
        if not self.reads_y:
            return noise
        loc, scale = self(y, noise)
        z: Tensor = loc + scale * noise
        return z

    def kl(
        self, loc: Tensor, scale: Tensor, y: Tensor | None = None, *, free_bits: float = 0.0
    ) -> Tensor:
        """KL(N(loc, scale^2) || p(z | y)) in nats, dim by dim.

        Args:
            loc: `[*L, B, Z]`.
            scale: `[*L, B, Z]`.
            y: As of `SSVAE.z_posterior`, `[*L, B]` or `[*L, B, K]`.
            free_bits: Least value of each dim (Kingma et al. 2016), below which it has no gradient;
                0 for what is reported.

        Returns:
            `[*L, B, Z]`.
        """
        loc, scale = self.standardise(loc, scale, y)
        kl = 0.5 * (loc.square() + scale.square() - 1) - scale.log()
        return kl.clamp(min=free_bits) if free_bits else kl

    def sampled_kl(self, z: Tensor, loc: Tensor, scale: Tensor, y: Tensor | None = None) -> Tensor:
        """log N(z; loc, scale^2) - log p(z | y) at samples, dim by dim: the KL in the mean.

        z is `[*L, B, Z]`; the rest is as of `kl`.
        """
        noise = (z - loc) / scale
        z, scale = self.standardise(z, scale, y)
        # torch's Normal would wait for a GPU to check its arguments
        return 0.5 * (z.square() - noise.square()) - scale.log()
