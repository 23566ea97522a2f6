"""The ELBO of discrete latents, and how its expectation is differentiated where draws have no path gradient."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from curvae.distributions import one_hot
from curvae.model import LatentVariableModel
from curvae.noise import gumbel
from curvae.objectives.objective import Bound, Kind, with_credit
from curvae.posteriors import DiscretePosterior, EnumeratedPosterior, IndependentCategorical, Posterior, kl
from curvae.typing import Batch, PerDatum

Reward = Callable[[Float[Tensor, "S B D"]], Float[Tensor, "S B"]]
"""What is to be expected, for S values of z for each example; relaxations also ask between the one-hot vectors."""


class Expectation(NamedTuple):
    """``E_q[reward(z)]`` of each example."""

    value: PerDatum
    """From one-hot z: exact, or unbiased."""
    surrogate: PerDatum
    """The same number, with the gradient in q's tensors and in what the reward depends on."""


class DiscreteGradient(ABC):
    """How ``E_q[reward(z)]`` is estimated and differentiated."""

    @abstractmethod
    def __call__(self, reward: Reward, posterior: DiscretePosterior, samples: int = 1) -> Expectation:
        """From ``samples`` draws for each example."""


@dataclass(frozen=True)
class DiscreteElbo:
    """``E_q[log p(x | z)] - KL(q || p)`` for discrete z: the divergence in closed form, and in what is trained.

    Args:
        gradient: the estimator of the first term.

    Raises:
        ValueError: in use, latents or a posterior that are not discrete.

    Reference: after Lorberbom, Gane, Jaakkola and Hazan, *Direct Optimization through arg max for Discrete Variational
    Auto-Encoder*, NeurIPS 2019.

    Example:
        >>> import torch
        >>> from curvae.likelihoods import Gaussian
        >>> from curvae.priors import UniformCategorical
        >>> model = LatentVariableModel(UniformCategorical(2, 3), torch.nn.Linear(6, 5), Gaussian(5))
        >>> q, batch = IndependentCategorical(torch.zeros(4, 2, 3)), Batch(torch.zeros(4, 5), torch.arange(4))
        >>> DiscreteElbo(DirectArgmax())(model, q, batch, 7).value.shape
        torch.Size([4])
    """

    kind: ClassVar[Kind] = "lower"
    gradient: DiscreteGradient

    def __call__(self, model: LatentVariableModel, posterior: Posterior, batch: Batch, samples: int = 1) -> Bound:
        divergence = kl(posterior, model.prior)
        if not isinstance(posterior, DiscretePosterior) or divergence is None:
            raise ValueError(
                f"DiscreteElbo: expects a discrete posterior and a UniformCategorical prior; got "
                f"{type(posterior).__name__} and {type(model.prior).__name__}. Use elbo."
            )
        spent = divergence.sum(-1)
        found = self.gradient(lambda z: model.log_likelihood(batch.x, z, batch.mask), posterior, samples)
        return Bound(found.value - spent, found.surrogate - spent, {"kl": spent.detach()})


