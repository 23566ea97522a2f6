"""What latents mean: a rotation that the decoder determines, and loadings.

``axes.py`` is the idea, a value with the equations it stands for; ``explained.py`` computes it for a trained system;
``traversal.py`` moves one latent at a time.
"""

from curvae.latents.axes import Axes, principal
from curvae.latents.explained import latent_axes
from curvae.latents.traversal import one_at_a_time
from curvae.renamed import renamed

__all__ = ["Axes", "latent_axes", "one_at_a_time", "principal"]

__getattr__ = renamed(__name__, {"describe": "curvae.latents.latent_axes"})
