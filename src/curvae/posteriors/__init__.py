"""Posteriors q(z | x): all laws of :mod:`curvae.distributions`, and those that need the model or its chains."""

from curvae import distributions
from curvae.distributions import *  # noqa: F403  a law is a posterior too, and users look for it here
from curvae.posteriors.annealed import AnnealedPosterior
from curvae.posteriors.chains import Chains
from curvae.posteriors.hamiltonian import HamiltonianPosterior
from curvae.posteriors.implicit_gaussian import ImplicitGaussian
from curvae.posteriors.simulated import SimulatedPosterior
from curvae.renamed import renamed

__all__ = ["AnnealedPosterior", "Chains", "HamiltonianPosterior", "ImplicitGaussian", "SimulatedPosterior"]
__all__ += distributions.__all__

_BEFORE = {
    "Enumerated": "curvae.posteriors.EnumeratedPosterior",
    "Parametric": "curvae.posteriors.ParametricPosterior",
    "Rotated": "curvae.posteriors.RotatedPosterior",
    "typical": "curvae.posteriors.representative_point",
    "Factored": "curvae.distributions.ProductPosterior",
    "pushed": "curvae.distributions.transformed",
    "CommonNoise": "curvae.noise.CommonNoise",
    "common_noise": "curvae.noise.common_noise",
    "gumbel": "curvae.noise.gumbel",
    "noise": "curvae.noise.noise",
}
__getattr__ = renamed(__name__, _BEFORE)
