"""Linear-Gaussian latent-variable models in closed form: what a network can start from, and has to beat.

``linear_gaussian`` is the model; ``ppca`` and ``factor_analysis`` fit it, ``heteroscedastic_ppca`` where errors are
known. ``state_space`` is the model of sequences, which ``state_space_fit`` fits.
"""

from curvae.linear.factor_analysis import factor_analysis
from curvae.linear.heteroscedastic_ppca import NoisyFit, heteroscedastic_ppca
from curvae.linear.linear_gaussian import LinearGaussian, signs
from curvae.linear.ppca import ppca
from curvae.linear.state_space import Filtered, Smoothed, States, StateSpace
from curvae.linear.state_space_fit import fit_state_space

__all__ = [
    "Filtered",
    "LinearGaussian",
    "NoisyFit",
    "Smoothed",
    "StateSpace",
    "States",
    "factor_analysis",
    "fit_state_space",
    "heteroscedastic_ppca",
    "ppca",
    "signs",
]
