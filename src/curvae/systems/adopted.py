"""A system of networks that were trained elsewhere, in their own conventions."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from curvae.conditioning import Conditioning
from curvae.flows import Flow
from curvae.inference import AmortizedFlow, AmortizedGaussian, AmortizedMean, ConstantGaussian, Inference, Laplace
from curvae.likelihoods import Likelihood
from curvae.model import LatentVariableModel
from curvae.objectives import elbo
from curvae.priors import Prior, StandardNormal, VampPrior
from curvae.systems.base import LatentSystem, Recipe
from curvae.systems.priors import EncoderAlone
from curvae.systems.stages import Stage
from curvae.typing import DataSpec

SEARCH = 20
"""Newton steps at most, where a search begins at the prior or at the code of an autoencoder."""


def adopted(
    spec: DataSpec,
    latent: int,
    decoder: nn.Module,
    likelihood: Likelihood,
    encoder: nn.Module | None = None,
    flow: Flow | None = None,
    prior: Prior | None = None,
    codes: bool = False,
    search: int = SEARCH,
) -> LatentSystem:
    """What :func:`curvae.adopt` makes of a trained model: its networks, and a posterior without bounds of ours.

    It is no system to choose from a list: there is nothing in it but networks that somebody has.

    Args:
        spec: shape and support of the data.
        latent: D.
        decoder: from (N, D) to the likelihood's parameters.
        likelihood: p(x | eta).
        encoder: to means and log-scales (B, 2 D), which are taken as they are; None = none is there, and the posterior
            is Laplace's at a mode that is searched for from the prior's mean.
        flow: that the Gaussian goes through.
        prior: p(z); by default N(0, I).
        codes: the encoder gives D values and no scales: the code of an autoencoder, where a search begins.
        search: Newton steps of a search, where there is one.

    Raises:
        ValueError: a flow of an autoencoder's codes.

    Example:
        >>> from curvae.likelihoods import Gaussian
        >>> system = adopted(DataSpec((5,)), 2, nn.Linear(2, 5), Gaussian(5), nn.Linear(5, 4))
        >>> type(system.inference).__name__, system.recipe.name
        ('AmortizedGaussian', 'adopted')
    """
    arguments: Mapping[str, Any] = dict(locals())
    model = LatentVariableModel(prior or StandardNormal(latent), decoder, likelihood)
    if spec.given.said:
        model.conditioning = Conditioning(spec.given, likelihood.event)
    inference = _inference(latent, encoder, flow, codes, search)
    if isinstance(model.prior, VampPrior):
        model.prior.join(EncoderAlone(inference))
    system = LatentSystem(model, inference, elbo, stages=(Stage("train"),))
    system.recipe = Recipe("adopted", arguments)
    return system


def _inference(latent: int, encoder: nn.Module | None, flow: Flow | None, codes: bool, search: int) -> Inference:
    if flow is not None and (encoder is None or codes):
        raise ValueError("adopted: expected an encoder of a Gaussian before a flow, got none.")
    if encoder is None:
        return Laplace(ConstantGaussian(latent), search)
    if codes:
        return Laplace(AmortizedMean(encoder), search)
    return AmortizedGaussian(encoder, bounded=False) if flow is None else AmortizedFlow(encoder, flow, bounded=False)
