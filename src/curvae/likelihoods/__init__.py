"""Likelihoods p(x | eta): eta is what the decoder gives."""

from curvae.likelihoods.bernoulli import Bernoulli
from curvae.likelihoods.categorical import Categorical
from curvae.likelihoods.gaussian import Gaussian
from curvae.likelihoods.likelihood import HasBound, HasNoise, InformationKind, Likelihood, Quadratic, StartsAtLinear
from curvae.typing import DataSpec


def default(spec: DataSpec) -> Likelihood:
    """The likelihood for data of this support: Gaussian with learned variances, Bernoulli or categorical."""
    match spec.support:
        case "real":
            return Gaussian(spec.event, learn=spec.noise)
        case "binary":
            return Bernoulli(spec.event)
        case "category":
            return Categorical(spec.event, spec.categories)


__all__ = [
    "Bernoulli",
    "Categorical",
    "Gaussian",
    "HasBound",
    "HasNoise",
    "InformationKind",
    "Likelihood",
    "Quadratic",
    "StartsAtLinear",
    "default",
]
