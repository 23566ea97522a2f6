"""Networks: modules only, no probability."""

from curvae.networks.conv import ConvDecoder, ConvEncoder
from curvae.networks.mlp import MLP

__all__ = ["MLP", "ConvDecoder", "ConvEncoder"]
