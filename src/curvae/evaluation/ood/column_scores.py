"""Which columns of a row are unusual, given its other columns."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from curvae.argument_checks import check_counts
from curvae.evaluation.draws import seeded_evaluation
from curvae.evaluation.samples.engines import draw_latents, from_modes, from_one_mode
from curvae.likelihoods import nominal_columns
from curvae.model import LatentVariableModel
from curvae.systems import HasModel, System, require
from curvae.typing import Batch, Context


class ColumnScores(NamedTuple):
    """Each column given the others of its row; NaN where it was not observed."""

    log_prob: Float[Tensor, "B P"]
    """``log p(x_j | x_others)``, nats."""
    expected: Float[Tensor, "B P"]
    """``E[x_j | x_others]``, in the model's units; NaN of categories."""
    deviations: Float[Tensor, "B P"]
    """``(x_j - expected) / standard deviation``; NaN of categories."""


def column_scores(
    system: System,
    x: Shaped[Tensor, "B *event"],
    mask: Bool[Tensor, "B *event"] | None = None,
    draws: int = 200,
    seed: int = 0,
    context: Context | None = None,
) -> ColumnScores:
    r"""The law of each column given the other columns of its row, ``p(x_j | x_{-j}) = E_{p(z | x_{-j})} p(x_j | z)``.

    For one column after the other z is inferred from the others alone; the draws of that posterior are weighted by
    ``p(z, x_{-j}) / q(z)``; q is a Laplace posterior at the mode, as an encoder that never saw a gap may be far off
    (:func:`curvae.evaluation.draw_latents`). So a column that is wrong does not explain itself, as it does in a
    reconstruction error: there the latents have seen it.

    Args:
        system: a trained system, left as it is.
        x: data in model space.
        mask: True where observed.
        draws: for each row and column; a standard deviation of a column has a relative error of some ``0.7 / sqrt(n)``.
        seed: of all draws.
        context: what is known of each row, for a model that is given it.

    Raises:
        ValueError: fewer than 2 draws, a system without a model (HasModel), or an autoregressive decoder.

    Example:
        >>> from curvae.systems import vae
        >>> from curvae.typing import DataSpec
        >>> system = vae(DataSpec((5,)), latent=2, hidden=8)
        >>> column_scores(system, torch.randn(3, 5)).deviations.shape
        torch.Size([3, 5])
    """
    check_counts("column_scores", draws=draws)
    if draws < 2:
        raise ValueError(f"column_scores: draws must be 2 or more; got {draws}.")
    able = require(system, HasModel, "column_scores")
    if able.parts().model.autoregressive:
        raise ValueError("column_scores: expected a decoder of latents alone, got one that also sees x.")
    seen = torch.ones_like(x, dtype=torch.bool) if mask is None else mask
    with seeded_evaluation(system, seed):
        columns = [_column(able, x, seen, context, j, draws) for j in range(x[0].numel())]
    scores = ColumnScores(*(torch.stack(each, 1) for each in zip(*columns, strict=True)))
    return ColumnScores(*(torch.where(seen.flatten(1), each, torch.nan) for each in scores))


def _column(
    system: HasModel, x: Tensor, seen: Tensor, context: Context | None, j: int, draws: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-density, mean and deviations of one column, (B,) each."""
    model = system.parts().model.given(context)
    others, alone = seen.flatten(1).clone(), torch.zeros_like(seen.flatten(1))
    others[:, j], alone[:, j] = False, True
    others, alone = others.reshape(x.shape), alone.reshape(x.shape)
    batch = Batch.of(torch.where(others, x, torch.zeros_like(x)), others, context)
    found = draw_latents(system, batch, draws, (from_one_mode, from_modes))
    eta = model.decode(found.z)
    log_prob = torch.logsumexp(found.log_w + model.likelihood.log_prob(x, eta, alone), 0)
    mean, variance = _moments(model, eta, found.log_w.exp(), j)
    return log_prob, mean, (x.flatten(1)[:, j] - mean) / variance.sqrt()


def _moments(
    model: LatentVariableModel, eta: Float[Tensor, "S B P"], weight: Float[Tensor, "S B"], j: int
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """Mean and variance of a column over weighted draws of z, and one draw of x for each of them."""
    likelihood = model.likelihood
    means = likelihood.mean(eta)
    if means.ndim > eta.ndim - 1 + len(likelihood.event):
        return torch.full_like(weight[0], torch.nan), torch.full_like(weight[0], torch.nan)
    means, drawn = (value.flatten(2)[..., j] for value in (means, likelihood.sample(eta).to(eta.dtype)))
    mean = (weight * means).sum(0)
    if j in nominal_columns(likelihood):
        mean = torch.full_like(mean, torch.nan)
    return mean, (weight * (drawn - mean).square()).sum(0)
