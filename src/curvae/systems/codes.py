"""Autoencoders whose codes are modelled afterwards: the phases of their training, and what they say of a code."""

import logging
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from curvae.flows import Autoregressive, Composed, Whitening, spline
from curvae.inference import CodePoint, decoder_of
from curvae.likelihoods import HasNoise, StartsAtLinear
from curvae.linear import LinearGaussian
from curvae.networks import FlowDecoder, linear_capacity, write_affine
from curvae.objectives import Bound
from curvae.systems.base import LatentSystem
from curvae.systems.flow_density import whitening_at
from curvae.systems.stages import Stage
from curvae.typing import Batch, PerDatum, Table, Tables

log = logging.getLogger("curvae")

ENCODER, DECODER, FLOW = "inference.start.encoder", "model.decoder.network", "model.decoder.flow"
"""Where the parts of such a system are."""
WIDTHS = (64, 64)
"""Of the networks in the couplings of codes."""
ROWS = 4096
"""At a time."""
RIDGE = 1e-6
"""Added to the covariance of codes, relative to its mean variance."""


class CodeSystem(LatentSystem):
    """A latent-variable model of an autoencoder: its latents are the noise of the flow of its codes."""

    @property
    def codes(self) -> CodePoint:
        """The autoencoder."""
        point = self.get_submodule("inference.start")
        assert isinstance(point, CodePoint)
        return point

    def code_log_prob(self, x: Float[Tensor, "B *event"], mask: Tensor | None = None) -> PerDatum:
        """``log p(E(x))`` under the flow, nats: a score of how usual an example is, not a density of x."""
        seen = x if mask is None else torch.where(mask, x, torch.zeros_like(x))
        return self.codes.log_prob(self.model, Batch.of(seen, mask))


def code_decoder(latent: int, network: nn.Module, steps: int) -> FlowDecoder:
    """The decoder of codes behind their flow: whitening, then spline couplings that start at the identity."""
    parts: list[Any] = [Whitening(latent, latent)]
    if steps:
        parts.append(Autoregressive(latent, 0, steps, WIDTHS, spline(), min(2, latent)))
        parts[1].start_at_identity(torch.zeros(0, 0), torch.zeros(0))
    return FlowDecoder(Composed(parts), network)


def reconstruction_bound(system: CodeSystem, batch: Batch) -> Bound:
    """``log p(x | D(E(x)))`` with the likelihood as it stands: of a Gaussian one the squared error, but for constants.

    No bound of log p(x): what is reported is NaN.
    """
    eta = system.codes.decoded(system.model, batch)
    return _unreported(system.model.likelihood.log_prob(batch.x, eta, batch.mask))


def code_density_bound(system: CodeSystem, batch: Batch) -> Bound:
    """``log p(E(x))`` under the flow."""
    return _unreported(system.codes.log_prob(system.model, batch))


def _unreported(surrogate: PerDatum) -> Bound:
    return Bound(torch.full_like(surrogate.detach(), torch.nan), surrogate)


def two_stages(start: str, flows: int, *own: nn.Module | None) -> tuple[Stage, ...]:
    """Reconstruct; then fit the flow to codes; then measure the noise on the validation data.

    Networks of the user's ``own`` start as they are.

    Raises:
        ValueError: no such word for a start.
    """
    if start not in ("linear", "random"):
        raise ValueError(f"start: expected linear or random; got {start!r}.")
    begin = start_codes if start == "linear" and all(each is None for each in own) else None
    parts = (ENCODER, DECODER)
    first = Stage(
        "autoencoder", parts, reconstruction_bound, monitor="surrogate", share=0.6 if flows else 1.0, start=begin
    )
    second = Stage("flow", (FLOW,), code_density_bound, monitor="surrogate", share=0.4, prepare=(whiten,))
    last = Stage(
        "noise", ("model.likelihood",), share=0, prepare=(held_out_noise,) if flows else (whiten, held_out_noise)
    )
    return (first, second, last) if flows else (first, last)


@torch.no_grad()
def start_codes(system: CodeSystem, data: Tables) -> None:
    """Encoder and decoder start at principal components: ``D(E(x))`` is the best linear reconstruction.

    Of data that are not real, the decoder starts at those of their natural parameters to first order.
    """
    likelihood, encoder, network = system.model.likelihood, system.codes.encoder, decoder_of(system.model).network
    latent = system.model.prior.size
    size = min(linear_capacity(encoder), linear_capacity(network), latent)
    if not (size and isinstance(likelihood, StartsAtLinear)) or system.model.likelihood.size != data.train.x[0].numel():
        name = system.recipe.name if system.recipe else type(system).__name__
        log.info("%s starts at random: its networks cannot start at a linear model.", name)
        return
    fits = likelihood.linear_fits(data.train.x, size, data.train.mask)
    model, square = fits[0], torch.eye(latent, fits[0].weight.shape[1]).to(fits[0].weight)
    inward = torch.linalg.pinv(model.weight)
    weight, bias = likelihood.start_from(model)
    write_affine(encoder, inward, -inward @ model.mean, square, square.new_zeros(latent))
    write_affine(network, square.mT, square.new_zeros(square.shape[1]), weight, bias)


@torch.no_grad()
def whiten(system: CodeSystem, data: Tables) -> None:
    """The flow starts at the mean and the covariance of the training rows' codes."""
    codes = torch.cat([system.codes.code(batch) for batch in _batches(system, data.train)]).double()
    covariance = torch.cov(codes.mT).reshape(codes.shape[1], -1)
    ridge = RIDGE * covariance.diagonal().mean().clamp(min=1e-6)
    fit = LinearGaussian.of(codes.mean(0), covariance + ridge * torch.eye(len(covariance)).to(covariance))
    whitening_at(system, f"{FLOW}.flows.0").start_from(fit)


@torch.no_grad()
def held_out_noise(system: CodeSystem, data: Tables) -> None:
    """The likelihood's own parameters from what the autoencoder leaves of the *validation* rows.

    Of training rows it leaves less: a noise from there would be too sure.
    """
    if not isinstance(system.model.likelihood, HasNoise):
        return
    eta = torch.cat([system.codes.decoded(system.model, batch) for batch in _batches(system, data.validation)])
    x, mask = data.validation.x.to(eta), data.validation.mask
    system.model.likelihood.maximize(x, eta, mask)


def _batches(system: nn.Module, table: Table) -> list[Batch]:
    like = next(system.parameters())
    x, mask = table.x.to(like.device, like.dtype), table.mask
    parts = x.split(ROWS)
    masks = [None] * len(parts) if mask is None else mask.split(ROWS)
    return [Batch.of(part, seen) for part, seen in zip(parts, masks, strict=True)]
