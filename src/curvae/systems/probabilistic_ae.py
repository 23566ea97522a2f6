"""The probabilistic autoencoder."""

from math import prod

from torch import nn

from curvae.inference import CodePoint, Laplace
from curvae.likelihoods import Likelihood
from curvae.objectives import monte_carlo_elbo
from curvae.systems.base import register
from curvae.systems.codes import CodeSystem, code_decoder, two_stages
from curvae.systems.flow_density import latents_for
from curvae.systems.parts import standard_generative_model, standard_network
from curvae.typing import DataSpec


@register("probabilistic-ae", "density", own_prior=True)
def probabilistic_ae(
    spec: DataSpec,
    latent: int | None = None,
    hidden: int = 256,
    depth: int = 2,
    flows: int = 4,
    steps: int = 4,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
    start: str = "linear",
) -> CodeSystem:
    """Probabilistic autoencoder: first an autoencoder, then a flow of its codes; in its noise posteriors are Laplace's.

    Reference: Böhm and Seljak, *Probabilistic Autoencoder*, arXiv:2006.05479, TMLR 2022.

    Differences: fully connected networks and rational-quadratic spline couplings; the noise is the likelihood's (one
    for all pixels, one for each column), from held-out residuals as published, one for each pixel there. Codes vary by
    the noise of the data too, which the noise then counts once more: little where it is small.

    Args:
        latent: D; a quarter of the elements, at most 16, if not given.
        flows: coupling steps of the flow; 0 = codes are normal.
        steps: of the search for the most probable code.
        encoder: your own network, from a batch of data to D values.
        start: "linear": the autoencoder of principal components; "random".

    Example:
        >>> system = probabilistic_ae(DataSpec((64,)), latent=2, hidden=32)
        >>> [stage.name for stage in system.stages()]
        ['autoencoder', 'flow', 'noise']
    """
    latent = latents_for("probabilistic-ae", prod(spec.event), latent)
    model = standard_generative_model(spec, latent, hidden, depth, decoder, likelihood)
    model.decoder = code_decoder(latent, model.decoder, flows)
    first = CodePoint(encoder or standard_network(spec, latent, hidden, depth))
    inference = Laplace(first, steps)
    return CodeSystem(model, inference, monte_carlo_elbo, stages=two_stages(start, flows, encoder, decoder))
