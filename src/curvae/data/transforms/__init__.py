"""From raw data to what the model sees, with log-determinants.

Begin at ``base``: the contract, and how transforms are chained. ``elementwise`` has the maps themselves, one class
each, and makes them again from a file; ``images`` chooses those of pictures.
"""

from curvae.data.transforms.base import Chain, Transform
from curvae.data.transforms.elementwise import (
    Binarization,
    Dequantization,
    Identity,
    Logit,
    MeanSubtraction,
    Scale,
    Standardization,
    restore,
)

__all__ = [
    "Binarization",
    "Chain",
    "Dequantization",
    "Identity",
    "Logit",
    "MeanSubtraction",
    "Scale",
    "Standardization",
    "Transform",
    "restore",
]
