"""The Langevin autoencoder."""

from torch import nn

from curvae.inference import AmortizedLangevin
from curvae.likelihoods import Likelihood
from curvae.objectives import PointJoint
from curvae.systems.base import LatentSystem, register
from curvae.systems.parts import standard_generative_model, standard_network
from curvae.typing import DataSpec


@register("langevin-ae", "posterior")
def langevin_ae(
    spec: DataSpec,
    latent: int = 16,
    hidden: int = 256,
    depth: int = 2,
    steps: int = 3,
    step: float = 1e-4,
    metropolis: bool = True,
    scale: float = 0.05,
    encoder: nn.Module | None = None,
    features: int | None = None,
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
) -> LatentSystem:
    """Langevin autoencoder: the encoder's last layer is moved by Langevin dynamics, so its output is a posterior draw.

    Reference: Taniguchi, Iwasawa, Kumagai & Matsuo, *Langevin Autoencoders*, NeurIPS 2022.

    Differences: the networks learn by the run's optimizer, not plain SGD, from the last state of each visit.

    Starts at random: the layer that gives z is moved by the dynamics, and the width of the posterior is set by hand.

    Args:
        steps: Langevin transitions at each visit of a batch.
        step: of the dynamics, for a mean over data.
        metropolis: accept or refuse each transition.
        scale: standard deviation, set by hand, of the posterior whose ELBO is reported.
        encoder: your own network, from a batch of data to its features.
        features: their number, as large as a batch or larger; the width of the hidden layers if not given.

    Example:
        >>> langevin_ae(DataSpec((64,)), latent=2, hidden=32).inference.weight.shape
        torch.Size([2, 32])
    """
    model = standard_generative_model(spec, latent, hidden, depth, decoder, likelihood)
    count = features or hidden
    network = encoder or standard_network(spec, count, hidden, depth)
    inference = AmortizedLangevin(network, latent, count, steps, step, metropolis, scale)
    return LatentSystem(model, inference, PointJoint())
