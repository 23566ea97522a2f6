"""The latent-identifiable variational autoencoder."""

from torch import nn

from curvae import likelihoods
from curvae.argument_checks import check_least
from curvae.inference import AmortizedGaussian
from curvae.likelihoods import Likelihood
from curvae.priors import MixturePrior
from curvae.systems.base import LatentSystem, register
from curvae.systems.parts import elbo_with_warmup, identifiable_decoder, standard_encoder, standard_generative_model
from curvae.systems.priors import take_prior
from curvae.systems.stages import single
from curvae.systems.starts import start_for
from curvae.typing import DataSpec


@register("identifiable-vae", "model")
def identifiable_vae(
    spec: DataSpec,
    latent: int | None = None,
    hidden: int = 256,
    depth: int = 2,
    components: int = 0,
    kl_warmup: int = 0,
    encoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
    start: str = "linear",
) -> LatentSystem:
    """Latent-identifiable VAE: its decoder never gives two latents the same law of x, so none is superfluous.

    A collapsed latent is one that the likelihood does not tell apart; here that cannot be. The encoder's posterior may
    still be too wide: ``curvae evaluate`` says the smallest slope of the decoder beside what the posterior makes of it.

    Reference: Wang, Blei and Cunningham, *Posterior Collapse and Latent Variable Non-identifiability*, NeurIPS 2021,
    arXiv:2301.00537.

    Differences: see :class:`curvae.networks.IdentifiableDecoder`; f is strongly convex and smooth, where the authors'
    program has leaky ReLUs and no quadratic part, and B has full rank for all parameters; an encoder of a diagonal
    Gaussian, where theirs of pictures ends in a flow. Their sequence model is left out.

    Args:
        latent: K; a quarter of the elements, at most 16, if not given; at most the number of elements.
        hidden: width of the hidden layers: of the encoder, and of both convex networks of the decoder.
        components: of a mixture of Gaussians as the prior, learned and summed out exactly; 0 = N(0, I).

    Example:
        >>> system = identifiable_vae(DataSpec((64,)), latent=2, hidden=32)
        >>> import torch
        >>> z = system.model.prior.sample(5)
        >>> slopes = torch.func.jacrev(lambda z: system.model.decode(z).sum(0))(z)   # rows do not depend on one another
        >>> torch.linalg.matrix_rank(slopes.movedim(1, 0)).tolist()
        [2, 2, 2, 2, 2]
    """
    check_least("identifiable-vae", 0, components=components)
    likelihood = likelihood or likelihoods.default(spec)
    decoder = identifiable_decoder("identifiable-vae", likelihood, latent, hidden, depth)
    latent = decoder.latent
    model = standard_generative_model(spec, latent, hidden, depth, decoder, likelihood)
    inference = AmortizedGaussian(encoder or standard_encoder(spec, latent, hidden, depth))
    system = LatentSystem(model, inference, elbo_with_warmup(kl_warmup), stages=single(start_for(start, encoder)))
    if components:
        take_prior(system, MixturePrior(latent, components), spec)
    return system
