"""What a model says of missing elements given the observed ones: means, intervals, draws, and how well they are known.

``p(x_missing | x_observed) = E_{p(z | x_observed)} p(x_missing | z)``, by weighted draws of z (``engines.py``).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Generator, Tensor

from curvae.argument_checks import check_counts
from curvae.distributions.moments import weighted_interval
from curvae.evaluation.draws import seeded_evaluation
from curvae.evaluation.likelihood.importance import bytes_per_draw
from curvae.evaluation.samples.engines import Engine, draw_latents, engines_for
from curvae.evaluation.samples.imputation import zero_missing_values
from curvae.evaluation.settings import MEMORY
from curvae.likelihoods import Bernoulli, Categorical, Likelihood, Mixed, Ordinal, nominal_columns
from curvae.model import LatentVariableModel
from curvae.objectives import completed
from curvae.posteriors import Draws
from curvae.systems import CanImpute, HasModel, System, require
from curvae.systems.device import batch_to_system, device_and_dtype
from curvae.typing import Batch, Context, PerDatum

DRAWS, CHAINS = 1000, 200
"""Of the latents of each example; of a system that fills in by itself (CanImpute)."""
FEW = 50
"""Effective draws below which an example is not to be trusted: ends of intervals are off by 3 points of probability."""
COPIES = 6
"""Values that each draw of an element takes on its way to quantiles."""
Own = Callable[[Shaped[Tensor, "N *event"]], Shaped[Tensor, "N *event"]]
"""From the model's units to others, element by element."""


class Conditionals(NamedTuple):
    """The law of each missing element given what was observed of its example; observed ones are as they were."""

    mean: Shaped[Tensor, "B *event"]
    """``E[x_e | x_observed]``; of categories, ordered or not, the most probable."""
    lower: Shaped[Tensor, "B *event"]
    """Lower end of the interval; NaN of categories without an order, and where observed."""
    upper: Shaped[Tensor, "B *event"]
    probability: Shaped[Tensor, "B *event"]
    """Of the most probable value of a category, or of 0 and 1; else NaN."""
    drawn: Shaped[Tensor, "M B *event"]
    """Completed examples: what is missing is drawn together."""
    effective: PerDatum
    """Effective draws of the latents; NaN where nothing is missing, or the system fills in by itself."""
    r_hat: PerDatum
    """Of chains the largest split R-hat among the latents; else NaN."""


def conditionals(
    system: System,
    x: Shaped[Tensor, "B *event"],
    mask: Bool[Tensor, "B *event"],
    draws: int = 0,
    level: float = 0.9,
    seed: int = 0,
    own: Own | None = None,
    samples: int = DRAWS,
    context: Context | None = None,
    by_mask: bool = True,
    by: str = "modes",
) -> Conditionals:
    r"""Means, intervals and draws of ``p(x_missing | x_observed)``.

    With draws ``z_s`` whose weights are ``w_s ~ p(z_s, x_observed) / q(z_s)``, the mean is ``sum_s w_s E[x | z_s]``, an
    interval lies between weighted quantiles of ``x_s ~ p(x | z_s)``, and a completed example takes a ``z_s`` by its
    weight and x_missing from ``p(x | z_s)``, all elements together. The z come from Laplace posteriors at the modes,
    which see a mask in the likelihood alone, so that a system may have been trained without one; where these leave few
    of them effective, from the system's own posterior, too; where nothing was observed, from the prior. A system that
    fills in by itself (CanImpute) gives 200 draws.

    ``by`` asks other engines: ``"encoder"``, weighted draws of the system's own posterior alone, as systems that were
    trained with holes have one; ``"chains"``, Metropolis within Gibbs, with R-hat (:func:`curvae.evaluation.impute`).

    Of a system that has learned p(mask | x) it is ``p(x_missing | x_observed, mask)``: each x_s from ``p(x | z_s)`` is
    weighted by ``p(mask | x_s)``, too, and means are those of x_s.

    Reference: Mattei and Frellsen, *MIWAE: Deep Generative Modelling and Imputation of Incomplete Data Sets*, ICML
    2019; with p(mask | x) Ipsen, Mattei and Frellsen, ICLR 2021, where single values are weighted means of E[x | z_s]:
    these are no means of what is missing by its own size. Differences: any proposal, and intervals.

    Args:
        system: a trained system, left as it is.
        x: data in model space, anything where they are missing.
        mask: True where observed.
        draws: M, completed examples.
        level: probability that an interval holds.
        seed: of all draws.
        own: units of the mean where the way to them is not affine; intervals and draws stay in the model's.
        samples: S, of each example.
        context: what is known of each row, for a model that is given it.
        by_mask: whether what is missing went missing by p(mask | x), where the system has one; not where it was
            merely left out.
        by: "modes", "encoder" or "chains".

    Raises:
        ValueError: a negative number of draws, a level outside (0, 1), a system without a model (HasModel), an
            autoregressive decoder, or data that are not finite where observed; no such word for ``by``, or another
            than "modes" for a system that fills in by itself.

    Example:
        >>> from curvae.systems import vae
        >>> from curvae.typing import DataSpec
        >>> system, x = vae(DataSpec((5,)), latent=2, hidden=8), torch.randn(3, 5)
        >>> mask = torch.tensor([True, True, True, False, False]).expand(3, 5)
        >>> found = conditionals(system, x, mask, draws=20)
        >>> found.drawn.shape, torch.equal(found.mean[:, :3], x[:, :3])
        (torch.Size([20, 3, 5]), True)
    """
    check_counts("impute", draws=draws or None, samples=samples)
    if not 0 < level < 1:
        raise ValueError(f"impute: level must be a probability in (0, 1); got {level}.")
    seen, mask = zero_missing_values("impute", x, mask), mask.to(device_and_dtype(system)[0])
    batch = batch_to_system(system, Batch.of(seen, mask, context))
    engines, asked = engines_for(by), _Asked(draws, level, own, samples, by_mask)
    with seeded_evaluation(system, seed) as generator:
        found, rows = _as_observed(batch.x, mask, draws), (~mask.flatten(1).all(1)).nonzero()[:, 0]
        if isinstance(system, CanImpute):
            if by != "modes":
                raise ValueError(f"impute: by: {type(system).__name__} fills in by itself; leave {by!r} out.")
            _put(found, rows, _by_system(system, batch.x[rows], mask[rows], asked, generator))
            return found
        able = require(system, HasModel, "impute")
        model = able.parts().model
        if model.autoregressive:
            raise ValueError("impute: expected a decoder of latents alone, got one that also sees x.")
        for some in rows.split(_at_a_time(model, batch, max(samples, draws))) if len(rows) else ():
            _put(found, some, _by_latents(able, batch.take(some), asked, engines))
    return found


