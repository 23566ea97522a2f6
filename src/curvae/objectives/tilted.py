"""The published stand-in for the divergence to an exponentially tilted prior."""

from torch import nn

from curvae.model import LatentVariableModel
from curvae.objectives.elbo import reconstruction_and_kl
from curvae.objectives.objective import Bound, Kind
from curvae.posteriors import Posterior
from curvae.typing import Batch


class SphericalPenalty(nn.Module):
    """``E_q log p(x | z) - 1/2 (|m| - radius)^2`` is maximized, m the posterior's mean; the ELBO is reported.

    The penalty stands for ``KL(N(m, I) || p)`` under a :class:`curvae.priors.TiltedNormal` whose tilt is far above
    ``sqrt(D)``. It is no divergence: it leaves out the KL at its lowest, 10 to 140 nats, and where the tilt is below
    ``sqrt(D)`` it bends more than ten times too much. So it is trained with, and never reported.

    Reference: Floto, Kremer and Nica, *The Tilted Variational Autoencoder*, ICLR 2023.

    Args:
        radius: where the divergence is lowest, :meth:`curvae.priors.TiltedNormal.cheapest_radius`.

    Raises:
        ValueError: a negative radius.

    Example:
        >>> import torch
        >>> from curvae.likelihoods import Gaussian
        >>> from curvae.posteriors import DiagonalGaussian
        >>> from curvae.priors import TiltedNormal
        >>> prior = TiltedNormal(2, tilt=4.0)
        >>> model = LatentVariableModel(prior, torch.nn.Linear(2, 3), Gaussian(3))
        >>> q = DiagonalGaussian(torch.full((4, 2), 2.5), torch.zeros(4, 2))
        >>> bound = SphericalPenalty(prior.cheapest_radius())(model, q, Batch(torch.zeros(4, 3), torch.arange(4)))
        >>> bool((bound.surrogate > bound.value).all())
        True
    """

    kind: Kind = "lower"

    def __init__(self, radius: float):
        super().__init__()
        if radius < 0:
            raise ValueError(f"SphericalPenalty: radius must be 0 or more; got {radius}.")
        self.radius = radius

    def forward(self, model: LatentVariableModel, posterior: Posterior, batch: Batch, samples: int = 1) -> Bound:
        fit, rate = reconstruction_and_kl(model, posterior, batch, samples)
        penalty = 0.5 * (posterior.mean.norm(dim=-1) - self.radius).square()
        return Bound(fit - rate, fit - penalty, {"kl": rate.detach()})
