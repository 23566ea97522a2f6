"""Posteriors of discrete latents: one-hot draws with their exact probability."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from curvae.noise import gumbel
from curvae.posteriors.posterior import DensityPosterior, Draws, plain
from curvae.priors import all_states, one_hot


class DiscretePosterior(DensityPosterior):
    """``q(z | x) = exp(h(z) - log Z)`` over N variables of K categories; z is one-hot and flat, ``D = N K``.

    The draws have no path gradient: their ``score`` is ``log q``, and objectives give them leave-one-out credit. The
    potential h and the maximizer of h plus a linear term are what estimators by perturbation ask for.
    """

    continuous = False

    @property
    @abstractmethod
    def variables(self) -> int:
        """N."""

    @property
    @abstractmethod
    def categories(self) -> int:
        """K."""

    @abstractmethod
    def with_tensors(self, tensors: Mapping[str, Tensor]) -> "DiscretePosterior": ...

    @abstractmethod
    def potential(self, z: Float[Tensor, "S B D"]) -> Float[Tensor, "S B"]:
        """``h(z)``, linear in z beyond the one-hot vectors where h is."""

    @property
    @abstractmethod
    def log_normalizer(self) -> Float[Tensor, " B"]:
        """``log Z``."""

    @property
    @abstractmethod
    def entropy(self) -> Float[Tensor, " B"]:
        """``-E_q[log q(z | x)]`` in nats."""

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n B D"]:
        """Independent one-hot draws."""

    @abstractmethod
    def maximize(self, bonus: Float[Tensor, "n B D"]) -> Float[Tensor, "n B D"]:
        """``argmax_z h(z) + bonus . z``, one-hot."""

    def draw(self, n: int, generator: torch.Generator | None = None) -> Draws:
        z = self.sample(n, generator)
        log_q = self.log_prob(z)
        return plain(z, log_q)._replace(score=log_q)

    def log_prob(self, z: Float[Tensor, "S B D"]) -> Float[Tensor, "S B"]:
        """``log q(z | x)`` of one-hot z; what is not one-hot has no probability, and is not told apart."""
        return self.potential(z) - self.log_normalizer

    @property
    def states(self) -> Float[Tensor, "M D"]:
        """All values of z.

        Raises:
            ValueError: more than 2^16 of them.
        """
        return all_states(self.variables, self.categories, next(iter(self.tensors.values())))

    def _interval(self, level: float) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D"]]:
        """Each end is 0 or 1: the quantiles of an indicator."""
        tail, mean = (1 - level) / 2, self.mean
        return (mean > 1 - tail).to(mean.dtype), (mean >= tail).to(mean.dtype)


@dataclass(frozen=True, eq=False)
class IndependentCategorical(DiscretePosterior):
    """``q(z | x) = prod_i softmax(logits_i)[z_i]``: N independent variables of K categories.

    Example:
        >>> import torch
        >>> q = IndependentCategorical(torch.zeros(4, 2, 3))
        >>> draws = q.draw(5)
        >>> draws.z.shape, f"{draws.log_q[0, 0].item():.4f}"   # -2 log 3
        (torch.Size([5, 4, 6]), '-2.1972')
    """

    logits: Float[Tensor, "B N K"]

    @property
    def variables(self) -> int:
        return self.logits.shape[1]

    @property
    def categories(self) -> int:
        return self.logits.shape[2]

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        return {"logits": self.logits}

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> "IndependentCategorical":
        return IndependentCategorical(tensors["logits"])

    def potential(self, z: Float[Tensor, "S B D"]) -> Float[Tensor, "S B"]:
        return (z * self.logits.flatten(1)).sum(-1)

    @property
    def log_normalizer(self) -> Float[Tensor, " B"]:
        return self.logits.logsumexp(-1).sum(-1)

    @property
    def entropy(self) -> Float[Tensor, " B"]:
        log_p = self.logits.log_softmax(-1)
        return -(log_p.exp() * log_p).sum((-2, -1))

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n B D"]:
        return self.maximize(gumbel(n, self.logits.flatten(1), generator))

    def maximize(self, bonus: Float[Tensor, "n B D"]) -> Float[Tensor, "n B D"]:
        total = self.logits.detach() + bonus.unflatten(-1, self.logits.shape[1:])
        return one_hot(total.argmax(-1), self.categories, self.logits)

    @property
    def center(self) -> Float[Tensor, "B D"]:
        """The most probable value."""
        return one_hot(self.logits.argmax(-1), self.categories, self.logits)

    @property
    def mean(self) -> Float[Tensor, "B D"]:
        """The probability of each category."""
        return self.logits.softmax(-1).flatten(1)

    @property
    def covariance(self) -> Float[Tensor, "B D D"]:
        """``diag(p) - p p'`` of each variable, on the diagonal of the whole."""
        p = self.logits.softmax(-1)
        blocks = torch.diag_embed(p) - p.unsqueeze(-1) * p.unsqueeze(-2)
        place = torch.eye(self.variables, dtype=p.dtype, device=p.device)
        return torch.einsum("bikl,ij->bikjl", blocks, place).flatten(3).flatten(1, 2)


@dataclass(frozen=True, eq=False)
class Enumerated(DensityPosterior):
    """A discrete posterior whose draws are all values of z, each once: ``log_c = log q(z | x)``.

    Bounds are then exact, and so are their gradients, which flow through ``log_c``: the ELBO without noise, and the
    importance-weighted bound is log p(x) itself.

    Raises:
        ValueError: more than 2^16 values.

    Example:
        >>> import torch
        >>> q = Enumerated(IndependentCategorical(torch.zeros(4, 2, 3)))
        >>> q.draw(1).z.shape, q.count(1)
        (torch.Size([9, 4, 6]), 9)
    """

    continuous = False
    posterior: DiscretePosterior

    def __post_init__(self) -> None:
        _ = self.posterior.states

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        return self.posterior.tensors

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> "Enumerated":
        return Enumerated(self.posterior.with_tensors(tensors))

    def count(self, n: int) -> int:
        return len(self.posterior.states)

    def draw(self, n: int, generator: torch.Generator | None = None) -> Draws:
        count = len(self.posterior.center)
        z = self.posterior.states.unsqueeze(1).expand(-1, count, -1)
        log_q = self.posterior.log_prob(z)
        return Draws(z, log_q, log_q)

    def log_prob(self, z: Float[Tensor, "S B D"]) -> Float[Tensor, "S B"]:
        return self.posterior.log_prob(z)

    @property
    def center(self) -> Float[Tensor, "B D"]:
        return self.posterior.center

    @property
    def mean(self) -> Float[Tensor, "B D"]:
        return self.posterior.mean

    @property
    def covariance(self) -> Float[Tensor, "B D D"]:
        return self.posterior.covariance

    def _interval(self, level: float) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D"]]:
        return self.posterior.interval(level)
