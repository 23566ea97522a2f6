"""How the gradient of a bound reaches the posterior's parameters: a choice apart from the bound.

Write ``L(log w_1, ..., log w_S)`` for the bound, ``g_k = dL / d log w_k``. With ``z = T(noise, phi)`` its gradient in
phi is ``sum_k g_k (path_k - score_k)``: ``path_k = (d log w_k / dz_k)(dz_k / dphi)`` and
``score_k = d log q(z_k) / dphi`` at a fixed z. The estimators differ in what they make of the second part, whose
expectation is not zero for every bound.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from curvae.posteriors import DensityPosterior, Draws, Posterior, detached
from curvae.typing import PerDatum, PerDraw

Combine = Callable[[PerDraw, PerDraw], PerDatum]
"""Log weights and mixing weights of S draws, (S, B), to a bound of each example, (B,)."""

ELEMENTS = 2**22
"""Numbers that second derivatives of a bound may take at a time."""


class Estimator(ABC):
    """Unbiased or not, cheap or not: how the posterior learns from a bound."""

    whole: bool
    """One pass serves model and posterior: the bound is differentiated as it stands."""

    @abstractmethod
    def log_q(self, posterior: Posterior, draws: Draws) -> PerDraw:
        """``log q(z_s | x)`` of the draws, with the gradient that is meant to flow."""

    @abstractmethod
    def learn(self, combine: Combine, log_w: Float[Tensor, "S B"], log_c: Float[Tensor, "S B"]) -> PerDatum:
        """What the posterior's parameters ascend; only its gradient counts."""


@dataclass(frozen=True)
class Reparameterized(Estimator):
    """``sum_k g_k (path_k - score_k)``, the derivative as it stands: unbiased for every bound and every posterior.

    The signal-to-noise ratio of the importance-weighted bound's gradient in the posterior's parameters falls as
    ``1 / sqrt(S)`` (Rainforth et al., *Tighter Variational Bounds are Not Necessarily Better*, ICML 2018).
    """

    whole = True

    def log_q(self, posterior: Posterior, draws: Draws) -> PerDraw:
        return draws.log_q

    def learn(self, combine: Combine, log_w: Float[Tensor, "S B"], log_c: Float[Tensor, "S B"]) -> PerDatum:
        return combine(log_w, log_c)


@dataclass(frozen=True)
class StickingTheLanding(Estimator):
    """``sum_k g_k path_k``: log q is taken with its parameters held fixed, so an exact posterior gets no noise at all.

    Unbiased for the ELBO, where the part left out has mean zero; *biased* for every bound that weighs its draws.

    Raises:
        ValueError: a posterior without a density, or with choices that have no path gradient.

    Reference: Roeder, Wu and Duvenaud, NeurIPS 2017, arXiv:1703.09194 (sticking the landing, STL).

    Example:
        >>> from curvae.objectives import MonteCarloElbo
        >>> MonteCarloElbo(estimator=StickingTheLanding())
        MonteCarloElbo(estimator=StickingTheLanding())
    """

    whole = True

    def log_q(self, posterior: Posterior, draws: Draws) -> PerDraw:
        return freeze_posterior(posterior, draws, "StickingTheLanding").log_prob(draws.z)

    def learn(self, combine: Combine, log_w: Float[Tensor, "S B"], log_c: Float[Tensor, "S B"]) -> PerDatum:
        return combine(log_w, log_c)


@dataclass(frozen=True)
class DoublyReparameterized(Estimator):
    """``sum_k (g_k - dg_k / d log w_k) path_k``: the score is reparameterized once more, so noise falls as draws rise.

    ``E[h(z) score(z)] = E[dh/dz dz/dphi]`` with ``h = g_k`` takes every bound of independent draws to this form; for
    the importance-weighted bound the factor is the square of the normalized weight. Unbiased for all of them.

    The model's parameters get the ordinary gradient; both come from one pass of
    :func:`curvae.model.log_joint_by_target`.

    Raises:
        ValueError: a posterior without a density or without path gradients, or one drawn by strata, as a mixture.

    Reference: Tucker, Lawson, Gu and Maddison, ICLR 2019, arXiv:1810.04152 (DReG). Differences: the factor is found
    from the bound's own derivatives, so that it serves every bound of this package.

    Example:
        >>> from curvae.objectives import Iwae
        >>> Iwae(estimator=DoublyReparameterized())
        Iwae(estimator=DoublyReparameterized())
    """

    whole = False

    def log_q(self, posterior: Posterior, draws: Draws) -> PerDraw:
        require_independent_draws(posterior, "DoublyReparameterized")
        return freeze_posterior(posterior, draws, "DoublyReparameterized").log_prob(draws.z)

    def learn(self, combine: Combine, log_w: Float[Tensor, "S B"], log_c: Float[Tensor, "S B"]) -> PerDatum:
        slope, own = slopes(combine, log_w.detach(), log_c.detach())
        return ((slope - own) * log_w).sum(0)


def require_independent_draws(posterior: Posterior, asked_by: str) -> None:
    """Refuses a posterior whose draws come by strata, where a draw's path is not that of the density as a whole.

    Raises:
        ValueError: a mixture, or states that are enumerated.
    """
    if posterior.count(1) != 1:
        raise ValueError(
            f"{asked_by}: expects independent draws of one density; got {type(posterior).__name__}, drawn by strata. "
            "Use Reparameterized()."
        )


def freeze_posterior(posterior: Posterior, draws: Draws, asked_by: str) -> DensityPosterior:
    """The posterior with its parameters held fixed.

    Raises:
        ValueError: a posterior without a density, or draws with choices that have no path gradient.
    """
    if draws.score is not None or not isinstance(posterior, DensityPosterior):
        raise ValueError(
            f"{asked_by}: expects a posterior with path gradients and a density; got {type(posterior).__name__}. Use "
            "Reparameterized()."
        )
    return detached(posterior)


def slopes(
    combine: Combine, log_w: Float[Tensor, "S B"], log_c: Float[Tensor, "S B"]
) -> tuple[Float[Tensor, "S B"], Float[Tensor, "S B"]]:
    """``g_k = dL / d log w_k`` and ``dg_k / d log w_k``, the diagonal of the second derivative, for each example.

    Example:
        >>> import math
        >>> from curvae.objectives import log_mean_exp
        >>> log_w, log_c = torch.zeros(2, 1), torch.full((2, 1), -math.log(2))
        >>> [each.flatten().tolist() for each in slopes(log_mean_exp, log_w, log_c)]   # w and w (1 - w)
        [[0.5, 0.5], [0.25, 0.25]]
    """
    slope = torch.func.grad(lambda at: combine(at, log_c).sum())

    def own(unit: Float[Tensor, "S 1"]) -> Float[Tensor, "S B"]:
        return unit * torch.func.jvp(slope, (log_w,), (unit.expand_as(log_w),))[1]

    units = torch.eye(len(log_w), dtype=log_w.dtype, device=log_w.device).unsqueeze(-1)
    chunks = units.split(max(1, ELEMENTS // log_w.numel()))
    return slope(log_w), torch.stack([torch.func.vmap(own)(chunk).sum(0) for chunk in chunks]).sum(0)
