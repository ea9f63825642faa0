"""p(z | y): the prior of z, its KL from a normal, and samples of it."""

import pyro.distributions as dist
from torch import Tensor, nn


class NormalPrior(nn.Module):
    """The standard normal prior of z.

    A guide's normal is compared with it in units of the prior, `standardise`, which changes no KL;
    the rest of the package knows of the prior by this class alone.

    Args:
        latent_size: Z.
    """

    def __init__(self, latent_size: int) -> None:
        super().__init__()
        self.latent_size = latent_size

    def distribution(self, y: Tensor | None, like: Tensor) -> dist.TorchDistribution:
        """p(z | y) for a Pyro program, with the dtype and device of `like`."""
        zero = like.new_zeros(self.latent_size)
        normal: dist.TorchDistribution = dist.Normal(zero, zero + 1).to_event(1)
        return normal

    def standardise(
        self, loc: Tensor, scale: Tensor, y: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """A normal of z in units of the prior: location and scale, `[*L, B, Z]`."""
        return loc, scale

    def place(self, noise: Tensor, y: Tensor | None = None) -> Tensor:
        """z from standard normal noise, `[*L, B, Z]`: the inverse of `standardise`."""
        return noise

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
