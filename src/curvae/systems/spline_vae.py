"""The variational autoencoder with a neural spline flow."""

from torch import nn

from curvae.flows import Autoregressive, spline
from curvae.inference import AmortizedFlow
from curvae.likelihoods import Likelihood
from curvae.systems.base import LatentSystem, register
from curvae.systems.parts import elbo_with_warmup, flow_encoder, standard_generative_model
from curvae.systems.stages import single
from curvae.systems.starts import start_for
from curvae.typing import DataSpec


@register("spline-vae", "posterior")
def spline_vae(
    spec: DataSpec,
    latent: int = 16,
    hidden: int = 256,
    depth: int = 2,
    flows: int = 2,
    width: int = 128,
    context: int = 32,
    bins: int = 8,
    passes: int = 2,
    kl_warmup: int = 0,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
    start: str = "linear",
) -> LatentSystem:
    """VAE with a neural spline flow: rational-quadratic splines, set by the latents before and the example.

    Reference: Durkan, Bekasov, Murray and Papamakarios, *Neural Spline Flows*, NeurIPS 2019.

    Differences: the half that conditions is itself mapped, by the context alone; no linear layers between steps.

    Args:
        flows: number of steps of the flow.
        width: of the two hidden layers of each step's network.
        context: values of each example that the networks see beside z.
        bins: of each spline, on [-5, 5].
        passes: 2 is a coupling flow; latent, or more, is fully autoregressive.
        encoder: your own network, from a batch of data to 2 D + context values.

    Example:
        >>> len(spline_vae(DataSpec((64,)), latent=4, hidden=32, flows=3).inference.flow.steps)
        3
    """
    model = standard_generative_model(spec, latent, hidden, depth, decoder, likelihood)
    flow = Autoregressive(latent, context, flows, [width, width], spline(bins), passes)
    network = encoder or flow_encoder(spec, latent, context, hidden, depth)
    return LatentSystem(
        model,
        AmortizedFlow(network, flow),
        elbo_with_warmup(kl_warmup),
        stages=single(start_for(start, encoder, decoder)),
    )
