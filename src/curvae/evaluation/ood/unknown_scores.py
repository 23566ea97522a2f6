"""Every score of unknown inputs, in one direction: the larger, the less a row is known."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from curvae.evaluation.ood.complexity import (
    complexity_distance,
    complexity_ratio,
    levels_per_element,
)
from curvae.evaluation.ood.deviation_over_models import deviation_over_models
from curvae.evaluation.ood.effective_models import effective_models
from curvae.evaluation.ood.entropy_over_models import entropy_over_models
from curvae.evaluation.ood.expected_log_likelihood import expected_log_likelihood
from curvae.evaluation.ood.likelihood_matrix import LikelihoodMatrix, PerRow
from curvae.evaluation.ood.likelihood_regret import likelihood_regret
from curvae.evaluation.ood.mahalanobis import latent_distance
from curvae.evaluation.ood.reconstruction import reconstruction_log_likelihood
from curvae.evaluation.ood.scored_rows import ScoredRows
from curvae.evaluation.ood.typicality import typicality
from curvae.evaluation.ood.waic import waic
from curvae.systems import HasModel

NO_MODELS = "needs a posterior over weights: `curvae fit bayesian-vae DATA`"


@runtime_checkable
class UnknownnessScore(Protocol):
    """A score of unknown inputs."""

    @property
    def name(self) -> str:
        """Of its column, with the sign."""
        ...

    @property
    def title(self) -> str:
        """In words."""
        ...

    @property
    def needs(self) -> str:
        """What it cannot be had without, in words."""
        ...

    def of(self, rows: ScoredRows, known: ScoredRows) -> PerRow | None:
        """The score of each row, the larger the less known, beside known rows; None where it cannot be had."""
        ...

    def noise(self, rows: ScoredRows, known: ScoredRows) -> float | None:
        """What the choice of draws adds to it, root mean square over rows; None where that is not known."""
        ...


@dataclass(frozen=True)
class ModelsScore:
    """A score of the likelihood matrix: of how much models differ.

    Args:
        quantity: from the matrix of the rows and that of known ones.
        label: its name, without the sign.
        title: in words.
        sign: 1 where the quantity is larger for what is less known, else -1.
    """

    quantity: Callable[[LikelihoodMatrix, LikelihoodMatrix], PerRow]
    label: str
    title: str
    sign: Literal[-1, 1]
    needs: str = NO_MODELS

    @property
    def name(self) -> str:
        return signed(self.label, self.sign)

    def of(self, rows: ScoredRows, known: ScoredRows) -> PerRow | None:
        if rows.matrix is None or known.matrix is None:
            return None
        return self.sign * self.quantity(rows.matrix, known.matrix)

    def noise(self, rows: ScoredRows, known: ScoredRows) -> float | None:
        """Half the distance of what either half of the draws says."""
        if rows.matrix is None or known.matrix is None:
            return None
        pairs = zip(rows.matrix.halves, known.matrix.halves, strict=True)
        first, second = (self.quantity(_alone(ours), _alone(theirs)) for ours, theirs in pairs)
        return root_mean_square(first - second) / 2


@dataclass(frozen=True)
class ModelScore:
    """A score of one model, or of none.

    Args:
        quantity: from the rows and known ones; None where it cannot be had.
        label: its name, without the sign.
        title: in words.
        sign: 1 where the quantity is larger for what is less known, else -1.
        needs: what it cannot be had without.
        sampled: whether the error of log p(x) is the score's.
    """

    quantity: Callable[[ScoredRows, ScoredRows], PerRow | None]
    label: str
    title: str
    sign: Literal[-1, 1]
    needs: str
    sampled: bool = False

    @property
    def name(self) -> str:
        return signed(self.label, self.sign)

    def of(self, rows: ScoredRows, known: ScoredRows) -> PerRow | None:
        found = self.quantity(rows, known)
        return None if found is None else self.sign * np.asarray(found, dtype=np.float64)

    def noise(self, rows: ScoredRows, known: ScoredRows) -> float | None:
        """The error of log p(x), where it is that."""
        error = rows.measured.get("stderr_best")
        return root_mean_square(error) if self.sampled and error is not None else None


def signed(name: str, sign: int) -> str:
    """The name of a score: the larger, the less known.

    >>> signed("waic", -1), signed("typicality", 1)
    ('negative_waic', 'typicality')
    """
    return f"negative_{name}" if sign < 0 else name


def root_mean_square(values: NDArray[np.floating]) -> float:
    """Over the values that are finite; NaN of none.

    >>> root_mean_square(np.array([3.0, -3.0, np.nan]))
    3.0
    """
    kept = values[np.isfinite(values)]
    return float(np.sqrt(np.square(kept).mean())) if len(kept) else float("nan")


def _alone(half: NDArray[np.float64]) -> LikelihoodMatrix:
    return LikelihoodMatrix(np.stack([half, half]))


def _spread(ours: LikelihoodMatrix, theirs: LikelihoodMatrix) -> PerRow:
    return deviation_over_models(ours)


def _log_density(rows: ScoredRows) -> PerRow | None:
    """``log p(x)`` per grey level."""
    if (found := rows.measured.get("log_likelihood")) is None:
        return None
    return found + rows.measured["log_det"] - rows.measured["size"] * np.log(levels_per_element(rows.table))


def _complexity_ratio(rows: ScoredRows, known: ScoredRows) -> PerRow | None:
    density = None if rows.complexity is None else _log_density(rows)
    return None if density is None or rows.complexity is None else complexity_ratio(density, rows.complexity)


def _complexity_distance(rows: ScoredRows, known: ScoredRows) -> PerRow | None:
    lengths = rows.complexity, known.complexity
    return None if lengths[0] is None or lengths[1] is None else complexity_distance(lengths[0], lengths[1])


def _latent_distance(rows: ScoredRows, known: ScoredRows) -> PerRow | None:
    return latent_distance(rows.measured["mean"], known.measured["mean"]) if "mean" in rows.measured else None


def _reconstruction(rows: ScoredRows, known: ScoredRows) -> PerRow | None:
    if not isinstance(rows.system, HasModel):
        return None
    return reconstruction_log_likelihood(rows.system, rows.table, rows.settings.seed)


def _regret(rows: ScoredRows, known: ScoredRows) -> PerRow | None:
    if not isinstance(rows.system, HasModel) or not rows.system.parts().model.prior.continuous:
        return None
    return likelihood_regret(rows.system, rows.table, rows.settings.steps, rows.settings.seed, rows.settings.memory)


LATENTS = "needs a latent-variable model"
PICTURES = "needs pictures without gaps"
EVIDENCE = "needs a system with log p(x)"
MODELS: tuple[ModelsScore, ...] = (
    ModelsScore(lambda ll, _: expected_log_likelihood(ll.values), "expected_log_likelihood", "expected log p(x)", -1),
    ModelsScore(lambda ll, known: typicality(ll.values, known.values), "typicality", "typicality", 1),
    ModelsScore(lambda ll, _: waic(ll.values), "waic", "WAIC", -1),
    ModelsScore(lambda ll, _: effective_models(ll.values), "effective_models", "effective models", -1),
    ModelsScore(lambda ll, _: entropy_over_models(ll.values), "entropy_over_models", "entropy over models", -1),
    ModelsScore(_spread, "deviation_over_models", "deviation over models", 1),
)
"""Scores of several models."""
SINGLE: tuple[ModelScore, ...] = (
    ModelScore(lambda rows, _: rows.measured.get("log_likelihood"), "log_likelihood", "log p(x)", -1, EVIDENCE, True),
    ModelScore(lambda rows, _: rows.measured.get("elbo"), "elbo", "ELBO", -1, "needs draws of a posterior"),
    ModelScore(_reconstruction, "reconstruction_log_likelihood", "reconstruction", -1, LATENTS),
    ModelScore(_regret, "likelihood_regret", "likelihood regret", 1, "needs a model of continuous latents"),
    ModelScore(_latent_distance, "latent_distance", "latent Mahalanobis", 1, LATENTS),
    ModelScore(
        lambda rows, _: rows.measured.get("code_log_prob"),
        "code_log_prob",
        "log p(code)",
        -1,
        "needs a system with a density of codes, as probabilistic-ae",
    ),
    ModelScore(_complexity_ratio, "complexity_ratio", "input complexity ratio", 1, f"{PICTURES}, and log p(x)", True),
    ModelScore(_complexity_distance, "complexity_distance", "compressed length", 1, PICTURES),
)
"""Scores of one model, and of none."""
SCORES: tuple[UnknownnessScore, ...] = (*MODELS, *SINGLE)
"""All of them, in the order in which they are told."""
