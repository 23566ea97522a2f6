"""Linear-Gaussian latent-variable models in closed form: what a network can start from, and has to beat.

``linear_gaussian`` is the model; ``ppca`` and ``factor_analysis`` fit it.
"""

from curvae.linear.factor_analysis import factor_analysis
from curvae.linear.linear_gaussian import LinearGaussian, signs
from curvae.linear.ppca import ppca

__all__ = ["LinearGaussian", "factor_analysis", "ppca", "signs"]
