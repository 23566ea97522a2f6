"""Whether an adopted model is the model that it was: its own ELBO and ours, on the same rows and the same noise."""

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from curvae.distributions.transformed import PushforwardPosterior
from curvae.linalg import standard_normal_log_prob
from curvae.model import LatentVariableModel
from curvae.posteriors import GaussianPosterior, Posterior, kl, representative_point
from curvae.systems import LatentSystem
from curvae.systems.device import batch_to_system
from curvae.typing import Batch

TOLERANCE = 1e-6
"""Largest relative difference of two numbers that are the same, in float64."""
ROWS = 8
"""That are compared."""
SEED = 0
"""Of the noise."""

Elbo = Callable[[Batch, Tensor], Tensor]
"""Rows and standard normal noise (B, D) of their posteriors, in float64, to the ELBO of each, (B,) nats."""


class AdoptionError(ValueError):
    """A trained model whose conventions are not those that were said: one line that names the one it suspects."""


class SourceModel(NamedTuple):
    """What a trained model says of itself, in float64: its ELBO, or where it has none what its networks give."""

    elbo: Elbo | None = None
    code: Callable[[Tensor], Tensor] | None = None
    """Rows to the points (B, D) that stand for their posteriors."""
    mean: Callable[[Tensor], Tensor] | None = None
    """Latents (B, D) to E[x | z], flat, (B, P)."""


class Suspect(NamedTuple):
    """A convention that may be another one than was said."""

    words: str
    """What it would be, and how to say so; behind "equal if"."""
    elbo: Elbo
    """Ours, if it were so."""


class Proof(NamedTuple):
    """What was compared, and by how much it differed at most."""

    compared: str
    difference: float
    """Relative."""


@torch.no_grad()
def prove(
    system: LatentSystem,
    source: SourceModel,
    batch: Batch,
    suspects: Iterable[Suspect] = (),
    as_source: Callable[[LatentSystem], None] | None = None,
) -> Proof:
    """Compare a system with the model that it was made of, in float64.

    Args:
        system: ours.
        source: theirs.
        batch: rows in the units of the model.
        suspects: conventions by which a difference may be explained.
        as_source: gives a copy of ours a fault of the source, which is known.

    Raises:
        AdoptionError: they are not the same model.
    """
    with double_precision():
        ours = double_copy(system)
        if as_source is not None:
            as_source(ours)
        rows = batch_to_system(ours, batch)
        found = [_codes(ours, source, rows), _means(ours, source, rows), _elbos(ours, source, rows, suspects)]
    found = [each for each in found if each is not None]
    return Proof(", ".join(each.compared for each in found), max((each.difference for each in found), default=0.0))


def double_copy(system: LatentSystem) -> LatentSystem:
    """A copy in evaluation mode."""
    return copy.deepcopy(system).double().eval()


