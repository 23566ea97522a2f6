"""The variational autoencoder with a planar flow."""

from torch import nn

from curvae.flows import Planar
from curvae.inference import AmortizedFlow
from curvae.likelihoods import Likelihood
from curvae.systems.base import LatentSystem, register
from curvae.systems.parts import elbo_with_warmup, flow_encoder, standard_generative_model
from curvae.systems.stages import single
from curvae.systems.starts import start_for
from curvae.typing import DataSpec


@register("planar-vae", "posterior")
def planar_vae(
    spec: DataSpec,
    latent: int = 16,
    hidden: int = 256,
    depth: int = 2,
    flows: int = 10,
    kl_warmup: int = 0,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
    start: str = "linear",
) -> LatentSystem:
    """VAE with a planar flow: draws of a diagonal Gaussian cross planes that the encoder sets for each example.

    Reference: Rezende and Mohamed, *Variational Inference with Normalizing Flows*, ICML 2015.

    Differences: the divergence, not the log joint, is annealed, and only with kl_warmup; ReLU layers, no maxout.

    Args:
        flows: number of steps of the flow.
        encoder: your own network, from a batch of data to 2 D + flows (2 D + 1) values.

    Example:
        >>> planar_vae(DataSpec((64,)), latent=4, hidden=32, flows=3).inference.flow.context
        27
    """
    model = standard_generative_model(spec, latent, hidden, depth, decoder, likelihood)
    flow = Planar(latent, flows)
    network = encoder or flow_encoder(spec, latent, flow.context, hidden, depth)
    return LatentSystem(
        model,
        AmortizedFlow(network, flow),
        elbo_with_warmup(kl_warmup),
        stages=single(start_for(start, encoder, decoder)),
    )
