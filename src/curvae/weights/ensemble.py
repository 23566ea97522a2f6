"""A deep ensemble: several decoders, each trained from a start of its own."""

from collections.abc import Iterator
from copy import deepcopy

import torch
from torch import Tensor, nn

from curvae.argument_checks import check_least
from curvae.weights.posterior import SampledWeights, choose_rows
from curvae.weights.vectors import WeightVector, check_weights, weight_vector


class DeepEnsemble(SampledWeights):
    """``q(theta) = 1/K sum_k delta(theta - theta_k)``: the decoder and K - 1 others, under one encoder.

    Training maximizes the mean of their bounds, so that each decoder sees its own gradient and the encoder that of all.

    Args:
        network: the decoder; the others have its shape, and other random numbers of the same scale.
        size: K.

    Raises:
        ValueError: fewer than 2, or a network that has no posterior over weights (:func:`check_weights`).

    Reference: Lakshminarayanan, Pritzel and Blundell, *Simple and Scalable Predictive Uncertainty Estimation using Deep
    Ensembles*, NeurIPS 2017.

    Example:
        >>> q = DeepEnsemble(nn.Linear(2, 1), size=3)
        >>> len(q.training_draws(torch.zeros(3)))
        3
    """

    def __init__(self, network: nn.Module, size: int = 5):
        super().__init__()
        check_least("DeepEnsemble", 2, size=size)
        check_weights(network)
        self.others = nn.Parameter(torch.stack([weight_vector(anew(network)) for _ in range(size - 1)]).detach())

    def training_draws(self, center: WeightVector) -> list[WeightVector]:
        """All members; gradients reach them."""
        return [center, *self.others]

    def cost(self, center: WeightVector) -> Tensor:
        """Nothing is taken off the bound: the members have no prior."""
        return center.new_zeros(())

    def draw(
        self, center: WeightVector, count: int, generator: torch.Generator | None = None
    ) -> Iterator[WeightVector]:
        members = self.training_draws(center)
        for number in choose_rows(len(members), count, generator):
            yield members[number].detach()


@torch.no_grad()
def anew(network: nn.Module) -> nn.Module:
    """A copy with other random numbers: each layer starts again, its matrices at the scale that they have."""
    copy = deepcopy(network)
    for module in copy.modules():
        if callable(reset := getattr(module, "reset_parameters", None)):
            reset()
    for own, old in zip(copy.parameters(), network.parameters(), strict=True):
        if own.ndim > 1 and float(own.square().mean()):
            own.mul_((old.square().mean() / own.square().mean()).sqrt())
    return copy
