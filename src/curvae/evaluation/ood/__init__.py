"""Scores of unknown inputs: how little a row looks like those that a model was trained on. One score a file.

``curvae.evaluation.unknown_inputs`` is the door: it measures rows (``scored_rows``, ``likelihood_matrix``), asks every
score of the table ``unknown_scores``, where the larger is the less known, and says how well each tells rows apart
(``detection``).
``column_scores`` and ``unusual_rows`` say which column of a row is off; ``will_it_move`` tests a set of rows.
"""

from curvae.evaluation.ood.column_scores import ColumnScores, column_scores
from curvae.evaluation.ood.complexity import complexity_distance, complexity_ratio, compressed_nats
from curvae.evaluation.ood.detection import Detection, IntervalEstimate, detection, roc_area
from curvae.evaluation.ood.deviation_over_models import deviation_over_models
from curvae.evaluation.ood.effective_models import effective_models
from curvae.evaluation.ood.entropy_over_models import entropy_over_models
from curvae.evaluation.ood.expected_log_likelihood import expected_log_likelihood
from curvae.evaluation.ood.likelihood_matrix import LikelihoodMatrix, likelihood_matrices
from curvae.evaluation.ood.likelihood_regret import likelihood_regret
from curvae.evaluation.ood.mahalanobis import latent_distance
from curvae.evaluation.ood.reconstruction import reconstruction_log_likelihood
from curvae.evaluation.ood.scored_rows import ScoredRows
from curvae.evaluation.ood.typicality import typicality
from curvae.evaluation.ood.unknown_results import ScoreFound, ScoreHistogram
from curvae.evaluation.ood.unknown_scores import MODELS, SCORES, SINGLE, ModelScore, ModelsScore, UnknownnessScore
from curvae.evaluation.ood.unusual_rows import UnusualRows
from curvae.evaluation.ood.waic import waic
from curvae.evaluation.ood.will_it_move import will_it_move

__all__ = [
    "MODELS",
    "SCORES",
    "SINGLE",
    "ColumnScores",
    "Detection",
    "IntervalEstimate",
    "LikelihoodMatrix",
    "ModelScore",
    "ModelsScore",
    "ScoreFound",
    "ScoreHistogram",
    "ScoredRows",
    "UnknownnessScore",
    "UnusualRows",
    "column_scores",
    "complexity_distance",
    "complexity_ratio",
    "compressed_nats",
    "detection",
    "deviation_over_models",
    "effective_models",
    "entropy_over_models",
    "expected_log_likelihood",
    "latent_distance",
    "likelihood_matrices",
    "likelihood_regret",
    "reconstruction_log_likelihood",
    "roc_area",
    "typicality",
    "waic",
    "will_it_move",
]
