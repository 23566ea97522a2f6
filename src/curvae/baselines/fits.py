"""Which baselines a likelihood has, and how they are fitted: one function for each kind of likelihood."""

import math
from dataclasses import replace
from functools import singledispatch
from typing import cast

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from curvae.baselines.baseline import Baseline, Density
from curvae.baselines.densities import (
    BernoulliColumns,
    BesideErrors,
    CategoricalColumns,
    ColumnsOverExposure,
    ConstantColumns,
    GroupedColumns,
    LogTransformedDensity,
)
from curvae.likelihoods import (
    Bernoulli,
    Categorical,
    Elementwise,
    Gaussian,
    Likelihood,
    LogNormal,
    Mixed,
    ZeroInflatedNegativeBinomial,
)
from curvae.linear import LinearGaussian, factor_analysis, heteroscedastic_ppca, ppca
from curvae.systems.counted import counted
from curvae.typing import Context, Table

FLOOR = 1e-6
"""Least variance of the noise under a likelihood whose own noise is fixed."""
VALUES = 2**26
"""Numbers that are fitted to at most, 512 MiB in float64: of more, to every second, third ... row."""
EM_WORK = 2**28
"""Operations in a round of EM at most: 0.1 s on one core, and a fit takes up to 200 rounds."""
WIDEST = 1024
"""Elements of a row up to which factor analysis is fitted: seconds there, minutes at three times as many."""


def fit(train: Table, likelihood: Likelihood, latent: int | None = None) -> tuple[Baseline, ...]:
    """The baselines of a likelihood, fitted to training data in the model's units; the same ones every time.

    ================ ==============================================================================================
    likelihood       baselines
    ================ ==============================================================================================
    Gaussian         probabilistic PCA and factor analysis of ``min(latent, P - 1)`` latents (fewer if there are fewer
                     rows), with the likelihood's floor of the noise; where ``latent`` is None independent columns and,
                     where nothing is missing, probabilistic PCA of as many latents as BIC chooses
    Bernoulli        independent columns, by smoothed frequencies (Laplace's rule)
    Categorical      the same
    Mixed            independent columns, each by the rule of its kind
    LogNormal        those of a Gaussian, of the logarithms
    any elementwise  independent columns, by maximum likelihood (zero-inflated counts: those of counts without)
    any other        none, with the reason
    ================ ==============================================================================================

    Rows count as often as their weights say. Beside known errors there is PPCA alone, by EM, with the errors of each
    row; counts with an exposure have means in proportion to it; covariates are left out, and a note says so.

    Where values are missing, PPCA is fitted by EM and scored on what is observed, and factor analysis is left out.
    Where elements never vary in training, noise of their own has no bounded density: it goes as low as the floor lets
    it. So what has it (factor analysis, independent Gaussian columns) is left out where the likelihood has one variance
    for all elements, and stays where it has one for each, which the same floor binds.

    Args:
        train: training data; validation or test data are what baselines are scored on.
        likelihood: of the model that is to be compared.
        latent: its number of latents D; None = it has none, or it is not known.

    Returns:
        One baseline or more, each with its density, or with the reason why it is left out.
    """
    rows = counted(train)
    x, mask = rows.x.detach().cpu().flatten(1), None if rows.mask is None else rows.mask.cpu().flatten(1)
    mask = None if mask is None or bool(mask.all()) else mask
    known = rows.given
    if known is None:
        found = _fit(likelihood, x, mask, latent)
    else:
        found = _fit_given(likelihood, x, mask, latent, known.map(Tensor.cpu))
    if train.total == len(train):
        return found
    some = f"fitted to {len(train):,} of {train.total:,} rows"
    return tuple(each if each.density is None else replace(each, note=some) for each in found)


