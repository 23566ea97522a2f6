"""The contract of a law of z as a posterior q(z | x): an immutable value, built anew for each batch."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple, TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor

from curvae.noise import keep_random_states
from curvae.notebook import html_table

SHOWN = 8
"""Examples and latents that a notebook shows."""
AnyPosterior = TypeVar("AnyPosterior", bound="Posterior")


class Draws(NamedTuple):
    """Weighted draws of z, S for each example.

    S is the posterior's business: n draws, n per component, or every state when it enumerates. The weights are proper:
    ``E[sum_s exp(log_c_s + log p(x, z_s) - log_q_s)] = p(x)``, and ``logsumexp(log_c, 0) = 0``.
    """

    z: Float[Tensor, "S B D"]
    log_q: Float[Tensor, "S B"]
    log_c: Float[Tensor, "S B"]
    score: Float[Tensor, "S B"] | None = None
    """Log-probability of choices without a path gradient; None = fully reparameterized."""

    @classmethod
    def iid(
        cls, z: Float[Tensor, "S B D"], log_q: Float[Tensor, "S B"], score: Float[Tensor, "S B"] | None = None
    ) -> "Draws":
        """Independent draws of one law: every ``log_c`` is ``-log S``."""
        return cls(z, log_q, torch.full_like(log_q, -math.log(len(z))), score)


class Posterior(ABC):
    """q(z | x) for a batch; it may refer to the model or a flow, and owns no parameters."""

    continuous: bool = True
    """False where z is discrete, and ``log_q`` a log-probability."""

    @property
    @abstractmethod
    def tensors(self) -> Mapping[str, Float[Tensor, "B ..."]]:
        """Its parameters for each example, unconstrained, batch first."""

    @abstractmethod
    def with_tensors(self: AnyPosterior, tensors: Mapping[str, Tensor]) -> AnyPosterior:
        """The same posterior with other parameters: detaching, choosing data and refining all follow from this."""

    @property
    def free(self) -> tuple[str, ...]:
        """Names of the tensors that may be moved, each by itself, and q stays a density; all of them if not said."""
        return tuple(self.tensors)

    @property
    @abstractmethod
    def center(self) -> Float[Tensor, "B D"]:
        """Where a mode search starts."""

    def count(self, n: int) -> int:
        """How many draws ``draw(n)`` gives: n, n for each component of a mixture, or every state."""
        return n

    @abstractmethod
    def draw(self, n: int, generator: torch.Generator | None = None) -> Draws:
        """Weighted draws, differentiable in ``tensors``; on an extended space log_q := log p(x, z) - log weight."""

    @property
    @abstractmethod
    def mean(self) -> Float[Tensor, "B D"]:
        """Posterior mean."""

    @property
    @abstractmethod
    def covariance(self) -> Float[Tensor, "B D D"]:
        """Posterior covariance."""

    def interval(self, level: float = 0.9) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D"]]:
        """Lower and upper end of the central interval of each latent dimension.

        Raises:
            ValueError: level outside (0, 1).
        """
        if not 0 < level < 1:
            raise ValueError(f"interval: level must lie between 0 and 1; got {level}. For 90 % pass 0.9.")
        return self._interval(level)

    @torch.no_grad()
    def _repr_html_(self) -> str:
        """Mean and standard deviation of each latent, of the first examples."""
        few = self.with_tensors({name: value[:SHOWN] for name, value in self.tensors.items()})
        with keep_random_states():
            mean, deviation = few.mean, few.covariance.diagonal(dim1=-2, dim2=-1).sqrt()
        pairs = torch.stack([mean, deviation], -1)[:, :SHOWN].tolist()
        told = ([f"{m:.3g} ± {s:.2g}" for m, s in each] for each in pairs)
        count, size = self.center.shape
        title = f"{type(self).__name__} of {count:,} examples, {size} latents; mean ± standard deviation"
        return html_table(title, told, [f"z{d}" for d in range(min(size, SHOWN))])

    @abstractmethod
    def _interval(self, level: float) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D"]]:
        """The same, for a level that has been checked."""


class DensityPosterior(Posterior):
    """A posterior whose density can be evaluated anywhere."""

    @abstractmethod
    def log_prob(self, z: Float[Tensor, "*S D"]) -> Float[Tensor, "*S"]:
        """``log q(z | x)`` in nats, at any z."""


class ParametricPosterior(Posterior):
    """A dataclass whose tensors are fields of it."""

    names: tuple[str, ...]
    """Of these fields."""

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        return {name: getattr(self, name) for name in self.names}

    def with_tensors(self: AnyPosterior, tensors: Mapping[str, Tensor]) -> AnyPosterior:
        return replace(self, **tensors)  # pyright: ignore[reportArgumentType]


class DerivedPosterior(Posterior):
    """A dataclass that is a law made of the draws of another one, with tensors of its own beside."""

    start: Posterior
    names: tuple[str, ...]
    """Of its own fields that are tensors; one that is None is left out."""
    given: tuple[str, ...] = ()
    """Of those that say which law it is, and are not free."""

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """Those of the start as ``start.*``, and its own."""
        own = ((name, getattr(self, name)) for name in (*self.names, *self.given))
        return tensors_of("start", self.start) | {name: value for name, value in own if value is not None}

    @property
    def free(self) -> tuple[str, ...]:
        own = (name for name in self.names if getattr(self, name) is not None)
        return (*(f"start.{name}" for name in self.start.free), *own)

    def with_tensors(self: AnyPosterior, tensors: Mapping[str, Tensor]) -> AnyPosterior:
        own = {name: value for name, value in tensors.items() if not name.startswith("start.")}
        return replace(self, start=replace_tensors("start", cast(DerivedPosterior, self).start, tensors), **own)  # pyright: ignore[reportArgumentType, reportCallIssue]

    def count(self, n: int) -> int:
        return self.start.count(n)


def tensors_of(name: str, part: Posterior) -> dict[str, Tensor]:
    """The tensors of a part of a posterior, under the part's name."""
    return {f"{name}.{key}": value for key, value in part.tensors.items()}


def replace_tensors(name: str, part: AnyPosterior, tensors: Mapping[str, Tensor]) -> AnyPosterior:
    """The part with what stands under its name."""
    return part.with_tensors({key: tensors[f"{name}.{key}"] for key in part.tensors})


def detached(posterior: AnyPosterior) -> AnyPosterior:
    """The posterior without the graph of its tensors."""
    return posterior.with_tensors({name: value.detach() for name, value in posterior.tensors.items()})


def representative_point(posterior: Posterior) -> Float[Tensor, "B D"]:
    """The z that stands for a posterior: its mean, or where a mean is no value of z, its most probable one."""
    return posterior.mean if posterior.continuous else posterior.center
