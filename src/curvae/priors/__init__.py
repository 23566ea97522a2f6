"""Priors p(z): normalized densities over the latent space."""

from curvae.priors.aggregate_normal import AggregateNormal
from curvae.priors.prior import Prior
from curvae.priors.standard_normal import StandardNormal

__all__ = ["AggregateNormal", "Prior", "StandardNormal"]
