"""The baseline of sequences: a linear-Gaussian state-space model, fitted by expectation maximization."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from curvae.baselines.baseline import Baseline
from curvae.likelihoods import Gaussian, Likelihood
from curvae.linear import StateSpace, fit_state_space
from curvae.sequences import frame_shape
from curvae.systems.counted import counted
from curvae.typing import Table

LATENTS = 8
"""Of a state, at most; as many as a frame has elements, if these are fewer."""
VALUES = 2**20
"""Numbers that it is fitted to, at most: of more, to every second, third ... sequence."""


@dataclass(frozen=True, eq=False)
class SequenceDensity:
    """``log p(x_1..T)`` of a state-space model, of flat rows.

    Args:
        model: of frames of F elements.
    """

    model: StateSpace

    def log_prob(self, x: Float[Tensor, "B P"], mask: Shaped[Tensor, "B P"] | None = None) -> Float[Tensor, " B"]:
        """``log p(x)`` of the observed elements, nats."""
        shape = (-1, len(self.model.offset))
        return self.model.log_prob(x.unflatten(1, shape), None if mask is None else mask.unflatten(1, shape))


def fit_sequence_baseline(train: Table, likelihood: Likelihood) -> Baseline:
    """The likeliest linear state-space model of training sequences (N, T, ...), with the likelihood's floor of noise.

    Args:
        train: training data, in the model's units.
        likelihood: of whole examples; what is not Gaussian has no such baseline.

    Example:
        >>> from curvae.data import from_array
        >>> data = from_array(torch.randn(100, 6, 2).cumsum(1), event=(6, 2))
        >>> fit_sequence_baseline(data.train, Gaussian((6, 2), learn="element")).label
        'linear state space, 2 latents'
    """
    if not isinstance(likelihood, Gaussian):
        return Baseline("state_space", note=f"left out: it is of real numbers, not of {type(likelihood).__name__} data")
    rows = counted(train)
    x, mask = rows.x.detach().cpu(), None if rows.mask is None else rows.mask.cpu()
    shape = (x.shape[1], torch.Size(frame_shape(tuple(x.shape[1:]))).numel())
    each = max(1, -(-x.numel() // VALUES))
    x, mask = x[::each].reshape(-1, *shape), None if mask is None else mask[::each].reshape(-1, *shape)
    latent, floor = min(LATENTS, shape[1]), likelihood.floor**2 or 1e-6
    model = fit_state_space(x, latent, mask, likelihood.learn != "element", floor)
    note = "" if each == 1 else f"fitted to {len(x):,} of {len(rows.x):,} rows"
    return Baseline("state_space", latent, SequenceDensity(model), note)
