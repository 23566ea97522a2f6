"""The autoencoder of constant posterior variance and a bounded batch likelihood."""

from torch import nn

from curvae.inference import AmortizedMean
from curvae.likelihoods import Gaussian, Likelihood
from curvae.objectives import BatchLikelihood
from curvae.priors import AggregateNormal
from curvae.systems.base import LatentSystem, register
from curvae.systems.parts import standard_generative_model, standard_network
from curvae.systems.stages import single
from curvae.systems.starts import start_for
from curvae.typing import DataSpec


@register("baggins", "objective", own_prior=True)
def baggins(
    spec: DataSpec,
    latent: int = 16,
    hidden: int = 256,
    depth: int = 2,
    floor: float = 1e-3,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
    start: str = "linear",
) -> LatentSystem:
    """BAGGINS: as BILBO, with a Gaussian likelihood bounded by, and measured in, the variance of the data.

    Reference: after Fyffe, *There and Back Again*, arXiv:1912.10309, 2019.

    Differences: the likelihood is a substitute; see :class:`curvae.objectives.BatchLikelihood`.

    Raises:
        ValueError: data that are not real numbers.

    Args:
        floor: share of an element's variance below which an error no longer counts.
        encoder: your own network, from a batch of data to D values.
        likelihood: your own Gaussian; by default one with a learned variance of each element.

    Example:
        >>> baggins(DataSpec((64,)), latent=2, hidden=32).kind
        'lower'
    """
    if spec.support != "real":
        raise ValueError(f"baggins: expects data that are real numbers; got support {spec.support!r}. Use bilbo.")
    likelihood = likelihood or Gaussian(spec.event, learn="element")
    model = standard_generative_model(spec, latent, hidden, depth, decoder, likelihood, AggregateNormal(latent))
    inference = AmortizedMean(encoder or standard_network(spec, latent, hidden, depth))
    return LatentSystem(model, inference, BatchLikelihood(floor), stages=single(start_for(start, encoder, decoder)))
