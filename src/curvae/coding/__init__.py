"""Predictive coding networks: every value in a network is a node, a law that earlier nodes predict.

Begin at ``network``: the nodes, what predicts them, and the energy of their errors. ``descent`` moves the nodes along
it; the weights follow by the same energy.
"""

from curvae.coding.descent import NodeDescent, Settled
from curvae.coding.network import CodingNetwork, Layer

__all__ = ["CodingNetwork", "Layer", "NodeDescent", "Settled"]
