"""What systems for data with holes have in common: an encoder that sees them, and laws of what is missing."""

from dataclasses import dataclass
from math import prod
from typing import Any, Literal, get_args

import torch

from curvae.inference import AmortizedGaussian, SeesMask
from curvae.likelihoods import (
    ConstantMissingness,
    Likelihood,
    LinearMissingness,
    Missingness,
    NetworkMissingness,
    SelfMasking,
)
from curvae.networks import MLP, FrontWithGaps
from curvae.systems.counted import counted
from curvae.systems.parts import encoder_front
from curvae.systems.stages import Prepared
from curvae.typing import DataSpec, Tables

Fill = Literal["zero", "learned"]
"""Word for what an encoder sees in the place of a missing value."""
MissingnessWord = Literal["self", "self-larger", "self-smaller", "linear", "network", "constant"]
"""Word for p(mask | x) in a system's signature."""


def encoder_with_gaps(
    spec: DataSpec, latent: int, hidden: int, depth: int, fill: str, sees_mask: bool = True
) -> SeesMask:
    """A diagonal Gaussian from an encoder of ``depth`` hidden ReLU layers that knows what is missing.

    Raises:
        ValueError: no such word for what is filled in.
    """
    if fill not in get_args(Fill):
        raise ValueError(f"fill: expected one of {', '.join(get_args(Fill))}; got {fill!r}.")
    front = FrontWithGaps(prod(spec.event), encoder_front(spec), fill == "learned", sees_mask)
    return SeesMask(AmortizedGaussian(MLP(front.size, [hidden] * depth, 2 * latent, front=front)))


def missingness_for(word: str, size: int, hidden: int) -> Missingness:
    """The law that a word of a system's signature stands for, of so many values.

    Raises:
        ValueError: no such word.
    """
    match word:
        case "self":
            return SelfMasking(size)
        case "self-larger" | "self-smaller":
            return SelfMasking(size, "larger" if word == "self-larger" else "smaller")
        case "linear":
            return LinearMissingness(size)
        case "network":
            return NetworkMissingness(size, MLP(size, [hidden], size))
        case "constant":
            return ConstantMissingness(size)
        case _:
            words = ", ".join(get_args(MissingnessWord))
            raise ValueError(f"missingness: expected one of {words}; got {word!r}.")


def require_path(name: str, spec: DataSpec, likelihood: Likelihood) -> None:
    """The door of systems that draw what is missing and differentiate through it.

    Raises:
        ValueError: data that are not real numbers, or a likelihood whose draws have no path gradient.
    """
    if spec.support != "real":
        raise ValueError(
            f"{name} expects data that are real numbers; got support {spec.support!r}. Choose missing-iwae."
        )
    if not likelihood.reparameterized:
        raise ValueError(
            f"{name} expects a likelihood whose draws have a path gradient, a Gaussian one; got "
            f"{type(likelihood).__name__}."
        )


@dataclass(frozen=True)
class StartMissingness:
    """Networks start as they did; then the objective's law of what is missing starts at the shares that were observed.

    Args:
        networks: how these start.
    """

    networks: Prepared

    def __call__(self, system: Any, data: Tables) -> None:
        self.networks(system, data)
        rows = counted(data.train)
        seen = torch.ones_like(rows.x, dtype=torch.bool) if rows.mask is None else rows.mask
        system.objective.missingness.start_at(seen.flatten(1))
