"""Where networks start: at a linear model that is known in closed form, or at random."""

import logging
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from curvae.inference import AffinePosterior, m_step, start_at
from curvae.likelihoods import (
    Gaussian,
    GaussianErrors,
    NegativeBinomial,
    StartsAtLinear,
    ZeroInflatedNegativeBinomial,
)
from curvae.linalg import regression
from curvae.linear import LinearGaussian
from curvae.networks import (
    ContextDecoder,
    ContextEncoder,
    FlowDecoder,
    Front,
    MaskedDecoder,
    linear_capacity,
    over_exposure,
    write_affine,
)
from curvae.priors import StartsAtEncoded, StartsAtNormal
from curvae.systems.counted import counted
from curvae.systems.device import batch_to_system, evaluating
from curvae.systems.stages import Prepared, initialize_likelihood
from curvae.typing import Batch, Table, Tables

log = logging.getLogger("curvae")
DISPERSION_ROWS = 512
"""By which the dispersion of counts starts."""


def start_for(word: str, *own: nn.Module | None) -> Prepared:
    """What a word of a system's signature stands for; networks of the user's own start as they are.

    Raises:
        ValueError: no such word.
    """
    if word not in ("linear", "random"):
        raise ValueError(f"start: expected linear or random; got {word!r}.")
    if word == "random":
        return initialize_likelihood
    return LinearStart() if all(network is None for network in own) else start_as_it_is


def start_as_it_is(system: Any, data: Tables) -> None:
    """The likelihood starts from the data, networks as they were made; a line of the log says so."""
    log.info("%s starts as it is: it has networks of your own, which no linear model is written into.", _name(system))
    initialize_likelihood(system, data)


@dataclass(frozen=True)
class LinearStart:
    r"""Decoder, encoder and likelihood start at a linear model of the training data that is fitted in closed form.

    For a Gaussian likelihood that is exact: a ReLU network can carry values linearly
    (:func:`curvae.networks.write_affine`), and with its latents rotated the posterior of probabilistic PCA, or of
    factor analysis, is a diagonal Gaussian whose mean is linear in x and whose variance is constant. So before the
    first step ELBO = log p(x) = the linear model's, for every row. Of several candidates the one with the higher
    log-likelihood of the validation data is taken. Other likelihoods start at the linear model of their natural
    parameters to first order.

    Rows count as often as their weights say. Known errors are known to the linear model, too; counts with an exposure
    are fitted over it, and of a Gaussian with covariates what these do to x is taken off first, by least squares.

    A prior that can start at N(0, I) does, which keeps this exact; one that starts from data starts after the networks.

    Where the networks are too narrow for all latents, or the data for as many, the other latents start unused. Where
    nothing can be written (another prior, another kind of network) all starts at random, and a line of the log says so.
    """

    def __call__(self, system: Any, data: Tables) -> None:
        prior, likelihood = system.model.prior, system.model.likelihood
        effects = _effects(system.model, data.train)
        size = min(linear_capacity(_network(system.model.decoder)) - effects.count, sum(prior.blocks))
        known = isinstance(prior, StartsAtNormal | StartsAtEncoded) and system.model.outputs == likelihood.outputs
        if not (size > 0 and isinstance(likelihood, StartsAtLinear) and known):
            log.info("%s starts at random: its decoder or prior cannot start at a linear model.", _name(system))
            return initialize_likelihood(system, data)
        rows = counted(data.train)
        fitted = likeliest_model(_fits(likelihood, effects.off(rows), size), likelihood, effects.off(data.validation))
        deviation = fitted.posterior_variance.sqrt()
        unit = prior.start_from(deviation) if isinstance(prior, StartsAtNormal) else torch.ones_like(deviation)
        _write_decoder(system, fitted, unit, effects)
        x = over_exposure(effects.off(rows).x, rows.context)
        if not start_at(system.inference, _posterior(fitted, unit, likelihood, x, rows, system.inference)):
            log.info("%s: the decoder starts at a linear model, the encoder at random.", _name(system))
        _start_dispersion(system, rows)


class Effects(NamedTuple):
    """``A (c - center)``: what covariates do to x, linearly."""

    slope: Float[Tensor, "P C"] | None = None
    center: Float[Tensor, " C"] | None = None

    @property
    def count(self) -> int:
        """C, 0 where nothing is known of them."""
        return 0 if self.slope is None else self.slope.shape[1]

    def off(self, rows: Table | Batch) -> Batch:
        """Rows less what covariates do to them."""
        batch = Batch.of(rows.x, rows.mask, rows.context)
        if self.slope is None or self.center is None or rows.context is None or rows.context.covariates is None:
            return batch
        done = (rows.context.covariates.double() - self.center) @ self.slope.mT
        return batch._replace(x=(rows.x.double() - done.reshape(rows.x.shape)).to(rows.x))


