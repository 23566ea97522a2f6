"""Rows without the noise that they were observed with: mean and deviation of the posterior of each value.

A row y is ``x + noise``, whose deviation is known; a model knows x. Then ``p(z | y)`` is the posterior of the same
model under a likelihood with that noise more, and each value is, given z, between what z and what y say of it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from curvae.argument_checks import check_counts
from curvae.conditioning import Conditioning
from curvae.curvature import not_ok
from curvae.evaluation.draws import seeded_evaluation
from curvae.evaluation.likelihood.importance import bytes_per_draw
from curvae.evaluation.samples.engines import DISCRETE, draw_latents, from_hmc, from_modes
from curvae.evaluation.samples.imputation import zero_missing_values
from curvae.evaluation.settings import MEMORY
from curvae.inference import Laplace
from curvae.likelihoods import Gaussian, GaussianErrors, Likelihood
from curvae.model import LatentVariableModel, require_continuous
from curvae.systems import HasBase, HasModel, Parts, System, require
from curvae.systems.device import batch_to_system, device_and_dtype
from curvae.typing import Batch, Conditions, Context, PerDatum
from curvae.weights import AveragedModel

BY = ("draws", "mode")
FEW, APART = 50, 1.05
"""Effective draws below which, and R-hat above which, a row is not to be trusted."""
STEPS = 30
"""Of Newton's method, at most, to a mode."""


class Signal(NamedTuple):
    """What is known of x, of rows observed as ``y = x + noise``."""

    mean: Float[Tensor, "B *event"]
    """``E[x | y]``, or x at the mode of ``p(z | y)``."""
    deviation: Float[Tensor, "B *event"]
    """The standard deviation of ``p(x | y)``, each value by itself."""
    effective: PerDatum
    """Effective draws of the latents; NaN by the mode."""
    reliable: Bool[Tensor, " B"]
    """False where fewer than 50 draws are effective, chains disagree, or the search for the mode has not settled."""


def denoise(
    system: System,
    x: Float[Tensor, "B *event"],
    noise: Tensor | float | None = None,
    mask: Tensor | None = None,
    context: Context | None = None,
    by: str = "draws",
    draws: int = 1000,
    seed: int = 0,
) -> Signal:
    r"""Posterior means and deviations of rows that were observed with Gaussian noise of known deviations.

    With ``x | z ~ N(m(z), s^2)`` and ``y | x ~ N(x, t^2)`` the latents have ``p(z | y) ~ p(z) N(y; m(z), s^2 + t^2)``,
    and given them ``E[x | z, y] = m + k (y - m)``, ``Var[x | z, y] = k t^2``, with ``k = s^2 / (s^2 + t^2)`` (``k = 0``
    and a variance of s^2 where y is missing). In a linear model the mean over z is Wiener's filter. An exact density is
    a model without scatter (s = 0) whose latents are the noise of its flow.

    ``by="draws"``: the mean over weighted draws from Laplace posteriors at the modes; where these leave few effective,
    over Hamiltonian chains in the units of the Laplace posterior. ``by="mode"``: at the mode of ``p(z | y)``, the
    variance ``k t^2 + (1 - k)^2 diag(J Lam^-1 J')`` by Laplace's precision and the slope J of m there (delta method),
    exact for a linear model, and far cheaper where latents are many.

    Args:
        system: a trained system, left as it is.
        x: y, in model space, anything where it is missing.
        noise: t, positive, of the shape of x or broadcast to it; None = the known errors of a system that is given
            them, with s what it has learned beside them.
        mask: True where observed.
        context: what else is known of each row, for a model that is given it.
        by: "draws" or "mode".
        draws: of the latents of each row.
        seed: of the draws.

    Raises:
        ValueError: a system that is neither a model of real numbers with a Gaussian likelihood and a decoder of latents
            alone nor a flow; noise that is not positive and finite, missing, or beside known errors; no such word.

    Reference: Böhm and Seljak, *Probabilistic Autoencoder*, TMLR 2022, for the mode in the noise of a flow.

    Example:
        >>> from curvae.systems import vae
        >>> from curvae.typing import DataSpec
        >>> found = denoise(vae(DataSpec((5,)), latent=2, hidden=8), torch.randn(3, 5), 0.5)
        >>> found.mean.shape, bool((found.deviation <= 1.0).all())
        (torch.Size([3, 5]), True)
    """
    check_counts("denoise", draws=draws)
    if by not in BY:
        raise ValueError(f"denoise: by: expected draws or mode; got {by!r}.")
    parts = _with_noise(system)
    device, dtype = device_and_dtype(system)
    seen = zero_missing_values("denoise", x, torch.ones_like(x, dtype=torch.bool) if mask is None else mask)
    batch = batch_to_system(system, Batch.of(seen, mask, _known(system, x, noise, mask, context)))
    model, event = parts.model, x.shape[1:]
    batch = batch._replace(x=_as(batch.x, model), mask=None if mask is None else _as(mask.to(device), model))
    each = _by_mode if by == "mode" else _by_draws
    with seeded_evaluation(system, seed):
        chunks = torch.arange(len(x), device=device).split(_at_a_time(parts, batch, draws))
        found = [each(_Noisy(parts), batch.take(rows), draws) for rows in chunks]
    mean, deviation, effective, reliable = (torch.cat(values) for values in zip(*found, strict=True))
    return Signal(mean.reshape(-1, *event).to(dtype), deviation.reshape(-1, *event).to(dtype), effective, reliable)