@dataclass(frozen=True)
class DirectArgmax(DiscreteGradient):
    r"""``1/e E[grad h(z_direct) - grad h(z)]``: the difference of two maximizers under the same Gumbel noise g.

    ``z = argmax h + g`` is the draw, ``z_direct = argmax h + g + e reward``; as e goes to 0 this is the gradient of
    ``E[reward(argmax h + g)]``, which for independent variables is ``E_q[reward(z)]``. The bias is O(e), the variance
    O(1/e), and where the two agree the gradient is exactly 0.

    In ``z_direct`` the reward is its change by one variable at a time, the others held at z: N K rewards for each draw.
    For independent variables each is then maximized by itself, and the limit is exact. For ``PairwiseBinary`` one cut
    maximizes their sum, which is exact where the reward is a sum over variables; and noise of each variable, instead of
    each z, draws from a law near q, not q. There this is *biased* whatever e is.

    Args:
        epsilon: e > 0.
        relative: in units of the standard deviation, over categories, of the changes of the reward, so that e means the
            same for rewards of one nat and of hundreds; else in units of 1 / nats, as published.

    Raises:
        ValueError: epsilon not positive; in use, a posterior that is not discrete.

    Reference: Lorberbom, Gane, Jaakkola and Hazan, NeurIPS 2019.

    Differences: e is constant, where the published schedule lets it fall from 1 to 0.1.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> logits = torch.zeros(20_000, 1, 2, requires_grad=True)
        >>> found = DirectArgmax(0.1, relative=False)(lambda z: z[..., 1], IndependentCategorical(logits))
        >>> found.surrogate.sum().backward()
        >>> bool((logits.grad[:, 0, 1].mean() - 0.25).abs() < 0.05)   # p (1 - p), here from single draws
        True
    """

    epsilon: float = 1.0
    relative: bool = True

    def __post_init__(self) -> None:
        if not self.epsilon > 0:
            raise ValueError(f"DirectArgmax: epsilon must be positive; got {self.epsilon}.")

    def __call__(self, reward: Reward, posterior: DiscretePosterior, samples: int = 1) -> Expectation:
        noise = gumbel(samples, posterior.mean.detach(), None)
        z = posterior.maximize(noise)
        level = reward(z)
        with torch.no_grad():
            change = _changes(reward, posterior, z) - level.unsqueeze(-1)
            e = self.epsilon / self._unit(change, posterior)
            direct = posterior.maximize(noise + e * change)
        slope = (posterior.potential(direct) - posterior.potential(z)) / e.squeeze(-1)
        return Expectation(level.detach().mean(0), (level + slope - slope.detach()).mean(0))

    def _unit(self, change: Float[Tensor, "n B D"], posterior: DiscretePosterior) -> Float[Tensor, "n B 1"]:
        if not self.relative:
            return torch.ones_like(change[..., :1])
        each = change.unflatten(-1, (posterior.variables, posterior.categories))
        return each.var(-1, correction=0).mean(-1, keepdim=True).sqrt().clamp(min=1e-6)


@dataclass(frozen=True)
class GumbelSoftmax(DiscreteGradient):
    """The gradient of the reward at relaxed draws ``softmax((logits + g) / temperature)``; *biased*.

    The value is the reward of the one-hot draws, at their largest entry, which costs a second pass; what the reward
    depends on learns from the relaxed ones. As the temperature goes to 0 the relaxed draws become one-hot, the bias
    vanishes and the variance grows without bound.

    Args:
        temperature: above 0.

    Raises:
        ValueError: temperature not positive; in use, a posterior that is not ``IndependentCategorical``.

    Reference: the baseline of Lorberbom, Gane, Jaakkola and Hazan, NeurIPS 2019.

    Differences: the temperature is constant.

    Example:
        >>> import torch
        >>> q = IndependentCategorical(torch.zeros(4, 2, 3))
        >>> GumbelSoftmax(0.5)(lambda z: z.square().sum(-1), q).value.tolist()   # of one-hot z
        [2.0, 2.0, 2.0, 2.0]
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        _check(self.temperature, type(self).__name__)

    def __call__(self, reward: Reward, posterior: DiscretePosterior, samples: int = 1) -> Expectation:
        hard, soft = hard_and_relaxed_draws(posterior, samples, self.temperature)
        with torch.no_grad():
            value = reward(hard).mean(0)
        there = reward(soft).mean(0)
        return Expectation(value, value + there - there.detach())


@dataclass(frozen=True)
class StraightThrough(DiscreteGradient):
    """The gradient of the reward at the one-hot draw, passed on as if that were the relaxed one; *biased*.

    One pass, value and gradient at one-hot z, as in ``GumbelSoftmax`` otherwise.

    Args:
        temperature: above 0, of the relaxed draw whose derivative is used.

    Raises:
        ValueError: temperature not positive; in use, a posterior that is not ``IndependentCategorical``.

    Reference: the option of the baseline of Lorberbom, Gane, Jaakkola and Hazan, NeurIPS 2019.

    Example:
        >>> import torch
        >>> q = IndependentCategorical(torch.zeros(4, 2, 3))
        >>> StraightThrough(0.5)(lambda z: z.square().sum(-1), q).value.tolist()
        [2.0, 2.0, 2.0, 2.0]
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        _check(self.temperature, type(self).__name__)

    def __call__(self, reward: Reward, posterior: DiscretePosterior, samples: int = 1) -> Expectation:
        hard, soft = hard_and_relaxed_draws(posterior, samples, self.temperature)
        level = reward(hard + (soft - soft.detach())).mean(0)
        return Expectation(level.detach(), level)


