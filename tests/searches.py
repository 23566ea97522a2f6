"""A model to search the mode of, the barest step rule, and how far a search is from the mode."""

import torch
from torch import nn

from curvae.curvature import StepRule, Tried
from curvae.likelihoods import Bernoulli, Gaussian
from curvae.model import LatentVariableModel
from curvae.networks import MLP
from curvae.priors import StandardNormal
from zoo import batch_of


def smooth_model(bernoulli: bool = False):
    decoder = MLP(3, [12], 10, nn.Tanh)
    likelihood = Bernoulli(10) if bernoulli else Gaussian(10, scale=0.5)
    model = LatentVariableModel(StandardNormal(3), decoder, likelihood).double()
    with torch.no_grad():
        return model, batch_of(model.sample(8)[0].double())


class Undamped(StepRule):
    """Every step in full."""

    def advance(self, t, route, here, grad, direction):
        length = torch.ones_like(here.log_joint)
        return Tried(route.point(here.z + direction), length, length > 0)


def left(route, z):
    """Newton decrement, nats."""
    near = route.local(z)
    return 0.5 * (near.grad * torch.linalg.solve(near.precision, near.grad.unsqueeze(-1)).squeeze(-1)).sum(-1)