@dataclass(frozen=True)
class _Noisy:
    """A model of y, as what draws latents asks for it."""

    of: Parts

    def parts(self) -> Parts:
        return self.of


def _with_noise(system: System) -> Parts:
    """The model of y in place of that of x, and where a search for a mode begins."""
    parts = system.base() if isinstance(system, HasBase) else require(system, HasModel, "denoise").parts()
    model = parts.model
    if model.autoregressive or isinstance(model, AveragedModel):
        got = "one that also sees x" if model.autoregressive else "one averaged over draws of its weights"
        raise ValueError(f"denoise: expected a decoder of latents alone, got {got}.")
    covariates = 0 if model.conditioning is None else model.conditioning.conditions.covariates
    likelihood = _of_sum(model.likelihood)
    conditions = Conditioning(Conditions(errors=True, covariates=covariates), likelihood.event)
    noisy = LatentVariableModel(model.prior, model.decoder, likelihood, conditioning=conditions)
    return Parts(noisy.to(*device_and_dtype(system)), parts.inference)


def _of_sum(likelihood: Likelihood) -> GaussianErrors:
    """That of a value with noise of its own beside its scatter s."""
    if isinstance(likelihood, GaussianErrors):
        return likelihood
    if not isinstance(likelihood, Gaussian):
        raise ValueError(
            f"denoise: expected real numbers with a Gaussian likelihood, got {type(likelihood).__name__}, beside which "
            "noise has no closed form."
        )
    made = GaussianErrors(likelihood.event, 1.0, "element", floor=1e-6).to(likelihood.variance)
    made.own.put(likelihood.variance.detach().expand(likelihood.size))
    return made


