"""Probabilistic principal components: one noise variance for all elements."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Generator, Tensor

from curvae.linear.linear_gaussian import LinearGaussian

EXACT = 2048
"""Elements of a row up to which all eigenvalues are computed; beyond, the first ones by iteration."""
ROWS, COLUMNS = 1024, 128
"""Of x at a time."""
ROUNDS = 200
"""Of EM, where values are missing, at most."""


def ppca(
    x: Shaped[Tensor, "N P"],
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
    if mask is None or bool(mask.all()):
        return _closed_form(x, latent, floor, noise)
    x = torch.where(mask, x.double(), 0)
    mean = x.sum(0) / mask.sum(0).clamp(min=1)
    start = _closed_form(torch.where(mask, x, mean), latent, floor, noise)
    return _expectation_maximization(x, mask, start, floor, noise)


def _closed_form(x: Shaped[Tensor, "N P"], latent: int, floor: float, known: float | None) -> LinearGaussian:
    width, size = x.shape[1], max(min(latent, x.shape[1] - 1, len(x) - 1), 0)
    mean, total, values, vectors = _spectrum(x, size)
    left = (total - values.sum()) / max(width - size, 1)
    noise = left.clamp(min=floor) if known is None else left.new_tensor(known)
    weight = vectors * (values - noise).clamp(min=0).sqrt()
    return LinearGaussian.rotated(mean, weight, noise.expand(width).clone())


class Spectrum(NamedTuple):
    """Of a covariance: the largest eigenvalues, decreasing, and the sum of all, in float64."""

    mean: Float[Tensor, " P"]
    total: Float[Tensor, ""]
    values: Float[Tensor, " D"]
    vectors: Float[Tensor, "P D"]


def _spectrum(x: Shaped[Tensor, "N P"], size: int) -> Spectrum:
    """By the cheapest of three ways; nothing of the size of x is made unless it has few rows."""
    count, width = x.shape
    if min(count, width) > EXACT:
        return _iterated(x, size)
    if width <= count:
        mean, covariance = _moments(x)
        values, vectors = torch.linalg.eigh(covariance)
        return Spectrum(mean, covariance.trace(), *_last(values, vectors, size))
    mean = x.double().mean(0)
    centered = x.double() - mean
    values, vectors = torch.linalg.eigh(centered @ centered.mT / count)
    values, vectors = _last(values, vectors, size)
    vectors = torch.nn.functional.normalize(centered.mT @ vectors, dim=0)
    return Spectrum(mean, centered.square().sum() / count, values, vectors)


def _last(values: Tensor, vectors: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The last of increasing eigenvalues, and their vectors, decreasing."""
    start = len(values) - size
    return values[start:].flip(0).clamp(min=0), vectors[:, start:].flip(1)


def _moments(x: Shaped[Tensor, "N P"]) -> tuple[Float[Tensor, " P"], Float[Tensor, "P P"]]:
    """Mean and covariance in one pass, around the mean of the first rows; of a symmetric product one half."""
    shift = x[:ROWS].double().mean(0)
    total, square = torch.zeros_like(shift), shift.new_zeros(len(shift), len(shift))
    for part in x.split(ROWS):
        offset = part.double() - shift
        total += offset.sum(0)
        for start in range(0, len(shift), COLUMNS):
            square[start : start + COLUMNS, start:].addmm_(offset[:, start : start + COLUMNS].mT, offset[:, start:])
    drift = total / len(x)
    return shift + drift, (square.triu() + square.triu(1).mT) / len(x) - drift.outer(drift)


def _iterated(x: Shaped[Tensor, "N P"], size: int, rounds: int = 8, more: int = 10) -> Spectrum:
    """By block Krylov iteration from random directions: the best in the span of all rounds, not of the last alone.

    Reference: Musco and Musco, *Randomized Block Krylov Methods for Stronger and Faster Approximate Singular Value
    Decomposition*, NIPS 2015, algorithm 2.
    """
    mean = x.mean(0, dtype=torch.float64)
    generator = Generator(x.device).manual_seed(0)
    block = torch.randn(x.shape[1], size + more, generator=generator, dtype=mean.dtype, device=x.device)
    blocks = []
    for _ in range(rounds):
        block = torch.linalg.qr(_times_covariance(x, mean, block)[0])[0]
        blocks.append(block)
    base = torch.linalg.qr(torch.cat(blocks, 1))[0]
    image, total = _times_covariance(x, mean, base)
    values, vectors = torch.linalg.eigh(base.mT @ image)
    values, vectors = _last(values, vectors, size)
    return Spectrum(mean, total, values, base @ vectors)


def _times_covariance(
    x: Shaped[Tensor, "N P"], mean: Float[Tensor, " P"], base: Float[Tensor, "P K"]
) -> tuple[Float[Tensor, "P K"], Float[Tensor, ""]]:
    """The covariance times a matrix, and its trace, some rows at a time."""
    image, total = torch.zeros_like(base), mean.new_zeros(())
    for part in x.split(ROWS):
        offset = part.double() - mean
        image.addmm_(offset.mT, offset @ base)
        total += offset.square().sum()
    return image / len(x), total / len(x)


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
