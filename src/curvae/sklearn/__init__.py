"""The scikit-learn face of curvae: estimators for pipelines, grid searches and frames.

Begin with ``latent_variables``, the estimator, and ``trained``, what it has in common with ``imputer``; ``held`` is how
a trained system is kept without a folder.
"""

from curvae.sklearn.imputer import Imputer
from curvae.sklearn.latent_variables import LatentVariables

__all__ = ["Imputer", "LatentVariables"]
