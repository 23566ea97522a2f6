"""Annealed importance sampling by Hamiltonian transitions, along a geometric path between two log-densities."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from curvae.dynamics.hamiltonian import accept, acceptance_probability, log_choice, select
from curvae.dynamics.leapfrog import LogDensity, leapfrog, value_and_grad
from curvae.linalg import standard_normal_log_prob
from curvae.noise import noise


class Annealed(NamedTuple):
    """Final states of the chains and their log importance weights."""

    z: Float[Tensor, "S B D"]
    log_end: Float[Tensor, "S B"]
    """Log-density ``end`` at z."""
    log_weight: Float[Tensor, "S B"]
    acceptance: Float[Tensor, "K S B"]
    log_choice: Float[Tensor, "S B"]
    """Log-probability of all Metropolis choices; 0 without them."""


class Ends(NamedTuple):
    """Both ends of a path at a point."""

    log_start: Float[Tensor, "S B"]
    log_end: Float[Tensor, "S B"]
    start_slope: Float[Tensor, "S B D"]
    end_slope: Float[Tensor, "S B D"]

    def value(self, beta: Tensor) -> Tensor:
        return (1 - beta) * self.log_start + beta * self.log_end

    def slope(self, beta: Tensor) -> Tensor:
        return (1 - beta) * self.start_slope + beta * self.end_slope


class GeometricPath(NamedTuple):
    """The geometric path ``log f_b = (1 - b) log start + b log end``."""

    start: LogDensity
    end: LogDensity

    def at(self, z: Float[Tensor, "S B D"]) -> Ends:
        """Both ends at z."""
        log_start, start_slope = value_and_grad(self.start, z)
        log_end, end_slope = value_and_grad(self.end, z)
        return Ends(log_start, log_end, start_slope, end_slope)


def anneal(
    path: GeometricPath,
    z: Float[Tensor, "S B D"],
    betas: Float[Tensor, " K1"],
    step: Float[Tensor, "K #B #D"],
    leapfrogs: int = 1,
    generator: Generator | None = None,
    metropolis: bool = True,
    persistence: float = 0.0,
) -> Annealed:
    r"""Annealed importance sampling (Neal, 2001): a transition at each of K temperatures, and the weight of it all.

    ``log w = sum_k (b_k - b_{k-1}) (log end - log start)(z_{k-1})``, where z_0 is drawn from the density at ``b_0`` and
    z_k from a transition that leaves the density at ``b_k`` invariant. Then ``E[w]`` is the ratio of the normalizers
    at ``b_K`` and ``b_0``, whatever the step sizes, if these were not chosen by looking at the same draws. Falling
    betas run the other way: from a draw of ``end`` they estimate the inverse ratio.

    Without ``metropolis`` every proposal is taken and its log acceptance ratio joins the weight, which is as proper and
    can be differentiated ("uncorrected", Geffner and Domke, NeurIPS 2021). It asks for shorter steps: where Metropolis
    would often refuse, the weights have heavy tails.

    Args:
        path: the two ends.
        z: draws from the density at ``betas[0]``.
        betas: inverse temperatures ``b_0 ... b_K``.
        step: leapfrog steps, one for each transition.
        leapfrogs: steps in a transition.
        generator: of all noise.
        metropolis: accept or reject.
        persistence: share a of the momentum that a transition takes over, ``r <- a r + sqrt(1 - a^2) noise`` (Horowitz,
            1991); where a proposal is refused the momentum turns round. 0 is a fresh one each time.

    Raises:
        ValueError: a persistence outside [0, 1).

    Example:
        >>> start, end = (lambda z, s=s: -0.5 * (z / s).square().sum(-1) for s in (1.0, 0.5))
        >>> z = torch.randn(2000, 1, 2, generator=torch.Generator().manual_seed(0))
        >>> found = anneal(GeometricPath(start, end), z, torch.linspace(0, 1, 11), torch.full((10, 1, 1), 0.5))
        >>> bool((found.log_weight.exp().mean(0) - 0.25).abs() < 0.02)      # ratio of the normalizers, 0.5^2
        True
    """
    _check(persistence)
    here, momentum = path.at(z), None
    log_weight = torch.zeros_like(here.log_end)
    choices, seen = torch.zeros_like(log_weight), []
    for k in range(1, len(betas)):
        log_weight = log_weight + (betas[k] - betas[k - 1]) * (here.log_end - here.log_start)
        begin = _refreshed(momentum, z, persistence, generator)
        stride = _stride(path, z, begin, here, betas[k], step[k - 1], leapfrogs)
        seen.append(acceptance_probability(stride.gain))
        if metropolis:
            taken = accept(stride.gain, generator)
            choices = choices + log_choice(stride.gain, taken)
        else:
            taken = stride.gain.isfinite()  # a trajectory that overflowed is worth nothing
            log_weight = log_weight + torch.where(taken, stride.gain, -torch.inf)
        z, here, momentum = _chosen(taken, stride, z, here, begin)
    return Annealed(z, here.log_end, log_weight, torch.stack(seen), choices)


class Tuned(NamedTuple):
    """What a run on other noise found out about a path."""

    step: Float[Tensor, "K B 1"]
    log_weight: Float[Tensor, "S B"]
    """Of that run, whose steps have seen its draws, so only their spread is of use; it falls as ``1 / sqrt(K)``."""


def tune_step_sizes(
    path: GeometricPath,
    z: Float[Tensor, "S B D"],
    betas: Float[Tensor, " K1"],
    leapfrogs: int = 1,
    generator: Generator | None = None,
    target: float = 0.65,
    persistence: float = 0.0,
) -> Tuned:
    """Step sizes for :func:`anneal`, one a temperature and example, from a run of their own.

    Going along the path, the logarithm of the step follows the mean acceptance over draws, ``0.3 (acceptance -
    target)`` a transition, after ten transitions at the first temperature. Where the path narrows the step lags behind:
    the acceptance stays below its target by the logarithm's change a transition over 0.3, which falls as ``1 / K`` and
    costs no effective draws (following the trend as well closes the gap, and the weights are as they were). Use other
    noise than this run's afterwards: steps that have seen the draws make weights that are not unbiased.

    Raises:
        ValueError: a target outside (0, 1), or a persistence outside [0, 1).
    """
    if not 0 < target < 1:
        raise ValueError(f"tune_step_sizes: target is a probability of acceptance, in (0, 1); got {target}.")
    _check(persistence)
    here, momentum, steps = path.at(z), None, []
    log_step = torch.full_like(z[0, :, :1], 0.5).log()
    log_weight = torch.zeros_like(here.log_end)
    for k in [1] * 10 + list(range(1, len(betas))):
        change = betas[k] - betas[k - 1] if len(steps) >= 10 else 0.0
        log_weight = log_weight + change * (here.log_end - here.log_start)
        begin = _refreshed(momentum, z, persistence, generator)
        stride = _stride(path, z, begin, here, betas[k], log_step.exp(), leapfrogs)
        z, here, momentum = _chosen(accept(stride.gain, generator), stride, z, here, begin)
        log_step = log_step + 0.3 * (acceptance_probability(stride.gain).mean(0) - target).unsqueeze(-1)
        steps.append(log_step.exp())
    return Tuned(torch.stack(steps[10:]), log_weight)


def _check(persistence: float) -> None:
    if not 0 <= persistence < 1:
        raise ValueError(f"persistence: expected the share of the momentum that is kept, in [0, 1); got {persistence}.")


def _refreshed(momentum: Tensor | None, z: Tensor, persistence: float, generator: Generator | None) -> Tensor:
    """Standard normal if the momentum was."""
    fresh = noise(len(z), z[0], generator)
    if momentum is None or persistence == 0:
        return fresh
    return persistence * momentum + (1 - persistence**2) ** 0.5 * fresh


class _Stride(NamedTuple):
    z: Tensor
    momentum: Tensor
    ends: Ends
    gain: Tensor
    """Log acceptance ratio."""


def _stride(
    path: GeometricPath, z: Tensor, momentum: Tensor, here: Ends, beta: Tensor, step: Tensor, leapfrogs: int
) -> _Stride:
    """A Hamiltonian proposal at one temperature."""

    def force(point: Tensor) -> tuple[Ends, Tensor]:
        ends = path.at(point)
        return ends, ends.slope(beta)

    z, end, ends, _ = leapfrog(force, z, momentum, here.slope(beta), step, leapfrogs)
    kinetic = standard_normal_log_prob(end) - standard_normal_log_prob(momentum)
    return _Stride(z, end, ends, ends.value(beta) - here.value(beta) + kinetic)


def _chosen(
    taken: Bool[Tensor, "S B"], stride: _Stride, z: Tensor, here: Ends, begin: Tensor
) -> tuple[Tensor, Ends, Tensor]:
    """Where the chains are now; where the proposal was refused the momentum they began with is turned round."""
    z, momentum, *ends = select(taken, (stride.z, stride.momentum, *stride.ends), (z, -begin, *here))
    return z, Ends(*ends), momentum
