"""Systems that are given what is known of each row: exposures, known errors, covariates."""

from dataclasses import replace
from typing import Any, cast

import torch

from curvae.conditioning import Conditioning
from curvae.inference import (
    AmortizedLabels,
    AmortizedMixture,
    LinearCore,
    MixtureOfCompletions,
    PushforwardGaussian,
    SeesMask,
)
from curvae.inference.inference import Amortized
from curvae.likelihoods import Gaussian, GaussianErrors, Likelihood
from curvae.likelihoods.elementwise import Learned
from curvae.model import LatentVariableModel
from curvae.networks import ContextDecoder, ContextEncoder
from curvae.priors import VampPrior
from curvae.systems.capabilities import DrawsModels, HasModel, ScoresCodes
from curvae.typing import Conditions, Context, DataSpec, Tables


def take_context(system: Any, spec: DataSpec) -> None:
    """Give a system what is known of each row of its data, before it is trained: model, decoder and encoders.

    Raises:
        ValueError: a system without a latent-variable model or without an encoder of layers, a prior that asks the
            encoder of rows without context, or a likelihood that has no errors, or no exposure.
    """
    given, model = spec.given, _model(system)
    if isinstance(system, DrawsModels):
        return  # it was made of a system that has been given it
    if model is None:
        raise ValueError(f"{given.said}: expected a system with a decoder and an encoder of its own; got another one.")
    likelihood = _taking(model.likelihood, given)
    model.decoder = ContextDecoder(model.decoder, given.covariates) if given.covariates else model.decoder
    model.likelihood, model.conditioning = likelihood, Conditioning(given, likelihood.event)
    _widen_encoders(system, spec)
    first, *others = system.stages()
    system.restage(replace(first, prepare=(remember_context, *first.prepare)), *others)


def _model(system: object) -> LatentVariableModel | None:
    """The model of a system that can be given something more; None where it has none."""
    model = system.parts().model if isinstance(system, HasModel) else None
    if model is None or isinstance(model.prior, VampPrior) or isinstance(system, ScoresCodes):
        return None
    return model if model.by_latents_alone else None


def remember_context(system: Any, data: Tables) -> None:
    """The model keeps what is known of training rows, for those that it makes up."""
    conditioning: Conditioning = system.model.conditioning
    if data.train.context is None:
        raise ValueError(f"{conditioning.conditions.said}: expected data that come with it, got data without.")
    conditioning.remember(data.train.context)


def _taking(likelihood: Likelihood, given: Conditions) -> Likelihood:
    """The likelihood that takes errors in the place of one that does not; what it takes is tried."""
    event = likelihood.event
    if given.errors and isinstance(likelihood, Gaussian):
        scale = None if likelihood.starts_from_data else likelihood.scale
        learn = cast(Learned, likelihood.learn)
        likelihood = GaussianErrors(event, scale, learn, likelihood.floor or 1e-3)
    ones = torch.ones(1)
    tried = Context(torch.ones(1, *event) if given.errors else None, ones if given.exposure else None)
    likelihood.placed(torch.zeros(1, likelihood.outputs), tried)
    return likelihood


def _widen_encoders(system: Any, spec: DataSpec) -> None:
    """Every encoder, and every gate, of the inference sees what is known, too."""
    count, features = 0, torch.Size(spec.event).numel()
    for module in list(system.inference.modules()):
        if isinstance(module, PushforwardGaussian | LinearCore | SeesMask | MixtureOfCompletions):
            got = type(module).__name__
            raise ValueError(f"{spec.given.said}: expected a system whose encoder can be given it, got one of {got}.")
        if isinstance(module, Amortized):
            module.encoder, count = ContextEncoder(module.encoder, features, spec.given), count + 1
        elif isinstance(module, AmortizedMixture | AmortizedLabels):
            module.gate = ContextEncoder(module.gate, features, spec.given)
    if not count:
        raise ValueError(f"{spec.given.said}: expected a system with an encoder, which is given it, too; got none.")
