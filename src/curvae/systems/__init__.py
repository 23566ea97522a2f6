"""Systems: one published method a file, each a choice of parts."""

from curvae.systems.base import LatentSystem, Recipe, Stage, System, Weights, register
from curvae.systems.fishernet import fishernet
from curvae.systems.householder_vae import householder_vae
from curvae.systems.iwae import iwae
from curvae.systems.mixture_vae import mixture_vae
from curvae.systems.multimodal_vlae import multimodal_vlae
from curvae.systems.recursive_mixture import recursive_mixture
from curvae.systems.sa_vae import sa_vae
from curvae.systems.vae import vae
from curvae.systems.vlae import vlae

__all__ = [
    "LatentSystem",
    "Recipe",
    "Stage",
    "System",
    "Weights",
    "fishernet",
    "householder_vae",
    "iwae",
    "mixture_vae",
    "multimodal_vlae",
    "recursive_mixture",
    "register",
    "sa_vae",
    "vae",
    "vlae",
]
