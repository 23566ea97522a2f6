"""Importance weights of a batch, in chunks of draws that fit a memory budget.

A chunk of n out of S draws has mixing weights that sum to 1 by themselves, ``logsumexp(log_c) = 0``; adding
``log(n / S)`` to them makes the chunks one set of S draws again. The log weights of a batch, S numbers an example, are
all kept, because k-hat is fitted to the largest of them; what is chunked is the decoder's output, P numbers a draw.
"""

from collections.abc import Callable
from math import ceil, log
from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn.functional import softplus

from curvae.evaluation.likelihood.diagnostics import Estimates, estimate
from curvae.evaluation.settings import MEMORY
from curvae.model import LatentVariableModel
from curvae.objectives import log_weights
from curvae.posteriors import DensityPosterior, Draws, Posterior
from curvae.systems import HasModel, HasWeights, System, Weights
from curvae.typing import Batch


class BalancedWeights(NamedTuple):
    """Weights of draws from one of two proposals, and what makes them those of a mixture of both, half of each.

    With ``q`` the proposal that was drawn from and r the other, ``balance = log q(z) - log (q(z) + r(z)) / 2``.
    """

    log_w: Float[Tensor, "S B"]
    log_c: Float[Tensor, "S B"]
    balance: Float[Tensor, "S B"]


Drawn = TypeVar("Drawn", Weights, BalancedWeights)


def posterior_weights(
    model: LatentVariableModel,
    posterior: Posterior,
    batch: Batch,
    samples: int,
    memory: int = MEMORY,
    generator: Generator | None = None,
) -> Weights:
    """Weights ``log p(x, z) - log q(z | x)`` of draws from a posterior that was inferred once, (S, B), float64.

    Example:
        >>> from curvae.likelihoods import Gaussian
        >>> from curvae.posteriors import DiagonalGaussian
        >>> from curvae.priors import StandardNormal
        >>> model = LatentVariableModel(StandardNormal(2), torch.nn.Linear(2, 3), Gaussian(3))
        >>> batch, q = Batch(torch.zeros(4, 3), torch.arange(4)), DiagonalGaussian(torch.zeros(4, 2), torch.zeros(4, 2))
        >>> with torch.no_grad():
        ...     log_w, log_c = posterior_weights(model, q, batch, samples=50, memory=2000)
        >>> log_w.shape, f"{log_c.logsumexp(0)[0].abs().item():.6f}"
        (torch.Size([50, 4]), '0.000000')
    """

    def draw(n: int) -> Weights:
        draws = posterior.draw(n, generator)
        return Weights(log_weights(model, batch, draws), draws.log_c)

    return collect(draw, samples, chunk_for(model, posterior, batch, memory))


def balanced_weights(
    model: LatentVariableModel,
    posterior: DensityPosterior,
    other: DensityPosterior,
    batch: Batch,
    samples: int,
    memory: int = MEMORY,
    generator: Generator | None = None,
) -> BalancedWeights:
    """As :func:`posterior_weights`, of one proposal beside another: no more decoder passes than without the other.

    Example:
        >>> from curvae.likelihoods import Gaussian
        >>> from curvae.posteriors import DiagonalGaussian
        >>> from curvae.priors import StandardNormal
        >>> model = LatentVariableModel(StandardNormal(2), torch.nn.Linear(2, 3), Gaussian(3))
        >>> batch, q = Batch(torch.zeros(4, 3), torch.arange(4)), DiagonalGaussian(torch.zeros(4, 2), torch.zeros(4, 2))
        >>> with torch.no_grad():
        ...     balanced_weights(model, q, q, batch, samples=50).balance.abs().max().item() < 1e-5
        True
    """

    def draw(n: int) -> BalancedWeights:
        draws = posterior.draw(n, generator)
        return BalancedWeights(log_weights(model, batch, draws), draws.log_c, log_ratio_to_mixture(draws, other))

    return collect(draw, samples, chunk_for(model, posterior, batch, memory))


def log_ratio_to_mixture(draws: Draws, other: DensityPosterior) -> Float[Tensor, "S B"]:
    """``log q - log (q + r) / 2`` at draws of q, r being another density."""
    return log(2) - softplus(other.log_prob(draws.z) - draws.log_q)


def chunk_for(model: LatentVariableModel, posterior: Posterior, batch: Batch, memory: int) -> int:
    """Draws at a time."""
    return chunk_size(bytes_per_draw(model, batch) * posterior.count(1), memory, len(batch.x))


def system_weights(
    system: HasWeights, batch: Batch, samples: int, memory: int = MEMORY, generator: Generator | None = None
) -> Weights:
    """The proper weights of any system, (S, B), float64; inference is done again for each chunk of draws."""
    each = batch.x.element_size() * batch.x[0].numel() * 8
    return collect(lambda n: system.log_weights(batch, n, generator), samples, chunk_size(each, memory, len(batch.x)))


def collect(draw: Callable[[int], Drawn], samples: int, chunk: int) -> Drawn:
    """``samples`` draws in near-equal chunks of at most ``chunk``, as one set, in float64 on the CPU."""
    sizes = even(samples, chunk)
    parts = [draw(n) for n in sizes]
    joined = [torch.cat([exact(value) for value in values]) for values in zip(*parts, strict=True)]
    log_c = torch.cat([exact(part.log_c) + log(n / samples) for n, part in zip(sizes, parts, strict=True)])
    return type(parts[0])(*joined)._replace(log_c=log_c - log_c.logsumexp(0))


def estimates(weights: Weights) -> Estimates:
    """What the weights say of each example."""
    return estimate(weights.log_w.numpy(), weights.log_c.numpy())


def even(total: int, most: int) -> list[int]:
    """``total`` as a sum of near-equal parts of at most ``most``.

    >>> even(500, 200)
    [167, 167, 166]
    """
    parts = ceil(total / most)
    return [total // parts + (i < total % parts) for i in range(parts)]


def bytes_per_draw(model: LatentVariableModel, batch: Batch) -> int:
    """What one draw for one example takes: eta and three values of its size on the way to log p, and the latents."""
    itemsize = next((p.element_size() for p in model.parameters()), batch.x.element_size())
    return itemsize * (4 * model.likelihood.size + 8 * sum(model.prior.blocks))


def chunk_size(bytes_each: int, memory: int, batch: int) -> int:
    """Draws per example that fit the budget at a time: at least 1."""
    return max(1, memory // max(1, bytes_each * batch))


def exact(value: Tensor) -> Tensor:
    """In float64 on the CPU."""
    return value.detach().cpu().double()


def rows_within(system: System, batch: Batch, memory: int) -> int:
    """How many data one draw each of fits the budget."""
    each = bytes_per_draw(system.parts().model, batch) if isinstance(system, HasModel) else batch.x[0].numel() * 32
    return max(1, memory // each)
