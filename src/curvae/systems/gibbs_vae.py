"""Variational Gibbs inference for a variational autoencoder."""

from torch import nn

from curvae.inference import AmortizedGaussian, MixtureOfCompletions
from curvae.likelihoods import Likelihood
from curvae.objectives import elbo
from curvae.systems.base import LatentSystem, register
from curvae.systems.gibbs_stages import gibbs_chains, gibbs_stages
from curvae.systems.parts import standard_encoder, standard_generative_model
from curvae.systems.starts import start_for
from curvae.typing import DataSpec


@register("gibbs-vae", "missing")
def gibbs_vae(
    spec: DataSpec,
    latent: int = 16,
    hidden: int = 256,
    depth: int = 2,
    copies: int = 5,
    updates: int = 5,
    block: bool = False,
    width: int = 64,
    delay: float = 0.1,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
    start: str = "linear",
) -> LatentSystem:
    """VAE of rows with holes by variational Gibbs: it learns from imputations that persist and move with the model.

    Reference: Simkus, Rhodes and Gutmann, *Variational Gibbs Inference for Statistical Model Estimation from Incomplete
    Data*, JMLR 2023.

    Differences: conditionals are Gaussian, a linear regression each beside a network that all share, and start at those
    of PPCA; one element of each imputation moves in an update. The posterior of a row with holes is a mixture over its
    imputations (Simkus and Gutmann, TMLR 2024), by which weights are judged.

    Args:
        copies: K, imputations of each row.
        updates: of each imputation at a visit of its row.
        block: the model fills in all of a row at once, z ~ q(z | x), then x_m ~ p(x_m | z), in the place of
            conditionals; so values need not be real numbers.
        width: of the two hidden layers of the network that conditionals share.
        delay: share of the time, in [0, 0.9), that imputations wait where they begin.

    Raises:
        ValueError: data that are not real numbers, unless ``block``; data given covariates or known errors.

    Example:
        >>> [stage.name for stage in gibbs_vae(DataSpec((6,)), latent=2, hidden=32).stages()]
        ['regressions', 'waiting', 'gibbs']
    """
    model = standard_generative_model(spec, latent, hidden, depth, decoder, likelihood)
    chains = gibbs_chains("gibbs-vae", spec, copies, width, block)
    network = encoder or standard_encoder(spec, latent, hidden, depth)
    stages = gibbs_stages(start_for(start, encoder, decoder), updates, delay, block)
    return LatentSystem(model, MixtureOfCompletions(AmortizedGaussian(network), chains), elbo, 1, stages)
