"""The prior of a system in another one's place: ``prior="flow"`` for every system that has N(0, I)."""

import inspect
import logging
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from curvae.inference import encoder_of
from curvae.model import LatentVariableModel, require_continuous
from curvae.posteriors import DiagonalGaussian, Posterior, representative_point
from curvae.priors import (
    MixturePrior,
    Prior,
    StandardNormal,
    StartsAtEncoded,
    StartsAtNormal,
    TiltedNormal,
    VampPrior,
    autoregressive_prior,
    coupling_prior,
)
from curvae.systems.capabilities import HasModel
from curvae.systems.device import batch_to_system
from curvae.systems.stages import Prepared
from curvae.typing import Batch, DataSpec, Tables

log = logging.getLogger("curvae")

PriorWord = Literal["normal", "flow", "autoregressive", "mixture", "vamp", "tilted"]
"""Word for a prior in a system's signature."""
ROWS = 2000
"""Training rows, evenly spread, where a prior starts that starts from data."""


def with_prior_option(signature: inspect.Signature) -> inspect.Signature:
    """The signature of a system with ``prior="normal"`` as its last argument."""
    option = inspect.Parameter("prior", inspect.Parameter.KEYWORD_ONLY, default="normal", annotation=str | Prior)
    return signature.replace(parameters=[*signature.parameters.values(), option])


def prior_for(word: str, size: int, event: tuple[int, ...]) -> Prior:
    """What a word of a system's signature stands for.

    Raises:
        ValueError: no such word, or no word for a new prior.
    """
    match word:
        case "flow":
            return coupling_prior(size, steps=3)  # a Laplace step is then within 3 times that under N(0, I)
        case "autoregressive":
            return autoregressive_prior(size)
        case "mixture":
            return MixturePrior(size)
        case "vamp":
            return VampPrior(size, event)
        case "tilted":
            return TiltedNormal(size)
        case _:
            raise ValueError(f"prior: expected one of {', '.join(get_args(PriorWord))}; got {word!r}.")


def take_prior(system: Any, prior: str | Prior, spec: DataSpec) -> None:
    """Put a prior in the place of a system's N(0, I), before it is trained; its first stage then starts it, too.

    Raises:
        ValueError: a system with another prior; no such word, a prior of another size or of discrete latents, or an
            encoder that it cannot use.
    """
    model = _exchangeable(system)
    size = model.prior.size
    made = prior if isinstance(prior, Prior) else prior_for(prior, size, spec.event)
    if made.size != size:
        raise ValueError(f"prior: expected one of {size} latents, as the system has; got {made.size}.")
    model.prior = made
    require_continuous(model, "prior")
    if isinstance(made, VampPrior):
        try:
            made.join(EncoderAlone(encoder_of(system.inference)))
        except ValueError as error:
            raise ValueError(f"prior: vamp {error}") from None
    first, *others = system.stages()
    system.restage(replace(first, start=StartPrior(first.start)), *others)


def _exchangeable(system: Any) -> LatentVariableModel:
    """The model of a system whose prior is N(0, I)."""
    model = system.parts().model if isinstance(system, HasModel) else None
    if model is None or type(model.prior) is not StandardNormal or len(model.prior.blocks) > 1:
        own = type(system if model is None else model.prior).__name__
        raise ValueError(f"prior: expected a system with one standard normal prior to exchange; got {own}.")
    return model


@dataclass(frozen=True)
class EncoderAlone:
    """x -> q(z | x) by an encoder that asks for no model."""

    inference: Any

    def __call__(self, x: Tensor) -> Posterior:
        return self.inference(None, Batch.of(x)).posterior


@dataclass(frozen=True)
class StartPrior:
    """Networks start as they did; then a prior that starts from data does, where the encoder puts them.

    A prior that starts at a normal has started with the networks.
    """

    networks: Prepared | None

    def __call__(self, system: Any, data: Tables) -> None:
        if self.networks is not None:
            self.networks(system, data)
        prior = system.model.prior
        if not isinstance(prior, StartsAtEncoded):
            if not isinstance(prior, StartsAtNormal):
                log.info("prior: %s starts as it is.", type(prior).__name__)
            return
        rows = torch.linspace(0, len(data.train) - 1, min(len(data.train), ROWS)).long()
        batch = batch_to_system(system, Batch.of(data.train.x, data.train.mask, data.train.context).take(rows))
        prior.start_at(batch.x, encoder_posteriors(system, batch))
        log.info("prior: %s starts at %d training rows, where the encoder starts.", type(prior).__name__, len(rows))


@torch.no_grad()
def encoder_posteriors(system: Any, batch: Batch) -> DiagonalGaussian:
    """Means and variances of the posteriors that a system's encoder gives, or the whole of its inference."""
    try:
        q = encoder_of(system.inference)(None, batch._replace(mask=None)).posterior
    except ValueError:
        q = system.parts().infer(batch).posterior
    return DiagonalGaussian(representative_point(q), 0.5 * q.covariance.diagonal(dim1=-2, dim2=-1).log())
