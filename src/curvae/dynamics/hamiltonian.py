"""Hamiltonian Monte Carlo: one transition that leaves a density invariant, and how its step size is found."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from curvae.dynamics.leapfrog import LogDensity, leapfrog, value_and_grad
from curvae.linalg import standard_normal_log_prob
from curvae.noise import noise, uniform


class HMCState(NamedTuple):
    """Where a chain is, with the log-density there and its slope."""

    z: Float[Tensor, "S B D"]
    value: Float[Tensor, "S B"]
    slope: Float[Tensor, "S B D"]

    @classmethod
    def at(cls, target: LogDensity, z: Float[Tensor, "S B D"]) -> "HMCState":
        """The point z of a target."""
        return cls(z, *value_and_grad(target, z))


class HMCInfo(NamedTuple):
    """Diagnostics of one transition."""

    acceptance: Float[Tensor, "S B"]
    """Probability with which the proposal was to be accepted."""


def transition(
    target: LogDensity,
    state: HMCState,
    step: Tensor,
    leapfrogs: int = 1,
    generator: Generator | None = None,
    metropolis: bool = True,
) -> tuple[HMCState, HMCInfo]:
    """One transition of Hamiltonian Monte Carlo (Duane et al., 1987), with a fresh momentum, and its diagnostics.

    The proposal of ``leapfrogs`` steps is accepted with probability ``min(1, exp(H - H'))``. One step of length e is
    the Langevin proposal ``z + e^2/2 grad log f(z) + e noise``: Metropolis-adjusted (MALA) then, and plain
    (unadjusted) Langevin dynamics without ``metropolis``, which leaves the density invariant up to O(e^2) only.

    Example:
        >>> normal = lambda z: -0.5 * z.square().sum(-1)
        >>> state = HMCState.at(normal, torch.zeros(4, 1, 3))
        >>> state, info = transition(normal, state, torch.tensor(0.5), leapfrogs=3)
        >>> state.z.shape, bool((info.acceptance > 0.5).all())
        (torch.Size([4, 1, 3]), True)
    """
    momentum = noise(len(state.z), state.z[0], generator)
    z, end, value, slope = leapfrog(
        lambda at: value_and_grad(target, at), state.z, momentum, state.slope, step, leapfrogs
    )
    gain = value - state.value + standard_normal_log_prob(end) - standard_normal_log_prob(momentum)
    proposed, info = HMCState(z, value, slope), HMCInfo(acceptance_probability(gain))
    if not metropolis:
        return proposed, info
    return HMCState(*select(accept(gain, generator), proposed, state)), info


def acceptance_probability(gain: Float[Tensor, "S B"]) -> Float[Tensor, "S B"]:
    """``min(1, exp(gain))``; 0 where the gain is not a number."""
    return _known(gain).clamp(max=0.0).exp()


def accept(gain: Float[Tensor, "S B"], generator: Generator | None) -> Bool[Tensor, "S B"]:
    """Metropolis' choice."""
    return uniform(gain, generator).log() < _known(gain)


def log_choice(gain: Float[Tensor, "S B"], taken: Bool[Tensor, "S B"]) -> Float[Tensor, "S B"]:
    """Log-probability of what :func:`accept` chose."""
    gain = _known(gain).clamp(max=0.0)
    refused = (-torch.expm1(torch.where(taken, -1.0, gain))).log()
    return torch.where(taken, gain, refused)


def select(taken: Bool[Tensor, "S B"], new: tuple[Tensor, ...], old: tuple[Tensor, ...]) -> list[Tensor]:
    """The new values where taken, else the old ones."""
    pairs = zip(new, old, strict=True)
    return [torch.where(taken.unsqueeze(-1) if a.ndim > taken.ndim else taken, a, b) for a, b in pairs]


def _known(gain: Tensor) -> Tensor:
    return torch.where(gain.isnan(), -math.inf, gain)


class DualAveraging(NamedTuple):
    """Step sizes that bring the acceptance to a target (Hoffman and Gelman, JMLR 2014, section 3.2).

    Example:
        >>> found = DualAveraging.start(torch.tensor([1.0]))
        >>> for _ in range(200):
        ...     found = found.update((-found.step).exp())     # acceptance exp(-step): 0.8 at 0.223
        >>> abs(found.final.item() - 0.223) < 0.01
        True
    """

    log_step: Tensor
    log_mean: Tensor
    error: Tensor
    anchor: Tensor
    count: int = 0

    @classmethod
    def start(cls, step: Tensor) -> "DualAveraging":
        """From a first guess."""
        log_step = step.log()
        return cls(log_step, log_step, torch.zeros_like(step), log_step + math.log(10.0))

    def update(self, acceptance: Tensor, target: float = 0.8) -> "DualAveraging":
        """After a transition with that acceptance."""
        t = self.count + 1
        error = self.error + (target - acceptance - self.error) / (t + 10)
        log_step = self.anchor - error * t**0.5 / 0.05
        weight = t**-0.75
        return DualAveraging(log_step, weight * log_step + (1 - weight) * self.log_mean, error, self.anchor, t)

    @property
    def step(self) -> Tensor:
        """To be tried next."""
        return self.log_step.exp()

    @property
    def final(self) -> Tensor:
        """To be kept."""
        return self.log_mean.exp()
