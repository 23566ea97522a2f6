"""Scores of unknown inputs: how little a row looks like those that a model was trained on. One score a file."""

from curvae.evaluation.ood.will_it_move import will_it_move

__all__ = ["will_it_move"]
