"""Gaussian likelihood of values whose errors are known, each its own: photometry."""

import torch
from torch import Tensor

from curvae.likelihoods.elementwise import Learned, PositiveParameter, moments
from curvae.likelihoods.likelihood import Likelihood, masked
from curvae.linalg import LOG_2PI
from curvae.linear import LinearGaussian, heteroscedastic_ppca

LEAST = -60.0
"""Of log v: an error of 0."""


class GaussianErrors(Likelihood):
    r"""``p(x | eta) = prod_e N(x_e; m_e, s_e^2 + v_e)``: v is the square of an error that is known, s what is left.

    eta is flat, element by element, ``(*L, 2 E)``: the mean m, which the decoder gives, and log v, which is known of
    each row (:attr:`curvae.typing.Context.errors`) and which nothing learns. With ``c = 1 / (s^2 + v)`` the information
    about m is c, that about log v ``(c v)^2 / 2``, with nothing between them.

    Args:
        event: size or shape of one example.
        scale: s, fixed, 0 for errors that are all there is; or where a learned one starts. Left out, it is 1, and a
            learned one starts from the data.
        learn: ``None`` fixed, ``"shared"`` one for all elements, ``"element"`` one for each.
        floor: the least s that learning can reach.

    Raises:
        ValueError: no such ``learn``, a negative scale, or one that is learned and not above its floor.

    Example:
        >>> likelihood = GaussianErrors(1, scale=0.6, learn=None)
        >>> eta = likelihood.with_errors(torch.zeros(1, 1), torch.tensor([[0.8]]))
        >>> f"{likelihood.log_prob(torch.ones(1, 1), eta).item():.4f}"   # -1/2 - 1/2 log(2 pi), 0.6^2 + 0.8^2 = 1
        '-1.4189'
    """

    def __init__(
        self,
        event: int | tuple[int, ...],
        scale: float | None = None,
        learn: Learned = "element",
        floor: float = 1e-3,
    ):
        super().__init__(event, per_element=2)
        if scale is not None and scale < 0:
            raise ValueError(f"GaussianErrors: scale must be 0 or more; got {scale}.")
        self.information = "block"
        self.known = self.size // 2
        self.starts_from_data = learn is not None and scale is None
        least = floor**2 if learn else 0.0
        start = 1.0 if scale is None else scale**2
        self.own = PositiveParameter(self.outputs, start or 1.0, learn, least)
        if start == 0:
            if learn:
                raise ValueError(f"GaussianErrors: a scale that is learned must be above its floor, {floor}; got 0.")
            self.own.log_excess.fill_(-torch.inf)

    @property
    def variance(self) -> Tensor:
        """s^2, (E,) or (1,)."""
        return self.own.value

    def with_errors(self, out: Tensor, errors: Tensor) -> Tensor:
        """M and log v, in turns."""
        known = (2 * self.flat(errors).log()).clamp(min=LEAST).expand_as(out)
        return torch.stack([out, known], -1).flatten(-2)

    def log_prob(self, x: Tensor, eta: Tensor, mask: Tensor | None = None) -> Tensor:
        each = self._log_density(self.flat(x), eta, self.variance)
        return masked(each, None if mask is None else self.flat(mask)).sum(-1).to(eta.dtype)

    def score(self, x: Tensor, eta: Tensor, mask: Tensor | None = None) -> Tensor:
        mean, known, total = self._split(eta)
        offset = self.flat(x) - mean
        return self._joined(offset / total, 0.5 * (offset.square() / total - 1) * known / total, mask)

    def root(self, eta: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        _, known, total = self._split(eta)
        about_mean, about_known = _pairs(v)
        return self._joined(about_mean * total.rsqrt(), about_known * known / (2**0.5 * total), mask)

    def mean(self, eta: Tensor) -> Tensor:
        return self.unflat(_pairs(eta)[0])

    def sample(self, eta: Tensor, generator: torch.Generator | None = None) -> Tensor:
        mean, _, total = self._split(eta)
        noise = torch.randn(mean.shape, generator=generator, device=eta.device, dtype=eta.dtype)
        return self.unflat(mean + total.sqrt() * noise)

    @torch.no_grad()
    def initialize(self, x: Tensor, mask: Tensor | None = None, errors: Tensor | None = None) -> None:
        """A learned s starts at what the errors leave of the variance around the mean, unless its start was given."""
        if self.starts_from_data:
            variance, count = moments(self.flat(x), None if mask is None else self.flat(mask))[1:]
            known = 0.0 if errors is None else self.flat(errors).square().mean(0)
            self.own.put(torch.maximum(variance - known, 0.01 * variance), count)

    def linear_features(self, x: Tensor) -> Tensor:
        return self.flat(x).double()

    def linear_fits(
        self, x: Tensor, latent: int, mask: Tensor | None = None, errors: Tensor | None = None
    ) -> tuple[LinearGaussian, ...]:
        """Principal components beside the known errors; s is what they leave."""
        known = torch.zeros_like(self.flat(x)) if errors is None else self.flat(errors)
        seen, fixed = None if mask is None else self.flat(mask), self.own.learn is None
        noise, shared = float(self.variance.detach()[0]) if fixed else None, self.own.learn == "shared"
        found = heteroscedastic_ppca(self.flat(x), known, latent, seen, 2 * self.own.floor, shared, noise)
        if self.starts_from_data:
            self.own.put(found.own)
        return (found.model,)

    def start_from(self, model: LinearGaussian) -> tuple[Tensor, Tensor]:
        """Where :meth:`linear_fits` was, s started, too: the model has the noise of a typical row."""
        return model.weight, model.mean

    @torch.no_grad()
    def maximize(self, x: Tensor, eta: Tensor, mask: Tensor | None = None) -> None:
        """A learned s becomes the likeliest given eta."""
        x, mask = self.flat(x).double(), None if mask is None else self.flat(mask)
        self.own.maximize(lambda variance: masked(self._log_density(x, eta.double(), variance), mask))

    def _split(self, eta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """m, v and ``s^2 + v``."""
        mean, log_known = _pairs(eta)
        known = log_known.exp()
        return mean, known, known + self.variance

    @staticmethod
    def _log_density(x: Tensor, eta: Tensor, variance: Tensor) -> Tensor:
        mean, log_known = _pairs(eta)
        total = log_known.exp() + variance
        return -0.5 * ((x - mean).square() / total + total.log() + LOG_2PI)

    def _joined(self, mean: Tensor, known: Tensor, mask: Tensor | None) -> Tensor:
        each = torch.stack([mean, known], -1)
        return masked(each, None if mask is None else self.flat(mask).unsqueeze(-1)).flatten(-2)


def _pairs(eta: Tensor) -> tuple[Tensor, Tensor]:
    mean, log_known = eta.unflatten(-1, (-1, 2)).unbind(-1)
    return mean, log_known
