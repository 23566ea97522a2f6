"""The inclusive divergence KL(p || q) by importance weights: wake-phi."""

from dataclasses import dataclass
from typing import ClassVar

from curvae.model import LatentVariableModel, log_joint_by_target
from curvae.objectives.estimators import freeze_posterior, require_independent_draws, slopes
from curvae.objectives.objective import Bound, Kind, log_mean_exp, log_weights
from curvae.posteriors import DensityPosterior, Draws, Posterior
from curvae.typing import Batch, PerDatum, PerDraw


@dataclass(frozen=True)
class WakePhi:
    """The posterior ascends ``E_p(z|x)[log q(z | x)]``, the model the importance-weighted bound, of the same draws.

    With ``w~ = softmax(log_c + log w)`` the posterior's gradient is ``sum_s w~_s d log q(z_s) / dphi`` at fixed z: that
    of -KL(p || q), biased by the normalization of the weights, which fades as draws rise. It covers mass where the ELBO
    seeks a mode, and needs no path gradient. It is no bound; what is reported is the model's, the
    importance-weighted bound.

    Args:
        doubly: reparameterize: ``sum_s w~_s (1 - w~_s) (d log w_s / dz)(dz / dphi)`` has the same expectation and less
            variance, and needs independent draws with a path gradient.

    Raises:
        ValueError: a posterior without a density, or, if ``doubly``, without path gradients
            or drawn by strata.

    Reference: the wake phases of reweighted wake-sleep, without its sleep phase; ``doubly`` after Tucker, Lawson,
    Gu and Maddison, ICLR 2019, arXiv:1810.04152 (RWS-DReG).

    Example:
        >>> WakePhi().kind
        'none'
    """

    doubly: bool = False
    kind: ClassVar[Kind] = "none"

    def __call__(self, model: LatentVariableModel, posterior: Posterior, batch: Batch, samples: int = 1) -> Bound:
        if not isinstance(posterior, DensityPosterior):
            raise ValueError(
                f"WakePhi: expects a posterior with a density; got {type(posterior).__name__}. Use Iwae()."
            )
        draws = posterior.draw(samples)
        log_w, gain = (_doubly if self.doubly else _scored)(model, posterior, batch, draws)
        value = log_mean_exp(log_w, draws.log_c.detach())
        return Bound(value, value + (gain - gain.detach()))


def _scored(
    model: LatentVariableModel, posterior: DensityPosterior, batch: Batch, draws: Draws
) -> tuple[PerDraw, PerDatum]:
    """Log weights, and ``sum_s w~_s log q(z_s)`` at fixed draws."""
    seen = draws._replace(z=draws.z.detach(), log_q=draws.log_q.detach(), log_c=draws.log_c.detach())
    log_w = log_weights(model, batch, seen)
    share = (seen.log_c + log_w).softmax(0).detach()
    return log_w, (share * posterior.log_prob(seen.z)).sum(0)


def _doubly(
    model: LatentVariableModel, posterior: DensityPosterior, batch: Batch, draws: Draws
) -> tuple[PerDraw, PerDatum]:
    """Log weights, and what has the gradient ``sum_s w~_s (1 - w~_s) path_s``."""
    require_independent_draws(posterior, "WakePhi(doubly=True)")
    log_q = freeze_posterior(posterior, draws, "WakePhi(doubly=True)").log_prob(draws.z)
    down, up = log_joint_by_target(model, batch.x, draws.z, batch.mask)
    log_w = down - log_q.detach()
    own = slopes(log_mean_exp, log_w.detach(), draws.log_c.detach())[1]
    return log_w, (own * (up - log_q)).sum(0)
