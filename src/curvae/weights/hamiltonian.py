"""Stochastic gradient Hamiltonian Monte Carlo, as an optimizer."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from curvae.weights.langevin import check_chain, moving
from curvae.weights.metric import metric_of


class Sghmc(torch.optim.Optimizer):
    r"""``v <- (1 - a) v - lr m grad U + N(0, 2 a lr m)``, ``theta <- theta + v``: draws of ``exp(-U)``, but for a bias.

    The gradient must be that of the whole U, the negative log posterior of the weights: of the sum over all rows.

    Args:
        parameters: theta.
        lr: the square of a leapfrog step, of the metric's unit; ``lr / friction`` is what Adam's learning rate is.
        friction: a, in (0, 1).
        warmup: gradients by which the metric ``m = 1 / sqrt(E[g^2])`` is found first; 0 = it is 1.

    Raises:
        ValueError: lr not positive, warmup negative, or a friction outside (0, 1).

    Reference: Chen, Fox and Guestrin, *Stochastic Gradient Hamiltonian Monte Carlo*, ICML 2014; adaptation of scales
    after Springenberg et al., *Bayesian Optimization with Robust Bayesian Neural Networks*, NeurIPS 2016.

    Differences: the mean of squares has equal weights; the noise of the gradient is taken for 0, so draws are the wider
    the more of it there is.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> theta = nn.Parameter(torch.zeros(20_000))
        >>> chain = Sghmc([theta], lr=0.01, friction=0.2, warmup=0)
        >>> for _ in range(200):
        ...     theta.grad = 4 * theta.detach()   # U = 2 theta^2: a variance of 1 / 4
        ...     chain.step()
        >>> f"{theta.detach().var().item():.2f}"
        '0.25'
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float = 1e-5, friction: float = 0.05, warmup: int = 50):
        check_chain("Sghmc", lr, warmup)
        if not 0 < friction < 1:
            raise ValueError(f"Sghmc: expected friction in (0, 1); got {friction}.")
        super().__init__(parameters, {"lr": lr, "friction": friction, "warmup": warmup})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step of every parameter that has a gradient."""
        for parameter, group, slope in moving(self):
            state, lr, friction = self.state[parameter], group["lr"], group["friction"]
            metric = metric_of(state, slope, group["warmup"])
            if metric is None:
                continue
            velocity = state.setdefault("velocity", torch.zeros_like(parameter))
            noise = (2 * friction * lr * metric).sqrt() * torch.randn_like(parameter)
            velocity.mul_(1 - friction).add_(noise - lr * metric * slope)
            parameter.add_(velocity)
