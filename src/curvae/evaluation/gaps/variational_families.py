"""Posterior families for one frozen model: the best member of each that is found for every example."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from curvae.distributions.gaussian import pack
from curvae.evaluation.likelihood.proposal import STEPS, widen, width_for
from curvae.inference import Adam, Laplace, Refiner
from curvae.inference.refiner import elbo_is_lower, posterior_where
from curvae.model import LatentVariableModel
from curvae.posteriors import DiagonalGaussian, FullGaussian, Mixture, Posterior, PrecisionGaussian
from curvae.systems import HasModel
from curvae.typing import Batch, PerDatum

FAR = 4.0
"""Factor on the covariance of a second Laplace posterior in the proposal for log p(x): for what the first misses."""
GUARD = 512
"""Draws by which two posteriors of an example are compared: near the best one the differences are small."""


@dataclass(frozen=True)
class ElboSearch:
    """Gradient ascent of each example's ELBO over a posterior's own parameters, and no example made worse.

    Args:
        model: p(x, z), which stays as it is.
        batch: the data.
        steps: of the first round; a second one of a quarter as many, shorter ones, shows what was left.
    """

    model: LatentVariableModel
    batch: Batch
    steps: int

    def __call__(self, start: Posterior) -> tuple[Posterior, Posterior]:
        """After the first round, and at the end."""
        first = self._ascent(self.steps, 0.05, 8)(self.model, start, self.batch).posterior
        again = self._ascent(max(1, self.steps // 4), 0.01, 16)
        return first, again(self.model, first, self.batch).posterior

    def _ascent(self, steps: int, rate: float, samples: int) -> Refiner:
        return Refiner(steps, Adam(rate), samples, seed=0, guard=GUARD)

    def better(self, one: Posterior, other: Posterior) -> Posterior:
        """For each example, of two posteriors of one kind the one with the higher ELBO."""
        return posterior_where(elbo_is_lower(self.model, one, other, self.batch, GUARD), one, other)


class OwnFamily(NamedTuple):
    """A system's own posterior, and the best member of its family."""

    own: Posterior
    first: Posterior
    """Before the second round of the search."""
    best: Posterior
    laplace: PrecisionGaussian
    """The Laplace posterior at the mode."""


class Families(NamedTuple):
    """Posteriors of a batch of data, by name, from the system's own to the best full-covariance Gaussian."""

    members: dict[str, Posterior]
    proposal: Mixture
    """For log p(x): a mixture of the Laplace posterior, widened little and much, and the best Gaussian, widened."""


def own_family(system: HasModel, batch: Batch, steps: int) -> OwnFamily:
    """The own posterior, and the best of its family for each example.

    The search begins at the own posterior or, for a diagonal or full Gaussian, at the member of the family that belongs
    to the Laplace posterior at the mode, whichever has the higher ELBO for that example.
    """
    parts = system.parts()
    model, own = parts.model.given(batch.context), parts.infer(batch).posterior
    search = ElboSearch(model, batch, steps)
    laplace = Laplace(parts.inference, STEPS)(model, batch).posterior
    return OwnFamily(own, *search(start_in_family(search, own, laplace)), laplace)


def fit_families(system: HasModel, batch: Batch, steps: int) -> Families:
    """Every family at its best for each example: ``own``, ``first``, ``best``, ``laplace``, ``diagonal``, ``full``."""
    search = ElboSearch(system.parts().model.given(batch.context), batch, steps)
    found = own_family(system, batch, steps)
    own, laplace = found.own, found.laplace
    diagonal = found.best if isinstance(own, DiagonalGaussian) else search(best_diagonal_gaussian(laplace))[1]
    if isinstance(own, FullGaussian | PrecisionGaussian):
        full = found.best
    else:
        full = search(search.better(in_covariance(laplace), in_covariance(diagonal)))[1]
    near = width_for(laplace.loc.shape[1])
    parts = (widen(laplace, near), widen(laplace, FAR), widen(full, near))
    proposal = Mixture(parts, laplace.loc.new_zeros(len(laplace.loc), len(parts)))
    return Families({**found._asdict(), "diagonal": diagonal, "full": full}, proposal)


def start_in_family(search: ElboSearch, own: Posterior, laplace: PrecisionGaussian) -> Posterior:
    """Where the search in the own family begins."""
    match own:
        case DiagonalGaussian():
            return search.better(own, best_diagonal_gaussian(laplace))
        case FullGaussian():
            return search.better(own, in_covariance(laplace))
        case PrecisionGaussian():
            return search.better(own, laplace)
        case _:
            return own


def in_covariance(posterior: Posterior) -> FullGaussian:
    """A Gaussian by a factor of its covariance."""
    return FullGaussian(posterior.mean, pack(torch.linalg.cholesky_ex(posterior.covariance)[0]))


def best_diagonal_gaussian(laplace: PrecisionGaussian) -> DiagonalGaussian:
    """The diagonal Gaussian with the greatest ELBO if the posterior is that Gaussian: its variance is 1 / Lam_dd."""
    return DiagonalGaussian(laplace.loc, -0.5 * laplace.precision.diagonal(dim1=-2, dim2=-1).log())


def elbo_of(log_w: Tensor, log_c: Tensor) -> tuple[PerDatum, PerDatum]:
    """``sum_s c_s log w_s`` of weights (S, B) and its standard error, ``sqrt(sum_s c_s^2 (log w_s - elbo)^2)``.

    Strata are taken as one, which errs on the large side.

    Example:
        >>> log_w = torch.tensor([[0.0], [2.0]])
        >>> [round(value.item(), 3) for value in elbo_of(log_w, torch.full((2, 1), 0.5).log())]
        [1.0, 1.0]
    """
    share, count = log_c.exp(), len(log_w)
    value = (share * log_w).sum(0)
    square = (share * (log_w - value)).square().sum(0)
    return value, (square * count / max(1, count - 1)).sqrt()
