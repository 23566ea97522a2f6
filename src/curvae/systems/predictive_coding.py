"""Predictive coding networks."""

from curvae import likelihoods
from curvae.inference import PredictiveCoding
from curvae.likelihoods import Likelihood
from curvae.model import LatentVariableModel
from curvae.networks import MLP, LastBlock
from curvae.objectives import PredictiveEnergy
from curvae.priors import Layered
from curvae.systems.base import LatentSystem, register
from curvae.systems.parts import LayerFamily, layer_family
from curvae.systems.stages import Remember, Stage, initialize_likelihood
from curvae.typing import DataSpec


@register("predictive-coding", "levels", own_prior=True)
def predictive_coding(
    spec: DataSpec,
    latent: int = 16,
    layers: int = 2,
    hidden: int = 256,
    depth: int = 1,
    family: LayerFamily = "fixed",
    categories: int = 4,
    steps: int = 20,
    rate: float = 0.1,
    incremental: bool = False,
    likelihood: Likelihood | None = None,
) -> LatentSystem:
    """Predictive coding beyond Gaussians: states of all layers descend a sum of divergences, the model follows.

    Reference: Pinchetti et al., *Predictive Coding beyond Gaussian Distributions*, NeurIPS 2022.

    Differences: rates adapt to each example, so that the energy never rises; the top layer has a prior, so that the
    model has a likelihood; no weight decay of its own.

    Starts at random: its states begin anew at each visit of an example, and no encoder could start them anywhere.

    Args:
        latent: size of each stochastic layer.
        layers: number of them; D = ``latent * layers``, the top layer first.
        hidden: width of the hidden layers of the map from each layer to the next.
        depth: number of hidden layers of each such map.
        family: distribution of a layer: normal with variance 1, normal with a variance of its own, or one-hot groups.
        categories: size of a group of a categorical layer.
        steps: number T of steps on the states.
        rate: of the first step.
        incremental: one step on the model with every step on the states (Salvatori et al., arXiv:2212.00720).

    Raises:
        ValueError: a size below 1, an unknown family, or a latent that is not a multiple of the categories.

    Example:
        >>> predictive_coding(DataSpec((64,)), latent=8, layers=2, hidden=32, family="categorical").model.prior.blocks
        (8, 8)
    """
    if min(latent, layers, hidden) < 1 or depth < 0:
        raise ValueError(f"predictive-coding: sizes must be 1 or more; got {latent=}, {layers=}, {hidden=}, {depth=}.")
    likelihood, layer = likelihood or likelihoods.default(spec), layer_family(family, latent, categories)
    maps = [MLP(latent, [hidden] * depth, layer.parameters) for _ in range(layers - 1)]
    below = LastBlock(latent, MLP(latent, [hidden] * depth, likelihood.size))
    model = LatentVariableModel(Layered([layer] * layers, maps), below, likelihood)
    prepare = (Remember(),) if incremental else ()
    stage = Stage(
        "train", start=initialize_likelihood, prepare=prepare, repeat=steps if incremental else 1, monitor="surrogate"
    )
    return LatentSystem(model, PredictiveCoding(steps, rate, incremental), PredictiveEnergy(), stages=(stage,))
