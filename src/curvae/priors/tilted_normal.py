"""The exponentially tilted normal prior: most of its density on a sphere."""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from curvae.distributions.gaussian import DiagonalGaussian, GaussianPosterior
from curvae.distributions.kl import register_kl
from curvae.linalg import LOG_2PI, standard_normal_log_prob
from curvae.priors.prior import Prior

FINE, COARSE = (-13.0, 20.0, 0.125), (-7.0, 11.0, 0.25)
"""Nodes of the mean norm, in log u: first, last, step; the terms are u / 2 before and 1 / u beyond, to rounding."""


class TiltedNormal(Prior):
    r"""``p(z) = N(z; 0, I) exp(tilt |z|) / Z``: densest on a sphere, with room for codes that lie far apart.

    ``Z = E exp(tilt |e|)``, e standard normal, is found once by quadrature over the radius. The largest density is at
    ``|z| = tilt``; 0 gives the standard normal. The KL divergence of a Gaussian is exact, by :func:`mean_norm`.

    Reference: Floto, Kremer and Nica, *The Tilted Variational Autoencoder*, ICLR 2023 (arXiv:2111.15646).

    Args:
        size: number of latent dimensions D.
        tilt: by how much the log density grows with the distance from the origin, 0 or more.

    Raises:
        ValueError: size below 1; a tilt that is negative or not finite.

    Example:
        >>> prior = TiltedNormal(10, tilt=3.0)
        >>> f"{prior.log_normalizer:.5f}"
        '11.80155'
        >>> prior.sample(5).shape
        torch.Size([5, 10])
    """

    origin: Tensor

    def __init__(self, size: int, tilt: float = 10.0):
        super().__init__()
        if size < 1 or not 0 <= tilt < math.inf:
            raise ValueError(f"TiltedNormal: expected size >= 1 and a finite tilt >= 0; got {size} and {tilt}.")
        self.blocks = (size,)
        self.tilt = float(tilt)
        self.log_normalizer = _log_normalizer(size, self.tilt)
        self.register_buffer("origin", torch.zeros(size), persistent=False)

    def cheapest_radius(self) -> float:
        """Length of the mean m at which ``KL(N(m, I) || p)`` is lowest; 0 where the tilt is too small for another.

        Example:
            >>> round(TiltedNormal(10, tilt=10.0).cheapest_radius(), 4), TiltedNormal(10, tilt=3.0).cheapest_radius()
            (9.5321, 0.0)
        """
        unit = torch.ones(self.size, dtype=torch.float64)

        def slope(radius: float) -> float:
            length = torch.tensor(radius, dtype=torch.float64, requires_grad=True)
            divergence = _divergence(length * unit / self.size**0.5, unit, unit.new_zeros(()), self)
            return float(torch.autograd.grad(divergence.squeeze(), length)[0])

        low, high = 1e-6 * (1 + self.tilt), self.tilt + 1.0
        if slope(low) >= 0:
            return 0.0
        for _ in range(60):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if slope(middle) < 0 else (low, middle)
        return 0.5 * (low + high)

    @torch.no_grad()
    def start_from(self, deviation: Float[Tensor, " R"]) -> Float[Tensor, " R"]:
        """Latents whose posterior has variance 1; the prior stays as it is, so that the bound is not the linear one."""
        return deviation

    def log_prob(self, z: Float[Tensor, "*B D"]) -> Float[Tensor, "*B"]:
        return standard_normal_log_prob(z) + self.tilt * _norm(z).squeeze(-1) - self.log_normalizer

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n D"]:
        """Exact: directions uniform on the sphere, radii by rejection from a normal at their mode."""
        like = {"device": self.origin.device, "dtype": self.origin.dtype}
        directions = torch.randn(n, self.size, generator=generator, **like)
        radii = self.origin.new_empty(0)
        while len(radii) < n:
            tried = _mode(self.size, self.tilt) + torch.randn(2 * n + 8, generator=generator, **like)
            kept = torch.rand(2 * n + 8, generator=generator, **like).log() < self._excess(tried)
            radii = torch.cat([radii, tried[kept]])
        return directions / _norm(directions) * radii[:n].unsqueeze(-1)

    def _excess(self, radius: Tensor) -> Tensor:
        """Log density of the radius over that of the normal it is drawn from, at most 0: it falls faster."""
        mode = _mode(self.size, self.tilt)
        offset = _log_radial(radius.clamp_min(0), self.size, self.tilt) + 0.5 * (radius - mode).square()
        highest = _log_radial(radius.new_tensor(mode), self.size, self.tilt)
        return torch.where(radius > 0, offset - highest, -math.inf)

    def score(self, z: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        return (self.tilt / _norm(z) - 1) * z

    def precision(self, z: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D D"]:
        """1 along z and ``1 - tilt / |z|`` across it, or 0 where that is negative."""
        norm = _norm(z)
        along = (z / norm).unsqueeze(-1)
        across = (1 - self.tilt / norm).clamp_min(0).unsqueeze(-1)
        eye = torch.eye(self.size, dtype=z.dtype, device=z.device)
        return across * eye + (1 - across) * along * along.mT


def mean_norm(loc: Float[Tensor, "*B D"], variance: Float[Tensor, "*B D"]) -> Float[Tensor, "*B"]:
    r"""``E |z|`` for ``z ~ N(loc, diag(variance))``, to rounding, and differentiable.

    By the Laplace transform of ``|z|^2``, which is a product over the dimensions,

    .. math:: E|z| = \sqrt{2/\pi} \int_0^\infty \frac{1 - E e^{-u^2 |z|^2 / 2}}{u^2} du,

    by the trapezoidal rule in log u, whose error falls exponentially with the number of nodes.

    Example:
        >>> mean_norm(torch.zeros(3), torch.ones(3)).item()  # sqrt(8 / pi)
        1.595769...
    """
    scale = (loc.square() + variance).sum(-1, keepdim=True).sqrt()
    first, last, step = FINE if loc.dtype == torch.float64 else COARSE
    nodes = torch.arange(first, last + step, step, dtype=loc.dtype, device=loc.device)
    squared = (nodes.exp() / scale).square().unsqueeze(-1)
    spread = squared * variance.unsqueeze(-2)
    log_transform = -0.5 * (spread.log1p() + squared * loc.square().unsqueeze(-2) / (1 + spread)).sum(-1)
    within = (-torch.expm1(log_transform) * (-nodes).exp()).sum(-1)
    beyond = (0.5 * math.exp(first) + math.exp(-last)) / math.expm1(step)
    return math.sqrt(2 / math.pi) * step * (within + beyond) * scale.squeeze(-1)


@register_kl(DiagonalGaussian, TiltedNormal)
def _diagonal(q: DiagonalGaussian, p: TiltedNormal) -> Float[Tensor, "*B 1"]:
    return _divergence(q.loc, q.variance, q.log_scale.sum(-1), p)


@register_kl(GaussianPosterior, TiltedNormal)
def _gaussian(q: GaussianPosterior, p: TiltedNormal) -> Float[Tensor, "*B 1"]:
    """In the axes of the covariance: the prior is the same in all directions."""
    variance, axes = torch.linalg.eigh(q.covariance)
    return _divergence((q.loc.unsqueeze(-2) @ axes).squeeze(-2), variance, q.half_log_det, p)


def _divergence(
    loc: Float[Tensor, "*B D"], variance: Float[Tensor, "*B D"], half_log_det: Float[Tensor, "*B"], p: TiltedNormal
) -> Float[Tensor, "*B 1"]:
    """``1/2 (|m|^2 + tr C - D - log det C) - tilt E|z| + log Z``."""
    normal = 0.5 * (loc.square() + variance - 1).sum(-1) - half_log_det
    return (normal - p.tilt * mean_norm(loc, variance) + p.log_normalizer).unsqueeze(-1)


def _norm(z: Float[Tensor, "*B D"]) -> Float[Tensor, "*B 1"]:
    """Never 0, so that its slope is finite there."""
    return z.square().sum(-1, keepdim=True).clamp_min(torch.finfo(z.dtype).tiny).sqrt()


def _mode(size: int, tilt: float) -> float:
    """Of the radius."""
    return 0.5 * (tilt + math.sqrt(tilt * tilt + 4 * (size - 1)))


def _log_radial(radius: Tensor, size: int, tilt: float) -> Tensor:
    """Log density of the radius but for a constant."""
    return torch.xlogy(torch.tensor(size - 1.0).to(radius), radius) + tilt * radius - 0.5 * radius.square()


def _log_normalizer(size: int, tilt: float) -> float:
    """By Gauss-Legendre over the radii that have mass: its log density bends by 1 or more everywhere."""
    mode = _mode(size, tilt)
    nodes, weights = np.polynomial.legendre.leggauss(200)
    low, high = max(0.0, mode - 12), mode + 12
    radius = torch.from_numpy(low + 0.5 * (high - low) * (nodes + 1))
    terms = _log_radial(radius, size, tilt) + torch.from_numpy(weights).log()
    sphere = 0.5 * size * LOG_2PI - math.log(2) - 0.5 * size * math.log(math.pi) + math.lgamma(0.5 * size)
    return float(terms.logsumexp(0)) + math.log(0.5 * (high - low)) - sphere
