"""Objectives: (model, posterior, batch, draws) -> a bound for each datum, in nats, maximized."""

from curvae.objectives.elbo import AnnealedElbo, elbo, monte_carlo_elbo
from curvae.objectives.importance import iwae
from curvae.objectives.objective import Bound, Objective, log_mean_exp, log_weights, with_credit
from curvae.objectives.recursive import RecursiveElbo

__all__ = [
    "AnnealedElbo",
    "Bound",
    "Objective",
    "RecursiveElbo",
    "elbo",
    "iwae",
    "log_mean_exp",
    "log_weights",
    "monte_carlo_elbo",
    "with_credit",
]
