"""Zero-inflated negative binomial likelihood: counts of which some are 0 for another reason."""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from curvae.likelihoods.elementwise import Learned
from curvae.likelihoods.likelihood import Likelihood, masked
from curvae.likelihoods.negative_binomial import NegativeBinomial, draw_counts, log_mass
from curvae.linear import LinearGaussian


class ZeroInflatedNegativeBinomial(Likelihood):
    r"""``p(x | eta) = pi [x = 0] + (1 - pi) NB(x; mu, a)``: of each element eta has ``log mu`` and ``logit pi``.

    eta is flat, element by element: ``(*L, 2 E)``. The information of one element is a 2 x 2 matrix, in closed form:
    only x = 0 leaves open where it comes from.

    Args:
        event: size or shape of one example.
        dispersion: a, as in :class:`NegativeBinomial`.
        learn: ``None`` fixed, ``"shared"`` one for all elements, ``"element"`` one for each.
        floor: the least dispersion that learning can reach.

    Raises:
        ValueError: no such ``learn``, or a dispersion that is not above the floor.

    Example:
        >>> import torch
        >>> likelihood = ZeroInflatedNegativeBinomial(1, dispersion=1.0, learn=None)
        >>> f"{likelihood.log_prob(torch.zeros(1, 1), torch.zeros(1, 2)).item():.4f}"   # log(1/2 + 1/4)
        '-0.2877'
    """

    def __init__(
        self,
        event: int | tuple[int, ...],
        dispersion: float | None = None,
        learn: Learned = "element",
        floor: float = 1e-6,
    ):
        super().__init__(event, per_element=2)
        self.information = "block"
        self.counts = NegativeBinomial(event, dispersion, learn, floor)

    def with_exposure(self, out: Tensor, exposure: Tensor) -> Tensor:
        """``log mu`` with the logarithm of the exposure; pi stays."""
        level, logit = _split(out)
        return torch.stack([level + exposure.log().unsqueeze(-1), logit], -1).flatten(-2)

    def log_prob(self, x: Tensor, eta: Tensor, mask: Tensor | None = None) -> Tensor:
        each = _log_mass(self.flat(x), *_split(eta), self.counts.dispersion.value)
        return masked(each, None if mask is None else self.flat(mask)).sum(-1).to(eta.dtype)

    def score(self, x: Tensor, eta: Tensor, mask: Tensor | None = None) -> Tensor:
        x, (level, logit) = self.flat(x), _split(eta)
        pi, counted, at_zero = self._of_zero(level, logit)
        zero = x == 0
        about_level = torch.where(zero, counted * at_zero, self.counts._score(x, level))
        about_logit = torch.where(zero, 1 - counted, torch.zeros_like(pi)) - pi
        return self._joined(about_level, about_logit, mask)

    def root(self, eta: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        (level, logit), (v_level, v_logit) = _split(eta), _split(v)
        pi, counted, at_zero = self._of_zero(level, logit)
        none = (1 - pi) * _zero_mass(level, self.counts.dispersion.value)  # P(x = 0, counted)
        zero = none + pi
        first = (1 - pi) * self.counts._root(level).square() - none * (1 - counted) * at_zero.square()
        cross = none * at_zero * (1 - counted)
        second = zero * (1 - counted - pi).square() + (1 - zero) * pi.square()
        corner = first.clamp(min=1e-30).sqrt()
        rest = (second - (cross / corner).square()).clamp(min=0)
        return self._joined(corner * v_level + cross / corner * v_logit, _sqrt(rest) * v_logit, mask)

    def mean(self, eta: Tensor) -> Tensor:
        level, logit = _split(eta)
        return self.unflat(level.exp() * (-logit).sigmoid())

    def sample(self, eta: Tensor, generator: torch.Generator | None = None) -> Tensor:
        level, logit = _split(eta)
        counted = torch.bernoulli((-logit).sigmoid(), generator=generator)
        return self.unflat(counted * draw_counts(level, self.counts.dispersion.value, generator))

    def initialize(self, x: Tensor, mask: Tensor | None = None) -> None:
        """A learned dispersion starts at that of the data around their mean, unless its start was given."""
        self.counts.initialize(x, mask)

    def maximize(self, x: Tensor, eta: Tensor, mask: Tensor | None = None) -> None:
        """A learned dispersion becomes the likeliest given eta."""
        x, mask = self.flat(x), None if mask is None else self.flat(mask)
        self.counts.dispersion.maximize(lambda a: masked(_log_mass(x, *_split(eta), a), mask))

    def linear_features(self, x: Tensor) -> Tensor:
        return self.counts.linear_features(x)

    def linear_fits(self, x: Tensor, latent: int, mask: Tensor | None = None) -> tuple[LinearGaussian, ...]:
        return self.counts.linear_fits(x, latent, mask)

    def start_from(self, model: LinearGaussian) -> tuple[Tensor, Tensor]:
        """The log-means start as those of counts without more zeros; one in a hundred is another zero."""
        weight, bias = self.counts.start_from(model)
        weight = torch.stack([weight, torch.zeros_like(weight)], 1).flatten(0, 1)
        return weight, torch.stack([bias, torch.full_like(bias, -4.6)], -1).flatten()

    def _of_zero(self, level: Tensor, logit: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pi, P(counted | x = 0), and the score about log mu of a zero that was counted."""
        zero = _zero_mass(level, self.counts.dispersion.value)
        pi = logit.sigmoid()
        counted = (-logit + zero.log()).sigmoid()
        return pi, counted, self.counts._score(torch.zeros_like(level), level)

    def _joined(self, level: Tensor, logit: Tensor, mask: Tensor | None) -> Tensor:
        each = torch.stack([level, logit], -1)
        return masked(each, None if mask is None else self.flat(mask).unsqueeze(-1)).flatten(-2)


def _split(eta: Tensor) -> tuple[Tensor, Tensor]:
    level, logit = eta.unflatten(-1, (-1, 2)).unbind(-1)
    return level, logit


def _zero_mass(level: Tensor, dispersion: Tensor) -> Tensor:
    """NB(0) = (1 + a mu)^(-1/a)."""
    return (-softplus(level + dispersion.log()) / dispersion).clamp(min=-80).exp()


def _log_mass(x: Tensor, level: Tensor, logit: Tensor, dispersion: Tensor) -> Tensor:
    counted = logsigmoid(-logit).double() + log_mass(x, level, dispersion)
    return torch.where(x == 0, torch.logaddexp(counted, logsigmoid(logit).double()), counted)


def _sqrt(value: Tensor) -> Tensor:
    """With a gradient of 0 at 0."""
    positive = value > 0
    return torch.where(positive, torch.where(positive, value, torch.ones_like(value)).sqrt(), torch.zeros_like(value))
