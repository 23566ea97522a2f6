"""What a system can do beside training: small protocols, asked for once at the door of whatever needs them.

A capability is the methods that it names, and any system that has them has it; nothing is inherited or registered. What
depends on the object and not on its class says so itself: a :class:`LatentSystem` whose ``evidence`` is "none" refuses
to give weights, and one with an autoregressive decoder or discrete latents is left out where these have no answer.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

from jaxtyping import Float, Shaped
from torch import Generator, Tensor

from curvae.inference import Inference, Inferred, Refine
from curvae.likelihoods import Missingness
from curvae.model import LatentVariableModel
from curvae.posteriors import Posterior
from curvae.typing import Batch, PerDatum, PerDraw


class Weights(NamedTuple):
    """Proper importance weights: ``E[sum_s exp(log_c_s + log_w_s)] = p(x)``."""

    log_w: PerDraw
    log_c: PerDraw


class Parts(NamedTuple):
    """A latent-variable model p(x, z), and the inference of z from x that was trained with it."""

    model: LatentVariableModel
    inference: Inference
    missingness: Missingness | None = None
    """p(mask | x), where the system has learned what goes missing; imputation weighs its draws by it."""

    def infer(self, batch: Batch) -> Inferred:
        """q(z | x) of a batch, with what the inference says of itself."""
        return self.inference(self.model.given(batch.context), batch)


@runtime_checkable
class HasPosterior(Protocol):
    """A posterior over latents, for data in the model's units."""

    def posterior(
        self, x: Float[Tensor, "B *event"], mask: Tensor | None = None, refine: int | Refine = 0
    ) -> Posterior:
        """q(z | x), refined by so many steps; ``mask`` is True where x was observed."""
        ...


@runtime_checkable
class HasModel(Protocol):
    """A latent-variable model, known at any (x, z), and an inference."""

    def parts(self) -> Parts:
        """Both of them."""
        ...


@runtime_checkable
class HasWeights(Protocol):
    """Weights whose mean is p(x); what ``evidence = "bound"`` promises."""

    def log_weights(self, batch: Batch, n: int, generator: Generator | None = None) -> Weights:
        """Those of n draws, (S, B), nats."""
        ...


@runtime_checkable
class HasDensity(Protocol):
    """An exact density; what ``evidence = "exact"`` promises."""

    def log_prob(self, x: Float[Tensor, "B *event"], mask: Tensor | None = None) -> PerDatum:
        """``log p(x)`` of the observed elements, (B,), nats."""
        ...


@runtime_checkable
class HasBase(Protocol):
    """A bijection between data and noise: a model without scatter, whose latents are that noise."""

    def base(self) -> Parts:
        """``x = f^-1(h)`` as a model of known errors and no others, ``p(h)`` its prior, and an inference at f(x)."""
        ...


@runtime_checkable
class CanSample(Protocol):
    """New data."""

    def sample(self, n: int, generator: Generator | None = None) -> Shaped[Tensor, "N *event"]:
        """Draw x n times from p(x), in the model's units."""
        ...


@runtime_checkable
class CanReconstruct(Protocol):
    """Data as the model sees them through their latents."""

    def reconstruct(self, x: Float[Tensor, "B *event"], mask: Tensor | None = None) -> Shaped[Tensor, "B *event"]:
        """``E[x | z]`` at the z that stands for x, missing elements included, in the model's units.

        A draw of p(x | z) where the mean has no closed form.
        """
        ...


@runtime_checkable
class CanRollOut(Protocol):
    """Sequences continued from their first frames."""

    def roll_out(
        self, x: Float[Tensor, "B *event"], seen: int, mask: Tensor | None = None, generator: Generator | None = None
    ) -> Shaped[Tensor, "B *event"]:
        """The first ``seen`` frames as they are, then a mean of each along a draw of what follows, in model units."""
        ...


@runtime_checkable
class CanImpute(Protocol):
    """Missing values, in closed form; where there is a model instead, chains of it fill them in."""

    def impute(
        self, x: Float[Tensor, "B *event"], mask: Tensor, n: int, generator: Generator | None = None
    ) -> Shaped[Tensor, "N B *event"]:
        """Draw x_missing n times from p(x_missing | x_observed); what was observed stays."""
        ...


@runtime_checkable
class ScoresCodes(Protocol):
    """A density of the codes of an autoencoder: how usual an example is, and no density of x."""

    def code_log_prob(self, x: Float[Tensor, "B *event"], mask: Tensor | None = None) -> PerDatum:
        """``log p(code of x)``, (B,), nats."""
        ...


@runtime_checkable
class HasClusters(Protocol):
    """Clusters of examples, found without labels; some systems have none of them."""

    @property
    def cluster_counts(self) -> dict[str, int]:
        """How many there are of each kind, by its name."""
        ...

    def cluster_probabilities(
        self, batch: Batch, posterior: Posterior, generator: Generator | None = None
    ) -> Float[Tensor, "B K C"]:
        """``q(y | x)`` of each kind, of a batch whose posterior is known; 0 behind the last cluster of one."""
        ...


@runtime_checkable
class DrawsModels(Protocol):
    """A posterior over weights: the same system, with weights drawn from it."""

    def models(self, count: int, generator: Generator | None = None) -> Iterator[Any]:
        """Latent systems of ``count`` draws, one after the other; each is good until the next is asked for."""
        ...


IN_WORDS = {
    HasPosterior: "a posterior over latents",
    HasModel: "a latent-variable model",
    HasWeights: "importance weights",
    HasDensity: "an exact density",
    HasBase: "a bijection to noise",
    CanSample: "samples",
    CanReconstruct: "reconstructions",
    CanRollOut: "roll-outs of sequences",
    CanImpute: "draws of missing values",
    ScoresCodes: "a density of codes",
    HasClusters: "clusters",
    DrawsModels: "a posterior over weights",
}
"""What a system is expected to have."""

Capability = TypeVar("Capability")


def require(system: object, capability: type[Capability], who: str) -> Capability:
    """The system, known to have a capability.

    Args:
        system: anything.
        capability: one of the protocols here.
        who: that asks, for the message.

    Raises:
        ValueError: it has not; the message names the capability and the method that would give it.

    Example:
        >>> require(object(), HasPosterior, "encode")
        Traceback (most recent call last):
        ...
        ValueError: encode: expected a system with a posterior over latents (HasPosterior), got object, ...
    """
    if isinstance(system, capability):
        return system
    method = next(name for name in vars(capability) if not name.startswith("_"))
    raise ValueError(
        f"{who}: expected a system with {IN_WORDS[capability]} ({capability.__name__}), got {type(system).__name__}, "
        f"which lacks the method {method}."
    )
