"""Student's t likelihood: the decoder gives the location, and rows that lie far off move it little."""

import math

import torch
from torch import Tensor

from curvae.likelihoods.elementwise import Elementwise, Learned, PositiveParameter, moments, standard_gamma
from curvae.likelihoods.likelihood import masked
from curvae.linear import LinearGaussian, ppca

ROUNDS = 40
"""Of scale and degrees of freedom in turn, at most."""


class StudentT(Elementwise):
    r"""``p(x | eta) = prod_e t(x_e; nu, eta_e, s_e)``: heavy tails, a Gaussian as nu grows.

    ``log p = log G((nu + 1) / 2) - log G(nu / 2) - 1/2 log(pi nu) - log s - (nu + 1) / 2 log(1 + r^2 / nu)`` with
    ``r = (x - eta) / s``; the score is bounded, and the information ``(nu + 1) / ((nu + 3) s^2)``.

    Args:
        event: size or shape of one example.
        scale: s, fixed; or where a learned one starts. Left out, it is 1, and a learned one starts from the data.
        df: nu, degrees of freedom, fixed; left out it is learned with the scale, one for all elements, from 5.
        learn: of the scale: ``None`` fixed, ``"shared"`` one for all elements, ``"element"`` one for each.
        floor: the least scale that learning can reach; without one the density has no bound.

    Raises:
        ValueError: no such ``learn``, a scale that is not above its floor, or degrees of freedom not above 1.

    Example:
        >>> import torch
        >>> likelihood = StudentT(1, scale=1.0, df=3.0, learn=None)
        >>> f"{likelihood.log_prob(torch.zeros(1, 1), torch.zeros(1, 1)).item():.4f}"
        '-1.0009'
    """

    def __init__(
        self,
        event: int | tuple[int, ...],
        scale: float | None = None,
        df: float | None = None,
        learn: Learned = "shared",
        floor: float = 1e-3,
    ):
        super().__init__(event)
        self.starts_from_data = learn is not None and scale is None
        self.scale = PositiveParameter(self.size, scale or 1.0, learn, floor)
        self.df = PositiveParameter(self.size, df or 5.0, "shared" if df is None and learn else None, floor=1.0)

    def _log_prob(self, x: Tensor, eta: Tensor) -> Tensor:
        return _log_density(x - eta, self.scale.value, self.df.value)

    def _score(self, x: Tensor, eta: Tensor) -> Tensor:
        nu, offset = self.df.value, x - eta
        return (nu + 1) * offset / (nu * self.scale.value.square() + offset.square())

    def _root(self, eta: Tensor) -> Tensor:
        nu = self.df.value
        return (((nu + 1) / (nu + 3)).sqrt() / self.scale.value).expand_as(eta)

    def bound(self, v: Tensor) -> Tensor:
        # -d2 log p = (nu + 1) (nu s^2 - d^2) / (nu s^2 + d^2)^2, highest at d = 0
        nu = self.df.value
        return v * ((nu + 1) / nu).sqrt() / self.scale.value

    def mean(self, eta: Tensor) -> Tensor:
        return self.unflat(eta)

    def sample(self, eta: Tensor, generator: torch.Generator | None = None) -> Tensor:
        half = (0.5 * self.df.value).expand_as(eta)
        noise = torch.randn(eta.shape, generator=generator, device=eta.device, dtype=eta.dtype)
        spread = (half / standard_gamma(half, generator)).sqrt()
        return self.unflat(eta + self.scale.value * noise * spread)

    @torch.no_grad()
    def initialize(self, x: Tensor, mask: Tensor | None = None) -> None:
        """A learned scale starts where the variance is that of the data around their mean, unless it was given."""
        if self.starts_from_data:
            _, variance, count = moments(self.flat(x), None if mask is None else self.flat(mask))
            self._put_variance(variance, count)

    @torch.no_grad()
    def maximize(self, x: Tensor, eta: Tensor, mask: Tensor | None = None) -> None:
        """Scale and degrees of freedom become the likeliest given eta, one after the other until both stay."""
        offset, mask = (self.flat(x) - eta).double(), None if mask is None else self.flat(mask)
        for _ in range(ROUNDS):
            df, before = self.df.value.double(), self.scale.value.double()
            self.scale.maximize(lambda scale, df=df: masked(_log_density(offset, scale, df), mask))
            scale = self.scale.value.double()
            self.df.maximize(lambda df, scale=scale: masked(_log_density(offset, scale, df), mask))
            if bool(((scale / before).log().abs() < 1e-4).all()):
                break

    def linear_features(self, x: Tensor) -> Tensor:
        return self.flat(x).double()

    def linear_fits(self, x: Tensor, latent: int, mask: Tensor | None = None) -> tuple[LinearGaussian, ...]:
        """Principal components."""
        least = 2 * self.scale.floor**2
        return (ppca(self.flat(x), latent, None if mask is None else self.flat(mask), least),)

    @torch.no_grad()
    def start_from(self, model: LinearGaussian) -> tuple[Tensor, Tensor]:
        """Location and variance of the model; not exact, as its tails are light."""
        if self.starts_from_data:
            self._put_variance(model.noise, torch.ones_like(model.noise))
        return model.weight, model.mean

    def _put_variance(self, variance: Tensor, weight: Tensor) -> None:
        nu = self.df.value.clamp(min=3.0)
        self.scale.put((variance * (nu - 2) / nu).sqrt(), weight)


def _log_density(offset: Tensor, scale: Tensor, nu: Tensor) -> Tensor:
    level = torch.lgamma(0.5 * (nu + 1)) - torch.lgamma(0.5 * nu) - 0.5 * (math.pi * nu).log() - scale.log()
    return level - 0.5 * (nu + 1) * torch.log1p((offset / scale).square() / nu)
