"""Objectives: (model, posterior, batch, draws) -> a bound for each example, in nats, maximized."""

from curvae.objectives.augmented import AugmentedDensity
from curvae.objectives.batch_information import BatchInformation, BatchLikelihood, aggregate_moments, batch_likelihood
from curvae.objectives.discrete import (
    DirectArgmax,
    DiscreteElbo,
    DiscreteGradient,
    Enumeration,
    Expectation,
    GumbelSoftmax,
    LeaveOneOut,
    StraightThrough,
)
from curvae.objectives.divergences import (
    Cubo,
    FDivergence,
    Renyi,
    hellinger,
    jensen_shannon_generator,
    kullback_leibler,
)
from curvae.objectives.elbo import AnnealedElbo, elbo
from curvae.objectives.estimators import DoublyReparameterized, Estimator, Reparameterized, StickingTheLanding, slopes
from curvae.objectives.free_bits import FreeBits, SoftFreeBits
from curvae.objectives.importance import (
    Ciwae,
    ImportanceBound,
    Iwae,
    Miwae,
    MonteCarloElbo,
    Piwae,
    iwae,
    monte_carlo_elbo,
)
from curvae.objectives.map import PointJoint
from curvae.objectives.missing import NotMiwae, completed
from curvae.objectives.mutual_divergence import MutualDivergence, pairwise_kl
from curvae.objectives.objective import (
    Bound,
    Kind,
    Objective,
    declares,
    kind_of,
    log_mean_exp,
    log_weights,
    with_credit,
)
from curvae.objectives.predictive_coding import PredictiveEnergy, energies
from curvae.objectives.recursive import RecursiveElbo
from curvae.objectives.score_climbing import ScoreClimbing
from curvae.objectives.skew import SkewJensenShannon, skew_jensen_shannon
from curvae.objectives.tilted import SphericalPenalty
from curvae.objectives.wake_phi import WakePhi
from curvae.renamed import renamed

__all__ = [
    "AnnealedElbo",
    "AugmentedDensity",
    "BatchInformation",
    "BatchLikelihood",
    "Bound",
    "Ciwae",
    "Cubo",
    "DirectArgmax",
    "DiscreteElbo",
    "DiscreteGradient",
    "DoublyReparameterized",
    "Enumeration",
    "Estimator",
    "Expectation",
    "FDivergence",
    "FreeBits",
    "GumbelSoftmax",
    "ImportanceBound",
    "Iwae",
    "Kind",
    "LeaveOneOut",
    "Miwae",
    "MonteCarloElbo",
    "MutualDivergence",
    "NotMiwae",
    "Objective",
    "Piwae",
    "PointJoint",
    "PredictiveEnergy",
    "RecursiveElbo",
    "Renyi",
    "Reparameterized",
    "ScoreClimbing",
    "SkewJensenShannon",
    "SoftFreeBits",
    "SphericalPenalty",
    "StickingTheLanding",
    "StraightThrough",
    "WakePhi",
    "aggregate_moments",
    "batch_likelihood",
    "completed",
    "declares",
    "elbo",
    "energies",
    "hellinger",
    "iwae",
    "jensen_shannon_generator",
    "kind_of",
    "kullback_leibler",
    "log_mean_exp",
    "log_weights",
    "monte_carlo_elbo",
    "pairwise_kl",
    "skew_jensen_shannon",
    "slopes",
    "with_credit",
]

_BEFORE = {
    "aggregate": "curvae.objectives.aggregate_moments",
    "jensen_shannon": "curvae.objectives.jensen_shannon_generator",
}
__getattr__ = renamed(__name__, _BEFORE)
