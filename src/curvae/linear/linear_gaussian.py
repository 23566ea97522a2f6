"""The linear-Gaussian model ``x = W z + mean + noise``, with everything about it in closed form."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from curvae.linalg import LOG_2PI


def signs(weight: Float[Tensor, "P D"]) -> Float[Tensor, " D"]:
    """Of latents, 1 or -1, so that the sum of the cubes of each one's loadings is positive.

    It is that of the largest loading where one stands out. Where several are nearly as large, as for columns that all
    follow one latent, which of them is the largest is chance, and this sum is not.

    Example:
        >>> signs(torch.tensor([[0.9, 0.1], [0.92, 0.2], [-0.93, -3.0]]))
        tensor([ 1., -1.])
    """
    return torch.where(weight.pow(3).sum(0) < 0, -1.0, 1.0).to(weight)


@dataclass(frozen=True, eq=False)
class LinearGaussian:
    r"""``p(z) = N(0, I)``, ``p(x | z) = N(W z + mean, diag(noise))``, with ``W' diag(noise)^-1 W`` diagonal.

    Then the posterior is a diagonal Gaussian: with ``g = diag(W' diag(noise)^-1 W)``, decreasing,

    ``p(z | x) = N(V (x - mean), diag(1 / (1 + g)))``, ``V = diag(1 / (1 + g)) W' diag(noise)^-1``,

    and ``log p(x) = log N(x; mean, W W' + diag(noise))``.

    Args:
        mean: (P,).
        weight: W, (P, D).
        noise: variances, (P,).

    Example:
        >>> _ = torch.manual_seed(0)
        >>> model = LinearGaussian.rotated(torch.zeros(4), torch.randn(4, 2), torch.ones(4))
        >>> model.log_prob(torch.zeros(1, 4)).shape, model.posterior_variance.shape
        (torch.Size([1]), torch.Size([2]))
    """

    mean: Float[Tensor, " P"]
    weight: Float[Tensor, "P D"]
    noise: Float[Tensor, " P"]

    @classmethod
    def rotated(
        cls, mean: Float[Tensor, " P"], weight: Float[Tensor, "P D"], noise: Float[Tensor, " P"]
    ) -> "LinearGaussian":
        """The same density of x, its latents rotated to where their posterior is diagonal, the strongest first."""
        left, strength, _ = torch.linalg.svd(weight / noise.sqrt().unsqueeze(1), full_matrices=False)
        found = noise.sqrt().unsqueeze(1) * left * strength
        return cls(mean, found * signs(found), noise)

    @classmethod
    def of(cls, mean: Float[Tensor, " P"], covariance: Float[Tensor, "P P"]) -> "LinearGaussian":
        """N(mean, covariance), as a model of P latents and the least noise that leaves room for them.

        Example:
            >>> covariance = torch.tensor([[2.0, 0.9], [0.9, 1.0]])
            >>> torch.allclose(LinearGaussian.of(torch.zeros(2), covariance).covariance, covariance)
            True
        """
        values, vectors = torch.linalg.eigh(covariance)
        noise = 0.5 * values[0]
        return cls.rotated(mean, vectors * (values - noise).clamp(min=0).sqrt(), noise.expand(len(mean)).clone())

    @property
    def gains(self) -> Float[Tensor, " D"]:
        """``diag(W' diag(noise)^-1 W)``."""
        return (self.weight.square() / self.noise.unsqueeze(1)).sum(0)

    @property
    def posterior_variance(self) -> Float[Tensor, " D"]:
        """Of each latent, the same for all x."""
        return 1 / (1 + self.gains)

    @property
    def posterior_map(self) -> Float[Tensor, "D P"]:
        """V: from x - mean to the posterior's mean."""
        return (self.weight / self.noise.unsqueeze(1) * self.posterior_variance).mT

    def precision(self, seen: Float[Tensor, "B P"]) -> Float[Tensor, "B D D"]:
        """Of the latents' posterior where elements are observed (1) or missing (0): ``I + W' diag(seen / noise) W``.

        By one product with all ``w_p w_p'``, as the W of each row would take far longer.
        """
        size = self.weight.shape[1]
        outer = (self.weight.unsqueeze(2) * self.weight.unsqueeze(1)).flatten(1)
        inner = ((seen / self.noise) @ outer).unflatten(1, (size, size))
        return inner + torch.eye(size, dtype=seen.dtype, device=seen.device)

    @property
    def covariance(self) -> Float[Tensor, "P P"]:
        """Of x."""
        return self.weight @ self.weight.mT + torch.diag(self.noise)

    def log_prob(self, x: Float[Tensor, "B P"], mask: Bool[Tensor, "B P"] | None = None) -> Float[Tensor, " B"]:
        """``log p(x)`` of the observed elements, in nats; no P x P matrix is formed."""
        offset = x - self.mean
        if mask is None:
            inner = self.gains + 1
            square = (offset.square() / self.noise).sum(1) - ((offset @ self.posterior_map.mT).square() * inner).sum(1)
            return -0.5 * (square + self.noise.log().sum() + inner.log().sum() + len(self.mean) * LOG_2PI)
        seen = mask.to(x.dtype)
        scaled = torch.where(mask, offset, 0) / self.noise
        factor = torch.linalg.cholesky(self.precision(seen))
        pulled = torch.linalg.solve_triangular(factor, (scaled @ self.weight).unsqueeze(-1), upper=False).squeeze(-1)
        square = (scaled * torch.where(mask, offset, 0)).sum(1) - pulled.square().sum(1)
        level = 2 * factor.diagonal(dim1=1, dim2=2).log().sum(1) + (seen * (self.noise.log() + LOG_2PI)).sum(1)
        return -0.5 * (square + level)
