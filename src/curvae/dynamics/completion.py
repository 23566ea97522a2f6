"""Missing elements given the observed ones, where the density of whole examples is known: draws, and an ascent."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from curvae import linalg
from curvae.argument_checks import check_least
from curvae.dynamics.hamiltonian import DualAveraging, HMCState, transition
from curvae.dynamics.leapfrog import LogDensity, value_and_grad
from curvae.noise import uniform

SHORTEST = 0.2
"""The least share of the step that a transition takes; the share is uniform from there to 1."""
RIDGE = 1e-3
"""Added to the covariance of draws, relative to the variance of each element."""


class Completions(NamedTuple):
    """Where chains begin, and how far an element moves, given what is observed."""

    x: Float[Tensor, "C B P"]
    deviation: Float[Tensor, "B P"]


def linear_completions(
    drawn: Float[Tensor, "M P"],
    x: Float[Tensor, "B P"],
    mask: Bool[Tensor, "B P"],
    count: int,
    generator: Generator | None,
) -> Completions:
    """Completions by the linear law of draws of x: exact where they are normal (Matheron's rule).

    ``x_u + C_uk C_kk^-1 (x_k - x'_k)`` of ``count`` draws x' for each example, with the covariance C of all of them.
    """
    centered, seen = drawn - drawn.mean(0), mask.to(drawn.dtype)
    covariance = centered.mT @ centered / max(1, len(drawn) - 1)
    level = covariance.diagonal().mean().clamp(min=torch.finfo(drawn.dtype).tiny)
    covariance = covariance + torch.diag(RIDGE * (covariance.diagonal() + 1e-3 * level))
    observed = seen.unsqueeze(1) * seen.unsqueeze(2) * covariance + torch.diag_embed(1 - seen)
    factor, _ = linalg.cholesky(observed)
    across = covariance * seen.unsqueeze(1)  # (B, P, P): from what is observed to everything
    root = torch.linalg.solve_triangular(factor, across.mT, upper=False)
    left = (covariance.diagonal() - root.square().sum(1)).clamp(min=RIDGE * covariance.diagonal())
    rows = torch.randint(len(drawn), (count, len(x)), generator=generator, device=drawn.device)
    missed = (seen * (x - drawn[rows])).permute(1, 2, 0)
    moved = (across @ torch.cholesky_solve(missed, factor)).permute(2, 0, 1)
    return Completions(torch.where(mask, x, drawn[rows] + moved), left.sqrt())


@torch.no_grad()
def complete(
    density: Callable[[Float[Tensor, "N P"]], Float[Tensor, " N"]],
    start: Completions,
    mask: Bool[Tensor, "B P"],
    generator: Generator | None = None,
    warmup: int = 80,
    steps: int = 80,
    leapfrogs: int = 6,
) -> Float[Tensor, "C B P"]:
    """Draws of ``p(x_missing | x_observed)``, from ``log p(x)``: Hamiltonian Monte Carlo on what is missing.

    What is observed stays: there the slope is 0. Momenta have the deviations of ``start`` for units; the length of a
    step is found for each example in the warm-up, by dual averaging over its chains, and each transition takes a random
    share of it. The law is right in the limit of many steps, whatever the start.

    Args:
        density: log p of whole rows, nats.
        start: of C chains for each of B examples.
        mask: True where observed.
        generator: of all noise.
        warmup: transitions that tune the length of a step.
        steps: transitions after them.
        leapfrogs: gradients of a transition.

    Raises:
        ValueError: fewer than 1 of any.

    Example:
        >>> normal = lambda x: -0.5 * x.square().sum(-1)
        >>> mask = torch.tensor([[True, False]])
        >>> start = Completions(torch.tensor([[[3.0, 9.0]]]), torch.ones(1, 2))
        >>> found = complete(normal, start, mask, warmup=30, steps=10)
        >>> found[0, 0, 0].item(), bool(found[0, 0, 1].abs() < 6)
        (3.0, True)
    """
    check_least("complete", 1, warmup=warmup, steps=steps, leapfrogs=leapfrogs)
    x, deviation = start
    target = _of_missing(density, x, mask)
    state = HMCState.at(target, x)
    tuning = DualAveraging.start(x.new_full((len(mask),), 0.3))
    for number in range(warmup + steps):
        warm = number < warmup
        share = SHORTEST + (1 - SHORTEST) * uniform(state.value, generator).unsqueeze(-1)
        step = (tuning.step if warm else tuning.final).unsqueeze(-1) * share * deviation
        state, info = transition(target, state, step, leapfrogs, generator)
        tuning = tuning.update(info.acceptance.mean(0)) if warm else tuning
    return torch.where(mask, x, state.z)


@torch.no_grad()
def noisy_ascent(
    density: Callable[[Float[Tensor, "N P"]], Float[Tensor, " N"]],
    x: Float[Tensor, "C B P"],
    mask: Bool[Tensor, "B P"],
    steps: int = 1000,
    low: Tensor | float = 0.0,
    high: Tensor | float = 1.0,
    generator: Generator | None = None,
) -> Float[Tensor, "C B P"]:
    """Climb log p(x) in what is missing, with noise that dies out: ``x <- x + a_i (d log p / dx + e)``, within bounds.

    ``a_i = 10 / (100 + i)``, ``e ~ N(0, I)``. It ends near a mode, and is no draw: Langevin dynamics would have noise
    ``sqrt(2 a)``, here it is ``a``. It settles where the curvature of log p is below ``2 / a_i``; sharper densities
    throw it from bound to bound until then.

    Reference: Dinh, Krueger and Bengio, *NICE*, 2014, section 5.2; the steps as in the authors' program, which takes
    111,000 of them, on pixels in [0, 1] that start uniformly there.

    Args:
        density: log p of whole rows, nats.
        x: where to begin in place of what is missing.
        mask: True where observed.
        steps: their number.
        low: the least value of an element.
        high: the largest.
        generator: of the noise.

    Raises:
        ValueError: fewer than 1 step.

    Example:
        >>> normal = lambda x: -0.5 * (x - 0.5).square().sum(-1)
        >>> mask = torch.tensor([[True, False]])
        >>> found = noisy_ascent(normal, torch.ones(1, 1, 2), mask, steps=3000)
        >>> found[0, 0, 0].item(), bool((found[0, 0, 1] - 0.5).abs() < 0.3)
        (1.0, True)
    """
    check_least("noisy_ascent", 1, steps=steps)
    target, z = _of_missing(density, x, mask), x
    for i in range(steps):
        noise = torch.randn(z.shape, generator=generator, device=z.device, dtype=z.dtype)
        rise = 10 / (100 + i) * (value_and_grad(target, z)[1] + noise)
        z = torch.where(
            mask, x, torch.minimum(torch.maximum(z + rise, torch.as_tensor(low).to(z)), torch.as_tensor(high).to(z))
        )
    return z


def _of_missing(
    density: Callable[[Float[Tensor, "N P"]], Float[Tensor, " N"]], x: Float[Tensor, "C B P"], mask: Tensor
) -> LogDensity:
    """Of chains (C, B, P), what is observed put in its place."""
    return lambda z: density(torch.where(mask, x, z).flatten(0, 1)).unflatten(0, z.shape[:2])
