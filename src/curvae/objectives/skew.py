"""The skew-geometric Jensen-Shannon divergence in the place of the ELBO's."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from curvae.distributions import normal_kl
from curvae.model import LatentVariableModel
from curvae.objectives.elbo import reconstruction_and_kl
from curvae.objectives.objective import Bound, Kind
from curvae.posteriors import DiagonalGaussian, Posterior
from curvae.priors import StandardNormal
from curvae.typing import Batch, PerDatum


@dataclass(frozen=True)
class SkewJensenShannon:
    """``E_q[log p(x | z)] - weight * JS(q || p)``, JS the skew-geometric Jensen-Shannon divergence of q and the prior.

    ``JS = (1 - a) KL(q || G) + a KL(p || G)`` with the geometric mean ``G ~ q^a p^(1 - a)``, a Gaussian too. At a = 0
    it is KL(q || p), hence the ELBO; at a = 1 it is KL(p || q); in between it is
    ``(1 - a)^2 KL(q || p) + a^2 KL(p || q) + log Z`` with ``Z = int q^a p^(1 - a) dz <= 1``, which may fall below
    KL(q || p): no bound of log p(x) follows, and the ELBO of the same draws is reported.

    Args:
        skew: a, in [0, 1].
        weight: factor on the divergence.

    Raises:
        ValueError: skew outside [0, 1]; a posterior that is no ``DiagonalGaussian``, a prior that is not
            ``StandardNormal``.

    Reference: after Deasy et al., 2020. Differences: the formula is the one whose ends are the two divergences, not
    taken from the paper's text.

    Example:
        >>> SkewJensenShannon(skew=0.5).kind
        'none'
    """

    skew: float = 0.5
    weight: float = 1.0
    kind: ClassVar[Kind] = "none"

    def __post_init__(self) -> None:
        if not 0 <= self.skew <= 1:
            raise ValueError(f"SkewJensenShannon: skew must lie in [0, 1]; got {self.skew}.")

    def __call__(self, model: LatentVariableModel, posterior: Posterior, batch: Batch, samples: int = 1) -> Bound:
        if not (isinstance(posterior, DiagonalGaussian) and isinstance(model.prior, StandardNormal)):
            raise ValueError(
                "SkewJensenShannon: expects a DiagonalGaussian posterior and a StandardNormal prior; got "
                f"{type(posterior).__name__} and {type(model.prior).__name__}. Use elbo."
            )
        fit, rate = reconstruction_and_kl(model, posterior, batch, samples)
        divergence = skew_jensen_shannon(posterior.loc, posterior.log_scale, self.skew)
        info = {"kl": rate.detach(), "divergence": divergence.detach()}
        return Bound(fit - rate, fit - self.weight * divergence, info)


def skew_jensen_shannon(loc: Float[Tensor, "B D"], log_scale: Float[Tensor, "B D"], skew: float) -> PerDatum:
    """``(1 - a) KL(q || G) + a KL(p || G)`` in nats, ``q = N(loc, exp(2 log_scale))``, p standard normal.

    Example:
        >>> import torch
        >>> q = torch.ones(1, 2), torch.zeros(1, 2)
        >>> [round(skew_jensen_shannon(*q, skew).item(), 6) for skew in (0.0, 0.5, 1.0)]
        [1.0, 0.25, 1.0]
    """
    variance = (2 * log_scale).exp()
    spread = 1 / (skew / variance + 1 - skew)
    center, scale = spread * skew * loc / variance, spread.sqrt()
    from_q = normal_kl((loc - center) / scale, log_scale - scale.log())
    from_p = normal_kl(-center / scale, -scale.log())
    return ((1 - skew) * from_q + skew * from_p).sum(-1)
