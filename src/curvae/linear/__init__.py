"""Linear-Gaussian latent-variable models in closed form: what a network can start from, and has to beat.

``linear_gaussian`` is the model; ``ppca`` and ``factor_analysis`` fit it, ``heteroscedastic_ppca`` where errors are
known.
"""

from curvae.linear.factor_analysis import factor_analysis
from curvae.linear.heteroscedastic_ppca import NoisyFit, heteroscedastic_ppca
from curvae.linear.linear_gaussian import LinearGaussian, signs
from curvae.linear.ppca import ppca

__all__ = ["LinearGaussian", "NoisyFit", "factor_analysis", "heteroscedastic_ppca", "ppca", "signs"]
