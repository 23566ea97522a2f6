"""Posteriors over the weights of a decoder.

``posterior`` is the contract: networks with drawn weights, one after the other; ``averaged_model`` predicts with them.
Each other file is one posterior: ``laplace_diagonal``, ``laplace_last_layer`` and ``laplace_subnetwork`` see the rows,
``swag`` watches an optimizer, ``chain`` one that is a Markov chain (``langevin``, ``hamiltonian``), ``ensemble`` trains
several decoders at a time, ``mean_field`` a deviation for each weight. ``diagonal_curvature`` and ``layerwise`` are the
Gauss-Newton matrices that the Laplace approximations go by, ``evidence`` the precision of their prior.
"""

from curvae.weights.averaged_model import AveragedModel
from curvae.weights.chain import WeightChain
from curvae.weights.diagonal_curvature import diagonal_curvature, network_diagonal
from curvae.weights.ensemble import DeepEnsemble
from curvae.weights.evidence import evidence_precision
from curvae.weights.hamiltonian import Sghmc
from curvae.weights.langevin import Sgld
from curvae.weights.laplace_diagonal import DiagonalLaplace
from curvae.weights.laplace_last_layer import LastLayerLaplace
from curvae.weights.laplace_subnetwork import LinearizedDecoder, SubnetworkLaplace
from curvae.weights.layerwise import layerwise_diagonal, plain_layers
from curvae.weights.mean_field import MeanFieldWeights
from curvae.weights.online_laplace import OnlineLaplace
from curvae.weights.posterior import SampledWeights, WeightPosterior
from curvae.weights.rows import CodedRows
from curvae.weights.swag import Swag
from curvae.weights.vectors import check_weights, load_weights, named_weights, weight_vector, with_weights

__all__ = [
    "AveragedModel",
    "CodedRows",
    "DeepEnsemble",
    "DiagonalLaplace",
    "LastLayerLaplace",
    "LinearizedDecoder",
    "MeanFieldWeights",
    "OnlineLaplace",
    "SampledWeights",
    "Sghmc",
    "Sgld",
    "SubnetworkLaplace",
    "Swag",
    "WeightChain",
    "WeightPosterior",
    "check_weights",
    "diagonal_curvature",
    "evidence_precision",
    "layerwise_diagonal",
    "load_weights",
    "named_weights",
    "network_diagonal",
    "plain_layers",
    "weight_vector",
    "with_weights",
]
