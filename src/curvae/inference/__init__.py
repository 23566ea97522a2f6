"""Inference methods: (model, batch) -> posterior."""

from curvae.inference.amortized import (
    AmortizedCategorical,
    AmortizedFlow,
    AmortizedFullGaussian,
    AmortizedGaussian,
    AmortizedMean,
    AmortizedPairwise,
    AmortizedRankOne,
)
from curvae.inference.amortized_labels import AmortizedLabels
from curvae.inference.amortized_langevin import AmortizedLangevin
from curvae.inference.amortized_mixture import AmortizedMixture
from curvae.inference.averaged import AveragedCurvature, AveragedLaplace, averaged_curvature_refiner
from curvae.inference.chains import hmc_chains
from curvae.inference.code_point import CodePoint, decoder_of
from curvae.inference.completions import MixtureOfCompletions
from curvae.inference.fisher import FisherGaussian
from curvae.inference.gibbs_chains import GibbsChains
from curvae.inference.hamiltonian import AnnealedHMC, HamiltonianFlow
from curvae.inference.householder import AmortizedHouseholder
from curvae.inference.inference import (
    AffinePosterior,
    Inference,
    Inferred,
    StartsAtPosterior,
    encoder_of,
    prefixed,
    start_at,
)
from curvae.inference.laplace import Laplace
from curvae.inference.linear_core import LinearCore
from curvae.inference.m_step import m_step
from curvae.inference.matrix_free_laplace import MatrixFreeLaplace
from curvae.inference.momentum_tempering import FreeTempering, NoTempering, QuadraticTempering, Tempering
from curvae.inference.multimodal_laplace import MultimodalLaplace
from curvae.inference.nodes import Antithetic, GaussHermite, NodeRule, Nodes, OrthogonalFrames
from curvae.inference.predictive_coding import PredictiveCoding
from curvae.inference.pushforward import PushforwardGaussian
from curvae.inference.refiner import Refine, Refiner, refiner_at_test_time
from curvae.inference.sees_mask import SeesMask
from curvae.inference.semi_amortized import ConstantGaussian, SemiAmortized
from curvae.inference.update_rules import Adam, HeavyBall, UpdateRule
from curvae.renamed import renamed

__all__ = [
    "Adam",
    "AffinePosterior",
    "AmortizedCategorical",
    "AmortizedFlow",
    "AmortizedFullGaussian",
    "AmortizedGaussian",
    "AmortizedHouseholder",
    "AmortizedLabels",
    "AmortizedLangevin",
    "AmortizedMean",
    "AmortizedMixture",
    "AmortizedPairwise",
    "AmortizedRankOne",
    "AnnealedHMC",
    "Antithetic",
    "AveragedCurvature",
    "AveragedLaplace",
    "CodePoint",
    "ConstantGaussian",
    "FisherGaussian",
    "FreeTempering",
    "GaussHermite",
    "GibbsChains",
    "HamiltonianFlow",
    "HeavyBall",
    "Inference",
    "Inferred",
    "Laplace",
    "LinearCore",
    "MatrixFreeLaplace",
    "MixtureOfCompletions",
    "MultimodalLaplace",
    "NoTempering",
    "NodeRule",
    "Nodes",
    "OrthogonalFrames",
    "PredictiveCoding",
    "PushforwardGaussian",
    "QuadraticTempering",
    "Refine",
    "Refiner",
    "SeesMask",
    "SemiAmortized",
    "StartsAtPosterior",
    "Tempering",
    "UpdateRule",
    "averaged_curvature_refiner",
    "decoder_of",
    "encoder_of",
    "hmc_chains",
    "m_step",
    "prefixed",
    "refiner_at_test_time",
    "start_at",
]

_BEFORE = {
    "best_gaussian": "curvae.inference.averaged_curvature_refiner",
    "at_test_time": "curvae.inference.refiner_at_test_time",
    "AscentRule": "curvae.inference.UpdateRule",
    "Uninformed": "curvae.inference.ConstantGaussian",
    "refit": "curvae.inference.m_step",
}
__getattr__ = renamed(__name__, _BEFORE)
