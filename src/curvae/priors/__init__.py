"""Priors p(z): normalized densities over the latent space."""

from curvae.priors.aggregate_normal import AggregateNormal
from curvae.priors.families import Family, FixedNormal, LearnedNormal, OneHot
from curvae.priors.layered import Layered, layered
from curvae.priors.prior import Prior
from curvae.priors.standard_normal import StandardNormal
from curvae.priors.uniform_categorical import UniformCategorical, all_states, one_hot

__all__ = [
    "AggregateNormal",
    "Family",
    "FixedNormal",
    "Layered",
    "LearnedNormal",
    "OneHot",
    "Prior",
    "StandardNormal",
    "UniformCategorical",
    "all_states",
    "layered",
    "one_hot",
]
