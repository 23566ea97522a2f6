"""Networks: modules only, no probability."""

from curvae.networks.brenier import BrenierMap
from curvae.networks.conditional_regressions import ConditionalRegressions
from curvae.networks.conditioned import (
    ContextDecoder,
    ContextEncoder,
    SeesContext,
    layers_of,
    over_exposure,
    run_encoder,
)
from curvae.networks.conv import ConvDecoder, ConvEncoder
from curvae.networks.embedding import linear_capacity, write_affine
from curvae.networks.flow_decoder import FlowDecoder
from curvae.networks.identifiable import FullRank, IdentifiableDecoder, ReferenceCategory
from curvae.networks.ladder import Gated, LadderEncoder, ladder_decoder
from curvae.networks.last_block import LastBlock
from curvae.networks.layers import Layers
from curvae.networks.masked import MaskedDecoder, kernels_for
from curvae.networks.mlp import MLP, ColumnFront, Front, FrontWithGaps, Logarithm
from curvae.networks.modulated import ModulatedMLP
from curvae.networks.precision import low_precision, run_network
from curvae.networks.top_down_decoder import TopDownDecoder
from curvae.networks.transformer import Attention, AttentionScores, EarlierTokens, Residual, readout
from curvae.renamed import renamed

__all__ = [
    "MLP",
    "Attention",
    "AttentionScores",
    "BrenierMap",
    "ColumnFront",
    "ConditionalRegressions",
    "ContextDecoder",
    "ContextEncoder",
    "ConvDecoder",
    "ConvEncoder",
    "EarlierTokens",
    "FlowDecoder",
    "Front",
    "FrontWithGaps",
    "FullRank",
    "Gated",
    "IdentifiableDecoder",
    "LadderEncoder",
    "LastBlock",
    "Layers",
    "Logarithm",
    "MaskedDecoder",
    "ModulatedMLP",
    "ReferenceCategory",
    "Residual",
    "SeesContext",
    "TopDownDecoder",
    "kernels_for",
    "ladder_decoder",
    "layers_of",
    "linear_capacity",
    "low_precision",
    "over_exposure",
    "readout",
    "run_encoder",
    "run_network",
    "write_affine",
]

_BEFORE = {
    "TopDown": "curvae.networks.TopDownDecoder",
    "carried": "curvae.networks.linear_capacity",
    "Lowest": "curvae.networks.LastBlock",
}
__getattr__ = renamed(__name__, _BEFORE)
