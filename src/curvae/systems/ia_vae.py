"""The variational autoencoder whose encoder adapts to each example."""

from torch import nn

from curvae.inference import AmortizedGaussian
from curvae.likelihoods import Likelihood
from curvae.networks import ModulatedMLP
from curvae.systems.base import LatentSystem, register
from curvae.systems.parts import elbo_with_warmup, encoder_front, encoder_input_size, standard_generative_model
from curvae.systems.stages import single
from curvae.systems.starts import start_for
from curvae.typing import DataSpec


@register("ia-vae", "posterior")
def ia_vae(
    spec: DataSpec,
    latent: int = 16,
    hidden: int = 256,
    depth: int = 2,
    hyper: int = 64,
    kl_warmup: int = 0,
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
    start: str = "linear",
) -> LatentSystem:
    """Instance-adaptive VAE: a hypernetwork modulates the weights of a shared encoder for each example, in one pass.

    Reference: after Pollastro, Apicella, Isgro and Prevete, *Instance-Adaptive Parametrization for Amortized
    Variational Inference*, arXiv:2604.06796, 2026.

    Differences: that there is such a hypernetwork, a single pass and a VAE's ELBO is known to us, the form of the
    modulation is not. Ours is a scale and a shift for each hidden unit, at rest at the linear start.

    Args:
        depth: number of hidden layers, in the shared encoder and the decoder.
        hyper: width of the hypernetwork's one hidden layer.

    Example:
        >>> ia_vae(DataSpec((64,)), latent=2, hidden=32, hyper=8).inference.encoder.widths
        [32, 32]
    """
    model = standard_generative_model(spec, latent, hidden, depth, decoder, likelihood)
    network = ModulatedMLP(encoder_input_size(spec), [hidden] * depth, 2 * latent, hyper, encoder_front(spec))
    return LatentSystem(
        model, AmortizedGaussian(network), elbo_with_warmup(kl_warmup), stages=single(start_for(start, decoder))
    )
