"""The scikit-learn face of curvae: estimators for pipelines, grid searches and frames.

Begin with ``latent_variables``, the estimator; ``held`` is how it keeps a trained system without a folder.
"""

from curvae.sklearn.latent_variables import LatentVariables

__all__ = ["LatentVariables"]
