"""Networks: modules only, no probability."""

from curvae.networks.conv import ConvDecoder, ConvEncoder
from curvae.networks.embedding import carried, write_affine
from curvae.networks.lowest import Lowest
from curvae.networks.mlp import MLP
from curvae.networks.precision import call, low_precision
from curvae.networks.top_down import TopDown

__all__ = ["MLP", "ConvDecoder", "ConvEncoder", "Lowest", "TopDown", "call", "carried", "low_precision", "write_affine"]