class _Asked(NamedTuple):
    draws: int
    level: float
    own: Own | None
    samples: int
    by_mask: bool


def _at_a_time(model: LatentVariableModel, batch: Batch, samples: int) -> int:
    each = bytes_per_draw(model, batch.take(slice(1))) + COPIES * 8 * batch.x[0].numel()
    return max(1, MEMORY // (samples * each))


def _as_observed(x: Tensor, mask: Tensor, draws: int) -> Conditionals:
    """With room for what is missing."""
    gap = torch.full(x.shape, torch.nan, dtype=x.dtype if x.is_floating_point() else torch.float32, device=x.device)
    mean = torch.where(mask, x.to(gap.dtype), gap)
    drawn = mean.expand(draws, *x.shape).clone()
    of_row = gap.flatten(1)[:, 0]
    return Conditionals(mean, gap.clone(), gap.clone(), gap.clone(), drawn, of_row.clone(), of_row.clone())


def _put(found: Conditionals, rows: Int[Tensor, " R"], part: Conditionals) -> None:
    """Write what is known of some rows."""
    for name, value in part._asdict().items():
        room = getattr(found, name)
        if name == "drawn":
            room[:, rows] = value.to(room)
        else:
            room[rows] = value.to(room)


def _by_latents(system: HasModel, batch: Batch, asked: _Asked, engines: Sequence[Engine]) -> Conditionals:
    x, mask, law = batch.x, batch.mask, system.parts().missingness
    assert mask is not None
    model, event = system.parts().model.given(batch.context), x.shape[1:]
    seen, known = (value.reshape(-1, *model.likelihood.event) for value in (x, mask))
    latents = draw_latents(system, Batch.of(seen, known, batch.context), asked.samples, engines)
    eta = model.decode(latents.z)
    values = _drawn(model, eta)
    if law is not None and asked.by_mask:
        values = completed(seen.flatten(1), known.flatten(1), values)
        latents = latents.reweighted(values, law.log_prob(known.flatten(1), values))
        center, probability = (latents.log_w.exp().unsqueeze(-1) * values).sum(0), torch.full_like(values[0], torch.nan)
        drawn = latents.resampled(asked.draws)
    else:
        center, probability = _centers(model.likelihood, eta, values, latents.log_w.exp())
        drawn = _drawn(model, model.decode(latents.resampled(asked.draws)))
    if asked.own is not None:
        center = _average(asked.own, values.unflatten(-1, event), latents.log_w.exp()).flatten(1)
    ends = weighted_interval(Draws(values, latents.log_w, latents.log_w), asked.level)
    low, high = (end.index_fill(1, _nominal(model.likelihood, end), torch.nan) for end in ends)
    r_hat = torch.full_like(latents.effective, torch.nan) if latents.r_hat is None else latents.r_hat
    made = Conditionals(center, low, high, probability, drawn, latents.effective, r_hat)
    return _where_missing(made, x, mask, asked.own)


def _by_system(system: CanImpute, x: Tensor, mask: Tensor, asked: _Asked, generator: Generator) -> Conditionals:
    values = system.impute(x, mask, max(CHAINS, asked.draws), generator)
    weight = torch.full(values.shape[:2], 1 / len(values), dtype=values.dtype, device=values.device)
    center = _average(asked.own or (lambda drawn: drawn), values, weight)
    flat = values.flatten(2)
    low, high = weighted_interval(Draws(flat, weight.log(), weight.log()), asked.level)
    unknown = torch.full_like(low, torch.nan)
    made = Conditionals(center, low, high, unknown, flat[: asked.draws], unknown[:, 0], unknown[:, 0])
    return _where_missing(made, x, mask, asked.own)


def _where_missing(made: Conditionals, x: Tensor, mask: Tensor, own: Own | None) -> Conditionals:
    """In the shape of the data, with what was observed in its place."""
    mean, low, high, probability = (value.reshape(x.shape) for value in made[:4])
    there = x.to(mean.dtype)
    low, high, probability = (torch.where(mask, torch.nan, value) for value in (low, high, probability))
    mean = torch.where(mask, there if own is None else own(there).to(mean.dtype), mean)
    drawn = torch.where(mask, there, made.drawn.reshape(-1, *x.shape).to(mean.dtype))
    return made._replace(mean=mean, lower=low, upper=high, probability=probability, drawn=drawn)


def _drawn(model: LatentVariableModel, eta: Float[Tensor, "S B P"]) -> Float[Tensor, "S B E"]:
    return model.likelihood.sample(eta).to(eta.dtype).flatten(2)


def _average(own: Own, drawn: Tensor, weight: Float[Tensor, "S B"]) -> Tensor:
    """``sum_s w_s own(x_s)``, (B, *event)."""
    values = own(drawn.flatten(0, 1)).unflatten(0, drawn.shape[:2])
    return (weight.reshape(*weight.shape, *[1] * (values.ndim - 2)) * values).sum(0)


def _centers(
    likelihood: Likelihood, eta: Float[Tensor, "S B P"], drawn: Float[Tensor, "S B E"], weight: Float[Tensor, "S B"]
) -> tuple[Float[Tensor, "B E"], Float[Tensor, "B E"]]:
    """Means, and of categories the most probable one; then the probability of the most probable value, or NaN."""
    if isinstance(likelihood, Mixed):
        groups = zip(likelihood.parted(), eta.split(likelihood.sizes, -1), strict=True)
        found = [_centers(part, of, drawn[..., columns], weight) for (part, columns), of in groups]
        order = torch.tensor([column for _, some in likelihood.parted() for column in some]).argsort()
        center, probability = (torch.cat(each, -1)[..., order.to(eta.device)] for each in zip(*found, strict=True))
        return center, probability
    if isinstance(likelihood, Categorical | Ordinal):
        shares = _shares(likelihood, eta, drawn, weight)
        return shares.argmax(-1).to(eta.dtype), shares.amax(-1)
    mean = (weight.unsqueeze(-1) * likelihood.mean(eta).flatten(2)).sum(0)
    known = torch.maximum(mean, 1 - mean) if isinstance(likelihood, Bernoulli) else torch.full_like(mean, torch.nan)
    return mean, known


def _shares(likelihood: Categorical | Ordinal, eta: Tensor, drawn: Tensor, weight: Tensor) -> Float[Tensor, "B E K"]:
    """Probabilities of categories; of ordered ones the shares among draws."""
    if isinstance(likelihood, Categorical):
        each = likelihood.mean(eta).flatten(2, -2)
    else:
        each = torch.nn.functional.one_hot(drawn.long(), likelihood.categories).to(eta.dtype)
    return torch.einsum("sb,sbek->bek", weight, each)


def _nominal(likelihood: Likelihood, values: Float[Tensor, "B E"]) -> Int[Tensor, " K"]:
    """Elements whose values have no order."""
    found = range(values.shape[1]) if isinstance(likelihood, Categorical) else nominal_columns(likelihood)
    return torch.tensor([*found], dtype=torch.long, device=values.device)
