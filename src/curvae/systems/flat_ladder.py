"""The variational ladder autoencoder, with a flat prior."""

from torch import nn

from curvae.argument_checks import check_least
from curvae.likelihoods import Likelihood
from curvae.priors import StandardNormal
from curvae.systems.base import LatentSystem, register
from curvae.systems.parts import elbo_with_warmup, ladder_parts
from curvae.typing import DataSpec


@register("flat-ladder", "levels", own_prior=True)
def flat_ladder(
    spec: DataSpec,
    latent: int = 4,
    layers: int = 3,
    hidden: int = 256,
    depth: int = 1,
    kl_warmup: int = 500,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
) -> LatentSystem:
    """Variational ladder: independent latents of several levels; what is abstract needs the deeper ones' networks.

    Reference: Zhao, Song and Ermon, *Learning Hierarchical Features from Generative Models*, ICML 2017.

    Differences: fully connected networks without batch normalization, all levels on one way through the encoder (the
    published code reads the lowest from a network of its own), and the likelihood's own scale in place of weighted
    absolute errors. Gates that add a level start at 0.1, as in that code.

    Starts at random: which level carries which direction of a linear model is what is to be learned.

    Args:
        latent: size of each level.
        layers: number L of levels; D = ``latent * layers``, the deepest first. With 1 this is a VAE.
        hidden: width of all hidden layers.
        depth: number of hidden layers from each level to the next, in encoder and decoder.
        encoder: your own network, from a batch of data to 2 D values: a :class:`curvae.networks.LadderEncoder` with
            convolutions, say.
        decoder: your own network, from (N, D) to the likelihood's parameters: a
            :class:`curvae.networks.TopDownDecoder`, say.

    Raises:
        ValueError: latent, layers, hidden or depth below 1.

    Example:
        >>> flat_ladder(DataSpec((64,)), latent=2, layers=3, hidden=32).model.prior.blocks
        (2, 2, 2)
    """
    check_least("flat_ladder", 1, latent=latent, layers=layers, hidden=hidden, depth=depth)
    prior = StandardNormal(latent * layers, (latent,) * layers)
    model, inference = ladder_parts(spec, prior, hidden, depth, encoder, decoder, likelihood)
    return LatentSystem(model, inference, elbo_with_warmup(kl_warmup))
