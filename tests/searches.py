"""A model to search the mode of, the barest step rule, and how far a search is from the mode."""

import torch
from torch import nn

from curvae.curvature import StepRule, Trial
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


class Roof(nn.Module):
    """The farther z_0 is from 0, the farther the first output is from what is seen: a ridge along z_0 = 0."""

    def forward(self, z):
        return torch.stack([10 * z[..., 0].abs(), z[..., 1]], -1)


def beside_a_ridge(count: int = 8):
    """A model with a ridge, what is seen, points on both sides of it where no step along it is left, and the mode."""
    model = LatentVariableModel(StandardNormal(2), Roof(), Gaussian(2, scale=0.1)).double()
    x, mode = (torch.tensor(value).double().expand(count, 2) for value in ((-5.0, 2.0), (0.0, 2.0 / 1.01)))
    side = torch.where(torch.arange(count) % 2 == 0, 1e-3, -1e-3).double()
    along = torch.linspace(-3, -1, count).double()
    return model, batch_of(x), torch.stack([side, along], -1), mode


class Undamped(StepRule):
    """Every step in full."""

    def advance(self, t, here, grad, direction):
        length = torch.ones_like(here.log_joint)
        return Trial(here.at(here.z + direction), length, length > 0)


def left(near, z):
    """Newton decrement at z, nats."""
    near = near.at(z).local()
    return 0.5 * (near.grad * torch.linalg.solve(near.precision, near.grad.unsqueeze(-1)).squeeze(-1)).sum(-1)


def searched(solver, near, z, steps, tolerance=0.0):
    """Where a search from z leads, and what it saw."""
    end, seen = solver.search(near.at(z), steps, tolerance)
    return end.z, seen
