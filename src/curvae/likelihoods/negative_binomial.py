"""Negative binomial likelihoods: counts that vary more than a Poisson law lets them."""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from curvae.likelihoods.elementwise import Elementwise, Learned, PositiveParameter, in_float64, moments, standard_gamma
from curvae.likelihoods.likelihood import masked
from curvae.likelihoods.log_link import LogLink


class NegativeBinomial(LogLink, Elementwise):
    r"""Counts of mean ``mu = exp(eta)`` and variance ``mu + a mu^2``, a Poisson law as the dispersion a goes to 0.

    With ``r = 1 / a``, ``log p(x | eta) = log C(x + r - 1, x) + r log(r / (r + mu)) + x log(mu / (r + mu))``; the
    information about eta is ``mu r / (r + mu)``.

    Args:
        event: size or shape of one example.
        dispersion: a, fixed; or where a learned one starts. Left out, it is 1, and a learned one starts from the data.
        learn: ``None`` fixed, ``"shared"`` one for all elements, ``"element"`` one for each.
        floor: the least dispersion that learning can reach.

    Raises:
        ValueError: no such ``learn``, or a dispersion that is not above the floor.

    Example:
        >>> import torch
        >>> likelihood = NegativeBinomial(1, dispersion=1.0, learn=None)
        >>> f"{likelihood.log_prob(torch.tensor([[1.0]]), torch.zeros(1, 1)).item():.4f}"   # log 1/4: geometric
        '-1.3863'
    """

    def __init__(
        self,
        event: int | tuple[int, ...],
        dispersion: float | None = None,
        learn: Learned = "element",
        floor: float = 1e-6,
    ):
        super().__init__(event)
        self.starts_from_data = learn is not None and dispersion is None
        self.dispersion = PositiveParameter(self.size, dispersion or 1.0, learn, floor)

    def _log_prob(self, x: Tensor, eta: Tensor) -> Tensor:
        return log_mass(x, eta, self.dispersion.value)

    def _score(self, x: Tensor, eta: Tensor) -> Tensor:
        # r (x - mu) / (r + mu), with mu / (r + mu) = s(eta - log r)
        log_a = self.dispersion.value.log()
        return x * (-eta - log_a).sigmoid() - (eta + log_a).sigmoid() / log_a.exp()

    def _root(self, eta: Tensor) -> Tensor:
        return (0.5 * (eta - softplus(eta + self.dispersion.value.log()))).exp()

    def mean(self, eta: Tensor) -> Tensor:
        return self.unflat(eta.exp())

    def sample(self, eta: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.unflat(draw_counts(eta, self.dispersion.value, generator))

    @torch.no_grad()
    def initialize(self, x: Tensor, mask: Tensor | None = None) -> None:
        """A learned dispersion starts at that of the data around their mean, unless its start was given."""
        if self.starts_from_data:
            self.dispersion.put(*_of_moments(self.flat(x), None if mask is None else self.flat(mask)))

    def maximize(self, x: Tensor, eta: Tensor, mask: Tensor | None = None) -> None:
        """A learned dispersion becomes the likeliest given eta."""
        x, mask = self.flat(x), None if mask is None else self.flat(mask)
        self.dispersion.maximize(lambda a: masked(log_mass(x, eta, a), mask))


def log_mass(x: Tensor, eta: Tensor, dispersion: Tensor) -> Tensor:
    """Of a count x, with log-mean eta."""
    x, eta, a = in_float64(x, eta, dispersion)
    r, log_odds = 1 / a, eta + a.log()  # of mu against r
    choices = torch.lgamma(x + r) - torch.lgamma(r) - torch.lgamma(x + 1)
    return choices - r * softplus(log_odds) - x * softplus(-log_odds)


def draw_counts(eta: Tensor, dispersion: Tensor, generator: torch.Generator | None) -> Tensor:
    """A Poisson law whose rate is a gamma variable."""
    r = (1 / dispersion).expand_as(eta)
    return torch.poisson(standard_gamma(r, generator) / r * eta.exp(), generator=generator)


def _of_moments(x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Of each element ``(variance - mean) / mean^2``, within [0.01, 100], and the weight of it in a mean of all."""
    mean, variance, count = moments(x, mask)
    return ((variance - mean) / mean.clamp(min=1e-6).square()).clamp(0.01, 100.0), mean * count + 1e-6
