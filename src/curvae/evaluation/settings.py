"""How an evaluation is done."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeVar

MEMORY = 2**28
"""Bytes that the draws of a batch may take at a time."""
Kind = TypeVar("Kind")
Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Settings:
    """How an evaluation is done.

    Args:
        samples: draws S for each example and proposal.
        split: "train", "validation" or "test".
        seed: of the draws.
        memory: bytes that the draws of a batch may take at a time.
        batch_size: most data inferred at a time.
        device: "auto" (a CUDA device where there is one), "cpu", "cuda", "cuda:1", "mps".
        limit: evaluate the first so many data only.
        stderr: wanted standard error of each example's log p(x), nats; data above it, or with a k-hat above 0.7, get 2,
            4, 8 ... times the draws. Half as many again say so and are thrown away: nothing is biased by looking.
        most: of these draws at most, in multiples of ``samples``.
        smooth: also estimate from Pareto-smoothed weights, which vary less and are biased.
        chains: fit a proposal to short Hamiltonian chains for examples that the others do not serve.
    """

    samples: int = 500
    split: Split = "test"
    seed: int = 0
    memory: int = MEMORY
    batch_size: int = 100
    device: str = "auto"
    limit: int | None = None
    stderr: float | None = None
    most: int = 16
    smooth: bool = False
    chains: bool = True


def with_options(settings: Any, kind: type[Kind], options: Mapping[str, Any], what: str = "evaluate") -> Kind:
    """Settings, those of their kind by default, with other values of some of them.

    Raises:
        TypeError: there is no such setting, or they are of another kind.

    Example:
        >>> with_options(Settings(seed=3), Settings, {"samples": 50}).samples
        50
    """
    if not isinstance(settings, kind | None):
        raise TypeError(f"{what}: expected {kind.__name__}, or settings by name as samples=500; got {settings!r}.")
    found: Any = settings or kind()
    known = [each.name for each in fields(found)]
    if unknown := options.keys() - set(known):
        raise TypeError(f"{what}: there is no setting {min(unknown)!r}; expected one of {', '.join(known)}.")
    return replace(found, **options)