def _effects(model: Any, table: Table) -> Effects:
    """By least squares, of a Gaussian whose decoder is given covariates, and nothing missing; else none."""
    known = isinstance(model.likelihood, Gaussian | GaussianErrors) and isinstance(model.decoder, ContextDecoder)
    rows = counted(table)
    if not known or rows.mask is not None or rows.context is None or rows.context.covariates is None:
        return Effects()
    x, c = rows.x.flatten(1).double(), rows.context.covariates.double()
    center = c.mean(0)
    return Effects(regression(c - center, x - x.mean(0)), center)


def likeliest_model(fits: tuple[LinearGaussian, ...], likelihood: Any, held_out: Table | Batch) -> LinearGaussian:
    """The model under which held-out data are likeliest."""
    if len(fits) == 1:
        return fits[0]
    features = likelihood.linear_features(held_out.x)
    mask = None if held_out.mask is None else likelihood.flat(held_out.mask)
    return max(fits, key=lambda fit: float(fit.log_prob(features, mask).mean()))


def _write_decoder(system: Any, fitted: LinearGaussian, unit: Float[Tensor, " D"], effects: Effects) -> None:
    """That of latents in these units, and of covariates beside them."""
    model, size = system.model, fitted.weight.shape[1]
    weight, bias = model.likelihood.start_from(fitted)
    inward, outward = torch.eye(size, sum(model.prior.blocks), dtype=weight.dtype), weight * unit
    if effects.slope is not None and effects.center is not None:
        inward = torch.block_diag(inward, torch.eye(effects.count, dtype=weight.dtype))
        outward, bias = torch.cat([outward, effects.slope], 1), bias - effects.slope @ effects.center
    write_affine(_network(model.decoder), inward, weight.new_zeros(len(inward)), outward, bias)


def _start_dispersion(system: Any, rows: Batch) -> None:
    """That of counts becomes the likeliest under the posteriors that inference starts at, over some rows."""
    likelihood = system.model.likelihood
    own = likelihood.counts if isinstance(likelihood, ZeroInflatedNegativeBinomial) else likelihood
    if isinstance(own, NegativeBinomial) and own.starts_from_data:
        some = torch.linspace(0, len(rows.x) - 1, min(len(rows.x), DISPERSION_ROWS)).long()
        with evaluating(system):
            m_step(system.model, system.inference, batch_to_system(system, rows.take(some)))


def _network(decoder: nn.Module) -> nn.Module:
    """What is written into: behind a flow of codes, which starts at the identity, or beside pixels, which say nothing
    at first, what decodes the latents."""
    return decoder.network if isinstance(decoder, FlowDecoder | MaskedDecoder) else decoder


def _fits(likelihood: Any, rows: Batch, size: int) -> tuple[LinearGaussian, ...]:
    """The candidates, of counts over their exposure, beside known errors."""
    x = over_exposure(rows.x, rows.context)
    if rows.context is None or rows.context.errors is None:
        return likelihood.linear_fits(x, size, rows.mask)
    return likelihood.linear_fits(x, size, rows.mask, rows.context.errors)


def _posterior(
    fitted: LinearGaussian,
    unit: Float[Tensor, " D"],
    likelihood: Any,
    x: Float[Tensor, "N *event"],
    rows: Batch,
    inference: nn.Module,
) -> AffinePosterior:
    """That of latents in these units, given what was modelled, as a function of what the encoder sees; by least squares
    where the two are not the same."""
    log_scale = 0.5 * fitted.posterior_variance.log() - unit.log()
    inward, mean, noise = fitted.posterior_map / unit.unsqueeze(1), fitted.mean, fitted.noise
    if not _is_modelled(likelihood, inference, x[:100], rows.take(slice(100))):
        flat, target = _seen(inference, rows).double(), (likelihood.linear_features(x) - mean) @ inward.mT
        mean, noise = flat.mean(0), None
        inward = regression(flat - mean, target)
    return AffinePosterior(inward, -inward @ mean, log_scale, noise)


def _seen(inference: nn.Module, rows: Batch) -> Float[Tensor, "N I"]:
    """What the encoder's first layer is given."""
    for module in inference.modules():
        if isinstance(module, ContextEncoder):
            return module.seen(rows.x, rows.context)
        if isinstance(module, Front):
            return module(rows.x).flatten(1)
    return rows.x.flatten(1)


def _is_modelled(likelihood: Any, inference: nn.Module, x: Float[Tensor, "N *event"], rows: Batch) -> bool:
    """Whether an encoder sees what the linear model is a model of."""
    features, seen = likelihood.linear_features(x), _seen(inference, rows).double()
    return features.shape == seen.shape and bool(torch.allclose(features, seen, atol=1e-5))


def _name(system: Any) -> str:
    return type(system).__name__ if system.recipe is None else system.recipe.name
