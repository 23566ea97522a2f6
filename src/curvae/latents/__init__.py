"""What latents mean: a rotation that the decoder determines, and loadings.

``axes.py`` is the idea, a value with the equations it stands for; ``system_axes.py`` computes it for a trained system;
``traversal.py`` moves one latent at a time, ``geodesics.py`` along the shortest curve from one code to another.
"""

from curvae.latents.axes import Axes, principal_rotation
from curvae.latents.geodesics import Geodesics, decoded_spread, geodesics, mean_decoder
from curvae.latents.system_axes import latent_axes
from curvae.latents.traversal import traverse_each_latent
from curvae.renamed import renamed

__all__ = [
    "Axes",
    "Geodesics",
    "decoded_spread",
    "geodesics",
    "latent_axes",
    "mean_decoder",
    "principal_rotation",
    "traverse_each_latent",
]

_BEFORE = {
    "one_at_a_time": "curvae.latents.traverse_each_latent",
    "principal": "curvae.latents.principal_rotation",
    "describe": "curvae.latents.latent_axes",
}
__getattr__ = renamed(__name__, _BEFORE)
