"""A law of rotated latents ``z' = R z``: the same law of x under a prior that does not see rotations."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from curvae.distributions.gaussian import FullGaussian, GaussianPosterior, NormalPosterior, pack
from curvae.distributions.mixture import Mixture
from curvae.distributions.moments import DRAWS, weighted_interval
from curvae.distributions.posterior import DensityPosterior, DerivedPosterior, Draws, Posterior
from curvae.noise import common_noise


def rotated(posterior: Posterior, rotation: Float[Tensor, "D D"]) -> Posterior:
    """q(R z | x): mean R m, covariance R S R'. A Gaussian stays one, with a full covariance; a mixture a mixture.

    Args:
        posterior: q(z | x) of continuous latents.
        rotation: R, orthogonal.

    Example:
        >>> import torch
        >>> from curvae.posteriors import DiagonalGaussian
        >>> quarter = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
        >>> q = rotated(DiagonalGaussian(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, -1.0]])), quarter)
        >>> q.mean.tolist(), bool(torch.allclose(q.covariance[0].diagonal().log(), torch.tensor([-2.0, 0.0])))
        ([[2.0, -1.0]], True)
    """
    if isinstance(posterior, NormalPosterior):
        return _gaussian(posterior, rotation)
    if isinstance(posterior, Mixture):
        parts = (rotated(each, rotation) for each in posterior.components)
        return Mixture(tuple(q for q in parts if isinstance(q, DensityPosterior)), posterior.logits)
    turn = rotation.to(posterior.center)
    return (
        RotatedDensity(posterior, turn)
        if isinstance(posterior, DensityPosterior)
        else RotatedPosterior(posterior, turn)
    )


def _gaussian(posterior: NormalPosterior, rotation: Float[Tensor, "D D"]) -> FullGaussian:
    """``R C = L Q`` by the QR decomposition of its transpose: what has a factor C is not squared and factored again."""
    loc = posterior.loc
    columns = _columns(posterior).double()
    turn = rotation.to(columns)
    upper = torch.linalg.qr(columns @ turn.mT).R
    signs = torch.where(upper.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).to(upper)
    lower = (signs.unsqueeze(-1) * upper).mT
    return FullGaussian((loc.double() @ turn.mT).to(loc), pack(lower).to(loc))


def _columns(posterior: NormalPosterior) -> Float[Tensor, "B D D"]:
    """C', whose rows are the columns of a factor of the covariance."""
    if not isinstance(posterior, GaussianPosterior):
        return torch.linalg.cholesky(posterior.covariance.double()).mT
    return posterior.columns.permute(1, 0, 2)


@dataclass(frozen=True, eq=False)
class RotatedPosterior(DerivedPosterior):
    """The image of any posterior under a rotation; its intervals are those of its draws."""

    names = ()
    start: Posterior
    rotation: Float[Tensor, "D D"]

    @property
    def center(self) -> Float[Tensor, "B D"]:
        return self.start.center @ self.rotation.mT

    @property
    def mean(self) -> Float[Tensor, "B D"]:
        return self.start.mean @ self.rotation.mT

    @property
    def covariance(self) -> Float[Tensor, "B D D"]:
        return self.rotation @ self.start.covariance @ self.rotation.mT

    def draw(self, n: int, generator: torch.Generator | None = None) -> Draws:
        draws = self.start.draw(n, generator)
        return draws._replace(z=draws.z @ self.rotation.mT)

    def _interval(self, level: float) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D"]]:
        return weighted_interval(self.draw(DRAWS, common_noise(0, self.rotation.device)), level)


@dataclass(frozen=True, eq=False)
class RotatedDensity(RotatedPosterior, DensityPosterior):
    """The same of one whose density is known anywhere: ``q'(z') = q(R' z')``."""

    start: DensityPosterior

    def log_prob(self, z: Float[Tensor, "S B D"]) -> Float[Tensor, "S B"]:
        return self.start.log_prob(z @ self.rotation)
