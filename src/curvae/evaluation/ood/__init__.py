"""Scores of unknown inputs: how little a row looks like those that a model was trained on. One score a file."""

from curvae.evaluation.ood.column_scores import ColumnScores, column_scores
from curvae.evaluation.ood.unusual_rows import UnusualRows
from curvae.evaluation.ood.will_it_move import will_it_move

__all__ = ["ColumnScores", "UnusualRows", "column_scores", "will_it_move"]
