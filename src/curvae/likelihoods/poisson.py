"""Poisson likelihood: the decoder gives the logarithm of the rate."""

import torch
from torch import Tensor

from curvae.likelihoods.elementwise import Elementwise, in_float64
from curvae.likelihoods.log_link import LogLink


class Poisson(LogLink, Elementwise):
    """Counts: ``log p(x | eta) = x eta - exp(eta) - log x!``; mean, variance and information are ``exp(eta)``.

    Example:
        >>> import torch
        >>> likelihood = Poisson(2)
        >>> f"{likelihood.log_prob(torch.tensor([[0.0, 2.0]]), torch.zeros(1, 2)).item():.4f}"   # -2 - log 2
        '-2.6931'
    """

    def _log_prob(self, x: Tensor, eta: Tensor) -> Tensor:
        x, eta = in_float64(x, eta)
        return x * eta - eta.exp() - torch.lgamma(x + 1)

    def _score(self, x: Tensor, eta: Tensor) -> Tensor:
        return x - eta.exp()

    def _root(self, eta: Tensor) -> Tensor:
        return (0.5 * eta).exp()

    def mean(self, eta: Tensor) -> Tensor:
        return self.unflat(eta.exp())

    def sample(self, eta: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.unflat(torch.poisson(eta.exp(), generator=generator))
