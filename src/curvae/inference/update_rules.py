"""Rules of gradient ascent on the per-example parameters of a posterior; all can be differentiated through."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Tensors = Mapping[str, Tensor]
Memory = tuple[Tensors, ...]


class UpdateRule(ABC):
    """From gradients to steps: pure, what it remembers is handed on."""

    @abstractmethod
    def begin(self, tensors: Tensors) -> Memory:
        """What is remembered before the first step."""

    @abstractmethod
    def step(self, grad: Tensors, memory: Memory, count: int, total: int) -> tuple[Tensors, Memory]:
        """The step number ``count`` of ``total``, from 0, and what is remembered after it."""


@dataclass(frozen=True)
class HeavyBall(UpdateRule):
    """``v <- momentum v + clipped gradient``, step ``rate v`` (Kim et al., ICML 2018).

    The gradient is that of one example's ELBO, so ``rate`` does not depend on the size of the batch, and each tensor of
    each example is clipped by itself.

    Args:
        rate: of a step.
        momentum: share of the last step that is kept.
        clip: the longest gradient, nats per unit.

    Raises:
        ValueError: a rate or clip that is not positive, or a momentum outside [0, 1).
    """

    rate: float = 0.02
    momentum: float = 0.5
    clip: float = 35.0

    def __post_init__(self) -> None:
        if self.rate <= 0 or self.clip <= 0 or not 0 <= self.momentum < 1:
            raise ValueError(f"HeavyBall: rate and clip must be > 0, momentum in [0, 1); got {self}.")

    def begin(self, tensors: Tensors) -> Memory:
        return ({name: torch.zeros_like(value) for name, value in tensors.items()},)

    def step(self, grad: Tensors, memory: Memory, count: int, total: int) -> tuple[Tensors, Memory]:
        (last,) = memory
        speed = {name: self.momentum * last[name] + clipped(grad[name], self.clip) for name in grad}
        return {name: self.rate * value for name, value in speed.items()}, (speed,)


@dataclass(frozen=True)
class Adam(UpdateRule):
    """Adam (Kingma and Ba, 2015) with a rate that falls linearly to 0: its steps do not depend on the model's scale.

    Args:
        rate: of the first step, in units of the parameters.
        first: decay of the mean of gradients.
        second: decay of the mean of their squares.

    Raises:
        ValueError: a rate that is not positive, or a decay outside [0, 1).
    """

    rate: float = 0.05
    first: float = 0.8
    second: float = 0.95

    def __post_init__(self) -> None:
        if self.rate <= 0 or not (0 <= self.first < 1 and 0 <= self.second < 1):
            raise ValueError(f"Adam: rate must be > 0, first and second in [0, 1); got {self}.")

    def begin(self, tensors: Tensors) -> Memory:
        zeros = {name: torch.zeros_like(value) for name, value in tensors.items()}
        return zeros, zeros

    def step(self, grad: Tensors, memory: Memory, count: int, total: int) -> tuple[Tensors, Memory]:
        means = {name: self.first * memory[0][name] + (1 - self.first) * g for name, g in grad.items()}
        squares = {name: self.second * memory[1][name] + (1 - self.second) * g.square() for name, g in grad.items()}
        rate = self.rate * (1 - count / total) / (1 - self.first ** (count + 1))
        lift = 1 / (1 - self.second ** (count + 1))
        return {name: rate * means[name] / (lift * squares[name] + 1e-16).sqrt() for name in grad}, (means, squares)


def clipped(grad: Tensor, longest: float) -> Tensor:
    """Each example's gradient, shortened to ``longest`` where it is longer."""
    square = grad.square().flatten(1).sum(1).clamp(min=longest**2)
    return grad * (longest / square.sqrt()).reshape(-1, *[1] * (grad.ndim - 1))