def _known(
    system: System, x: Tensor, noise: Tensor | float | None, mask: Tensor | None, given: Context | None
) -> Context:
    """What the model of y is given of each row."""
    errors, covariates = (None, None) if given is None else (given.errors, given.covariates)
    if (noise is None) == (errors is None):
        want, got = ("a positive number, or one of each value", "none")
        if errors is not None:
            want, got = "none beside the known errors of the rows", "both"
        raise ValueError(f"denoise: noise: expected {want}, got {got}.")
    level = torch.as_tensor(errors if noise is None else noise)
    try:
        level = level.to(x.device, torch.promote_types(x.dtype, torch.float32)).expand(x.shape)
    except RuntimeError:
        got = tuple(level.shape)
        raise ValueError(f"denoise: noise: expected a number or the shape {tuple(x.shape)}, got {got}.") from None
    seen = torch.ones_like(level, dtype=torch.bool) if mask is None else mask.to(level.device)
    least = 0.0 if errors is not None and not isinstance(system, HasBase) else torch.finfo(level.dtype).tiny
    if bool((bad := seen & ~((level >= least) & level.isfinite())).any()):
        raise ValueError(f"denoise: noise: expected positive finite deviations, got {float(level[bad][0]):g}.")
    return Context(errors=torch.where(seen, level, 1.0), covariates=covariates)


def _as(x: Shaped[Tensor, "B *event"], model: LatentVariableModel) -> Tensor:
    return x.reshape(-1, *model.likelihood.event)


def _at_a_time(parts: Parts, batch: Batch, draws: int) -> int:
    first = batch.take(slice(1))
    each = bytes_per_draw(parts.model.given(first.context), first) + 3 * 8 * batch.x[0].numel()
    return max(1, MEMORY // (draws * each))


def _by_draws(system: _Noisy, batch: Batch, draws: int) -> tuple[Tensor, ...]:
    model = system.parts().model.given(batch.context)
    engines = (from_modes, from_hmc) if model.prior.continuous else DISCRETE[:1]
    latents = draw_latents(system, batch, draws, engines)
    weight = latents.log_w.exp().unsqueeze(-1)
    values, own = _given_latents(model, batch, latents.z)
    mean = (weight * values).sum(0)
    variance = (weight * (values - mean).square()).sum(0) + own
    r_hat = torch.ones_like(latents.effective) if latents.r_hat is None else latents.r_hat.nan_to_num(1.0, torch.inf)
    return mean, variance.sqrt(), latents.effective, (latents.effective >= FEW) & (r_hat <= APART)


def _by_mode(system: _Noisy, batch: Batch, draws: int) -> tuple[Tensor, ...]:
    parts = system.parts()
    require_continuous(parts.model, "denoise: by mode")
    model = parts.model.given(batch.context)
    q, info = Laplace(parts.inference, STEPS)(model, batch)[:2]
    mean, own = _given_latents(model, batch, q.center)
    slopes = _squared_slopes(lambda z: _given_latents(model, batch, z)[0], q.center, q.columns)
    return mean, (slopes + own).sqrt(), torch.full_like(mean[:, 0], torch.nan), ~not_ok(info["status"])


def _squared_slopes(function: Callable[[Tensor], Tensor], z: Tensor, columns: Float[Tensor, "D B D"]) -> Tensor:
    """``diag(J C C' J')`` of each row, by one derivative a column of C."""
    total = None
    for column in columns:
        slope = torch.func.jvp(function, (z,), (column,))[1]
        total = slope.square() if total is None else total + slope.square()
    assert total is not None
    return total


def _given_latents(model: LatentVariableModel, batch: Batch, z: Float[Tensor, "*S B D"]) -> tuple[Tensor, Tensor]:
    """``E[x | z, y]``, (*S, B, E), and ``Var[x | z, y]``, which depends on no z, (B, E)."""
    likelihood, known = model.likelihood, None if batch.context is None else batch.context.errors
    assert isinstance(likelihood, GaussianErrors)
    assert known is not None
    own, noise = likelihood.variance.detach(), known.flatten(1).square()
    share = torch.where(own + noise > 0, own / (own + noise), 1.0)
    seen = torch.ones_like(share, dtype=torch.bool) if batch.mask is None else batch.mask.flatten(1)
    center = likelihood.mean(model.decode(z)).flatten(z.ndim - 1)
    value = center + torch.where(seen, share, 0.0) * (batch.x.flatten(1) - center)
    return value, torch.where(seen, share * noise, own.expand_as(noise))