@contextmanager
def double_precision() -> Iterator[None]:
    """Tensors that a source makes on its way are of float64, too."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def noise_for(batch: Batch, size: int) -> Float[Tensor, "B D"]:
    """The noise on which both are compared."""
    return torch.randn(len(batch.x), size, generator=torch.Generator().manual_seed(SEED), dtype=torch.float64)


def one_draw_elbo(
    model: LatentVariableModel, posterior: Posterior, batch: Batch, noise: Float[Tensor, "B D"]
) -> list[Float[Tensor, " B"]]:
    """One-draw ELBOs at ``z = m + C noise``: the divergence from the draw, and in closed form where there is one."""
    z, log_q = pushed(posterior, noise.unsqueeze(0))
    fit, drawn = model.log_likelihood(batch.x, z, batch.mask), model.prior.log_prob(z) - log_q
    closed = kl(posterior, model.prior)
    found = [(fit + drawn)[0]]
    return found if closed is None else [*found, fit[0] - closed.sum(-1)]


def pushed(posterior: Posterior, noise: Float[Tensor, "S B D"]) -> tuple[Float[Tensor, "S B D"], Float[Tensor, "S B"]]:
    """Draws of a Gaussian, or of its image under a flow, from this noise, and their ``log q``.

    Raises:
        ValueError: another law.
    """
    if isinstance(posterior, PushforwardPosterior):
        z, log_q = pushed(posterior.start, noise)
        end = posterior.flow(z, posterior.context)
        return end.z, log_q - end.log_det
    if not isinstance(posterior, GaussianPosterior):
        raise ValueError(f"adopt: expected a Gaussian posterior or a flow of one, got {type(posterior).__name__}.")
    return posterior.from_noise(noise), standard_normal_log_prob(noise) - posterior.half_log_det


def difference(one: Tensor, other: Tensor) -> float:
    """Largest relative difference, of numbers below 1 the absolute one; infinite where one is not finite."""
    apart = (one - other).abs() / torch.maximum(one.abs(), other.abs()).clamp(min=1)
    return float(apart.nan_to_num(torch.inf).max())


def _codes(system: LatentSystem, source: SourceModel, batch: Batch) -> Proof | None:
    """Where the posteriors are, of a source without an ELBO."""
    if source.code is None:
        return None
    begin = system.inference.before or system.inference
    ours = representative_point(begin(system.model.given(batch.context), batch).posterior)
    apart = difference(ours, source.code(batch.x))
    if apart > TOLERANCE:
        raise AdoptionError(f"adopt: expected the codes that the source gives, got others, by a relative {apart:.2g}.")
    return Proof(f"codes of {len(batch.x)} rows", apart)


def _means(system: LatentSystem, source: SourceModel, batch: Batch) -> Proof | None:
    """What the decoder gives at some latents."""
    if source.mean is None:
        return None
    model = system.model.given(batch.context)
    z = noise_for(batch, model.prior.size)
    ours, theirs = model.mean(z).flatten(1), source.mean(z)
    apart = difference(ours, theirs)
    if apart > TOLERANCE:
        raise AdoptionError(
            f"adopt: expected the means that the source's decoder gives, got others, by a relative {apart:.2g}: is one "
            "of the two in train mode, or of other weights?"
        )
    return Proof(f"decoder outputs at {len(z)} latents", apart)


def _elbos(system: LatentSystem, source: SourceModel, batch: Batch, suspects: Iterable[Suspect]) -> Proof | None:
    """Both ELBOs on the same noise."""
    if source.elbo is None:
        return None
    noise = noise_for(batch, system.model.prior.size)
    theirs = _checked(source.elbo, batch, noise)
    posterior = system.inference(system.model.given(batch.context), batch).posterior
    ours = one_draw_elbo(system.model.given(batch.context), posterior, batch, noise)
    apart = [difference(each, theirs) for each in ours]
    if min(apart) <= TOLERANCE:
        return Proof(f"ELBO of {len(theirs)} rows on the same noise", min(apart))
    raise AdoptionError(_refusal(theirs, ours[apart.index(min(apart))], suspects, batch, noise))


def _checked(elbo: Elbo, batch: Batch, noise: Tensor) -> Tensor:
    """The source's ELBO, which is asked twice.

    Raises:
        AdoptionError: it is no number a row, or another one each time.
    """
    theirs = elbo(batch, noise)
    if theirs.shape != (len(batch.x),):
        raise AdoptionError(
            f"elbo: expected one of each row, ({len(batch.x)},), got {tuple(theirs.shape)}; sum over z."
        )
    if not torch.equal(theirs, elbo(batch, noise)):
        raise AdoptionError(
            "adopt: expected a source whose ELBO is the same for the same noise, got another each time: it draws on "
            "its own, or dropout is on in train mode. Call .eval() on its networks."
        )
    return theirs


def _refusal(theirs: Tensor, ours: Tensor, suspects: Iterable[Suspect], batch: Batch, noise: Tensor) -> str:
    """Both numbers, and the first suspect by which they are equal."""
    told = f"adopt: expected the source's own ELBO on the same noise, {theirs[0]:.6g} nats of the first row, got"
    for suspect in suspects:
        try:
            found = suspect.elbo(batch, noise)
        except (RuntimeError, ValueError, TypeError):  # rows or values that a network does not take that way
            continue
        if found.shape == theirs.shape and difference(found, theirs) <= TOLERANCE:
            return f"{told} {ours[0]:.6g}; the two are equal if {suspect.words}."
    return f"{told} {ours[0]:.6g}, and no other reading of it gives the same: look at its loss term by term."
