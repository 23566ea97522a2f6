"""Rewards of discrete choices, and the exact gradient of their mean."""

import itertools

import torch
from torch import nn

from curvae.posteriors import IndependentCategorical

ROWS = 100_000


def normal(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def moderate(*shape):
    """Logits between -1 and 1: no value is so rare that a few draws decide."""
    return 2 * torch.rand(*shape, dtype=torch.float64) - 1


class Table:
    """Any reward at all of one-hot z: a number for each of its values; between them it is multilinear.

    The numbers are evenly spaced from -2 to 2, in random order: no two of them are so close that a few draws decide.
    """

    def __init__(self, variables: int, categories: int):
        self.shape = (categories,) * variables
        spaced = torch.linspace(-2, 2, categories**variables, dtype=torch.float64)
        self.values = spaced[torch.randperm(len(spaced))].reshape(self.shape)

    def __call__(self, z):
        mixed = self.values.expand(*z.shape[:-1], *self.shape)
        for weights in z.unflatten(-1, (len(self.shape), -1)).unbind(-2):
            mixed = torch.einsum("sbk...,sbk->sb...", mixed, weights)
        return mixed


def rows_of(estimate, reward, logits, samples: int = 1, rows: int = ROWS):
    """Independent estimates of the gradient, (rows, N, K), and their mean and standard error."""
    leaf = logits.expand(rows, -1, -1).clone().requires_grad_(True)
    found = estimate(reward, IndependentCategorical(leaf), samples)
    torch.testing.assert_close(found.value, found.surrogate)
    found.surrogate.sum().backward()
    return leaf.grad.mean(0), leaf.grad.std(0) / rows**0.5


def exact(reward, logits):
    """The gradient of the sum over all values, written out: ``sum_z q(z) f(z) (1[z_i = k] - p_ik)``."""
    p = logits.softmax(-1)
    total = torch.zeros_like(logits)
    for where in itertools.product(range(logits.shape[1]), repeat=logits.shape[0]):
        z = nn.functional.one_hot(torch.tensor(where), logits.shape[1]).double()
        mass = (p * z).sum(-1).prod()
        total += mass * reward(z.flatten().reshape(1, 1, -1)).item() * (z - p)
    return total
