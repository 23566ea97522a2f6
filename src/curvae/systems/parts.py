"""What the systems of this folder have in common: the default networks, likelihood and preparation."""

from collections.abc import Callable

from torch import nn

from curvae import likelihoods
from curvae.likelihoods import Likelihood
from curvae.model import LatentVariableModel
from curvae.networks import MLP
from curvae.priors import StandardNormal
from curvae.systems.base import Stage
from curvae.typing import DataSpec, Table


def standard_model(
    spec: DataSpec,
    latent: int,
    hidden: int,
    depth: int,
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
) -> LatentVariableModel:
    """Standard normal prior, a decoder of ``depth`` hidden ReLU layers unless one is given, and the data's likelihood.

    Raises:
        ValueError: latent, hidden or depth below 1.
    """
    for name, value in {"latent": latent, "hidden": hidden, "depth": depth}.items():
        if value < 1:
            raise ValueError(f"{name} must be 1 or more; got {value}.")
    likelihood = likelihood or likelihoods.default(spec)
    decoder = decoder or MLP(latent, [hidden] * depth, likelihood.size)
    return LatentVariableModel(StandardNormal(latent), decoder, likelihood)


def standard_encoder(spec: DataSpec, latent: int, hidden: int, depth: int) -> nn.Module:
    """``depth`` hidden ReLU layers, to 2 D values."""
    inputs = 1
    for side in spec.event:
        inputs *= side
    return MLP(inputs, [hidden] * depth, 2 * latent)


def train(
    model: LatentVariableModel, name: str = "train", *others: Callable[[Table], None], **options: object
) -> Stage:
    """A stage that first lets the likelihood start from the data, and prepares what else is given."""

    def prepare(table: Table) -> None:
        model.likelihood.initialize(table.x, table.mask)
        for other in others:
            other(table)

    return Stage(name, prepare=prepare)._replace(**options)
