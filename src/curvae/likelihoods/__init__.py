"""Likelihoods p(x | eta): eta is what the decoder gives. Beside them laws of what is missing, p(mask | x)."""

from collections.abc import Callable, Mapping
from typing import cast

from curvae.likelihoods.bernoulli import Bernoulli
from curvae.likelihoods.beta import Beta
from curvae.likelihoods.categorical import Categorical
from curvae.likelihoods.discretized_logistic import DiscretizedLogistic
from curvae.likelihoods.elementwise import Elementwise
from curvae.likelihoods.gamma import Gamma
from curvae.likelihoods.gaussian import Gaussian
from curvae.likelihoods.gaussian_errors import GaussianErrors
from curvae.likelihoods.likelihood import HasBound, HasNoise, InformationKind, Likelihood, Quadratic, StartsAtLinear
from curvae.likelihoods.log_normal import LogNormal
from curvae.likelihoods.missingness import (
    ConstantMissingness,
    LinearMissingness,
    Missingness,
    NetworkMissingness,
    SelfMasking,
)
from curvae.likelihoods.mixed import Mixed, nominal_columns
from curvae.likelihoods.negative_binomial import NegativeBinomial
from curvae.likelihoods.ordinal import Ordinal
from curvae.likelihoods.poisson import Poisson
from curvae.likelihoods.student_t import StudentT
from curvae.likelihoods.zero_inflated import ZeroInflatedNegativeBinomial
from curvae.typing import DataSpec, Support


def default(spec: DataSpec) -> Likelihood:
    """The likelihood for data of this support, with parameters of its own for each column of a table."""
    match spec.support:
        case "real":
            return Gaussian(spec.event, learn=spec.noise)
        case "positive":
            return LogNormal(spec.event, learn=spec.noise)
        case "count":
            return NegativeBinomial(spec.event)
        case "binary":
            return Bernoulli(spec.event)
        case "category":
            return Categorical(spec.event, spec.categories)
        case "mixed":
            return Mixed([(_of_kind(*kind, len(columns)), columns) for kind, columns in spec.groups().items()])


def _of_kind(kind: str, categories: int, count: int) -> Likelihood:
    """Of so many columns of mixed data."""
    if kind == "ordinal":
        return Ordinal(count, categories)
    return default(DataSpec((count,), cast(Support, kind), categories, noise="element"))


def likelihood_for(word: str, spec: DataSpec) -> Likelihood:
    """The likelihood that a word of a system's signature stands for, for data of this shape.

    Raises:
        ValueError: no such word, or one for data of another support.

    Example:
        >>> likelihood_for("poisson", DataSpec((3,), "count")).size
        3
    """
    known = [each for each, (support, _) in WORDS.items() if support == spec.support] or ["an object"]
    if word not in WORDS:
        raise ValueError(f"likelihood: expected one of {', '.join(WORDS)}; got {word!r}.")
    support, make = WORDS[word]
    if support != spec.support:
        raise ValueError(
            f"likelihood: expected {' or '.join(known)} for {spec.support} data; got {word!r}, which is for {support} "
            f"data. Say support={support!r} of the data if they are."
        )
    return make(spec)


WORDS: Mapping[str, tuple[Support, Callable[[DataSpec], Likelihood]]] = {
    "gaussian": ("real", lambda spec: Gaussian(spec.event, learn=spec.noise)),
    "student-t": ("real", lambda spec: StudentT(spec.event, learn=spec.noise)),
    "log-normal": ("positive", lambda spec: LogNormal(spec.event, learn=spec.noise)),
    "gamma": ("positive", lambda spec: Gamma(spec.event)),
    "poisson": ("count", lambda spec: Poisson(spec.event)),
    "negative-binomial": ("count", lambda spec: NegativeBinomial(spec.event)),
    "zero-inflated": ("count", lambda spec: ZeroInflatedNegativeBinomial(spec.event)),
    "bernoulli": ("binary", lambda spec: Bernoulli(spec.event)),
    "categorical": ("category", lambda spec: Categorical(spec.event, spec.categories)),
    "ordinal": ("category", lambda spec: Ordinal(spec.event, spec.categories)),
}
"""Word -> the support of the data that it is for, and how it is made."""


__all__ = [
    "Bernoulli",
    "Beta",
    "Categorical",
    "ConstantMissingness",
    "DiscretizedLogistic",
    "Elementwise",
    "Gamma",
    "Gaussian",
    "GaussianErrors",
    "HasBound",
    "HasNoise",
    "InformationKind",
    "Likelihood",
    "LinearMissingness",
    "LogNormal",
    "Missingness",
    "Mixed",
    "NegativeBinomial",
    "NetworkMissingness",
    "Ordinal",
    "Poisson",
    "Quadratic",
    "SelfMasking",
    "StartsAtLinear",
    "StudentT",
    "ZeroInflatedNegativeBinomial",
    "default",
    "likelihood_for",
    "nominal_columns",
]
