"""Trained systems that know their data. ``fitted.py`` is the idea, ``fit_and_load.py`` how one comes by it."""

from curvae.fitted.denoising import Denoised
from curvae.fitted.fit_and_load import fit, load
from curvae.fitted.fitted import Fitted
from curvae.fitted.imputing import Imputed
from curvae.fitted.latent_curve import latent_curve
from curvae.fitted.outputs import Encoding, Score
from curvae.fitted.shortest import Geodesic
from curvae.fitted.traversing import Traversal

__all__ = ["Denoised", "Encoding", "Fitted", "Geodesic", "Imputed", "Score", "Traversal", "fit", "latent_curve", "load"]
