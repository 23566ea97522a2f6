"""The autoencoder of constant posterior variance and a batch information bound."""

from torch import nn

from curvae.inference import AmortizedMean
from curvae.likelihoods import Likelihood
from curvae.objectives import BatchInformation
from curvae.priors import AggregateNormal
from curvae.systems.base import LatentSystem, register
from curvae.systems.parts import standard_generative_model, standard_network
from curvae.systems.stages import single
from curvae.systems.starts import start_for
from curvae.typing import DataSpec


@register("bilbo", "objective", own_prior=True)
def bilbo(
    spec: DataSpec,
    latent: int = 16,
    hidden: int = 256,
    depth: int = 2,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
    start: str = "linear",
) -> LatentSystem:
    """BILBO: constant posterior variance, an encoder of half the outputs, and the prior as the aggregate of posteriors.

    Reference: after Fyffe, *There and Back Again*, arXiv:1912.10309, 2019.

    Differences: see :class:`curvae.objectives.BatchInformation`.

    Args:
        encoder: your own network, from a batch of data to D values.

    Example:
        >>> bilbo(DataSpec((64,)), latent=2, hidden=32).kind
        'lower'
    """
    model = standard_generative_model(spec, latent, hidden, depth, decoder, likelihood, AggregateNormal(latent))
    inference = AmortizedMean(encoder or standard_network(spec, latent, hidden, depth))
    return LatentSystem(model, inference, BatchInformation(), stages=single(start_for(start, encoder, decoder)))
