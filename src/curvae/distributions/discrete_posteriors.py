"""Laws of discrete latents: one-hot draws with their exact probability."""

import functools
import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from curvae.distributions.posterior import DensityPosterior, Draws, ParametricPosterior
from curvae.noise import gumbel

STATES = 2**16
"""The most states that are ever listed."""


class DiscretePosterior(DensityPosterior):
    """``q(z | x) = exp(h(z) - log Z)`` over N variables of K categories; z is one-hot and flat, ``D = N K``.

    The draws have no path gradient: their ``score`` is ``log q``, and objectives give them leave-one-out credit. The
    potential h and the maximizer of h plus a linear term are what estimators by perturbation ask for.
    """

    continuous = False

    variables: int
    """N."""
    categories: int
    """K."""

    @abstractmethod
    def potential(self, z: Float[Tensor, "*S D"]) -> Float[Tensor, "*S"]:
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
        return Draws.iid(z, log_q, score=log_q)

    def log_prob(self, z: Float[Tensor, "*S D"]) -> Float[Tensor, "*S"]:
        """``log q(z | x)`` of one-hot z; what is not one-hot has no probability, and is not told apart."""
        return self.potential(z) - self.log_normalizer

    @property
    def states(self) -> Float[Tensor, "M D"]:
        """All values of z.

        Raises:
            ValueError: more than 2^16 of them.
        """
        return all_states(self.variables, self.categories, next(iter(self.tensors.values())))

    def _interval(self, level: float) -> tuple[Float[Tensor, "*B D"], Float[Tensor, "*B D"]]:
        """Each end is 0 or 1: the quantiles of an indicator."""
        tail, mean = (1 - level) / 2, self.mean
        return (mean > 1 - tail).to(mean.dtype), (mean >= tail).to(mean.dtype)


@dataclass(frozen=True, eq=False)
class IndependentCategorical(ParametricPosterior, DiscretePosterior):
    """``q(z | x) = prod_i softmax(logits_i)[z_i]``: N independent variables of K categories.

    Example:
        >>> import torch
        >>> q = IndependentCategorical(torch.zeros(4, 2, 3))
        >>> draws = q.draw(5)
        >>> draws.z.shape, f"{draws.log_q[0, 0].item():.4f}"   # -2 log 3
        (torch.Size([5, 4, 6]), '-2.1972')
    """

    names = ("logits",)
    logits: Float[Tensor, "*B N K"]

    @property
    def variables(self) -> int:
        return self.logits.shape[-2]

    @property
    def categories(self) -> int:
        return self.logits.shape[-1]

    def potential(self, z: Float[Tensor, "*S D"]) -> Float[Tensor, "*S"]:
        return (z * self.logits.flatten(-2)).sum(-1)

    @property
    def log_normalizer(self) -> Float[Tensor, "*B"]:
        return self.logits.logsumexp(-1).sum(-1)

    @property
    def entropy(self) -> Float[Tensor, "*B"]:
        log_p = self.logits.log_softmax(-1)
        return -(log_p.exp() * log_p).sum((-2, -1))

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n B D"]:
        return self.maximize(gumbel(n, self.logits.flatten(1), generator))

    def from_noise(self, noise: Float[Tensor, "*S D"]) -> Float[Tensor, "*S D"]:
        """A draw where the noise is standard normal."""
        return self.maximize(-(-torch.special.log_ndtr(noise)).log())

    def maximize(self, bonus: Float[Tensor, "*S D"]) -> Float[Tensor, "*S D"]:
        total = self.logits.detach() + bonus.unflatten(-1, self.logits.shape[-2:])
        return one_hot(total.argmax(-1), self.categories, self.logits)

    @property
    def center(self) -> Float[Tensor, "*B D"]:
        """The most probable value."""
        return one_hot(self.logits.argmax(-1), self.categories, self.logits)

    @property
    def mean(self) -> Float[Tensor, "*B D"]:
        """The probability of each category."""
        return self.logits.softmax(-1).flatten(-2)

    @property
    def covariance(self) -> Float[Tensor, "*B D D"]:
        """``diag(p) - p p'`` of each variable, on the diagonal of the whole."""
        p = self.logits.softmax(-1)
        blocks = torch.diag_embed(p) - p.unsqueeze(-1) * p.unsqueeze(-2)
        place = torch.eye(self.variables, dtype=p.dtype, device=p.device)
        return torch.einsum("...ikl,ij->...ikjl", blocks, place).flatten(-2).flatten(-3, -2)

    def residual(self, z: Float[Tensor, "*B D"], at: "IndependentCategorical") -> Float[Tensor, "*B R"]:
        """R whose Jacobian J, in what the logits depend on, gives the expected information of -log q, J'J.

        ``at`` has the values of the law, and is not differentiated. It is the information of the probabilities alone: z
        itself has no density.
        """
        log_p = at.logits.log_softmax(-1)
        centered = self.logits - (log_p.exp() * self.logits).sum(-1, keepdim=True)
        return ((0.5 * log_p).exp() * centered).flatten(-2)


@dataclass(frozen=True, eq=False)
class EnumeratedPosterior(DensityPosterior):
    """A discrete posterior whose draws are all values of z, each once: ``log_c = log q(z | x)``.

    Bounds are then exact, and so are their gradients, which flow through ``log_c``: the ELBO without noise, and the
    importance-weighted bound is log p(x) itself.

    Raises:
        ValueError: more than 2^16 values.

    Example:
        >>> import torch
        >>> q = EnumeratedPosterior(IndependentCategorical(torch.zeros(4, 2, 3)))
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

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> "EnumeratedPosterior":
        return EnumeratedPosterior(self.posterior.with_tensors(tensors))

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


def one_hot(where: Tensor, categories: int, like: Tensor) -> Tensor:
    """Chosen categories (..., N) as flat one-hot vectors (..., N K), of the kind of ``like``."""
    return torch.nn.functional.one_hot(where, categories).flatten(-2).to(like.dtype)


def all_states(variables: int, categories: int, like: Tensor) -> Float[Tensor, "M D"]:
    """All ``M = K^N`` values of z, one-hot, of the kind of ``like``.

    Raises:
        ValueError: more than 2^16 of them.

    Example:
        >>> import torch
        >>> all_states(1, 2, torch.zeros(1)).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    if variables * math.log(categories) > math.log(STATES) + 1e-9:
        raise ValueError(
            f"all states: {categories}^{variables} of them are more than {STATES}; expected fewer variables or "
            "categories. Use draws instead."
        )
    return _all_states(variables, categories, like.dtype, like.device)


@functools.lru_cache(maxsize=8)
def _all_states(variables: int, categories: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        grid = torch.cartesian_prod(*[torch.arange(categories, device=device)] * variables).reshape(-1, variables)
        return torch.nn.functional.one_hot(grid, categories).flatten(-2).to(dtype)
