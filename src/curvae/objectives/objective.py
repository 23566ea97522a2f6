"""The contract of an objective: log weights -> bound."""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeVar, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from curvae.model import LatentVariableModel
from curvae.posteriors import Draws, Posterior
from curvae.typing import EMPTY, Batch, Info, PerDatum, PerDraw, State

Kind = Literal["lower", "upper", "none"]
"""What an objective is to log p(x): a lower bound in expectation, an upper bound, or no bound at all."""


class Bound(NamedTuple):
    """What an objective says of each example, in nats, maximized."""

    value: PerDatum
    """Reported: a lower bound of log p(x) in expectation, or exact; NaN where there is none. An objective that is no
    lower bound itself reports one that the same draws give."""
    surrogate: PerDatum
    """Differentiated: training weights (beta, regularizers) touch only this; a batch-level term is added to each."""
    info: Info = EMPTY
    """Diagnostics; an upper bound stands here, as ``upper_bound``, never in ``value``."""
    state: State = EMPTY
    """New values of buffers: the objective's own where it is a module, else by their names in the system."""


Objective = Callable[[LatentVariableModel, Posterior, Batch, int], Bound]
"""The last argument is the number of draws asked for. It has an attribute ``kind``; see :func:`kind_of`."""

AnyObjective = TypeVar("AnyObjective", bound=Callable[..., Bound])


def declares(kind: Kind) -> Callable[[AnyObjective], AnyObjective]:
    """Say of a function what its objective is to log p(x); a class has ``kind`` as an attribute instead."""

    def mark(objective: AnyObjective) -> AnyObjective:
        objective.kind = kind  # pyright: ignore[reportFunctionMemberAccess, reportAttributeAccessIssue]
        return objective

    return mark


def kind_of(objective: Objective) -> Kind:
    """What the objective declares itself to be to log p(x); training weights such as beta are no part of that.

    Raises:
        ValueError: it declares nothing: an undeclared number would be reported as a bound.

    Example:
        >>> from curvae.objectives import Cubo, elbo
        >>> kind_of(elbo), kind_of(Cubo())
        ('lower', 'upper')
    """
    base = objective.func if isinstance(objective, functools.partial) else objective
    kind: Any = getattr(base, "kind", None)
    if kind not in get_args(Kind):
        name = getattr(base, "__name__", type(base).__name__)
        raise ValueError(
            f"objective: {name} must say whether it is a bound of log p(x), kind = 'lower', 'upper' or 'none'; got "
            f"{kind!r}. Put @declares('lower') above a function, or the attribute into a class."
        )
    return kind


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
