"""The autoencoder with an exponentially tilted prior."""

from torch import nn

from curvae.inference import AmortizedGaussian, AmortizedMean
from curvae.likelihoods import Likelihood
from curvae.objectives import SphericalPenalty, elbo
from curvae.priors import TiltedNormal
from curvae.systems.base import LatentSystem, register
from curvae.systems.parts import standard_encoder, standard_generative_model, standard_network
from curvae.systems.stages import single
from curvae.systems.starts import start_for
from curvae.typing import DataSpec


@register("tilted-vae", "model", own_prior=True)
def tilted_vae(
    spec: DataSpec,
    latent: int = 10,
    hidden: int = 256,
    depth: int = 2,
    tilt: float = 10.0,
    unit_variance: bool = True,
    penalty: bool = False,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
    start: str = "linear",
) -> LatentSystem:
    """Tilted autoencoder: a prior that is densest on a sphere, so that codes spread at little cost in KL.

    Its score of unknown inputs is the plain negative bound; :func:`curvae.evaluation.ood.will_it_move` is its test of
    a set of them.

    Reference: Floto, Kremer and Nica, *The Tilted Variational Autoencoder*, arXiv:2111.15646, ICLR 2023.

    Differences: the divergence is exact, where the published code has a quadratic one; ``penalty=True`` trains with
    that and still reports the bound. Networks are those of the other systems.

    Args:
        tilt: radius of the sphere; published code has 10 to 40 at 10 to 100 latents. Below ``sqrt(latent)`` the
            cheapest code is 0, as under a standard normal prior.
        unit_variance: posterior ``N(m(x), I)``, as published; else a diagonal Gaussian.
        penalty: train with ``1/2 (|m| - radius)^2`` in place of the divergence.

    Raises:
        ValueError: a negative tilt.

    Example:
        >>> system = tilted_vae(DataSpec((64,)), latent=2, hidden=32, tilt=5)
        >>> system.kind, system.model.prior.tilt
        ('lower', 5.0)
    """
    prior = TiltedNormal(latent, tilt)
    model = standard_generative_model(spec, latent, hidden, depth, decoder, likelihood, prior)
    network = (standard_network if unit_variance else standard_encoder)(spec, latent, hidden, depth)
    inference = (AmortizedMean if unit_variance else AmortizedGaussian)(encoder or network)
    objective = SphericalPenalty(prior.cheapest_radius()) if penalty else elbo
    return LatentSystem(model, inference, objective, stages=single(start_for(start, encoder, decoder)))
