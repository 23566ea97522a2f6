"""Log-normal likelihood: positive numbers whose logarithm is Gaussian."""

import torch
from torch import Tensor

from curvae.likelihoods.elementwise import Learned
from curvae.likelihoods.gaussian import Gaussian
from curvae.likelihoods.likelihood import Likelihood
from curvae.linear import LinearGaussian


class LogNormal(Likelihood):
    r"""Positive numbers whose logarithm is Gaussian: ``log p(x | eta) = log N(log x; eta, s^2) - sum log x``.

    Constant information, as it is quadratic in eta; the mean of x is ``exp(eta + s^2 / 2)``.

    Args:
        event: size or shape of one example.
        scale: s, of the logarithm, as in :class:`Gaussian`.
        learn: ``None`` fixed, ``"shared"`` one for all elements, ``"element"`` one for each.
        floor: the least s that learning can reach.

    Raises:
        ValueError: as :class:`Gaussian`.

    Example:
        >>> import torch
        >>> likelihood = LogNormal(1, scale=1.0, learn=None)
        >>> f"{likelihood.log_prob(torch.ones(1, 1), torch.zeros(1, 1)).item():.4f}"   # -1/2 log(2 pi)
        '-0.9189'
    """

    reparameterized = True

    def __init__(
        self,
        event: int | tuple[int, ...],
        scale: float | None = None,
        learn: Learned = "element",
        floor: float = 1e-3,
    ):
        super().__init__(event)
        self.information = "constant"
        self.gaussian = Gaussian(event, scale, learn, floor)

    def log_prob(self, x: Tensor, eta: Tensor, mask: Tensor | None = None) -> Tensor:
        y = self._log(x, mask)
        return self.gaussian.log_prob(y, eta, mask) - self.flat(y).sum(-1)

    def score(self, x: Tensor, eta: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.gaussian.score(self._log(x, mask), eta, mask)

    def root(self, eta: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.gaussian.root(eta, v, mask)

    def diagonal(self, eta: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.gaussian.diagonal(eta, mask)

    def mean(self, eta: Tensor) -> Tensor:
        return self.unflat((eta + 0.5 * self.gaussian.variance).exp())

    def sample(self, eta: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.gaussian.sample(eta, generator).exp()

    def initialize(self, x: Tensor, mask: Tensor | None = None) -> None:
        """A learned scale starts at that of the logarithms, unless its start was given."""
        self.gaussian.initialize(self._log(x, mask), mask)

    def maximize(self, x: Tensor, eta: Tensor, mask: Tensor | None = None) -> None:
        """A learned scale becomes the likeliest given eta."""
        self.gaussian.maximize(self._log(x, mask), eta, mask)

    def linear_features(self, x: Tensor) -> Tensor:
        x = self.flat(x).double()
        return torch.where(x > 0, x, 1).log()

    def linear_fits(self, x: Tensor, latent: int, mask: Tensor | None = None) -> tuple[LinearGaussian, ...]:
        """Those of the logarithms."""
        return self.gaussian.linear_fits(self._log(x, mask), latent, mask)

    def start_from(self, model: LinearGaussian) -> tuple[Tensor, Tensor]:
        return self.gaussian.start_from(model)

    def _log(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """0 where nothing is seen."""
        return (x if mask is None else torch.where(mask, x, torch.ones_like(x))).log()
