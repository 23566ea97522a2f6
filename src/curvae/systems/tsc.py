"""Transport score climbing."""

from torch import nn

from curvae.flows import Autoregressive, affine
from curvae.inference import AmortizedFlow, AmortizedGaussian
from curvae.likelihoods import Likelihood
from curvae.objectives import ScoreClimbing, elbo
from curvae.systems.base import LatentSystem, register
from curvae.systems.parts import standard_generative_model, standard_network
from curvae.systems.stages import BoundBy, Remember, Stage, warmed_up
from curvae.systems.starts import start_for
from curvae.typing import DataSpec


@register("tsc", "posterior")
def tsc(
    spec: DataSpec,
    latent: int = 16,
    hidden: int = 256,
    depth: int = 2,
    flows: int = 0,
    width: int = 128,
    context: int = 32,
    leapfrogs: int = 4,
    samples: int = 5,
    warmup: float = 0.2,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
    start: str = "linear",
) -> LatentSystem:
    """Transport score climbing: a chain for each example, moving in the encoder's own space, teaches both networks.

    Reference: Zhang, Blei and Naesseth, *Transport Score Climbing*, TMLR 2023.

    Differences: after the warm-up the decoder is kept, where the paper's code starts a new one.

    Args:
        flows: number of affine coupling steps after the encoder's Gaussian; 0 leaves the Gaussian.
        width: of the two hidden layers of each coupling step's network.
        context: values of each example that these networks see beside z.
        leapfrogs: leapfrog steps of a chain at each visit of its example.
        samples: draws per example in the reported bound.
        warmup: share of the time, in [0, 1), trained as a VAE first.
        encoder: your own network, from a batch of data to 2 D values, and context more where there are flows.

    Raises:
        ValueError: warmup outside [0, 1).

    Example:
        >>> [stage.name for stage in tsc(DataSpec((64,)), latent=2, hidden=32).stages()]
        ['vae', 'climb']
    """
    model = standard_generative_model(spec, latent, hidden, depth, decoder, likelihood)
    network = encoder or standard_network(spec, 2 * latent + (context if flows else 0), hidden, depth)
    flow = Autoregressive(latent, context, flows, [width, width], affine(), passes=2) if flows else None
    inference = AmortizedFlow(network, flow) if flow else AmortizedGaussian(network)
    stages = warmed_up(
        Stage("climb", prepare=(Remember("objective"),)),
        warmup,
        BoundBy(objective=elbo),
        start_for(start, encoder, decoder),
    )
    return LatentSystem(model, inference, ScoreClimbing(leapfrogs), samples, stages)
