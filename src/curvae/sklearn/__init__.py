"""The scikit-learn face of curvae: estimators for pipelines, grid searches and frames.

Begin with ``latent_variables``, the estimator; ``trained`` trains a system and checks rows, ``held`` is how that is
kept without a folder.
"""

from curvae.sklearn.latent_variables import LatentVariables

__all__ = ["LatentVariables"]
