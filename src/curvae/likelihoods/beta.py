"""Beta likelihood: numbers between 0 and 1, shares and rates."""

import torch
from torch import Tensor

from curvae.likelihoods.elementwise import Elementwise, Learned, PositiveParameter, moments, standard_gamma
from curvae.likelihoods.likelihood import masked
from curvae.linear import LinearGaussian, ppca

EDGE = 1e-6
"""Least mean, and distance of the largest from 1."""


class Beta(Elementwise):
    r"""Numbers strictly between 0 and 1: ``Beta(x; m c, (1 - m) c)`` of mean m = s(eta), s the logistic function.

    The variance is ``m (1 - m) / (c + 1)`` with the concentration c; the information about eta is
    ``(c m')^2 (psi'(m c) + psi'((1 - m) c))``, ``m' = dm / deta``. m stays 1e-6 away from 0 and 1.

    Args:
        event: size or shape of one example.
        concentration: c, fixed; or where a learned one starts. Left out, it is 2, and a learned one starts from the
            data.
        learn: ``None`` fixed, ``"shared"`` one for all elements, ``"element"`` one for each.
        floor: the least concentration that learning can reach.

    Raises:
        ValueError: no such ``learn``, or a concentration that is not above the floor.

    Example:
        >>> import torch
        >>> likelihood = Beta(1, concentration=2.0, learn=None)
        >>> round(likelihood.log_prob(torch.tensor([[0.3]]), torch.zeros(1, 1)).exp().item(), 4)   # uniform
        1.0
    """

    stand_in = 0.5

    def __init__(
        self,
        event: int | tuple[int, ...],
        concentration: float | None = None,
        learn: Learned = "element",
        floor: float = 1e-2,
    ):
        super().__init__(event)
        self.starts_from_data = learn is not None and concentration is None
        self.concentration = PositiveParameter(self.size, concentration or 2.0, learn, floor)

    def _log_prob(self, x: Tensor, eta: Tensor) -> Tensor:
        return _log_density(x, _mean(eta), self.concentration.value)

    def _score(self, x: Tensor, eta: Tensor) -> Tensor:
        c, m = self.concentration.value, _mean(eta)
        return c * _slope(eta) * (torch.logit(x) - torch.digamma(m * c) + torch.digamma((1 - m) * c))

    def _root(self, eta: Tensor) -> Tensor:
        c, m = self.concentration.value, _mean(eta)
        return c * _slope(eta) * (torch.polygamma(1, m * c) + torch.polygamma(1, (1 - m) * c)).sqrt()

    def mean(self, eta: Tensor) -> Tensor:
        return self.unflat(_mean(eta))

    def sample(self, eta: Tensor, generator: torch.Generator | None = None) -> Tensor:
        c, m = self.concentration.value.detach(), _mean(eta)
        one, two = (standard_gamma(a, generator) for a in (m * c, (1 - m) * c))
        edge = torch.finfo(eta.dtype).eps
        return self.unflat((one / (one + two)).clamp(edge, 1 - edge))

    @torch.no_grad()
    def initialize(self, x: Tensor, mask: Tensor | None = None) -> None:
        """A learned concentration starts at that of the data around their mean, unless its start was given."""
        if self.starts_from_data:
            mean, variance, count = moments(self.flat(x), None if mask is None else self.flat(mask))
            self.concentration.put((mean * (1 - mean) / variance.clamp(min=1e-12) - 1).clamp(0.1, 1e4), count)

    def maximize(self, x: Tensor, eta: Tensor, mask: Tensor | None = None) -> None:
        """A learned concentration becomes the likeliest given eta."""
        x, m, mask = self._seen(x, mask).double(), _mean(eta.double()), None if mask is None else self.flat(mask)
        self.concentration.maximize(lambda c: masked(_log_density(x, m, c), mask))

    def linear_features(self, x: Tensor) -> Tensor:
        x = self.flat(x).double()
        return torch.logit(torch.where((x > 0) & (x < 1), x, 0.5))

    def linear_fits(self, x: Tensor, latent: int, mask: Tensor | None = None) -> tuple[LinearGaussian, ...]:
        """Principal components of the logits."""
        return (ppca(torch.logit(self._seen(x, mask).double()), latent, None if mask is None else self.flat(mask)),)

    @torch.no_grad()
    def start_from(self, model: LinearGaussian) -> tuple[Tensor, Tensor]:
        """Logits of the means at the means of the logits; not exact.

        A logit of variance v is one of concentration ``1 / (v m (1 - m)) - 1``, to first order.
        """
        if self.starts_from_data:
            m = _mean(model.mean)
            self.concentration.put((1 / (model.noise * m * (1 - m)) - 1).clamp(0.1, 1e4))
        return model.weight, model.mean


def _mean(eta: Tensor) -> Tensor:
    return EDGE + (1 - 2 * EDGE) * eta.sigmoid()


def _slope(eta: Tensor) -> Tensor:
    return (1 - 2 * EDGE) * eta.sigmoid() * (-eta).sigmoid()


def _log_density(x: Tensor, m: Tensor, c: Tensor) -> Tensor:
    a, b = m * c, (1 - m) * c
    level = torch.lgamma(c) - torch.lgamma(a) - torch.lgamma(b)
    return level + (a - 1) * x.log() + (b - 1) * torch.log1p(-x)
