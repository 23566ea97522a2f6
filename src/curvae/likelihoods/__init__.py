"""Likelihoods p(x | eta): eta is what the decoder gives."""

from curvae.likelihoods.bernoulli import Bernoulli
from curvae.likelihoods.beta import Beta
from curvae.likelihoods.categorical import Categorical
from curvae.likelihoods.discretized_logistic import DiscretizedLogistic
from curvae.likelihoods.elementwise import Elementwise
from curvae.likelihoods.gamma import Gamma
from curvae.likelihoods.gaussian import Gaussian
from curvae.likelihoods.likelihood import HasBound, HasNoise, InformationKind, Likelihood, Quadratic, StartsAtLinear
from curvae.likelihoods.log_normal import LogNormal
from curvae.likelihoods.mixed import Mixed
from curvae.likelihoods.negative_binomial import NegativeBinomial
from curvae.likelihoods.ordinal import Ordinal
from curvae.likelihoods.poisson import Poisson
from curvae.likelihoods.student_t import StudentT
from curvae.likelihoods.zero_inflated import ZeroInflatedNegativeBinomial
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
    "Beta",
    "Categorical",
    "DiscretizedLogistic",
    "Elementwise",
    "Gamma",
    "Gaussian",
    "HasBound",
    "HasNoise",
    "InformationKind",
    "Likelihood",
    "LogNormal",
    "Mixed",
    "NegativeBinomial",
    "Ordinal",
    "Poisson",
    "Quadratic",
    "StartsAtLinear",
    "StudentT",
    "ZeroInflatedNegativeBinomial",
    "default",
]
