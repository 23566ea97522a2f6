"""Laws of latents, written once, whether they serve as a prior, a layer or a posterior.

``posterior`` is the idea: a law is an immutable value with draws, a density and tensors. ``conditional`` makes laws of
numbers, ``product``, ``mixture``, ``transformed`` and ``rotated`` of other laws; ``gaussian`` and ``discrete`` are the
two kinds that all others come from; ``kl`` registers a divergence by the classes of both laws.
"""

from curvae.distributions.conditional import ConditionalDistribution, FixedNormal, LearnedNormal, OneHot
from curvae.distributions.discrete_posteriors import (
    DiscretePosterior,
    EnumeratedPosterior,
    IndependentCategorical,
    all_states,
    one_hot,
)
from curvae.distributions.gaussian import (
    DiagonalGaussian,
    FullGaussian,
    GaussianPosterior,
    NormalPosterior,
    PrecisionGaussian,
)
from curvae.distributions.householder import HouseholderGaussian
from curvae.distributions.kl import kl, normal_kl, register_kl
from curvae.distributions.max_flow import maximize_pairwise
from curvae.distributions.mixture import Mixture
from curvae.distributions.moments import DrawnPosterior, weighted_covariance, weighted_interval, weighted_mean
from curvae.distributions.pairwise import PairwiseBinary
from curvae.distributions.posterior import (
    DensityPosterior,
    Draws,
    ParametricPosterior,
    Posterior,
    detached,
    representative_point,
)
from curvae.distributions.product import ProductPosterior
from curvae.distributions.rank_one import RankOneGaussian
from curvae.distributions.rotated import RotatedDensity, RotatedPosterior, rotated
from curvae.distributions.student import StudentMixture
from curvae.distributions.transformed import TransformedDensity, TransformedPosterior, transformed, transport
from curvae.renamed import renamed

__all__ = [
    "ConditionalDistribution",
    "DensityPosterior",
    "DiagonalGaussian",
    "DiscretePosterior",
    "DrawnPosterior",
    "Draws",
    "EnumeratedPosterior",
    "FixedNormal",
    "FullGaussian",
    "GaussianPosterior",
    "HouseholderGaussian",
    "IndependentCategorical",
    "LearnedNormal",
    "Mixture",
    "NormalPosterior",
    "OneHot",
    "PairwiseBinary",
    "ParametricPosterior",
    "Posterior",
    "PrecisionGaussian",
    "ProductPosterior",
    "RankOneGaussian",
    "RotatedDensity",
    "RotatedPosterior",
    "StudentMixture",
    "TransformedDensity",
    "TransformedPosterior",
    "all_states",
    "detached",
    "kl",
    "maximize_pairwise",
    "normal_kl",
    "one_hot",
    "register_kl",
    "representative_point",
    "rotated",
    "transformed",
    "transport",
    "weighted_covariance",
    "weighted_interval",
    "weighted_mean",
]

_BEFORE = {
    "Enumerated": "curvae.distributions.EnumeratedPosterior",
    "Parametric": "curvae.distributions.ParametricPosterior",
    "Rotated": "curvae.distributions.RotatedPosterior",
    "typical": "curvae.distributions.representative_point",
}
__getattr__ = renamed(__name__, _BEFORE)
