"""A diagonal Laplace approximation that is kept up to date while its mean is trained."""

from collections.abc import Iterator

import torch
from torch import Tensor

from curvae.typing import State
from curvae.weights.posterior import SampledWeights
from curvae.weights.vectors import WeightVector, normal_vector


class OnlineLaplace(SampledWeights):
    r"""``q(theta) = N(theta, T (h + lambda)^-1)``, ``h <- (1 - a) h + a N/B diag(GGN of a batch at a draw)``.

    The mean of batches is the Gauss-Newton matrix of all N rows, once: that is where h stays if theta does. At T = 1 q
    is the Bayesian posterior, to second order; draws of a deep network that is not linearized are then often useless,
    and T is to say how much colder q was taken.

    Args:
        temperature: T.
        rate: a, in (0, 1].
        prior_precision: lambda.

    Raises:
        ValueError: a temperature or precision that is not positive, or a rate outside (0, 1].

    Reference: Miani et al., *Laplacian Autoencoders for Learning Stochastic Representations*, NeurIPS 2022.

    Differences: their code adds ``h <- 0.999 h + GGN / 2``, which comes to 500 times the matrix of all rows: T = 0.002
    here, but for the prior.

    Example:
        >>> q = OnlineLaplace(rate=0.5)
        >>> q.begin(torch.zeros(1), rows=100)
        >>> [float(q.moved(torch.tensor([h]))["curvature"]) for h in (100.0, 300.0)]
        [100.0, 200.0]
    """

    curvature: Tensor

    def __init__(self, temperature: float = 1.0, rate: float = 0.01, prior_precision: float = 1.0):
        super().__init__()
        if not (temperature > 0 and prior_precision > 0 and 0 < rate <= 1):
            got = f"{temperature}, {prior_precision} and {rate}"
            raise ValueError(f"OnlineLaplace: expected temperature and precision above 0, rate in (0, 1]; got {got}.")
        self.temperature, self.rate, self.prior_precision = temperature, rate, prior_precision
        self.register_buffer("curvature", torch.zeros(0))

    def begin(self, weights: WeightVector, rows: int) -> None:
        """One nat for each row and weight, as long as no batch has been seen."""
        self.rows.fill_(rows)
        self.curvature = torch.full_like(weights, float(rows))

    def moved(self, curvature: WeightVector) -> State:
        """The new values of buffers after a batch, whose curvature has been scaled to all rows."""
        return {"curvature": torch.lerp(self.curvature, curvature, self.rate)}

    @property
    def deviation(self) -> WeightVector:
        """Standard deviation of each weight."""
        return (self.temperature / (self.curvature + self.prior_precision)).sqrt()

    def draw(
        self, center: WeightVector, count: int, generator: torch.Generator | None = None
    ) -> Iterator[WeightVector]:
        deviation = self.deviation if len(self.curvature) else torch.zeros_like(center)
        for _ in range(count):
            yield center + deviation * normal_vector(center, generator)
