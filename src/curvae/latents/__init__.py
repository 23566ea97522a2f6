"""What latents mean: a rotation that the decoder determines, and loadings.

``axes.py`` is the idea, a value with the equations it stands for; ``describe.py`` computes it for a trained system.
"""

from curvae.latents.axes import Axes, principal
from curvae.latents.explained import latent_axes
from curvae.renamed import renamed

__all__ = ["Axes", "latent_axes", "principal"]

__getattr__ = renamed(__name__, {"describe": "curvae.latents.latent_axes"})
