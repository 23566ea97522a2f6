"""The mean of weights over the last steps of an epoch, and weights that stand in for others for a while."""

import torch
from torch import Tensor, nn


class Average:
    """The mean of parameters over the last steps of an epoch: what single steps add to and take away again is left out.

    It begins anew in each epoch, so a run that was cut off needs nothing of it.

    Args:
        parameters: of which.
        steps: of the epoch.
        share: of these, counted from the end; at least the last one.

    Example:
        >>> weight = nn.Parameter(torch.zeros(1))
        >>> average = Average([weight], steps=4, share=0.5)
        >>> for step in range(4):
        ...     _ = weight.data.fill_(float(step))
        ...     average.add()
        >>> average.values
        [tensor([2.5000])]
    """

    def __init__(self, parameters: list[nn.Parameter], steps: int, share: float):
        self.parameters = parameters
        self.values: list[Tensor] = []
        self._before = steps - max(1, round(share * steps))
        self._count = 0

    @torch.no_grad()
    def add(self) -> None:
        """A step has been taken."""
        self._count += 1
        if self._count <= self._before:
            return
        if not self.values:
            self.values = copied(self.parameters)
        weight = 1 / (self._count - self._before)
        for value, parameter in zip(self.values, self.parameters, strict=True):
            value.lerp_(parameter, weight)


@torch.no_grad()
def copied(parameters: list[nn.Parameter]) -> list[Tensor]:
    """The values that they have."""
    return [each.detach().clone() for each in parameters]


@torch.no_grad()
def put(parameters: list[nn.Parameter], values: list[Tensor]) -> None:
    """Give them these values."""
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)
