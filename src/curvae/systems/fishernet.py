"""FisherNet: an autoencoder whose posterior covariance is the inverse Fisher information of its decoder."""

from torch import nn

from curvae.inference import FisherGaussian, Laplace, MatrixFreeLaplace
from curvae.likelihoods import Likelihood
from curvae.objectives import elbo
from curvae.systems.base import LatentSystem, register
from curvae.systems.parts import standard_generative_model, standard_network
from curvae.systems.stages import single
from curvae.systems.starts import start_for
from curvae.typing import DataSpec


@register("fishernet", "posterior")
def fishernet(
    spec: DataSpec,
    latent: int = 16,
    hidden: int = 256,
    depth: int = 2,
    through: bool = True,
    dense: int = 256,
    steps: int = 0,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
    start: str = "linear",
) -> LatentSystem:
    """FisherNet: the encoder gives the mean, the decoder's Fisher information there the inverse covariance.

    Reference: after Zacherl, Frank and Ensslin, *Probabilistic Autoencoder Using Fisher Information*, Entropy 2021.

    Differences: the gradient flows through the Fisher information unless ``through=False``; what the paper does is not
    known to us. ``steps`` is ours.

    Args:
        through: whether gradients flow through the Fisher information.
        dense: the most dimensions for which it is formed; beyond, draws are matrix-free and none flow.
        steps: Newton steps from the encoder's mean; 0 is the published method.
        encoder: your own network, from a batch of data to D values.

    Example:
        >>> import torch
        >>> fishernet(DataSpec((64,)), latent=2, hidden=32).posterior(torch.zeros(8, 64)).covariance.shape
        torch.Size([8, 2, 2])
    """
    model = standard_generative_model(spec, latent, hidden, depth, decoder, likelihood)
    inference = FisherGaussian(encoder or standard_network(spec, latent, hidden, depth), through, dense)
    search = Laplace(inference, steps) if latent <= dense else MatrixFreeLaplace(inference, steps, dense=dense)
    return LatentSystem(model, search if steps else inference, elbo, stages=single(start_for(start, encoder, decoder)))
