"""Where networks start: at a linear model that is known in closed form, or at random."""

import logging
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from curvae.inference import AffinePosterior, start_at
from curvae.likelihoods import StartsAtLinear
from curvae.linear import LinearGaussian
from curvae.networks import ContextEncoder, FlowDecoder, Front, MaskedDecoder, carried, over_exposure, write_affine
from curvae.priors import StartsAtEncoded, StartsAtNormal
from curvae.systems.counted import counted
from curvae.systems.stages import Prepared, initialize_likelihood
from curvae.typing import Batch, Table, Tables

log = logging.getLogger("curvae")


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

    A prior that can start at N(0, I) does, which keeps this exact; one that starts from data starts after the networks.

    Where the networks are too narrow for all latents, or the data for as many, the other latents start unused. Where
    nothing can be written (another prior, another kind of network) all starts at random, and a line of the log says so.
    """

    def __call__(self, system: Any, data: Tables) -> None:
        prior, likelihood = system.model.prior, system.model.likelihood
        size = min(carried(_network(system.model.decoder)), sum(prior.blocks))
        known = isinstance(prior, StartsAtNormal | StartsAtEncoded) and system.model.outputs == likelihood.outputs
        if not (size and isinstance(likelihood, StartsAtLinear) and known):
            log.info("%s starts at random: its decoder or prior cannot start at a linear model.", _name(system))
            return initialize_likelihood(system, data)
        rows = counted(data.train)
        fitted = best(_fits(likelihood, rows, size), likelihood, data.validation)
        deviation = fitted.posterior_variance.sqrt()
        unit = prior.start_from(deviation) if isinstance(prior, StartsAtNormal) else torch.ones_like(deviation)
        _write_decoder(system, fitted, unit)
        if not start_at(system.inference, _posterior(fitted, unit, likelihood, rows, system.inference)):
            log.info("%s: the decoder starts at a linear model, the encoder at random.", _name(system))


def best(fits: tuple[LinearGaussian, ...], likelihood: Any, held_out: Table) -> LinearGaussian:
    """The model under which held-out data are likeliest."""
    if len(fits) == 1:
        return fits[0]
    features = likelihood.linear_features(held_out.x)
    mask = None if held_out.mask is None else likelihood.flat(held_out.mask)
    return max(fits, key=lambda fit: float(fit.log_prob(features, mask).mean()))


def _write_decoder(system: Any, fitted: LinearGaussian, unit: Float[Tensor, " D"]) -> None:
    """That of latents in these units."""
    model, size = system.model, fitted.weight.shape[1]
    weight, bias = model.likelihood.start_from(fitted)
    inward = torch.eye(size, sum(model.prior.blocks), dtype=weight.dtype)
    write_affine(_network(model.decoder), inward, weight.new_zeros(size), weight * unit, bias)


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
    fitted: LinearGaussian, unit: Float[Tensor, " D"], likelihood: Any, rows: Batch, inference: nn.Module
) -> AffinePosterior:
    """That of latents in these units, as a function of what the encoder sees; by least squares where that is not what
    was modelled."""
    log_scale = 0.5 * fitted.posterior_variance.log() - unit.log()
    inward, mean, noise = fitted.posterior_map / unit.unsqueeze(1), fitted.mean, fitted.noise
    if not _is_modelled(likelihood, inference, rows.take(slice(100))):
        features = likelihood.linear_features(over_exposure(rows.x, rows.context))
        flat, target = _seen(inference, rows).double(), (features - mean) @ inward.mT
        mean, noise = flat.mean(0), None
        inward = torch.linalg.lstsq(flat - mean, target).solution.mT
    return AffinePosterior(inward, -inward @ mean, log_scale, noise)


def _seen(inference: nn.Module, rows: Batch) -> Float[Tensor, "N I"]:
    """What the encoder's first layer is given."""
    for module in inference.modules():
        if isinstance(module, ContextEncoder):
            return module.seen(rows.x, rows.context)
        if isinstance(module, Front):
            return module(rows.x).flatten(1)
    return rows.x.flatten(1)


def _is_modelled(likelihood: Any, inference: nn.Module, rows: Batch) -> bool:
    """Whether an encoder sees what the linear model is a model of."""
    features, seen = likelihood.linear_features(rows.x), _seen(inference, rows).double()
    return features.shape == seen.shape and bool(torch.allclose(features, seen, atol=1e-5))


def _name(system: Any) -> str:
    return type(system).__name__ if system.recipe is None else system.recipe.name