def _fit_given(
    likelihood: Likelihood,
    x: Shaped[Tensor, "N P"],
    mask: Shaped[Tensor, "N P"] | None,
    latent: int | None,
    known: Context,
) -> tuple[Baseline, ...]:
    """Those that are given exposures or errors, too; covariates they do not know, and say so."""
    note = "" if known.covariates is None else "without the covariates"
    if known.errors is not None:
        floor, errors, size = 1e-6, known.errors.flatten(1).double(), latent or 1
        most = VALUES // (x.shape[1] * (size + 1) ** 2)
        some = torch.linspace(0, len(x) - 1, min(len(x), most), dtype=torch.float64).round().long()
        seen = None if mask is None else mask[some]
        fitted = heteroscedastic_ppca(x[some], errors[some], size, seen, floor)
        return (Baseline("ppca", fitted.model.weight.shape[1], BesideErrors(fitted), note),)
    if known.exposure is not None:
        counts = likelihood.counts if isinstance(likelihood, ZeroInflatedNegativeBinomial) else likelihood
        assert isinstance(counts, Elementwise)
        columns = ConstantColumns.fitted(counts, x, mask, known.exposure.double().log())
        return (Baseline("independent", None, ColumnsOverExposure(columns), note),)
    return tuple(replace(each, note=each.note or note) for each in _fit(likelihood, x, mask, latent))


@singledispatch
def _fit(
    likelihood: Likelihood, x: Shaped[Tensor, "N P"], mask: Shaped[Tensor, "N P"] | None, latent: int | None
) -> tuple[Baseline, ...]:
    kind = type(likelihood).__name__
    return (Baseline("none", note=f"none is known in closed form for the likelihood {kind}"),)


@_fit.register
def _(
    likelihood: Bernoulli, x: Shaped[Tensor, "N P"], mask: Shaped[Tensor, "N P"] | None, latent: int | None
) -> tuple[Baseline, ...]:
    return (Baseline("independent", None, BernoulliColumns.fitted(x, mask)),)


@_fit.register
def _(
    likelihood: Categorical, x: Shaped[Tensor, "N P"], mask: Shaped[Tensor, "N P"] | None, latent: int | None
) -> tuple[Baseline, ...]:
    return (Baseline("independent", None, CategoricalColumns.fitted(x, likelihood.categories, mask)),)


@_fit.register
def _(
    likelihood: Elementwise, x: Shaped[Tensor, "N P"], mask: Shaped[Tensor, "N P"] | None, latent: int | None
) -> tuple[Baseline, ...]:
    x, mask, note = _thinned(x, mask, 0)
    return (Baseline("independent", None, ConstantColumns.fitted(likelihood, x, mask), note),)


@_fit.register
def _(
    likelihood: ZeroInflatedNegativeBinomial,
    x: Shaped[Tensor, "N P"],
    mask: Shaped[Tensor, "N P"] | None,
    latent: int | None,
) -> tuple[Baseline, ...]:
    return _fit(likelihood.counts, x, mask, latent)


@_fit.register
def _(
    likelihood: Mixed, x: Shaped[Tensor, "N P"], mask: Shaped[Tensor, "N P"] | None, latent: int | None
) -> tuple[Baseline, ...]:
    densities = []
    for part, columns in likelihood.parted():
        seen = None if mask is None else mask[:, columns]
        found = [each for each in _fit(part, x[:, columns], seen, None) if each.name == "independent"]
        if not found or found[0].density is None:
            return (Baseline("none", note=f"none is known in closed form for the likelihood {type(part).__name__}"),)
        densities.append((found[0].density, columns))
    return (Baseline("independent", None, GroupedColumns(tuple(densities))),)


@_fit.register
def _(
    likelihood: LogNormal, x: Shaped[Tensor, "N P"], mask: Shaped[Tensor, "N P"] | None, latent: int | None
) -> tuple[Baseline, ...]:
    y = torch.where(x > 0, x, 1).log()
    found = _fit(likelihood.gaussian, y, mask, latent)
    return tuple(
        each if each.density is None else replace(each, density=LogTransformedDensity(cast(Density, each.density)))
        for each in found
    )


@_fit.register
def _(
    likelihood: Gaussian, x: Shaped[Tensor, "N P"], mask: Shaped[Tensor, "N P"] | None, latent: int | None
) -> tuple[Baseline, ...]:
    floor, shared = likelihood.floor**2 or FLOOR, likelihood.learn != "element"
    if latent is None:
        single = _independent(x, mask, floor, shared)
        return (
            (single,) if mask is not None or x.shape[1] < 2 else (single, _principal(x, None, _rank(x, floor), floor))
        )
    return _principal(x, mask, latent, floor), _factors(x, mask, latent, floor, shared)


