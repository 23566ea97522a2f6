"""Ordinal likelihood: ordered categories as cells of a logistic law."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from curvae.likelihoods.elementwise import Elementwise
from curvae.linear import LinearGaussian, ppca

OUTSIDE = 1e4
"""Where the outermost cells end, in scales of the law: beyond it no mass is left."""


class Ordinal(Elementwise):
    r"""Ordered categories 0 .. K - 1: ``P(x <= k | eta) = s(c_k - eta)``, s the logistic function (cumulative logits).

    The thresholds ``c_0 < ... < c_{K-2}`` of each element are learned, from the shares of its categories. The
    information about eta is ``(1 - sum_k p_k^3) / 3`` exactly: the trapezoidal rule is exact up to that for the
    integral of ``F (1 - F)`` dF.

    Reference: McCullagh, *Regression Models for Ordinal Data*, JRSS B 1980.

    Args:
        event: size or shape of one example.
        categories: K.

    Raises:
        ValueError: fewer than two categories.

    Example:
        >>> import torch
        >>> likelihood = Ordinal(1, categories=4)          # thresholds -1, 0, 1
        >>> f"{likelihood.log_prob(torch.tensor([[0]]), torch.zeros(1, 1)).exp().item():.4f}"
        '0.2689'
    """

    def __init__(self, event: int | tuple[int, ...], categories: int):
        super().__init__(event)
        if categories < 2:
            raise ValueError(f"Ordinal: at least two categories are needed; got {categories}.")
        self.categories = categories
        self.first = nn.Parameter(torch.full((self.size,), -(categories - 2) / 2))
        self.log_gaps = nn.Parameter(torch.zeros(self.size, categories - 2))

    @property
    def thresholds(self) -> Float[Tensor, "E K1"]:
        """Increasing."""
        steps = torch.cat([self.first.unsqueeze(-1), self.log_gaps.exp()], -1)
        return steps.cumsum(-1)

    def _log_prob(self, x: Tensor, eta: Tensor) -> Tensor:
        return log_cell(*self._ends(x, eta))

    def _score(self, x: Tensor, eta: Tensor) -> Tensor:
        high, low = self._ends(x, eta)
        return high.sigmoid() + low.sigmoid() - 1

    def _root(self, eta: Tensor) -> Tensor:
        return ((1 - self._shares(eta).pow(3).sum(-1)) / 3).sqrt()

    def bound(self, v: Tensor) -> Tensor:
        return math.sqrt(0.5) * v

    def mean(self, eta: Tensor) -> Tensor:
        """Of the number of the category."""
        return self.unflat((self._shares(eta) * torch.arange(self.categories, device=eta.device)).sum(-1))

    def sample(self, eta: Tensor, generator: torch.Generator | None = None) -> Tensor:
        level = eta + logistic_noise(eta, generator)
        return self.unflat((level.unsqueeze(-1) > self.thresholds).sum(-1).to(eta.dtype))

    @torch.no_grad()
    def initialize(self, x: Tensor, mask: Tensor | None = None) -> None:
        """The thresholds start where eta = 0 gives the shares of the training data."""
        x, seen = self.flat(x), torch.ones_like(self.flat(x)) if mask is None else self.flat(mask).to(x.dtype)
        below = torch.stack([((x <= k) * seen).sum(0) for k in range(self.categories - 1)], -1)
        shares = (below + 0.5) / (seen.sum(0).unsqueeze(-1) + 1)
        logits = shares.logit()
        self.first.copy_(logits[:, 0])
        self.log_gaps.copy_(logits.diff(dim=-1).clamp(min=1e-2).log())

    def maximize(self, x: Tensor, eta: Tensor, mask: Tensor | None = None) -> None:
        """The thresholds are trained, not set."""

    def linear_features(self, x: Tensor) -> Tensor:
        return self.flat(x).double()

    def linear_fits(self, x: Tensor, latent: int, mask: Tensor | None = None) -> tuple[LinearGaussian, ...]:
        """Principal components of the numbers of the categories."""
        return (ppca(self.linear_features(x), latent, None if mask is None else self.flat(mask)),)

    def start_from(self, model: LinearGaussian) -> tuple[Tensor, Tensor]:
        """Of eta the model in deviations of its noise, those of a logistic law; thresholds are left. Not exact."""
        noise = model.noise.clamp(min=1e-2).sqrt().unsqueeze(1)
        return math.pi / math.sqrt(3) * model.weight / noise, torch.zeros_like(model.mean)

    def _shares(self, eta: Tensor) -> Float[Tensor, "*L E K"]:
        below = (self.thresholds - eta.unsqueeze(-1)).sigmoid()
        return torch.diff(
            below, dim=-1, prepend=torch.zeros_like(below[..., :1]), append=torch.ones_like(below[..., :1])
        )

    def _ends(self, x: Tensor, eta: Tensor) -> tuple[Tensor, Tensor]:
        """Of the cell of x, around eta."""
        far = torch.full_like(self.first, OUTSIDE).unsqueeze(-1)
        ends = torch.cat([-far, self.thresholds, far], -1)
        low = ends.expand(*x.shape, -1).gather(-1, x.long().unsqueeze(-1)).squeeze(-1)
        high = ends.expand(*x.shape, -1).gather(-1, x.long().unsqueeze(-1) + 1).squeeze(-1)
        return high - eta, low - eta


def log_cell(high: Tensor, low: Tensor) -> Tensor:
    """``log(s(high) - s(low))``, with ``s(a) - s(b) = s(a) s(-b) (1 - exp(b - a))``."""
    return logsigmoid(high) + logsigmoid(-low) + torch.log(-torch.expm1(low - high))


def logistic_noise(eta: Tensor, generator: torch.Generator | None) -> Tensor:
    edge = torch.finfo(eta.dtype).eps
    u = torch.rand(eta.shape, generator=generator, device=eta.device, dtype=eta.dtype).clamp(edge, 1 - edge)
    return u.logit()
