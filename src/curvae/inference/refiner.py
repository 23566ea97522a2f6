"""Refinement of any posterior: gradient ascent of each example's ELBO over the posterior's own parameters."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool
from torch import Tensor

from curvae.inference.inference import Inferred
from curvae.inference.update_rules import Adam, HeavyBall, Tensors, UpdateRule
from curvae.model import LatentVariableModel
from curvae.noise import common_noise
from curvae.objectives import elbo
from curvae.posteriors import Posterior
from curvae.typing import Batch, PerDatum

Refine = Callable[[LatentVariableModel, Posterior, Batch], Inferred]
"""From a posterior of each example to a better one: a :class:`Refiner`, or another way."""


@dataclass(frozen=True)
class Refiner:
    """``lambda_{t+1} = lambda_t + step(grad ELBO(lambda_t))``, lambda the free tensors of a posterior of any kind.

    Differentiable in the model and in lambda_0, exactly: the inner gradients are themselves part of the graph.

    Args:
        steps: number T of steps; 0 leaves the posterior as it is.
        rule: of ascent.
        samples: draws of the ELBO in each step.
        seed: of draws that are the same for every example and at every call; None for fresh ones.
        guard: draws, common to start and end, by which an example's start is kept where the end has a lower ELBO; 0
            keeps every end.

    Info: ``elbo`` (T, B), before each step, from its draws; with a guard ``kept`` (B,), True where the start was kept.

    Raises:
        ValueError: negative steps or guard, or fewer than 1 sample.

    Example:
        >>> import torch
        >>> from curvae.likelihoods import Gaussian
        >>> from curvae.posteriors import DiagonalGaussian
        >>> from curvae.priors import StandardNormal
        >>> model = LatentVariableModel(StandardNormal(2), torch.nn.Linear(2, 3), Gaussian(3))
        >>> q = DiagonalGaussian(torch.zeros(4, 2), torch.zeros(4, 2))
        >>> refined = Refiner(steps=5)(model, q, Batch(torch.ones(4, 3), torch.arange(4)))
        >>> type(refined.posterior).__name__, refined.info["elbo"].shape
        ('DiagonalGaussian', torch.Size([5, 4]))
    """

    steps: int = 20
    rule: UpdateRule = field(default_factory=HeavyBall)
    samples: int = 1
    seed: int | None = None
    guard: int = 0

    def __post_init__(self) -> None:
        if self.steps < 0 or self.guard < 0 or self.samples < 1:
            raise ValueError(
                f"Refiner: steps and guard must be 0 or more, samples 1 or more; got steps={self.steps}, "
                f"guard={self.guard}, samples={self.samples}."
            )

    def __call__(self, model: LatentVariableModel, posterior: Posterior, batch: Batch) -> Inferred:
        if self.steps == 0:
            return Inferred(posterior)
        generator = None if self.seed is None else common_noise(self.seed, posterior.center.device)
        refined, memory, seen = posterior, self.rule.begin(free(posterior)), []
        for count in range(self.steps):
            grad, value = elbo_gradient(model, refined, batch, self.samples, generator)
            step, memory = self.rule.step(grad, memory, count, self.steps)
            refined = add_step(refined, step)
            seen.append(value)
        info = {"elbo": torch.stack(seen)}
        if self.guard == 0:
            return Inferred(refined, info)
        kept = elbo_is_lower(model, posterior, refined, batch, self.guard)
        return Inferred(posterior_where(kept, posterior, refined), {**info, "kept": kept})


def refiner_at_test_time(steps: int, rate: float = 0.05, samples: int = 8) -> Refiner:
    """The refiner for a trained system of any kind: Adam, draws that repeat, and no example made worse."""
    return Refiner(steps, Adam(rate), samples, seed=0, guard=64)


def free(posterior: Posterior) -> dict[str, Tensor]:
    """The tensors that may be moved."""
    tensors = posterior.tensors
    return {name: tensors[name] for name in posterior.free}


@torch.no_grad()
def elbo_is_lower(
    model: LatentVariableModel, start: Posterior, end: Posterior, batch: Batch, draws: int = 64
) -> Bool[Tensor, " B"]:
    """Where the ELBO of the end is below that of the start, judged by the same draws."""

    def judged(q: Posterior) -> PerDatum:
        return elbo(model, q, batch, draws, generator=common_noise(1, q.center.device)).value

    before, after = judged(start), judged(end)
    return (after < before) | ~after.isfinite()


def add_step(posterior: Posterior, step: Tensors) -> Posterior:
    """The posterior with ``step`` added to its tensors."""
    tensors = posterior.tensors
    return posterior.with_tensors({**tensors, **{name: tensors[name] + value for name, value in step.items()}})


def posterior_where(first: Bool[Tensor, " B"], one: Posterior, other: Posterior) -> Posterior:
    """``one`` for the data where ``first``, ``other`` for the rest."""
    here, there = one.tensors, other.tensors
    pairs = ((name, here[name], there[name]) for name in other.free)
    return other.with_tensors({**there, **{name: torch.where(_over(first, a), a, b) for name, a, b in pairs}})


def elbo_gradient(
    model: LatentVariableModel,
    posterior: Posterior,
    batch: Batch,
    samples: int = 1,
    generator: torch.Generator | None = None,
) -> tuple[dict[str, Tensor], PerDatum]:
    """Gradient of each example's ELBO in the free tensors, 0 where it is not finite, and the ELBO, detached."""
    tensors = posterior.tensors

    def total(at: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        bound = elbo(model, posterior.with_tensors({**tensors, **at}), batch, samples, generator=generator)
        return bound.surrogate.sum(), bound.value

    grad, value = torch.func.grad(total, has_aux=True)(free(posterior))
    sound = torch.stack([g.isfinite().flatten(1).all(1) for g in grad.values()]).all(0)
    return {name: torch.where(_over(sound, g), g, 0.0) for name, g in grad.items()}, value.detach()


def _over(which: Bool[Tensor, " B"], tensor: Tensor) -> Tensor:
    """``which``, to be broadcast over a tensor that has the batch first."""
    return which.reshape(-1, *[1] * (tensor.ndim - 1))
