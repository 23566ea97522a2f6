"""The Laplacian autoencoder."""

from torch import nn

from curvae.likelihoods import Likelihood
from curvae.systems.base import register
from curvae.systems.laplacian import LaplacianSystem, online_stages
from curvae.systems.probabilistic_ae import probabilistic_ae
from curvae.typing import DataSpec
from curvae.weights import OnlineLaplace
from curvae.weights.diagonal_curvature import Way


@register("laplacian-ae", "weights", own_prior=True)
def laplacian_ae(
    spec: DataSpec,
    latent: int | None = None,
    hidden: int = 256,
    depth: int = 2,
    temperature: float = 0.002,
    curvature: Way = "approximate",
    draws: int = 20,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
    start: str = "linear",
) -> LaplacianSystem:
    """Laplacian autoencoder: a Gaussian over all its weights, by curvature that is kept up to date in training.

    Reference: Miani et al., *Laplacian Autoencoders for Learning Stochastic Representations*, NeurIPS 2022.

    Differences: ReLU; a Gaussian's noise is learned, and their code's sums of curvature, 500 times those of all rows,
    are a temperature here; afterwards codes are given a normal density, which makes it a latent-variable model.

    Args:
        latent: D; a quarter of the elements, at most 16, if not given.
        temperature: of the posterior over weights; 1 is the Bayesian one, 0.002 that of the authors' code.
        curvature: of each weight: approximate (diagonals go back), exact (matrices do) or sampled.
        draws: models that predictions average over.
        encoder: your own network, from a batch of data to D values.
        start: "linear": the autoencoder of principal components; "random".

    Raises:
        ValueError: a temperature that is not positive, or fewer than 1 draw.

    Example:
        >>> [stage.name for stage in laplacian_ae(DataSpec((64,)), latent=2, hidden=32).stages()]
        ['autoencoder', 'noise']
    """
    base = probabilistic_ae(spec, latent, hidden, depth, 0, encoder=encoder, decoder=decoder, likelihood=likelihood)
    stages = online_stages(start, curvature, encoder, decoder)
    return LaplacianSystem(base, OnlineLaplace(temperature), stages, draws)
