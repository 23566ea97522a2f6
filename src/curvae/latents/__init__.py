"""What latents mean: a rotation that the decoder determines, and loadings.

``axes.py`` is the idea, a value with the equations it stands for; ``describe.py`` computes it for a trained system.
"""

from curvae.latents.axes import Axes, principal
from curvae.latents.describe import describe

__all__ = ["Axes", "describe", "principal"]
