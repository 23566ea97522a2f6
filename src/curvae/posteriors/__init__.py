"""Posteriors q(z | x): immutable values that draw, weigh and describe."""

from curvae.noise import CommonNoise, common_noise, gumbel, noise
from curvae.posteriors.annealed import AnnealedPosterior
from curvae.posteriors.chains import Chains
from curvae.posteriors.discrete import DiscretePosterior, Enumerated, IndependentCategorical
from curvae.posteriors.drawn import DrawnPosterior
from curvae.posteriors.factored import ProductPosterior
from curvae.posteriors.flow import FlowPosterior, InvertibleFlowPosterior, pushed
from curvae.posteriors.gaussian import DiagonalGaussian, FullGaussian, GaussianPosterior, PrecisionGaussian
from curvae.posteriors.hamiltonian import HamiltonianPosterior
from curvae.posteriors.householder import HouseholderGaussian
from curvae.posteriors.implicit_gaussian import ImplicitGaussian
from curvae.posteriors.kl import kl, kl_between
from curvae.posteriors.max_flow import maximize_pairwise
from curvae.posteriors.mixture import Mixture
from curvae.posteriors.moments import weighted_covariance, weighted_interval, weighted_mean
from curvae.posteriors.pairwise import PairwiseBinary
from curvae.posteriors.posterior import DensityPosterior, Draws, Posterior, detached, plain, typical
from curvae.posteriors.rank_one import RankOneGaussian
from curvae.posteriors.rotated import Rotated, RotatedDensity, rotated
from curvae.posteriors.simulated import SimulatedPosterior
from curvae.posteriors.transport import Transport, transport

__all__ = [
    "AnnealedPosterior",
    "Chains",
    "CommonNoise",
    "DensityPosterior",
    "DiagonalGaussian",
    "DiscretePosterior",
    "DrawnPosterior",
    "Draws",
    "Enumerated",
    "FlowPosterior",
    "FullGaussian",
    "GaussianPosterior",
    "HamiltonianPosterior",
    "HouseholderGaussian",
    "ImplicitGaussian",
    "IndependentCategorical",
    "InvertibleFlowPosterior",
    "Mixture",
    "PairwiseBinary",
    "Posterior",
    "PrecisionGaussian",
    "ProductPosterior",
    "RankOneGaussian",
    "Rotated",
    "RotatedDensity",
    "SimulatedPosterior",
    "Transport",
    "common_noise",
    "detached",
    "gumbel",
    "kl",
    "kl_between",
    "maximize_pairwise",
    "noise",
    "plain",
    "pushed",
    "rotated",
    "transport",
    "typical",
    "weighted_covariance",
    "weighted_interval",
    "weighted_mean",
]
