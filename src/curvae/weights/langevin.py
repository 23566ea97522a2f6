"""Stochastic gradient Langevin dynamics, as an optimizer."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from curvae.weights.metric import metric_of


class Sgld(torch.optim.Optimizer):
    r"""``theta <- theta - lr/2 m grad U + N(0, lr m)``: draws of ``exp(-U)`` but for a bias in lr.

    The gradient must be that of the whole U, the negative log posterior of the weights: of the sum over all rows.

    Args:
        parameters: theta.
        lr: of the metric's unit; half of it is the size of a step where a gradient is at its usual size.
        warmup: gradients by which the metric ``m = 1 / sqrt(E[g^2])`` is found first; 0 = it is 1, the plain method.

    Raises:
        ValueError: lr not positive, or warmup negative.

    Reference: Welling and Teh, *Bayesian Learning via Stochastic Gradient Langevin Dynamics*, ICML 2011; the metric
    after Li et al., *Preconditioned Stochastic Gradient Langevin Dynamics for Deep Neural Networks*, AAAI 2016.

    Differences: lr stays as it is; the metric no longer changes after the warmup, so that no term of its derivative is
    missing.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> theta = nn.Parameter(torch.zeros(20_000))
        >>> chain = Sgld([theta], lr=0.05, warmup=0)
        >>> for _ in range(200):
        ...     theta.grad = 4 * theta.detach()   # U = 2 theta^2: a variance of 1 / 4
        ...     chain.step()
        >>> f"{theta.detach().var().item():.2f}"
        '0.26'
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float = 1e-5, warmup: int = 50):
        check_chain("Sgld", lr, warmup)
        super().__init__(parameters, {"lr": lr, "warmup": warmup})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step of every parameter that has a gradient."""
        for parameter, group, slope in moving(self):
            metric = metric_of(self.state[parameter], slope, group["warmup"])
            if metric is None:
                continue
            noise = (group["lr"] * metric).sqrt() * torch.randn_like(parameter)
            parameter.add_(noise - 0.5 * group["lr"] * metric * slope)


def moving(chain: torch.optim.Optimizer) -> Iterable[tuple[nn.Parameter, dict[str, Any], Tensor]]:
    """Parameters with a gradient, their groups, and the gradients."""
    for group in chain.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                yield parameter, group, parameter.grad


def check_chain(what: str, lr: float, warmup: int) -> None:
    """The door of a chain of weights.

    Raises:
        ValueError: lr not positive, or warmup negative.
    """
    if not lr > 0 or warmup < 0:
        raise ValueError(f"{what}: expected lr above 0 and warmup of 0 or more; got {lr} and {warmup}.")
