"""The variational autoencoder with a continuous normalizing flow."""

from torch import nn

from curvae.flows import Continuous
from curvae.inference import AmortizedFlow
from curvae.likelihoods import Likelihood
from curvae.systems.base import LatentSystem, register
from curvae.systems.parts import elbo_with_warmup, flow_encoder, standard_generative_model
from curvae.systems.stages import single
from curvae.systems.starts import start_for
from curvae.typing import DataSpec


@register("ffjord-vae", "posterior")
def ffjord_vae(
    spec: DataSpec,
    latent: int = 16,
    hidden: int = 256,
    depth: int = 2,
    steps: int = 4,
    width: int = 64,
    context: int = 32,
    kl_warmup: int = 0,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
    start: str = "linear",
) -> LatentSystem:
    """VAE with a continuous flow: latents move for a unit of time by a velocity that the example decides.

    Reference: Grathwohl, Chen, Bettencourt, Sutskever and Duvenaud, *FFJORD: Free-Form Continuous Dynamics for Scalable
    Reversible Generative Models*, ICLR 2019.

    Differences: the network sees values of the example, where theirs has weights of its own for each; Runge-Kutta steps
    of one length, whose determinant is exact, at a cost of D derivatives; see :class:`curvae.flows.Continuous`.

    Args:
        steps: of Runge and Kutta's method.
        width: of the two hidden layers of the velocity's network.
        context: values of each example that the network sees beside z.
        encoder: your own network, from a batch of data to 2 D + context values.

    Raises:
        ValueError: fewer than 1 step.

    Example:
        >>> ffjord_vae(DataSpec((64,)), latent=4, hidden=32, steps=3).inference.flow.steps
        3
    """
    model = standard_generative_model(spec, latent, hidden, depth, decoder, likelihood)
    flow = Continuous(latent, context, steps, [width, width])
    network = encoder or flow_encoder(spec, latent, context, hidden, depth)
    return LatentSystem(
        model,
        AmortizedFlow(network, flow),
        elbo_with_warmup(kl_warmup),
        stages=single(start_for(start, encoder, decoder)),
    )
