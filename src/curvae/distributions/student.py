"""Mixtures of multivariate t laws, drawn from as one: proposals with heavy tails."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from curvae.distributions.gaussian import GaussianPosterior, pack, unpack
from curvae.distributions.mixture import Mixture
from curvae.distributions.posterior import DensityPosterior, Draws, ParametricPosterior
from curvae.linalg import cholesky, solve_lower
from curvae.noise import noise, uniform

HALVINGS = 60
"""Of the interval in which a quantile lies."""


@dataclass(frozen=True, eq=False)
class StudentMixture(ParametricPosterior, DensityPosterior):
    r"""``sum_k pi_k t_n(z; m_k, C_k C_k')``: draws ``m_k + C_k e / sqrt(c / n)``, c chi-squared with n of freedom.

    ``log t_n = const - log det C - (n + D) / 2 log(1 + |C^-1 (z - m)|^2 / n)``: its tails fall like a power, so that
    importance weights are bounded wherever the target's fall faster. ``packed`` holds each C, lower triangular, with
    the logarithm of its diagonal; the covariance of a component is ``n / (n - 2) C C'``. Unlike
    :class:`curvae.distributions.Mixture` it gives n draws in all, each from a component chosen by its weight.

    Args:
        loc: the centers m_k.
        packed: C_k, as :class:`curvae.distributions.FullGaussian` has it.
        logits: pi is their softmax.
        freedom: n; None for Gaussians.

    Raises:
        ValueError: freedom below 3: there is no covariance.

    Reference: Kotz and Nadarajah, *Multivariate t Distributions and Their Applications*, 2004, chapter 1.

    Example:
        >>> import torch
        >>> q = StudentMixture(torch.zeros(1, 1, 2), torch.zeros(1, 1, 2, 2), torch.zeros(1, 1), freedom=4)
        >>> q.draw(5).z.shape, q.covariance.tolist()
        (torch.Size([5, 1, 2]), [[[2.0, 0.0], [0.0, 2.0]]])
    """

    names = ("loc", "packed", "logits")
    loc: Float[Tensor, "B K D"]
    packed: Float[Tensor, "B K D D"]
    logits: Float[Tensor, "B K"]
    freedom: int | None = 10

    def __post_init__(self) -> None:
        if self.freedom is not None and self.freedom < 3:
            raise ValueError(f"StudentMixture: freedom must be 3 or more, or None; got {self.freedom}.")

    @classmethod
    def of(cls, posterior: GaussianPosterior | Mixture) -> "StudentMixture":
        """A Gaussian, or a mixture of Gaussians, that is drawn from as one.

        Raises:
            TypeError: of another kind.
        """
        parts = posterior.components if isinstance(posterior, Mixture) else (posterior,)
        gaussians = [part for part in parts if isinstance(part, GaussianPosterior)]
        if len(gaussians) < len(parts):
            raise TypeError(
                f"StudentMixture: expects Gaussians; got {', '.join(type(part).__name__ for part in parts)}."
            )
        loc = torch.stack([part.loc for part in gaussians], 1)
        factor = cholesky(torch.stack([part.covariance for part in gaussians], 1).flatten(0, 1))[0]
        logits = posterior.logits if isinstance(posterior, Mixture) else loc.new_zeros(len(loc), 1)
        return cls(loc, pack(factor).unflatten(0, loc.shape[:2]), logits, None)

    @property
    def factor(self) -> Float[Tensor, "B K D D"]:
        """C_k, lower triangular."""
        return unpack(self.packed)

    @property
    def weights(self) -> Float[Tensor, "B K"]:
        """``pi``, of each component."""
        return self.logits.softmax(-1)

    def widened(self, width: float) -> "StudentMixture":
        """Every covariance times ``width``."""
        shift = 0.5 * math.log(width)
        packed = self.packed.tril(-1) * width**0.5 + torch.diag_embed(self.packed.diagonal(dim1=-2, dim2=-1) + shift)
        return replace(self, packed=packed)

    @property
    def center(self) -> Float[Tensor, "B D"]:
        """That of the component of the greatest weight."""
        return _each(self.loc, self.logits.argmax(-1)[None])[0]

    @property
    def mean(self) -> Float[Tensor, "B D"]:
        return torch.einsum("bk,bkd->bd", self.weights, self.loc)

    @property
    def covariance(self) -> Float[Tensor, "B D D"]:
        spread = 1.0 if self.freedom is None else self.freedom / (self.freedom - 2)
        offset = self.loc - self.mean.unsqueeze(1)
        within = spread * self.factor @ self.factor.mT
        return torch.einsum("bk,bkij->bij", self.weights, within + offset.unsqueeze(-1) * offset.unsqueeze(-2))

    def draw(self, n: int, generator: torch.Generator | None = None) -> Draws:
        _, count, size = self.loc.shape
        tail = self.freedom or 0
        drawn = noise(n, torch.cat([self.loc[:, 0], self.loc.new_empty(len(self.loc), tail)], 1), generator)
        e, rest = drawn.split([size, tail], dim=-1)
        e = e / rest.square().mean(-1, keepdim=True).sqrt() if tail else e
        if count == 1:
            z = self.loc[:, 0] + torch.einsum("bij,sbj->sbi", self.factor[:, 0], e)
            return Draws.iid(z, self.log_prob(z))
        which = _chosen(uniform(e[..., 0], generator), self.weights)
        z = _each(self.loc, which) + torch.einsum("sbij,sbj->sbi", _each(self.factor, which), e)
        score = self.logits.log_softmax(-1).expand(n, -1, -1).gather(-1, which.unsqueeze(-1)).squeeze(-1)
        return Draws.iid(z, self.log_prob(z), score)

    def log_prob(self, z: Float[Tensor, "S B D"]) -> Float[Tensor, "S B"]:
        return torch.logsumexp(self.each_log_prob(z), 0)

    def each_log_prob(self, z: Float[Tensor, "S B D"]) -> Float[Tensor, "K S B"]:
        """``log pi_k t_n(z; m_k, C_k C_k')``."""
        offset = (z.unsqueeze(2) - self.loc).permute(1, 2, 3, 0)
        square = solve_lower(self.factor, offset).square().sum(2).permute(1, 2, 0)
        log_det = self.packed.diagonal(dim1=-2, dim2=-1).sum(-1)
        level = self.logits.log_softmax(-1) - log_det
        return level.mT.unsqueeze(1) + _radial(square, z.shape[-1], self.freedom)

    def _interval(self, level: float) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D"]]:
        """Where the marginal distribution functions reach the two tails, by bisection between those of components."""
        half = float(_quantile(0.5 + level / 2, self.freedom))
        scale, tail = self.factor.square().sum(-1).sqrt(), 0.5 - level / 2
        ends = (self.loc - half * scale, self.loc + half * scale)
        return self._reached(tail, ends[0], scale), self._reached(1 - tail, ends[1], scale)

    def _reached(self, mass: float, own: Float[Tensor, "B K D"], scale: Float[Tensor, "B K D"]) -> Float[Tensor, "B D"]:
        """The quantile, which lies between the least and the greatest of the components' own."""
        low, high = own.amin(1), own.amax(1)
        for _ in range(HALVINGS):
            middle = 0.5 * (low + high)
            below = _distribution((middle.unsqueeze(1) - self.loc) / scale, self.freedom)
            mean = torch.einsum("bk,bkd->bd", self.weights, below)
            low, high = torch.where(mean < mass, middle, low), torch.where(mean < mass, high, middle)
        return 0.5 * (low + high)


def _quantile(mass: float, freedom: int | None) -> float:
    """Of the t law, or of the normal one, in one dimension."""
    from scipy.special import ndtri, stdtrit  # their package takes a tenth of a second to import

    return ndtri(mass) if freedom is None else stdtrit(freedom, mass)


def _distribution(x: Tensor, freedom: int | None) -> Tensor:
    """The distribution function of the t law, or of the normal one, in one dimension; no gradient flows."""
    if freedom is None:
        return torch.special.ndtr(x)
    from scipy.special import stdtr

    return torch.from_numpy(stdtr(freedom, x.detach().double().cpu().numpy())).to(x)


def _radial(square: Tensor, size: int, freedom: int | None) -> Tensor:
    """The log-density of the t law, or of the Gaussian, of unit scale at this squared radius."""
    if freedom is None:
        return -0.5 * (square + size * math.log(2 * math.pi))
    level = math.lgamma((freedom + size) / 2) - math.lgamma(freedom / 2) - size / 2 * math.log(freedom * math.pi)
    return level - (freedom + size) / 2 * torch.log1p(square / freedom)


def _chosen(u: Float[Tensor, "S B"], weights: Float[Tensor, "B K"]) -> Int[Tensor, "S B"]:
    """Indices of these probabilities, from numbers uniform in [0, 1)."""
    return (u.unsqueeze(-1) >= weights.detach().cumsum(-1)[:, :-1]).sum(-1)


def _each(values: Float[Tensor, "B K *E"], which: Int[Tensor, "S B"]) -> Float[Tensor, "S B *E"]:
    """The value of the component chosen for each draw."""
    return values[torch.arange(len(values), device=values.device), which]
