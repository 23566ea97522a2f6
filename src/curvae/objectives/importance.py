"""Bounds from importance weights: the multi-sample family, each a function of the log weights of its draws."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from curvae.model import LatentVariableModel, log_joint_by_target
from curvae.objectives.estimators import Combine, Estimator, Reparameterized
from curvae.objectives.objective import Bound, Kind, log_mean_exp
from curvae.posteriors import Draws, Posterior
from curvae.typing import EMPTY, Batch, Info, PerDatum


@runtime_checkable
class LearnsApart(Protocol):
    """A bound whose posterior ascends something else than its model."""

    def for_posterior(self, log_w: Float[Tensor, "S B"], log_c: Float[Tensor, "S B"]) -> PerDatum:
        """What the posterior's parameters ascend."""
        ...


@dataclass(frozen=True)
class ImportanceBound(ABC):
    """A bound of log p(x) that depends on the draws through their log weights alone.

    A subclass says how the log weights combine, and as :class:`LearnsApart` how they do for the posterior. What is no
    lower bound reports the importance-weighted one; the posterior of an upper bound ascends its negative.

    Args:
        estimator: how the gradient reaches the posterior's parameters.

    Raises:
        ValueError: choices without a path gradient and a single draw, which leaves no other to be the baseline.
    """

    estimator: Estimator = field(default=Reparameterized(), kw_only=True)
    kind: ClassVar[Kind] = "lower"
    groups: int = field(default=1, init=False, repr=False)
    """How many sets of draws, each as large as is asked for."""

    @abstractmethod
    def combine(self, log_w: Float[Tensor, "S B"], log_c: Float[Tensor, "S B"]) -> PerDatum:
        """What the model's parameters ascend; ``logsumexp(log_c, 0) = 0``."""

    def report(self, log_w: Float[Tensor, "S B"], log_c: Float[Tensor, "S B"]) -> tuple[PerDatum, Info]:
        """The lower bound that is reported, and an upper one."""
        value = (self.combine if self.kind == "lower" else log_mean_exp)(log_w, log_c)
        return value, {"upper_bound": -self._climbed(log_w, log_c).detach()} if self.kind == "upper" else EMPTY

    def __call__(self, model: LatentVariableModel, posterior: Posterior, batch: Batch, samples: int = 1) -> Bound:
        """``samples`` draws an example, for a grouped bound in each group."""
        draws = grouped_draws(posterior, self.groups, samples)
        log_q = self.estimator.log_q(posterior, draws)
        if self.estimator.whole and not isinstance(self, LearnsApart):
            log_w = model.log_joint(batch.x, draws.z, batch.mask) - log_q
            surrogate = self.combine(log_w, draws.log_c)
        else:
            down, up = log_joint_by_target(model, batch.x, draws.z, batch.mask)
            log_w = down - log_q.detach()
            gain = self.estimator.learn(self._climbed, up - log_q, draws.log_c)
            surrogate = self.combine(log_w, draws.log_c.detach()) + (gain - gain.detach())
        value, info = self.report(log_w, draws.log_c)
        return Bound(value, surrogate + credited(self._climbed, log_w, draws), info)

    @property
    def _climbed(self) -> Combine:
        """What the posterior's parameters ascend."""
        return self.for_posterior if isinstance(self, LearnsApart) else self.combine


@dataclass(frozen=True)
class MonteCarloElbo(ImportanceBound):
    """``sum_s exp(log_c_s) log w_s``: the ELBO from draws alone, without any variance where q is the exact posterior.

    Reference: Kingma and Welling, *Auto-Encoding Variational Bayes*, ICLR 2014, estimator A.
    """

    def combine(self, log_w: Float[Tensor, "S B"], log_c: Float[Tensor, "S B"]) -> PerDatum:
        return (log_c.exp() * log_w).sum(0)


@dataclass(frozen=True)
class Iwae(ImportanceBound):
    """``log sum_s exp(log_c_s + log w_s)``, for plain draws ``log 1/S sum_s w_s``.

    A lower bound of log p(x) in expectation that rises with the number of draws; with one draw it is the ELBO.

    Reference: Burda, Grosse and Salakhutdinov, *Importance Weighted Autoencoders*, ICLR 2016.

    Example:
        >>> import torch
        >>> from curvae.likelihoods import Gaussian
        >>> from curvae.posteriors import DiagonalGaussian
        >>> from curvae.priors import StandardNormal
        >>> model = LatentVariableModel(StandardNormal(2), torch.nn.Linear(2, 3), Gaussian(3))
        >>> q = DiagonalGaussian(torch.zeros(4, 2), torch.zeros(4, 2))
        >>> Iwae()(model, q, Batch(torch.zeros(4, 3), torch.arange(4)), 5).value.shape
        torch.Size([4])
    """

    def combine(self, log_w: Float[Tensor, "S B"], log_c: Float[Tensor, "S B"]) -> PerDatum:
        return log_mean_exp(log_w, log_c)


