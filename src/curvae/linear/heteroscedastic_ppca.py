"""Probabilistic principal components of values whose errors are known, each its own."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from curvae.linalg import LOG_2PI
from curvae.linear.linear_gaussian import LinearGaussian
from curvae.linear.ppca import ppca

ROUNDS = 500
"""Of EM, at most."""
MOST = 20_000
"""Rows that it goes by, evenly spread, of more."""


class NoisyFit(NamedTuple):
    """A fit to values with known errors."""

    model: LinearGaussian
    """With the noise that a value typically has: its own variance, and the mean square of the known errors."""
    own: Float[Tensor, " P"]
    """Variance of each element that the known errors do not account for."""

    def log_prob(
        self, x: Float[Tensor, "N P"], errors: Float[Tensor, "N P"], mask: Bool[Tensor, "N P"] | None = None
    ) -> Float[Tensor, " N"]:
        """``log N(x_n; mean, W W' + diag(s^2 + v_n))`` of the observed elements, nats."""
        on = torch.ones_like(x) if mask is None else mask.to(x.dtype)
        precision = on / (self.own + errors.square()).clamp(min=1e-12)
        level = _latents(torch.where(on > 0, x, 0), precision, self.model.mean, self.model.weight)[1]
        return level - 0.5 * LOG_2PI * on.sum(1)


def heteroscedastic_ppca(
    x: Shaped[Tensor, "N P"],
    errors: Float[Tensor, "N P"],
    latent: int,
    mask: Bool[Tensor, "N P"] | None = None,
    floor: float = 1e-6,
    shared: bool = False,
    noise: float | None = None,
) -> NoisyFit:
    r"""The maximum-likelihood fit of ``x_np = w_p z_n + mean_p + (s_p^2 + v_np)^(1/2) noise``, v known, by ECM.

    With ``c_np = 1 / (s_p^2 + v_np)``, rounds of moments of z given x, weighted least squares for W and the mean, and
    ``s_p^2 = sum_n c_np^2 (E[r_np^2] - v_np) / sum_n c_np^2`` with the residuals r, one step of Fisher scoring; until
    a round gains less than 1e-7 nats a row.

    Reference: as :func:`ppca` with missing values, which are values of an infinite error; Meng and Rubin, *Maximum
    Likelihood Estimation via the ECM Algorithm*, Biometrika 1993.

    Args:
        x: the data.
        errors: standard deviations, 0 or more.
        latent: number D of latent dimensions.
        mask: True = observed.
        floor: the least s^2.
        shared: whether s is one for all elements.
        noise: s^2, where that is known, 0 or more.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> errors = 0.1 + torch.rand(2000, 4)
        >>> x = torch.randn(2000, 1) @ torch.ones(1, 4) + 0.2 * torch.randn(2000, 4) + errors * torch.randn(2000, 4)
        >>> found = heteroscedastic_ppca(x, errors, 1)
        >>> [round(v, 1) for v in found.own.sqrt().tolist()], [round(v, 1) for v in found.model.weight[:, 0].tolist()]
        ([0.2, 0.2, 0.2, 0.2], [1.0, 1.0, 1.0, 1.0])
    """
    some = torch.linspace(0, len(x) - 1, min(len(x), MOST), dtype=torch.float64).round().long()
    x, known = x[some].double(), errors[some].double().square()
    seen = torch.ones_like(x, dtype=torch.bool) if mask is None else mask[some]
    x, on = torch.where(seen, x, 0), seen.double()
    typical = (known * on).sum(0) / on.sum(0).clamp(min=1)
    first = ppca(x, latent, mask, floor)
    own = (first.noise - typical).clamp(min=max(floor, 1e-2 * float(first.noise.mean())))
    if noise is not None:
        own = torch.full_like(own, noise)
    mean, weight, before = first.mean, first.weight, -torch.inf
    for _ in range(ROUNDS):
        precision = on / (own + known).clamp(min=1e-12)
        z, level = _latents(x, precision, mean, weight)
        if (now := float(level.mean())) - before < 1e-7:
            break
        before = now
        mean, weight, squares = _fitted(x, precision, z)
        if noise is None:
            own = _own(squares, known, precision, shared).clamp(min=floor)
    return NoisyFit(LinearGaussian.rotated(mean, weight, own + typical), own)


class _Latents(NamedTuple):
    """Moments of (z, 1) given each row."""

    mean: Float[Tensor, "N K"]
    second: Float[Tensor, "N K K"]


def _latents(x: Tensor, precision: Tensor, mean: Tensor, weight: Tensor) -> tuple[_Latents, Tensor]:
    """Those under these parameters, and log p(x) there but for a constant, (N,)."""
    size, offset = weight.shape[1], x - mean
    outer = (weight.unsqueeze(2) * weight.unsqueeze(1)).flatten(1)
    inner = (precision @ outer).unflatten(1, (size, size)) + torch.eye(size).to(x)
    pull = (precision * offset) @ weight
    covariance = torch.linalg.inv(inner)
    z = torch.einsum("nij,nj->ni", covariance, pull)
    fit = (precision * offset.square()).sum(1) - (pull * z).sum(1) + torch.linalg.slogdet(inner)[1]
    level = -0.5 * (fit - torch.where(precision > 0, precision, 1).log().sum(1))
    whole = torch.cat([z, torch.ones_like(z[:, :1])], 1)
    second = whole.unsqueeze(2) * whole.unsqueeze(1)
    second[:, :size, :size] += covariance
    return _Latents(whole, second), level


def _fitted(x: Tensor, precision: Tensor, z: _Latents) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, weight, and the expected square of each residual under them."""
    gram = torch.einsum("np,nde->pde", precision, z.second)
    eye = torch.eye(gram.shape[-1]).to(x)
    gram = gram + 1e-12 * gram.diagonal(dim1=1, dim2=2).mean() * eye
    fit = torch.linalg.solve(gram, torch.einsum("np,nd->pd", precision * x, z.mean))
    squares = x.square() - 2 * x * (z.mean @ fit.mT) + torch.einsum("pd,nde,pe->np", fit, z.second, fit)
    return fit[:, -1], fit[:, :-1], squares


def _own(squares: Tensor, known: Tensor, precision: Tensor, shared: bool) -> Tensor:
    share = precision.square()
    total, count = (share * (squares - known)).sum(0), share.sum(0)
    if shared:
        return (total.sum() / count.sum()).expand(len(total)).clone()
    return total / count.clamp(min=1e-300)
