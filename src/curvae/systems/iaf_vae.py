"""The variational autoencoder with inverse autoregressive flow."""

from torch import nn

from curvae.flows import Autoregressive, affine, gated
from curvae.inference import AmortizedFlow
from curvae.likelihoods import Likelihood
from curvae.objectives import FreeBits
from curvae.systems.base import LatentSystem, register
from curvae.systems.parts import elbo_with_warmup, flow_encoder, standard_generative_model
from curvae.systems.stages import single
from curvae.systems.starts import start_for
from curvae.typing import DataSpec


@register("iaf-vae", "posterior")
def iaf_vae(
    spec: DataSpec,
    latent: int = 16,
    hidden: int = 256,
    depth: int = 2,
    flows: int = 2,
    width: int = 128,
    context: int = 32,
    gated_update: bool = True,
    free_bits: float = 0.0,
    kl_warmup: int = 0,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
    start: str = "linear",
) -> LatentSystem:
    """VAE with inverse autoregressive flow: masked networks map each latent by those before it and the example.

    Reference: Kingma, Salimans, Jozefowicz, Chen, Sutskever and Welling, *Improved Variational Inference with Inverse
    Autoregressive Flow*, NIPS 2016.

    Differences: fully connected networks on one flat z, no ResNet-VAE; free bits for all of z as one group.

    Args:
        flows: number of steps of the flow.
        width: of the two hidden layers of each step's network.
        context: values of each example that the networks see beside z; 0 for one flow of all data.
        gated_update: ``g z + (1 - g) m``; False is ``m + exp(s) z``.
        free_bits: nats of divergence that cost nothing, on the mean of a batch; no kl_warmup beside it.
        encoder: your own network, from a batch of data to 2 D + context values.

    Raises:
        ValueError: both free_bits and kl_warmup.

    Example:
        >>> len(iaf_vae(DataSpec((64,)), latent=4, hidden=32, flows=3).inference.flow.steps)
        3
    """
    model = standard_generative_model(spec, latent, hidden, depth, decoder, likelihood)
    flow = Autoregressive(latent, context, flows, [width, width], gated() if gated_update else affine())
    network = encoder or flow_encoder(spec, latent, context, hidden, depth)
    if free_bits and kl_warmup:
        raise ValueError(f"iaf_vae: pass free_bits or kl_warmup, not both; got {free_bits} and {kl_warmup}.")
    objective = FreeBits(free_bits) if free_bits else elbo_with_warmup(kl_warmup)
    return LatentSystem(
        model, AmortizedFlow(network, flow), objective, stages=single(start_for(start, encoder, decoder))
    )
