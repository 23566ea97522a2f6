"""Priors p(z): normalized densities over the latent space."""

from curvae.priors.aggregate_normal import AggregateNormal
from curvae.priors.layered import Layered, layered
from curvae.priors.prior import Prior
from curvae.priors.standard_normal import StandardNormal
from curvae.priors.uniform_categorical import UniformCategorical

__all__ = ["AggregateNormal", "Layered", "Prior", "StandardNormal", "UniformCategorical", "layered"]
