"""A Gaussian law with a full covariance: a diagonal one, turned by Householder reflections."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from curvae.distributions.gaussian import GaussianPosterior
from curvae.distributions.posterior import ParametricPosterior


@dataclass(frozen=True, eq=False)
class HouseholderGaussian(ParametricPosterior, GaussianPosterior):
    """``N(loc, H diag(exp(2 log_scale)) H')`` with ``H = H_T ... H_1`` and ``H_t = I - 2 v_t v_t' / |v_t|^2``.

    H is orthogonal, so ``log |det H| = 0``: drawing and weighing cost O(T D), and the divergence from a standard
    normal is that of the diagonal Gaussian before it was turned. D - 1 reflections reach every covariance.

    Args:
        loc: mean.
        log_scale: logarithms of the standard deviations along the principal axes.
        vectors: v_1 ... v_T of each example, of any length; one of length 0 leaves z as it is.

    Reference: Tomczak and Welling, *Improving Variational Auto-Encoders using Householder Flow*, arXiv:1611.09630.

    Example:
        >>> import torch
        >>> q = HouseholderGaussian(torch.zeros(1, 2), torch.tensor([[1.0, 0.5]]).log(), torch.ones(1, 1, 2))
        >>> q.variance.round(decimals=3).tolist(), round(q.half_log_det.item(), 3)
        ([[0.25, 1.0]], -0.693)
    """

    names = ("loc", "log_scale", "vectors")
    loc: Float[Tensor, "B D"]
    log_scale: Float[Tensor, "B D"]
    vectors: Float[Tensor, "B T D"]

    @property
    def factor(self) -> Float[Tensor, "B D D"]:
        """``H diag(exp(log_scale))``."""
        return self.columns.permute(1, 2, 0)

    @property
    def covariance(self) -> Float[Tensor, "B D D"]:
        return self.factor @ self.factor.mT

    @property
    def variance(self) -> Float[Tensor, "B D"]:
        return self.factor.square().sum(-1)

    @property
    def half_log_det(self) -> Float[Tensor, " B"]:
        return self.log_scale.sum(-1)

    def color(self, noise: Float[Tensor, "S B D"]) -> Float[Tensor, "S B D"]:
        return reflect(self.vectors, noise * self.log_scale.exp())

    def whiten(self, offset: Float[Tensor, "S B D"]) -> Float[Tensor, "S B D"]:
        return reflect(self.vectors.flip(1), offset) * (-self.log_scale).exp()


def reflect(vectors: Float[Tensor, "B T D"], z: Float[Tensor, "*S B D"]) -> Float[Tensor, "*S B D"]:
    """``H_T ... H_1 z``; no matrix is formed.

    Example:
        >>> reflect(torch.tensor([[[2.0, 0.0]]]), torch.tensor([[3.0, 4.0]])).tolist()
        [[-3.0, 4.0]]
    """
    for u in _units(vectors).unbind(1):
        z = z - 2 * u * (u * z).sum(-1, keepdim=True)
    return z


def _units(vectors: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
    """``v / |v|``, and 0 for 0: an epsilon in the denominator would cost H its orthogonality."""
    largest = vectors.detach().abs().amax(-1, keepdim=True)
    nothing = largest == 0
    scaled = vectors / torch.where(nothing, 1.0, largest)
    return torch.where(nothing, 0.0, scaled / torch.where(nothing, 1.0, scaled).norm(dim=-1, keepdim=True))
