"""The contract of an inference method: (model, batch) -> posterior."""

from abc import ABC, abstractmethod
from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from curvae.model import LatentVariableModel
from curvae.networks import run_encoder
from curvae.posteriors import Posterior
from curvae.typing import EMPTY, Batch, Info, PerDatum, State


class Inferred(NamedTuple):
    """What an inference method found for a batch."""

    posterior: Posterior
    info: Info = EMPTY
    """``grad_norm`` (T+1, B) padded with its last value, ``log_joint`` (T+1, B), ``status`` (B,), ... detached."""
    encoder_bound: PerDatum | None = None
    """(B,) <= 0, maximized: joins the surrogate only; trains the encoder where refinement cuts its gradient."""
    state: State = EMPTY
    """New values of the method's own buffers."""
    model: LatentVariableModel | None = None
    """The same log p(x, z) by a cheaper way, for this batch alone, where the method knows one; for training."""


def prefixed(name: str, state: State) -> State:
    """A child's new buffer values under the parent's name for it."""
    return {f"{name}.{key}": value for key, value in state.items()}


def as_precise(mean: Tensor, batch: Batch) -> Tensor:
    """What a network gives, perhaps in half precision, in that of the data: for the D x D algebra."""
    return mean.to(batch.x.dtype) if batch.x.is_floating_point() else mean.float()


class AffinePosterior(NamedTuple):
    """``q(z | x) = N(inward x + offset, diag(exp(log_scale)^2))`` of the first R latents; any others are N(0, 1)."""

    inward: Float[Tensor, "R I"]
    offset: Float[Tensor, " R"]
    log_scale: Float[Tensor, " R"]
    noise: Float[Tensor, " I"] | None = None
    """Variance of each value of x given z, in the model whose posterior this is; None where it is not of x itself."""


class Inference(nn.Module, ABC):
    """x -> q(z | x). Forward is pure: whatever must be remembered comes back in ``Inferred.state``."""

    alone: bool = False
    """Whether it asks for no model: ``inference(None, batch)``."""

    @property
    def before(self) -> "Inference | None":
        """The method that it goes on from."""
        return None

    @abstractmethod
    def forward(self, model: LatentVariableModel, batch: Batch) -> Inferred:
        """The posterior of each example of the batch."""


@runtime_checkable
class StartsAtPosterior(Protocol):
    """An inference method whose networks can start at a given posterior."""

    def start_from(self, posterior: AffinePosterior) -> bool:
        """Write the posterior into the networks; whether that was possible."""
        ...


def start_at(inference: nn.Module, posterior: AffinePosterior) -> bool:
    """Start a method at a posterior, where it can start at one; whether it did."""
    return isinstance(inference, StartsAtPosterior) and inference.start_from(posterior)


def encoder_of(inference: Inference) -> Inference:
    """The encoder that a method begins with: the first on the way back that asks for no model.

    Raises:
        ValueError: there is none.
    """
    here: Inference | None = inference
    while here is not None and not here.alone:
        here = here.before
    if here is None:
        raise ValueError(f"expects an inference that begins with an encoder alone; got {type(inference).__name__}.")
    return here


class Amortized(Inference):
    """One encoder pass gives the parameters of a law. The encoder sees 0 where a value is not observed."""

    alone = True

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder

    def encoded(self, batch: Batch, expected: int, formula: str) -> Float[Tensor, "B Q"]:
        """What the encoder gives, as many values as a formula in words expects.

        Raises:
            ValueError: it gives another number.
        """
        out = run_encoder(self.encoder, batch)
        if out.shape[1:] != (expected,):
            raise ValueError(
                f"{type(self).__name__}: the encoder must give {formula} = {expected} values; got "
                f"{tuple(out.shape[1:])}. Change its last layer."
            )
        return out


class Continued(Inference):
    """A method that goes on from the posterior of another one, and starts where that one does."""

    def __init__(self, start: Inference):
        super().__init__()
        self.start = start

    @property
    def before(self) -> Inference:
        return self.start

    def start_from(self, posterior: AffinePosterior) -> bool:
        return start_at(self.start, posterior)
