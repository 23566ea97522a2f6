"""Stochastic weight averaging, Gaussian."""

from collections.abc import Iterator
from math import sqrt

import torch
from torch import Tensor

from curvae.argument_checks import check_least
from curvae.typing import State
from curvae.weights.posterior import SampledWeights
from curvae.weights.vectors import WeightVector, normal_vector


class Swag(SampledWeights):
    r"""A Gaussian with the mean, variances and last deviations of weights along the path of an optimizer.

    ``theta = mean + s sqrt(diag / 2) + s D z / sqrt(2 (R - 1))``, s the scale, diag the variance of each weight over
    all visits, D the last R deviations from the mean so far. The variance is summed from deviations: the difference of
    ``E[theta^2]`` and ``mean^2`` is lost to rounding where weights move by less than a thousandth of themselves.

    Args:
        every: updates between visits.
        rank: R, deviations that are kept.
        scale: s; 1 is SWAG.

    Raises:
        ValueError: fewer than 1 update, or fewer than 2 deviations.

    Reference: Maddox et al., *A Simple Baseline for Bayesian Uncertainty in Deep Learning*, NeurIPS 2019.

    Example:
        >>> q = Swag(every=1, rank=2)
        >>> q.begin(torch.zeros(3), 100)
        >>> for value in (1.0, 3.0):
        ...     for name, buffer in q.visited(torch.full((3,), value)).items():
        ...         _ = getattr(q, name).copy_(buffer)
        >>> q.mean.tolist(), q.variance.tolist()
        ([2.0, 2.0, 2.0], [1.0, 1.0, 1.0])
    """

    mean: Tensor
    squares: Tensor
    """Sum of squared deviations from the mean."""
    deviations: Tensor
    steps: Tensor
    count: Tensor

    def __init__(self, every: int = 10, rank: int = 20, scale: float = 1.0):
        super().__init__()
        check_least("Swag", 1, every=every)
        check_least("Swag", 2, rank=rank)
        self.every, self.rank, self.scale = every, rank, scale
        for name in ("mean", "squares", "deviations"):
            self.register_buffer(name, torch.zeros(0))
        for name in ("steps", "count"):
            self.register_buffer(name, torch.zeros((), dtype=torch.long))

    def begin(self, weights: WeightVector, rows: int) -> None:
        """Make room; nothing has been visited yet."""
        self.rows.fill_(rows)
        self.mean, self.squares = torch.zeros_like(weights), torch.zeros_like(weights)
        self.deviations = weights.new_zeros(self.rank, len(weights))
        self.steps.zero_()
        self.count.zero_()

    @torch.no_grad()
    def visited(self, weights: WeightVector) -> State:
        """The new values of buffers after an update with these weights."""
        steps = self.steps + 1
        if int(steps) % self.every:
            return {"steps": steps}
        count, off = self.count + 1, weights - self.mean
        mean = self.mean + off / count
        squares = self.squares + off * (weights - mean)
        deviations = torch.cat([self.deviations[1:], (weights - mean).unsqueeze(0)])
        return {"steps": steps, "count": count, "mean": mean, "squares": squares, "deviations": deviations}

    @property
    def variance(self) -> WeightVector:
        """Of each weight over all visits."""
        return self.squares / self.count.clamp(min=1)

    def middle(self) -> WeightVector | None:
        """The mean of the visits; None before the first."""
        return self.mean if int(self.count) else None

    def draw(
        self, center: WeightVector, count: int, generator: torch.Generator | None = None
    ) -> Iterator[WeightVector]:
        mean = center if (found := self.middle()) is None else found
        kept = self.deviations[-min(int(self.count), self.rank) :] if int(self.count) > 1 else center.new_zeros(0, 0)
        for _ in range(count):
            if not len(kept):
                yield mean
                continue
            own = self.variance.sqrt() * normal_vector(mean, generator)
            shared = normal_vector(kept[:, 0], generator) @ kept / sqrt(len(kept) - 1)
            yield mean + self.scale * (own + shared) / sqrt(2)