@dataclass(frozen=True)
class Miwae(ImportanceBound):
    """``1/M sum_m log 1/K sum_k w_mk``: the mean of M importance-weighted bounds, for model and posterior alike.

    Looser than the bound of all M K draws, but its gradient in the posterior's parameters is less noisy by
    ``sqrt(M / K)``. One group is the importance-weighted bound, one draw a group the ELBO.

    Args:
        groups: M; each takes the K draws asked for.

    Raises:
        ValueError: groups below 1.

    Reference: Rainforth et al., *Tighter Variational Bounds are Not Necessarily Better*, ICML 2018.

    Example:
        >>> import torch
        >>> log_w = torch.log(torch.tensor([1.0, 3.0, 2.0, 6.0]))[:, None]     # two groups of two draws
        >>> value = Miwae(groups=2).combine(log_w, torch.full((4, 1), -math.log(4)))
        >>> f"{value.exp().item() ** 2:.4f}"   # the means are 2 and 4
        '8.0000'
    """

    groups: int = field()

    def __post_init__(self) -> None:
        _check(self)

    def combine(self, log_w: Float[Tensor, "S B"], log_c: Float[Tensor, "S B"]) -> PerDatum:
        each = (log_c + math.log(self.groups) + log_w).unflatten(0, (self.groups, -1))
        return torch.logsumexp(each, 1).mean(0)


@dataclass(frozen=True)
class Piwae(ImportanceBound):
    """The model ascends ``log 1/(M K) sum_mk w_mk``, the posterior ``1/M sum_m log 1/K sum_k w_mk``, of the same draws.

    What is reported is the first, the tighter of the two.

    Args:
        groups: M; each takes the K draws asked for.

    Raises:
        ValueError: groups below 1.

    Reference: Rainforth et al., *Tighter Variational Bounds are Not Necessarily Better*, ICML 2018.

    Example:
        >>> Piwae(groups=8).kind
        'lower'
    """

    groups: int = field()

    def __post_init__(self) -> None:
        _check(self)

    def combine(self, log_w: Float[Tensor, "S B"], log_c: Float[Tensor, "S B"]) -> PerDatum:
        return log_mean_exp(log_w, log_c)

    def for_posterior(self, log_w: Float[Tensor, "S B"], log_c: Float[Tensor, "S B"]) -> PerDatum:
        return Miwae(self.groups).combine(log_w, log_c)


@dataclass(frozen=True)
class Ciwae(ImportanceBound):
    """``beta ELBO + (1 - beta) IWAE`` of the same draws.

    Args:
        beta: share of the ELBO, in [0, 1].

    Raises:
        ValueError: beta outside [0, 1].

    Reference: Rainforth et al., *Tighter Variational Bounds are Not Necessarily Better*, ICML 2018.

    Example:
        >>> Ciwae(beta=0.05).beta
        0.05
    """

    beta: float

    def __post_init__(self) -> None:
        if not 0 <= self.beta <= 1:
            raise ValueError(f"Ciwae: beta is the share of the ELBO, in [0, 1]; got {self.beta}.")

    def combine(self, log_w: Float[Tensor, "S B"], log_c: Float[Tensor, "S B"]) -> PerDatum:
        return self.beta * (log_c.exp() * log_w).sum(0) + (1 - self.beta) * log_mean_exp(log_w, log_c)


def grouped_draws(posterior: Posterior, groups: int, samples: int) -> Draws:
    """Draws asked for ``groups`` times, group after group: ``log_c`` of all of them sums to 1 again."""
    each = [posterior.draw(samples) for _ in range(groups)]
    z, log_q, log_c = (torch.cat(parts) for parts in zip(*(draws[:3] for draws in each), strict=True))
    scores = [draws.score for draws in each if draws.score is not None]
    return Draws(z, log_q, log_c - math.log(groups), torch.cat(scores) if scores else None)


def credited(combine: Combine, log_w: Float[Tensor, "S B"], draws: Draws) -> PerDatum | float:
    """What choices without a path gradient add to the surrogate: ``sum_k credit_k score_k``, of value 0.

    The credit of a draw is what the bound loses if its log weight becomes the mean of the others' (leave one out).
    """
    if draws.score is None:
        return 0.0
    count = len(log_w)
    if count < 2:
        raise ValueError("a posterior without path gradients needs 2 draws or more; got 1. Ask for samples=2.")
    seen, log_c = log_w.detach(), draws.log_c.detach()
    others = (seen.sum(0) - seen) / (count - 1)
    units = torch.eye(count, dtype=torch.bool, device=log_w.device).unsqueeze(-1)
    without = torch.func.vmap(lambda unit, other: combine(torch.where(unit, other, seen), log_c))(units, others)
    gain = ((combine(seen, log_c) - without) * draws.score).sum(0)
    return gain - gain.detach()


def _check(bound: Miwae | Piwae) -> None:
    if bound.groups < 1:
        raise ValueError(f"{type(bound).__name__}: groups must be 1 or more; got {bound.groups}.")


iwae = Iwae()
"""The importance-weighted bound with the ordinary gradient."""

monte_carlo_elbo = MonteCarloElbo()
"""The ELBO from draws alone with the ordinary gradient."""