def _rank(x: Float[Tensor, "N P"], floor: float) -> int:
    """The number of latents of probabilistic PCA with the best Bayesian information criterion (Schwarz, 1978).

    ``-2/N log p`` is ``sum_i log l_i + (P - D) log s^2`` but for constants, of the leading eigenvalues l of the
    covariance and the mean s^2 of the others; there are ``P D - D (D - 1) / 2`` loadings.
    """
    count, width = x.shape
    centered = x.double() - x.double().mean(0)
    values = torch.linalg.eigvalsh(centered.mT @ centered / count).flip(0).clamp(min=floor)
    ranks = torch.arange(1, max(2, min(width, count)))
    left = width - ranks
    above = values.log().cumsum(0)[ranks - 1]
    below = (values.sum() - values.cumsum(0)[ranks - 1]) / left
    loadings = width * ranks - ranks * (ranks - 1) / 2
    cost = above + left * below.clamp(min=floor).log() + loadings * math.log(count) / count
    return int(ranks[cost.argmin()])


def _principal(x: Float[Tensor, "N P"], mask: Shaped[Tensor, "N P"] | None, latent: int, floor: float) -> Baseline:
    x, mask, note = _thinned(x, mask, latent)
    return _linear("ppca", ppca(x, latent, mask, floor), note)


def _factors(
    x: Float[Tensor, "N P"], mask: Shaped[Tensor, "N P"] | None, latent: int, floor: float, shared: bool
) -> Baseline:
    if x.shape[1] > WIDEST:
        return _left_out("factor_analysis", f"{x.shape[1]:,} elements a row; it is fitted to {WIDEST:,} or fewer")
    if x.shape[1] == 1:
        return _left_out("factor_analysis", "with a single element a row it is the same as PPCA")
    if mask is not None:
        return _left_out("factor_analysis", "values are missing in training")
    if shared and (constant := _constant(x, None, floor)):
        return _left_out("factor_analysis", constant)
    x, _, note = _thinned(x, None, latent)
    return _linear("factor_analysis", factor_analysis(x, latent, floor), note)


def _independent(x: Float[Tensor, "N P"], mask: Shaped[Tensor, "N P"] | None, floor: float, shared: bool) -> Baseline:
    if shared and (constant := _constant(x, mask, floor)):
        return _left_out("independent", constant)
    mean, variance = _moments(x, mask)
    none = mean.new_zeros(len(mean), 0)
    return Baseline("independent", None, LinearGaussian(mean, none, variance.clamp(min=floor)))


def _linear(name: str, model: LinearGaussian, note: str) -> Baseline:
    return Baseline(name, model.weight.shape[1], model, note)


def _left_out(name: str, why: str) -> Baseline:
    return Baseline(name, note=f"left out: {why}")


def _constant(x: Float[Tensor, "N P"], mask: Shaped[Tensor, "N P"] | None, floor: float) -> str:
    """How many elements vary by no more than the floor, in words; "" if none."""
    variance = _moments(x, mask)[1]
    low = variance[variance <= floor]
    often = "never" if bool((low == 0).all()) else "never or hardly"
    words = f"1 element {often} varies" if len(low) == 1 else f"{len(low):,} elements {often} vary"
    return f"{words} in training" if len(low) else ""


def _moments(
    x: Float[Tensor, "N P"], mask: Shaped[Tensor, "N P"] | None
) -> tuple[Float[Tensor, " P"], Float[Tensor, " P"]]:
    """Mean and variance of each element, over the rows where it is observed; 0 where that is nowhere."""
    seen = torch.ones_like(x, dtype=torch.bool) if mask is None else mask
    count = seen.sum(0).clamp(min=1)
    mean = torch.where(seen, x, 0).sum(0, dtype=torch.float64) / count
    square = torch.where(seen, (x - mean).square(), 0).sum(0)
    return mean, square / count


def _thinned(
    x: Float[Tensor, "N P"], mask: Shaped[Tensor, "N P"] | None, latent: int
) -> tuple[Float[Tensor, "M P"], Shaped[Tensor, "M P"] | None, str]:
    """Rows at even distances, as many as are fitted to in seconds, and a note where these are not all."""
    count, width = x.shape
    most = VALUES // width
    if mask is not None:
        most = min(most, EM_WORK // (width * (latent + 1) ** 2 + 2 * latent**3 + 10_000))
    most = max(most, min(count, 2))
    if count <= most:
        return x, mask, ""
    rows = torch.linspace(0, count - 1, most, dtype=torch.float64).round().long()
    note = f"fitted to {most:,} of {count:,} rows"
    return x[rows], None if mask is None else mask[rows], note
