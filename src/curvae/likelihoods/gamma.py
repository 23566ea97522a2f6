"""Gamma likelihood: positive numbers whose deviation is proportional to their mean."""

import torch
from torch import Tensor

from curvae.likelihoods.elementwise import Elementwise, Learned, PositiveParameter, moments, standard_gamma
from curvae.likelihoods.likelihood import masked
from curvae.linear import LinearGaussian, ppca


class Gamma(Elementwise):
    r"""Positive numbers of mean ``mu = exp(eta)`` and variance ``mu^2 / k``.

    ``log p(x | eta) = k log k - log G(k) + (k - 1) log x - k (eta + x exp(-eta))``; the information about eta is the
    shape k itself.

    Args:
        event: size or shape of one example.
        shape: k, fixed; or where a learned one starts. Left out, it is 1, and a learned one starts from the data.
        learn: ``None`` fixed, ``"shared"`` one for all elements, ``"element"`` one for each.
        floor: the least shape that learning can reach.

    Raises:
        ValueError: no such ``learn``, or a shape that is not above the floor.

    Example:
        >>> import torch
        >>> likelihood = Gamma(1, shape=1.0, learn=None)
        >>> f"{likelihood.log_prob(torch.tensor([[2.0]]), torch.zeros(1, 1)).item():.4f}"   # exponential: -2
        '-2.0000'
    """

    stand_in = 1.0

    def __init__(
        self,
        event: int | tuple[int, ...],
        shape: float | None = None,
        learn: Learned = "element",
        floor: float = 1e-3,
    ):
        super().__init__(event)
        self.starts_from_data = learn is not None and shape is None
        self.shape = PositiveParameter(self.size, shape or 1.0, learn, floor)

    def _log_prob(self, x: Tensor, eta: Tensor) -> Tensor:
        return _log_density(x, eta, self.shape.value)

    def _score(self, x: Tensor, eta: Tensor) -> Tensor:
        return self.shape.value * torch.expm1(x.log() - eta)

    def _root(self, eta: Tensor) -> Tensor:
        return self.shape.value.sqrt().expand_as(eta)

    def mean(self, eta: Tensor) -> Tensor:
        return self.unflat(eta.exp())

    def sample(self, eta: Tensor, generator: torch.Generator | None = None) -> Tensor:
        k = self.shape.value.expand_as(eta)
        return self.unflat(standard_gamma(k, generator) / k * eta.exp())

    @torch.no_grad()
    def initialize(self, x: Tensor, mask: Tensor | None = None) -> None:
        """A learned shape starts at that of the data around their mean, unless its start was given."""
        if self.starts_from_data:
            mean, variance, count = moments(self.flat(x), None if mask is None else self.flat(mask))
            self.shape.put((mean.square() / variance.clamp(min=1e-12)).clamp(0.01, 1e4), count)

    def maximize(self, x: Tensor, eta: Tensor, mask: Tensor | None = None) -> None:
        """A learned shape becomes the likeliest given eta."""
        x, eta, mask = self._seen(x, mask).double(), eta.double(), None if mask is None else self.flat(mask)
        self.shape.maximize(lambda k: masked(_log_density(x, eta, k), mask))

    def linear_features(self, x: Tensor) -> Tensor:
        x = self.flat(x).double()
        return torch.where(x > 0, x, 1).log()

    def linear_fits(self, x: Tensor, latent: int, mask: Tensor | None = None) -> tuple[LinearGaussian, ...]:
        """Principal components of the logarithms."""
        return (ppca(self._seen(x, mask).double().log(), latent, None if mask is None else self.flat(mask)),)

    @torch.no_grad()
    def start_from(self, model: LinearGaussian) -> tuple[Tensor, Tensor]:
        """Log-means at those of a log-normal law, the shape by the variance of its logarithm; not exact."""
        if self.starts_from_data:
            self.shape.put((1 / torch.expm1(model.noise)).clamp(0.01, 1e4))
        return model.weight, model.mean + 0.5 * model.noise


def _log_density(x: Tensor, eta: Tensor, k: Tensor) -> Tensor:
    ratio = x.log() - eta
    return k * (k.log() + ratio - ratio.exp()) - torch.lgamma(k) - x.log()
