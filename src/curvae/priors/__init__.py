"""Priors p(z): normalized densities over the latent space."""

from curvae.priors.aggregate_normal import AggregateNormal
from curvae.priors.layered import Layered, layered
from curvae.priors.prior import Prior, StartsAtNormal
from curvae.priors.standard_normal import StandardNormal
from curvae.priors.tilted_normal import TiltedNormal
from curvae.priors.uniform_categorical import UniformCategorical
from curvae.renamed import renamed

__all__ = [
    "AggregateNormal",
    "Layered",
    "Prior",
    "StandardNormal",
    "StartsAtNormal",
    "TiltedNormal",
    "UniformCategorical",
    "layered",
]

_LAWS = "FixedNormal", "LearnedNormal", "OneHot", "all_states", "one_hot"
_BEFORE = {
    "Family": "curvae.distributions.ConditionalDistribution",
    **{name: f"curvae.distributions.{name}" for name in _LAWS},
}
__getattr__ = renamed(__name__, _BEFORE)
