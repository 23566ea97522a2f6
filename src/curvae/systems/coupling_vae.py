"""The variational autoencoder with an affine coupling flow."""

from torch import nn

from curvae.flows import Autoregressive, affine
from curvae.inference import AmortizedFlow
from curvae.likelihoods import Likelihood
from curvae.systems.base import LatentSystem, register
from curvae.systems.parts import elbo_with_warmup, flow_encoder, standard_generative_model
from curvae.systems.stages import single
from curvae.systems.starts import start_for
from curvae.typing import DataSpec


@register("coupling-vae", "posterior")
def coupling_vae(
    spec: DataSpec,
    latent: int = 16,
    hidden: int = 256,
    depth: int = 2,
    flows: int = 4,
    width: int = 128,
    context: int = 32,
    kl_warmup: int = 0,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
    start: str = "linear",
) -> LatentSystem:
    """VAE with an affine coupling flow: one half of the latents scales and shifts the other, in turns.

    Reference: Dinh, Sohl-Dickstein and Bengio, *Density Estimation Using Real NVP*, ICLR 2017; as a posterior after
    Rezende and Mohamed, ICML 2015.

    Differences: of a posterior, not of the data; the half that conditions is itself mapped, by the context alone.

    Args:
        flows: number of steps of the flow.
        width: of the two hidden layers of each step's network.
        context: values of each example that the networks see beside z.
        encoder: your own network, from a batch of data to 2 D + context values.

    Example:
        >>> len(coupling_vae(DataSpec((64,)), latent=4, hidden=32, flows=3).inference.flow.steps)
        3
    """
    model = standard_generative_model(spec, latent, hidden, depth, decoder, likelihood)
    flow = Autoregressive(latent, context, flows, [width, width], affine(), passes=2)
    network = encoder or flow_encoder(spec, latent, context, hidden, depth)
    return LatentSystem(
        model,
        AmortizedFlow(network, flow),
        elbo_with_warmup(kl_warmup),
        stages=single(start_for(start, encoder, decoder)),
    )
