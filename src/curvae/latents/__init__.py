"""What latents mean: a rotation that the decoder determines, and loadings.

``axes.py`` is the idea, a value with the equations it stands for; ``system_axes.py`` computes it for a trained system;
``traversal.py`` moves one latent at a time.
"""

from curvae.latents.axes import Axes, principal_rotation
from curvae.latents.system_axes import latent_axes
from curvae.latents.traversal import traverse_each_latent
from curvae.renamed import renamed

__all__ = ["Axes", "latent_axes", "principal_rotation", "traverse_each_latent"]

_BEFORE = {
    "one_at_a_time": "curvae.latents.traverse_each_latent",
    "principal": "curvae.latents.principal_rotation",
    "describe": "curvae.latents.latent_axes",
}
__getattr__ = renamed(__name__, _BEFORE)
