"""Training rows as a curvature over weights sees them: with a latent code each."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from curvae.likelihoods import Likelihood
from curvae.typing import Batch

DRAWS = 8
"""Of x, by which an information that is no diagonal matrix is seen."""


class CodedRows(NamedTuple):
    """Rows of the training data, each with a draw of its code: what is known when weights are asked about."""

    batches: Sequence[Batch]
    codes: Sequence[Float[Tensor, "B D"]]
    scale: float = 1.0
    """Rows of the training table for each row here."""


def information_diagonal(
    likelihood: Likelihood, eta: Float[Tensor, "B P"], mask: Tensor | None = None
) -> Float[Tensor, "B P"]:
    """The diagonal of the expected information of x about eta.

    Where it is no diagonal matrix, the mean square of the score of a few draws of x, by a seed of its own.
    """
    if (known := likelihood.diagonal(eta, mask)) is not None:
        return known
    generator = torch.Generator(eta.device).manual_seed(0)
    drawn = eta.expand(DRAWS, *eta.shape)
    scores = likelihood.score(likelihood.sample(drawn, generator), drawn, mask)
    return scores.square().mean(0)
