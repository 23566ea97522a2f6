"""Systems: one published method a file, each a choice of parts."""

from curvae.systems.adopted import adopted
from curvae.systems.ais_vae import ais_vae
from curvae.systems.baggins import baggins
from curvae.systems.base import LatentSystem, Recipe, System, register
from curvae.systems.bayesian import BayesianSystem
from curvae.systems.bayesian_vae import bayesian_vae
from curvae.systems.bilbo import bilbo
from curvae.systems.capabilities import (
    CanImpute,
    CanReconstruct,
    CanRollOut,
    CanSample,
    DrawsModels,
    HasBase,
    HasClusters,
    HasDensity,
    HasModel,
    HasPosterior,
    HasWeights,
    Parts,
    ScoresCodes,
    Weights,
    require,
)
from curvae.systems.cascade import CascadeSystem
from curvae.systems.cascade_vae import cascade_vae
from curvae.systems.chi_vae import chi_vae
from curvae.systems.ciwae import ciwae
from curvae.systems.codes import CodeSystem
from curvae.systems.coding_density import CodingDensity
from curvae.systems.core_shell import CoreShellDensity
from curvae.systems.coupling_vae import coupling_vae
from curvae.systems.direct_vae import direct_vae
from curvae.systems.dlgm import dlgm
from curvae.systems.ffjord_vae import ffjord_vae
from curvae.systems.fif_vae import fif_vae
from curvae.systems.fishernet import fishernet
from curvae.systems.flat_ladder import flat_ladder
from curvae.systems.flow_ae import flow_ae
from curvae.systems.flow_density import FlowDensity
from curvae.systems.flow_prior_vae import flow_prior_vae
from curvae.systems.gibbs_stages import VariationalGibbs, learn_by_gibbs
from curvae.systems.gibbs_vae import gibbs_vae
from curvae.systems.householder_vae import householder_vae
from curvae.systems.hvae import hvae
from curvae.systems.ia_vae import ia_vae
from curvae.systems.iaf_vae import iaf_vae
from curvae.systems.identifiable_vae import identifiable_vae
from curvae.systems.iwae import iwae
from curvae.systems.ladder_clustering import ladder_clustering
from curvae.systems.langevin_ae import langevin_ae
from curvae.systems.laplacian import LaplacianSystem
from curvae.systems.laplacian_ae import laplacian_ae
from curvae.systems.lossy_vae import lossy_vae
from curvae.systems.missing_iwae import missing_iwae
from curvae.systems.miwae import miwae
from curvae.systems.mixture_vae import mixture_vae
from curvae.systems.multimodal_vlae import multimodal_vlae
from curvae.systems.nice import nice
from curvae.systems.not_miwae import not_miwae
from curvae.systems.pc_transformer import pc_transformer
from curvae.systems.piwae import piwae
from curvae.systems.planar_vae import planar_vae
from curvae.systems.predictive_coding import predictive_coding
from curvae.systems.probabilistic_ae import probabilistic_ae
from curvae.systems.radial_vae import radial_vae
from curvae.systems.recursive_mixture import recursive_mixture
from curvae.systems.renyi_vae import renyi_vae
from curvae.systems.sa_vae import sa_vae
from curvae.systems.schedules import Cosine
from curvae.systems.sequence_system import SequenceSystem
from curvae.systems.skew_vae import skew_vae
from curvae.systems.spline_vae import spline_vae
from curvae.systems.stages import BoundBy, Optimizer, RefitNoise, Remember, Stage, initialize_likelihood
from curvae.systems.td_vae import td_vae
from curvae.systems.tilted_vae import tilted_vae
from curvae.systems.tsc import tsc
from curvae.systems.vae import vae
from curvae.systems.vlae import vlae
from curvae.systems.vrnn import vrnn
from curvae.systems.wake_wake import wake_wake

__all__ = [
    "BayesianSystem",
    "BoundBy",
    "CanImpute",
    "CanReconstruct",
    "CanRollOut",
    "CanSample",
    "CascadeSystem",
    "CodeSystem",
    "CodingDensity",
    "CoreShellDensity",
    "Cosine",
    "DrawsModels",
    "FlowDensity",
    "HasBase",
    "HasClusters",
    "HasDensity",
    "HasModel",
    "HasPosterior",
    "HasWeights",
    "LaplacianSystem",
    "LatentSystem",
    "Optimizer",
    "Parts",
    "Recipe",
    "RefitNoise",
    "Remember",
    "ScoresCodes",
    "SequenceSystem",
    "Stage",
    "System",
    "VariationalGibbs",
    "Weights",
    "adopted",
    "ais_vae",
    "baggins",
    "bayesian_vae",
    "bilbo",
    "cascade_vae",
    "chi_vae",
    "ciwae",
    "coupling_vae",
    "direct_vae",
    "dlgm",
    "ffjord_vae",
    "fif_vae",
    "fishernet",
    "flat_ladder",
    "flow_ae",
    "flow_prior_vae",
    "gibbs_vae",
    "householder_vae",
    "hvae",
    "ia_vae",
    "iaf_vae",
    "identifiable_vae",
    "initialize_likelihood",
    "iwae",
    "ladder_clustering",
    "langevin_ae",
    "laplacian_ae",
    "learn_by_gibbs",
    "lossy_vae",
    "missing_iwae",
    "miwae",
    "mixture_vae",
    "multimodal_vlae",
    "nice",
    "not_miwae",
    "pc_transformer",
    "piwae",
    "planar_vae",
    "predictive_coding",
    "probabilistic_ae",
    "radial_vae",
    "recursive_mixture",
    "register",
    "renyi_vae",
    "require",
    "sa_vae",
    "skew_vae",
    "spline_vae",
    "td_vae",
    "tilted_vae",
    "tsc",
    "vae",
    "vlae",
    "vrnn",
    "wake_wake",
]
