"""Bayes by backprop: a Gaussian with a mean and a deviation for each weight, trained by the bound itself."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from curvae.weights.posterior import SampledWeights
from curvae.weights.vectors import WeightVector, check_weights, group_slices, normal_vector, weight_vector


class MeanFieldWeights(SampledWeights):
    r"""``q(theta) = N(theta; mu, diag(softplus(rho)^2))``, mu the decoder's own weights.

    Training maximizes ``sum_n E_q[bound(x_n | theta)] - KL(q || N(0, I / lambda))`` by one draw a batch.

    Args:
        network: the decoder.
        deviation: at which each weight starts.
        prior_precision: lambda; None = of each parameter tensor the one with the least divergence,
            ``W / sum(mu^2 + sigma^2)``.

    Raises:
        ValueError: a deviation that is not positive, or a network that has no posterior (:func:`check_weights`).

    Reference: Blundell et al., *Weight Uncertainty in Neural Networks*, ICML 2015.

    Differences: a normal prior in the place of a mixture of two; no local reparameterization.

    Example:
        >>> q = MeanFieldWeights(nn.Linear(2, 1), deviation=0.5, prior_precision=4.0)
        >>> round(q.cost(torch.zeros(3)).item(), 4)   # q is the prior
        0.0
    """

    def __init__(self, network: nn.Module, deviation: float = 0.01, prior_precision: float | None = None):
        super().__init__()
        check_weights(network)
        if not deviation > 0:
            raise ValueError(f"MeanFieldWeights: expected a deviation above 0; got {deviation}.")
        self.prior_precision = prior_precision
        self.groups = group_slices(network)
        rho = deviation + math.log(-math.expm1(-deviation))
        self.rho = nn.Parameter(torch.full_like(weight_vector(network), rho).detach())

    @property
    def deviation(self) -> WeightVector:
        """Standard deviation of each weight."""
        return nn.functional.softplus(self.rho)

    def training_draws(self, center: WeightVector) -> list[WeightVector]:
        """One draw; gradients reach mean and deviation."""
        return [center + self.deviation * normal_vector(center)]

    def cost(self, center: WeightVector) -> Tensor:
        """``KL(q || prior)`` in nats."""
        sigma, total = self.deviation, center.new_zeros(())
        for group in self.groups:
            second = center[group].square() + sigma[group].square()
            known = self.prior_precision
            precision = 1 / second.mean().detach() if known is None else torch.as_tensor(known).to(second)
            total = total + 0.5 * (precision * second - 1 - precision.log()).sum() - sigma[group].log().sum()
        return total

    def draw(
        self, center: WeightVector, count: int, generator: torch.Generator | None = None
    ) -> Iterator[WeightVector]:
        sigma = self.deviation.detach()
        for _ in range(count):
            yield center + sigma * normal_vector(center, generator)
