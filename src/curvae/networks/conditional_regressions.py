"""One element of a row given its others."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from curvae.networks.mlp import MLP


class ElementLaw(NamedTuple):
    """``N(mean, exp(2 log_scale))`` of one element of each row."""

    mean: Float[Tensor, " R"]
    log_scale: Float[Tensor, " R"]


class ConditionalRegressions(nn.Module):
    r"""``N(w_j'x_\j + b_j + f(x_\j, j), exp(2 (s_j + g(x_\j, j))))`` for each element j of rows of E real numbers.

    Linear regressions, one for each element, beside a network (f, g) that all elements share, which sees the others and
    which one is asked for. At first the network says nothing, and all laws are N(0, 1).

    Args:
        size: E, 2 or more.
        hidden: widths of the network.

    Raises:
        ValueError: a single element, which has no others.

    Example:
        >>> regressions = ConditionalRegressions(3, [8])
        >>> regressions.start_from(torch.zeros(3), torch.tensor([[2.0, -1.0, 0.0], [-1.0, 2.0, 0.0], [0.0, 0.0, 4.0]]))
        >>> law = regressions(torch.tensor([[9.0, 1.0, 5.0], [0.0, 0.0, 0.0]]), torch.tensor([0, 2]))
        >>> law.mean.tolist(), law.log_scale[1].exp().item()
        ([0.5, 0.0], 0.5)
    """

    def __init__(self, size: int, hidden: Sequence[int]):
        super().__init__()
        if size < 2:
            raise ValueError(f"ConditionalRegressions: expects rows of 2 elements or more; got {size}.")
        self.weight = nn.Parameter(torch.zeros(size, size))
        self.offset = nn.Parameter(torch.zeros(size))
        self.log_scale = nn.Parameter(torch.zeros(size))
        self.network = MLP(2 * size, hidden, 2)
        for parameter in self.network[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Float[Tensor, "R E"], element: Int[Tensor, " R"]) -> ElementLaw:
        """The law of one element of each row, whatever stands there."""
        asked = nn.functional.one_hot(element, x.shape[1]).to(x)
        others = x * (1 - asked)
        mean, log_scale = self.network(torch.cat([others, asked], 1)).unbind(1)
        linear = (others * self.weight[element]).sum(1) + self.offset[element]
        return ElementLaw(linear + mean, self.log_scale[element] + log_scale)

    @torch.no_grad()
    def start_from(self, mean: Float[Tensor, " E"], precision: Float[Tensor, "E E"]) -> None:
        r"""Become the conditionals of a Gaussian: ``x_j | x_\j ~ N(m_j - sum_k P_jk (x_k - m_k) / P_jj, 1 / P_jj)``."""
        scale = precision.diagonal()
        slope = torch.diag(torch.ones_like(scale)) - precision / scale.unsqueeze(1)
        self.weight.copy_(slope)
        self.offset.copy_(mean - slope @ mean)
        self.log_scale.copy_(-0.5 * scale.log())
