"""The recursive mixture posterior."""

from torch import nn

from curvae.likelihoods import Likelihood
from curvae.objectives import RecursiveElbo
from curvae.systems.base import LatentSystem, register
from curvae.systems.parts import standard_generative_model, standard_mixture
from curvae.systems.stages import single
from curvae.systems.starts import start_for
from curvae.typing import DataSpec


@register("recursive-mixture", "posterior")
def recursive_mixture(
    spec: DataSpec,
    latent: int = 16,
    hidden: int = 256,
    depth: int = 2,
    components: int = 4,
    strength: float = 0.5,
    cap: float = 20.0,
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
    start: str = "linear",
) -> LatentSystem:
    """Recursive mixture inference: each component learns to explain what those before it leave out.

    Reference: after Kim and Pavlovic, *Recursive Inference for Variational Autoencoders*, NeurIPS 2020.

    Differences: the paper weights examples by how badly they are explained so far; here all count the same.

    Args:
        depth: number of hidden layers, in each encoder and the decoder.
        components: number K of components.
        strength: weight of a component's divergence from those before it.
        cap: nats beyond which that divergence counts no more.

    Example:
        >>> recursive_mixture(DataSpec((64,)), latent=2, hidden=32).objective.cap
        20.0
    """
    model = standard_generative_model(spec, latent, hidden, depth, decoder, likelihood)
    inference = standard_mixture(spec, latent, hidden, depth, components)
    return LatentSystem(model, inference, RecursiveElbo(strength, cap), stages=single(start_for(start, decoder)))
