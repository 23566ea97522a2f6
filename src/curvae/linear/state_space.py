"""The linear-Gaussian state-space model: log p(x_1..T), filter, prediction and smoother in closed form."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from curvae.linalg import LOG_2PI


class States(NamedTuple):
    """Laws of the states: means and covariances, a step after the other."""

    mean: Float[Tensor, "B T D"]
    covariance: Float[Tensor, "#B T D D"]
    """Of whole sequences that of all, (1, T, D, D)."""


class Filtered(NamedTuple):
    """What a pass forward finds."""

    predicted: States
    """``p(z_t | x_<t)``."""
    states: States
    """``p(z_t | x_<=t)``."""
    log_prob: Float[Tensor, "B T"]
    """``log p(x_t | x_<t)`` of the observed elements, nats; 0 where nothing of a frame is observed."""


class Smoothed(NamedTuple):
    """What a pass back finds beside :class:`Filtered`."""

    states: States
    """``p(z_t | x_1..T)``."""
    between: Float[Tensor, "#B U D D"]
    """``Cov(z_t+1, z_t | x_1..T)``."""


@dataclass(frozen=True, eq=False)
class StateSpace:
    r"""``z_1 ~ N(start, spread)``, ``z_t+1 ~ N(A z_t, Q)``, ``x_t ~ N(C z_t + offset, diag(noise))``.

    What is not observed of a frame is left out, and so are frames of which nothing is: the end of a shorter sequence.

    Reference: Kalman, *A New Approach to Linear Filtering and Prediction Problems*, J. Basic Engineering 1960; Rauch,
    Tung and Striebel, *Maximum Likelihood Estimates of Linear Dynamic Systems*, AIAA J. 1965.

    Args:
        start: (D,).
        spread: (D, D).
        transition: A, (D, D).
        process: Q, (D, D).
        emission: C, (F, D).
        offset: (F,).
        noise: variances, (F,).

    Example:
        >>> one = torch.ones(1, 1)
        >>> model = StateSpace(torch.zeros(1), one, 0.5 * one, one, one, torch.zeros(1), torch.ones(1))
        >>> f"{model.log_prob(torch.zeros(1, 1, 1)).item():.4f}"   # log N(0; 0, 1 + 1)
        '-1.2655'
    """

    start: Float[Tensor, " D"]
    spread: Float[Tensor, "D D"]
    transition: Float[Tensor, "D D"]
    process: Float[Tensor, "D D"]
    emission: Float[Tensor, "F D"]
    offset: Float[Tensor, " F"]
    noise: Float[Tensor, " F"]

    def log_prob(self, x: Float[Tensor, "B T F"], mask: Bool[Tensor, "B T F"] | None = None) -> Float[Tensor, " B"]:
        """``log p(x_1..T)`` of the observed elements, nats."""
        return self.filter(x, mask).log_prob.sum(1)

    def filter(self, x: Float[Tensor, "B T F"], mask: Bool[Tensor, "B T F"] | None = None) -> Filtered:
        """``p(z_t | x_<=t)`` and ``log p(x_t | x_<t)`` for every t."""
        seen = torch.ones_like(x[:1]) if mask is None else mask.to(x.dtype)
        mean, covariance = self.start.expand(len(x), -1), self.spread.expand(len(seen), -1, -1)
        found: list[tuple[Tensor, ...]] = []
        for t in range(x.shape[1]):
            after, narrowed, log_prob = self._update(mean, covariance, x[:, t], seen[:, t])
            found.append((mean, covariance, after, narrowed, log_prob))
            mean, covariance = self.predict(after, narrowed)
        before, wide, means, covariances, log_probs = (torch.stack(each, 1) for each in zip(*found, strict=True))
        return Filtered(States(before, wide), States(means, covariances), log_probs)

    def _update(
        self, mean: Tensor, covariance: Tensor, x: Float[Tensor, "B F"], seen: Float[Tensor, "#B F"]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The law of a state given its frame, too, and log p of that; by D x D matrices alone.

        With ``P = L L'``, ``W = diag(seen / noise)`` and ``M = I + L' C' W C L``: the covariance is ``L M^-1 L'``, and
        ``log |C P C' + diag(noise)| = log |M| + sum log noise``.
        """
        root = torch.linalg.cholesky(covariance)
        offset = torch.where(seen > 0, x - self.offset - mean @ self.emission.mT, 0)
        pull = ((offset / self.noise) @ self.emission).unsqueeze(-1)
        outer = (self.emission.unsqueeze(2) * self.emission.unsqueeze(1)).flatten(1)
        gram = ((seen / self.noise) @ outer).unflatten(1, covariance.shape[1:])
        inner = torch.linalg.cholesky(root.mT @ gram @ root + torch.eye(len(self.start)).to(x))
        half = torch.linalg.solve_triangular(inner, root.mT, upper=False)
        step = half.mT @ (half @ pull)
        square = (offset.square() / self.noise).sum(-1) - (pull * step).sum((-2, -1))
        level = (seen * (self.noise.log() + LOG_2PI)).sum(-1)
        log_det = 2 * inner.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return mean + step.squeeze(-1), half.mT @ half, -0.5 * (square + level + log_det)

    def predict(self, mean: Float[Tensor, "B D"], covariance: Float[Tensor, "#B D D"]) -> tuple[Tensor, Tensor]:
        """The law of the next state."""
        return mean @ self.transition.mT, self.transition @ covariance @ self.transition.mT + self.process

    def ahead(
        self, mean: Float[Tensor, "B D"], covariance: Float[Tensor, "#B D D"], steps: int
    ) -> tuple[Float[Tensor, "B F"], Float[Tensor, "#B F F"]]:
        """Mean and covariance of the frame so many steps after a state of this law."""
        for _ in range(steps):
            mean, covariance = self.predict(mean, covariance)
        spread = self.emission @ covariance @ self.emission.mT
        return mean @ self.emission.mT + self.offset, spread + torch.diag(self.noise)

    def smooth(self, filtered: Filtered) -> Smoothed:
        """``p(z_t | x_1..T)`` for every t, of a pass forward."""
        means, covariances = filtered.states
        mean, covariance = means[:, -1], covariances[:, -1]
        found, between = [(mean, covariance)], []
        for t in reversed(range(means.shape[1] - 1)):
            wide = filtered.predicted.covariance[:, t + 1]
            gain = torch.linalg.solve(wide, self.transition @ covariances[:, t]).mT
            between.append(covariance @ gain.mT)
            mean = means[:, t] + (gain @ (mean - filtered.predicted.mean[:, t + 1]).unsqueeze(-1)).squeeze(-1)
            covariance = covariances[:, t] + gain @ (covariance - wide) @ gain.mT
            found.append((mean, covariance))
        mean, covariance = (torch.stack(each[::-1], 1) for each in zip(*found, strict=True))
        lagged = torch.stack(between[::-1], 1) if between else covariance[:, :0]
        return Smoothed(States(mean, covariance), lagged)

    def sample(self, n: int, steps: int, generator: Generator | None = None) -> Float[Tensor, "n T F"]:
        """Draw sequences of so many frames."""

        def normal(mean: Tensor, covariance: Tensor) -> Tensor:
            noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype)
            return mean + noise @ torch.linalg.cholesky(covariance).mT

        z = normal(self.start.expand(n, -1), self.spread)
        frames = []
        for _ in range(steps):
            frames.append(normal(z @ self.emission.mT + self.offset, torch.diag(self.noise)))
            z = normal(z @ self.transition.mT, self.process)
        return torch.stack(frames, 1)
