"""How an evaluation is done."""

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from curvae.evaluation.likelihood.importance import MEMORY

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Settings:
    """How an evaluation is done.

    Args:
        samples: draws S for each datum and proposal.
        split: "train", "validation" or "test".
        seed: of the draws.
        memory: bytes that the draws of a batch may take at a time.
        batch_size: most data inferred at a time.
        device: "auto" (a CUDA device where there is one), "cpu", "cuda", "cuda:1", "mps".
        limit: evaluate the first so many data only.
        stderr: wanted standard error of each datum's log p(x), nats; data above it, or with a k-hat above 0.7, get 2,
            4, 8 ... times the draws. Half as many again say so and are thrown away, so nothing is biased by looking;
            the files say how many each datum took.
        most: of these draws at most, in multiples of ``samples``.
        smooth: also estimate from Pareto-smoothed weights, which vary less and are no longer unbiased.
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

    def changed(self, **options: Any) -> "Settings":
        """With other values of some of them.

        Raises:
            TypeError: there is no such setting.

        Example:
            >>> Settings().changed(samples=50).samples
            50
        """
        known = [each.name for each in fields(self)]
        if unknown := options.keys() - set(known):
            raise TypeError(f"evaluate: there is no setting {min(unknown)!r}; expected one of {', '.join(known)}.")
        return replace(self, **options)
