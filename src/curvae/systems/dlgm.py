"""The deep latent Gaussian model."""

from torch import nn

from curvae import likelihoods
from curvae.inference import AmortizedGaussian, AmortizedRankOne
from curvae.likelihoods import Likelihood
from curvae.model import LatentVariableModel
from curvae.networks import TopDownDecoder
from curvae.objectives import elbo
from curvae.priors import StandardNormal
from curvae.systems.base import LatentSystem, register
from curvae.systems.parts import standard_network
from curvae.typing import DataSpec


@register("dlgm", "levels", own_prior=True)
def dlgm(
    spec: DataSpec,
    latent: int = 16,
    layers: int = 2,
    hidden: int = 256,
    depth: int = 2,
    rank_one: bool = True,
    encoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
) -> LatentSystem:
    """Deep latent Gaussian model: several stochastic layers, for each a Gaussian with a diagonal plus rank-1 precision.

    Reference: Rezende, Mohamed and Wierstra, *Stochastic Backpropagation and Approximate Inference ...*, ICML 2014.

    Differences: no prior over the weights and no noise on the encoder's input.

    Starts at random: of a linear model only the lowest layer could carry latents, and those above would begin unused.

    Args:
        latent: size of each stochastic layer.
        layers: number of them; D = ``latent * layers``, the top layer first.
        depth: number of hidden layers, in the encoder and from each stochastic layer to the next; 1 or more.
        rank_one: False makes the precision diagonal.
        encoder: your own network, from a batch of data to 3 D values (means, log-scales, directions), or 2 D.

    Raises:
        ValueError: latent, layers, hidden or depth below 1.

    Example:
        >>> dlgm(DataSpec((64,)), latent=2, layers=3, hidden=32).model.prior.blocks
        (2, 2, 2)
    """
    if min(latent, layers, hidden, depth) < 1:
        raise ValueError(f"dlgm: sizes must be 1 or more; got {latent=}, {layers=}, {hidden=}, {depth=}.")
    likelihood, blocks = likelihood or likelihoods.default(spec), (latent,) * layers
    decoder = TopDownDecoder.of(blocks, [hidden] * depth, likelihood.size)
    model = LatentVariableModel(StandardNormal(latent * layers, blocks), decoder, likelihood)
    network = encoder or standard_network(spec, (3 if rank_one else 2) * latent * layers, hidden, depth)
    inference = AmortizedRankOne(network, blocks) if rank_one else AmortizedGaussian(network)
    return LatentSystem(model, inference, elbo)
