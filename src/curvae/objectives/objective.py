"""The contract of an objective: log weights -> bound."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from curvae.model import LatentVariableModel
from curvae.posteriors import Draws, Posterior
from curvae.typing import EMPTY, Batch, Info, PerDatum, PerDraw, State


class Bound(NamedTuple):
    """What an objective says of each datum, in nats, maximized."""

    value: PerDatum
    """Reported: a lower bound of log p(x) in expectation, or exact; NaN where evidence is "none"."""
    surrogate: PerDatum
    """Differentiated: training weights (beta, regularizers) touch only this; a batch-level term is added to each."""
    info: Info = EMPTY
    state: State = EMPTY


Objective = Callable[[LatentVariableModel, Posterior, Batch, int], Bound]
"""The last argument is the number of draws asked for."""


def with_credit(term: Float[Tensor, "S B"], draws: Draws) -> PerDraw:
    """``term`` plus ``stop(credit) * score`` where choices were drawn without a path gradient.

    The credit of a draw is its term less the mean of the others (leave one out), so its gradient is the unbiased
    score-function estimate with a baseline that costs nothing.

    Raises:
        ValueError: a single draw, which leaves no other to be the baseline.
    """
    if draws.score is None:
        return term
    count = len(term)
    if count < 2:
        raise ValueError("a posterior without path gradients needs 2 draws or more; got 1. Ask for samples=2.")
    others = (term.sum(0) - term) / (count - 1)
    return term + (term - others).detach() * draws.score - (term - others).detach() * draws.score.detach()


def log_weights(model: LatentVariableModel, batch: Batch, draws: Draws) -> Float[Tensor, "S B"]:
    """``log p(x, z) - log q(z | x)`` of each draw."""
    return model.log_joint(batch.x, draws.z, batch.mask) - draws.log_q


def log_mean_exp(log_w: Float[Tensor, "S B"], log_c: Float[Tensor, "S B"]) -> PerDatum:
    """``log sum_s exp(log_c_s + log_w_s)``."""
    return torch.logsumexp(log_c + log_w, dim=0)