@dataclass(frozen=True)
class LeaveOneOut(DiscreteGradient):
    """``E[(reward(z) - mean of the others) grad log q(z)]``: unbiased, for any posterior, from 2 draws or more.

    Raises:
        ValueError: in use, fewer than 2 draws.

    Reference: a baseline beside Lorberbom, Gane, Jaakkola and Hazan, NeurIPS 2019.

    Example:
        >>> import torch
        >>> q = IndependentCategorical(torch.zeros(4, 2, 3))
        >>> LeaveOneOut()(lambda z: z.square().sum(-1), q, 2).value.tolist()
        [2.0, 2.0, 2.0, 2.0]
    """

    def __call__(self, reward: Reward, posterior: DiscretePosterior, samples: int = 2) -> Expectation:
        draws = posterior.draw(samples)
        level = with_credit(reward(draws.z), draws).mean(0)
        return Expectation(level.detach(), level)


@dataclass(frozen=True)
class Enumeration(DiscreteGradient):
    """``sum_z q(z) reward(z)`` over all values of z: exact, where they can be listed; ``samples`` is not read.

    Raises:
        ValueError: in use, more than 2^16 values.

    Example:
        >>> import torch
        >>> q = IndependentCategorical(torch.zeros(4, 1, 2))
        >>> Enumeration()(lambda z: 3 * z[..., 1], q).value.tolist()
        [1.5, 1.5, 1.5, 1.5]
    """

    def __call__(self, reward: Reward, posterior: DiscretePosterior, samples: int = 1) -> Expectation:
        draws = EnumeratedPosterior(posterior).draw(samples)
        level = (draws.log_c.exp() * reward(draws.z)).sum(0)
        return Expectation(level.detach(), level)


def hard_and_relaxed_draws(
    posterior: DiscretePosterior, n: int, temperature: float
) -> tuple[Float[Tensor, "n B D"], Float[Tensor, "n B D"]]:
    """One-hot draws, and ``softmax((logits + g) / temperature)`` from the same noise, differentiable in the logits.

    Raises:
        ValueError: a posterior that is not ``IndependentCategorical``.
    """
    if not isinstance(posterior, IndependentCategorical):
        raise ValueError(
            f"relaxed draws: expect an IndependentCategorical posterior; got {type(posterior).__name__}. Use "
            "DirectArgmax, LeaveOneOut or Enumeration."
        )
    logits = posterior.logits
    total = logits + gumbel(n, logits.detach().flatten(1), None).unflatten(-1, logits.shape[1:])
    hard = one_hot(total.argmax(-1), posterior.categories, logits)
    return hard, (total / temperature).softmax(-1).flatten(-2)


def _changes(reward: Reward, posterior: DiscretePosterior, z: Float[Tensor, "n B D"]) -> Float[Tensor, "n B D"]:
    """The reward with one variable put into each of its categories, the others as in z."""
    n, count, size = z.shape
    variables, categories = posterior.variables, posterior.categories
    each = z.unflatten(-1, (variables, categories))
    put = torch.eye(size, dtype=z.dtype, device=z.device).reshape(variables, categories, 1, 1, variables, categories)
    touched = put.sum(-1, keepdim=True)
    changed = (each * (1 - touched) + put).reshape(-1, count, size)
    return reward(changed).reshape(size, n, count).permute(1, 2, 0)


def _check(temperature: float, who: str) -> None:
    if not temperature > 0:
        raise ValueError(f"{who}: temperature must be positive; got {temperature}.")
