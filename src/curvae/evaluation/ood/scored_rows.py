"""What a score of unknown inputs is given: rows, and what several scores have in common, measured once."""

from dataclasses import dataclass, field
from functools import cached_property

from curvae.data import ArrayTable
from curvae.evaluation.estimate import Scores
from curvae.evaluation.likelihood.scores import score
from curvae.evaluation.ood.complexity import complexity_of
from curvae.evaluation.ood.likelihood_matrix import LikelihoodMatrix, PerRow
from curvae.evaluation.settings import MEMORY
from curvae.systems import System


@dataclass(frozen=True)
class OodSettings:
    """How unknown inputs are looked for.

    Args:
        models: draws of the weights, where the run has a posterior over them.
        samples: draws of the latents for each model and row, and for log p(x).
        steps: of the refinement behind the likelihood regret.
        reference: validation rows of the run that say what is known, at most.
        limit: the first so many rows only.
        seed: of all draws.
        memory: bytes that the draws of a batch may take at a time.
        device: "auto" (a CUDA device where there is one), "cpu", "cuda", "cuda:1", "mps".
    """

    models: int = 20
    samples: int = 100
    steps: int = 20
    reference: int = 500
    limit: int | None = None
    seed: int = 0
    memory: int = MEMORY
    device: str = "auto"


@dataclass(frozen=True, eq=False)
class ScoredRows:
    """What a score is given of some rows: a system on its device, the rows, and what several scores have in common."""

    system: System
    table: ArrayTable
    matrix: LikelihoodMatrix | None = None
    """None of a system with one set of weights."""
    settings: OodSettings = field(default_factory=OodSettings)

    @cached_property
    def measured(self) -> Scores:
        """Of each row, from :func:`curvae.evaluation.score`: log p(x), the ELBO, the posterior mean."""
        how = self.settings
        return score(self.system, self.table, samples=how.samples, seed=how.seed, memory=how.memory, chains=False)

    @cached_property
    def complexity(self) -> PerRow | None:
        """The compressed length of each row, nats; None of rows that are no pictures."""
        return complexity_of(self.table)
