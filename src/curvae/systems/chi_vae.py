"""The autoencoder whose encoder descends an upper bound."""

from torch import nn

from curvae.likelihoods import Likelihood
from curvae.objectives import Cubo
from curvae.systems.base import LatentSystem, register
from curvae.systems.parts import Gradient, estimator_for, standard_system
from curvae.typing import DataSpec


@register("chi-vae")
def chi_vae(
    spec: DataSpec,
    latent: int = 16,
    hidden: int = 256,
    depth: int = 2,
    order: float = 2.0,
    samples: int = 5,
    gradient: Gradient = "dreg",
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
) -> LatentSystem:
    """Chi autoencoder: the encoder descends the chi upper bound, the decoder ascends the importance-weighted bound.

    Reference: Dieng et al., arXiv:1611.00328, 2017.

    Differences: there the model is given; the bound by which the decoder learns is our choice.

    Args:
        spec: shape and support of the data (``data.spec``).
        latent: number of latent dimensions D.
        hidden: width of the hidden layers.
        depth: number of hidden layers, in encoder and decoder.
        order: n of the chi divergence, above 1.
        samples: draws per datum in both bounds.
        gradient: estimator for the encoder: "standard", "stl" (biased here) or "dreg" (doubly reparameterized).
        encoder: your own network, from a batch of data to 2 D values.
        decoder: your own network, from (N, D) to the likelihood's parameters.
        likelihood: your own; by default Gaussian with one learned variance, Bernoulli or categorical, by the data.

    Example:
        >>> chi_vae(DataSpec((64,)), latent=2, hidden=32).kind
        'upper'
    """
    objective = Cubo(order, estimator=estimator_for(gradient))
    return standard_system(spec, latent, hidden, depth, objective, samples, encoder, decoder, likelihood)
