"""Probabilistic principal components: one noise variance for all elements."""

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from curvae.linear.linear_gaussian import LinearGaussian

EXACT = 2048
"""Elements of a row up to which all eigenvalues are computed; beyond, the first ones by random projections."""
ROUNDS = 200
"""Of EM, where values are missing, at most."""


def ppca(
    x: Float[Tensor, "N P"],
    latent: int,
    mask: Bool[Tensor, "N P"] | None = None,
    floor: float = 1e-6,
    noise: float | None = None,
) -> LinearGaussian:
    """The maximum-likelihood fit of ``x = W z + mean + s noise``; of ``latent`` dimensions at most P - 1 and N - 1.

    With the eigenpairs ``(l_i, u_i)`` of the covariance, ``s^2`` is the mean of the P - D smallest l and
    ``W = U (L - s^2)^(1/2)``. Where values are missing, by EM from the fit of what is filled with means.

    Reference: Tipping and Bishop, *Probabilistic Principal Component Analysis*, JRSS B 1999, section 3 and appendix B;
    missing values as in Roweis, *EM Algorithms for PCA and SPCA*, NIPS 1998.

    Args:
        x: the data; what stands where ``mask`` is False is not looked at.
        latent: number D of latent dimensions.
        mask: True = observed.
        floor: the least variance of the noise.
        noise: its variance, where that is known; then what is fitted is the rest.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> x = torch.randn(500, 2) @ torch.tensor([[3.0, 0.0, 1.0], [0.0, 2.0, 1.0]]) + 0.1 * torch.randn(500, 3)
        >>> round(ppca(x, 2).noise[0].sqrt().item(), 2)
        0.1
    """
    x = x.double()
    if mask is None or bool(mask.all()):
        return _closed_form(x, latent, floor, noise)
    x = torch.where(mask, x, 0)
    mean = x.sum(0) / mask.sum(0).clamp(min=1)
    start = _closed_form(torch.where(mask, x, mean), latent, floor, noise)
    return _expectation_maximization(x, mask, start, floor, noise)


def _closed_form(x: Float[Tensor, "N P"], latent: int, floor: float, known: float | None) -> LinearGaussian:
    count, width = x.shape
    mean, size = x.mean(0), max(min(latent, width - 1, count - 1), 0)
    centered = x - mean
    total = centered.square().sum() / count
    values, vectors = _leading(centered, size)
    left = (total - values.sum()) / max(width - size, 1)
    noise = left.clamp(min=floor) if known is None else left.new_tensor(known)
    weight = vectors * (values - noise).clamp(min=0).sqrt()
    return LinearGaussian.rotated(mean, weight, noise.expand(width).clone())


def _leading(centered: Float[Tensor, "N P"], size: int) -> tuple[Float[Tensor, " D"], Float[Tensor, "P D"]]:
    """The largest eigenvalues of the covariance, decreasing, and their vectors."""
    count, width = centered.shape
    if size == 0:
        return centered.new_zeros(0), centered.new_zeros(width, 0)
    if min(count, width) > EXACT:
        return _projected(centered, size)
    if width <= count:
        values, vectors = torch.linalg.eigh(centered.mT @ centered / count)
        return values[-size:].flip(0).clamp(min=0), vectors[:, -size:].flip(1)
    values, vectors = torch.linalg.eigh(centered @ centered.mT / count)
    values, vectors = values[-size:].flip(0).clamp(min=0), vectors[:, -size:].flip(1)
    return values, torch.nn.functional.normalize(centered.mT @ vectors, dim=0)


def _projected(
    centered: Float[Tensor, "N P"], size: int, rounds: int = 6, more: int = 10
) -> tuple[Float[Tensor, " D"], Float[Tensor, "P D"]]:
    """The same by subspace iteration from random directions (Halko, Martinsson and Tropp, SIAM Review 2011)."""
    count, width = centered.shape
    generator = Generator(centered.device).manual_seed(0)
    base = torch.randn(width, size + more, generator=generator, dtype=centered.dtype, device=centered.device)
    for _ in range(rounds):
        base = torch.linalg.qr(centered.mT @ (centered @ base))[0]
    small = centered @ base
    values, vectors = torch.linalg.eigh(small.mT @ small / count)
    return values[-size:].flip(0), base @ vectors[:, -size:].flip(1)


def _expectation_maximization(
    x: Float[Tensor, "N P"], seen: Bool[Tensor, "N P"], model: LinearGaussian, floor: float, known: float | None
) -> LinearGaussian:
    """EM on the observed elements, until a round gains less than 1e-6 nats a row."""
    before = model.log_prob(x, seen).mean()
    for _ in range(ROUNDS):
        model = _round(x, seen, model, floor, known)
        after = model.log_prob(x, seen).mean()
        if after - before < 1e-6:
            break
        before = after
    return LinearGaussian.rotated(model.mean, model.weight, model.noise)


def _round(
    x: Float[Tensor, "N P"], seen: Bool[Tensor, "N P"], model: LinearGaussian, floor: float, known: float | None
) -> LinearGaussian:
    """One round: moments of (z, 1) given what is observed, then a least-squares fit of each element, then the noise."""
    on, size = seen.double(), model.weight.shape[1]
    covariance = torch.linalg.inv(model.precision(on))
    pull = (torch.where(seen, x - model.mean, 0) / model.noise) @ model.weight
    z = torch.cat([(covariance @ pull.unsqueeze(-1)).squeeze(-1), torch.ones_like(x[:, :1])], 1)
    second = z.unsqueeze(2) * z.unsqueeze(1)
    second[:, :size, :size] += covariance
    gram = torch.einsum("np,nde->pde", on, second)
    gram = gram + 1e-9 * gram.diagonal(dim1=1, dim2=2).mean() * torch.eye(size + 1, dtype=x.dtype, device=x.device)
    cross = torch.einsum("np,nd->pd", torch.where(seen, x, 0), z)
    fit = torch.linalg.solve(gram, cross)
    spread = torch.where(seen, x.square(), 0).sum(0) - 2 * (fit * cross).sum(1)
    spread = spread + torch.einsum("pd,pde,pe->p", fit, gram, fit)
    noise = (spread.sum() / on.sum()).clamp(min=floor) if known is None else spread.new_tensor(known)
    return LinearGaussian(fit[:, size], fit[:, :size], noise.expand(len(fit)).clone())
