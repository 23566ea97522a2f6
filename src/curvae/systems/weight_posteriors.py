"""A system with a posterior over its decoder's weights, by a word, and the stages that it is trained in."""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, get_args

from curvae.systems.base import LatentSystem
from curvae.systems.bayesian import BayesianSystem
from curvae.systems.schedules import Steady
from curvae.systems.stages import BoundBy, Optimizer, Stage
from curvae.systems.weight_stages import (
    FitWeights,
    OverWeights,
    StartMembers,
    begin_path,
    center_weights,
    chain_bound,
    count_rows,
    path_bound,
)
from curvae.weights import (
    DeepEnsemble,
    DiagonalLaplace,
    LastLayerLaplace,
    MeanFieldWeights,
    Sghmc,
    Sgld,
    SubnetworkLaplace,
    Swag,
    WeightChain,
    WeightPosterior,
)

WeightWord = Literal["ensemble", "swag", "sgld", "sghmc", "bayes-by-backprop", "last-layer", "diagonal", "subnetwork"]
"""Word for a posterior over weights in a system's signature."""
PATH = 0.3
"""Share of the time that an optimizer is watched."""
SUBNETWORK_ROWS = 500
"""That a full covariance is found from: a product with the Jacobian for each row and weight."""
RANK = 20
"""Deviations of weights that are kept at least."""

UNCUT = 1e30
"""A norm that no gradient has."""

Stages = tuple[Stage, ...]
Maker = Callable[[LatentSystem, int, float | None], tuple[WeightPosterior, Stages]]
"""(base, draws, prior precision) -> the posterior over its decoder's weights, and the stages of both."""


def with_weight_posterior(
    base: LatentSystem, word: str, draws: int = 8, prior_precision: float | None = None
) -> BayesianSystem:
    """The base with the posterior over its decoder's weights that a word stands for.

    Raises:
        ValueError: no such word.
    """
    if word not in POSTERIORS:
        raise ValueError(f"weights: expected one of {', '.join(get_args(WeightWord))}; got {word!r}.")
    weights, stages = POSTERIORS[word](base, draws, prior_precision)
    return BayesianSystem(base, weights, stages, draws)


def _ensemble(base: LatentSystem, draws: int, prior_precision: float | None) -> tuple[WeightPosterior, Stages]:
    first, *others = over_weights(base.stages())
    return DeepEnsemble(base.model.decoder, draws), (replace(first, start=StartMembers(first.start)), *others)


def _swag(base: LatentSystem, draws: int, prior_precision: float | None) -> tuple[WeightPosterior, Stages]:
    return Swag(rank=max(RANK, draws)), continued(base.stages(), on_path("swag"))


def _sgld(base: LatentSystem, draws: int, prior_precision: float | None) -> tuple[WeightPosterior, Stages]:
    chain = WeightChain(base.model.decoder, max(RANK, draws), prior_precision=prior_precision)
    return chain, continued(base.stages(), of_chain("sgld", Optimizer(Sgld, {"lr": 1e-5})))


def _sghmc(base: LatentSystem, draws: int, prior_precision: float | None) -> tuple[WeightPosterior, Stages]:
    chain = WeightChain(base.model.decoder, max(RANK, draws), prior_precision=prior_precision)
    return chain, continued(base.stages(), of_chain("sghmc", Optimizer(Sghmc, {"lr": 1e-5})))


def _mean_field(base: LatentSystem, draws: int, prior_precision: float | None) -> tuple[WeightPosterior, Stages]:
    first, *others = over_weights(base.stages())
    counting = replace(first, prepare=(count_rows, *first.prepare))
    return MeanFieldWeights(base.model.decoder, prior_precision=prior_precision), (counting, *others)


def _diagonal(base: LatentSystem, draws: int, prior_precision: float | None) -> tuple[WeightPosterior, Stages]:
    return DiagonalLaplace(prior_precision), continued(base.stages(), fitted_weights())


def _last_layer(base: LatentSystem, draws: int, prior_precision: float | None) -> tuple[WeightPosterior, Stages]:
    return LastLayerLaplace(prior_precision), continued(base.stages(), fitted_weights())


def _subnetwork(base: LatentSystem, draws: int, prior_precision: float | None) -> tuple[WeightPosterior, Stages]:
    fit = Stage("weights", prepare=(FitWeights(SUBNETWORK_ROWS),), share=0)
    return SubnetworkLaplace(prior_precision=prior_precision), continued(base.stages(), fit)


POSTERIORS: dict[str, Maker] = {
    "ensemble": _ensemble,
    "swag": _swag,
    "sgld": _sgld,
    "sghmc": _sghmc,
    "bayes-by-backprop": _mean_field,
    "last-layer": _last_layer,
    "diagonal": _diagonal,
    "subnetwork": _subnetwork,
}
"""What each word stands for."""


def continued(stages: Stages, *more: Stage) -> Stages:
    """Stages with others after them, which take their shares from them.

    Example:
        >>> [stage.share for stage in continued((Stage("train"),), Stage("chain", share=0.25))]
        [0.75, 0.25]
    """
    left = 1 - sum(stage.share for stage in more)
    return (*(replace(stage, share=stage.share * left) for stage in stages), *more)


def fitted_weights() -> Stage:
    """The posterior sees the training rows once, at the weights found."""
    return Stage("weights", prepare=(FitWeights(),), share=0)


def on_path(name: str) -> Stage:
    """The posterior watches the optimizer, which goes on at a steady rate; what is kept is the middle of its path."""
    watched = Stage(name, ("model.decoder",), path_bound, prepare=(begin_path,), finish=(center_weights,))
    return replace(watched, schedule=Steady(), share=PATH, keep="last")


def of_chain(name: str, optimizer: Optimizer) -> Stage:
    """The same where the optimizer is a chain: it is given the whole gradient, at a steady step, uncut."""
    return replace(on_path(name), bound=chain_bound, judged=BoundBy(), optimizer=optimizer, clip=UNCUT)


def over_weights(stages: Stages) -> Stages:
    """Stages whose bounds are averaged over weights."""
    each = [replace(stage, bound=OverWeights(stage.bound)) for stage in stages]
    return tuple(stage if stage.judged is None else replace(stage, judged=OverWeights(stage.judged)) for stage in each)
