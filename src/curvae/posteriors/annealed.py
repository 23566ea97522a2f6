"""The posterior of annealed importance sampling: draws of a tractable density led to the exact posterior by degrees."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from curvae.distributions.posterior import DensityPosterior, Draws
from curvae.dynamics import GeometricPath, anneal
from curvae.model import LatentVariableModel
from curvae.posteriors.simulated import SimulatedPosterior


@dataclass(frozen=True, eq=False)
class AnnealedPosterior(SimulatedPosterior):
    """Annealed importance sampling from ``q_0`` to ``p(z | x)``: a Hamiltonian transition at each of K temperatures.

    On the path ``(1 - b) log q_0(z) + b log p(x, z)``, ``b = betas``; see :func:`curvae.dynamics.anneal` for the
    weight. Without ``metropolis`` (the default) draws are differentiable in everything. With it they are the exact ones
    of Neal, and the choices to accept or refuse, which have no path gradient, are accounted for by ``Draws.score``.

    Args:
        start: q_0, with a density.
        model: p(x, z).
        x: the data.
        log_step: logarithm of the leapfrog steps, one for each temperature and dimension.
        betas: ``0 = b_0 < ... < b_K = 1``.
        leapfrogs: leapfrog steps in a transition.
        metropolis: accept or refuse.
        mask: which of the data are observed; None for all.

    Reference: Neal, *Annealed importance sampling*, Statistics and Computing 2001; without Metropolis, Geffner and
    Domke, *MCMC Variational Inference via Uncorrected Hamiltonian Annealing*, NeurIPS 2021.

    Differences: every transition has a fresh momentum, where Geffner and Domke keep a part of it.

    Example:
        >>> import torch
        >>> from curvae.likelihoods import Gaussian
        >>> from curvae.posteriors import DiagonalGaussian
        >>> from curvae.priors import StandardNormal
        >>> model = LatentVariableModel(StandardNormal(2), torch.nn.Linear(2, 3), Gaussian(3))
        >>> x, q = torch.zeros(4, 3), DiagonalGaussian(torch.zeros(4, 2), torch.zeros(4, 2))
        >>> exact = AnnealedPosterior(q, model, x, torch.full((4, 5, 2), -2.0), torch.linspace(0, 1, 6))
        >>> exact.draw(7).log_q.shape
        torch.Size([7, 4])
    """

    names = ("log_step",)
    start: DensityPosterior
    model: LatentVariableModel
    x: Shaped[Tensor, "B *event"]
    log_step: Float[Tensor, "B K D"]
    betas: Float[Tensor, " K1"]
    leapfrogs: int = 1
    metropolis: bool = False
    mask: Shaped[Tensor, "B *event"] | None = None

    def draw(self, n: int, generator: torch.Generator | None = None) -> Draws:
        begin = self.start.draw(n, generator)
        found = anneal(
            GeometricPath(self.start.log_prob, self.log_joint),
            begin.z,
            self.betas,
            self.log_step.transpose(0, 1).exp(),
            self.leapfrogs,
            generator,
            self.metropolis,
        )
        score = found.log_choice if self.metropolis else None
        return Draws(found.z, found.log_end - found.log_weight, begin.log_c, score)
